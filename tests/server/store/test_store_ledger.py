"""The ledger in the database, on both engines: append-only, provable, signed, paged."""

import threading
from pathlib import Path

import pytest
from sqlalchemy import exc, text

from contract.entropy import system_entropy
from contract.errors import ErrorCode, TuttiError
from privacy.ledger import checkpoint, entries, merkle, proofs
from privacy.ledger.notes import SignerKey
from server.store.leases import PopulationLeases
from server.store.signing import LedgerKey
from server.store.store import Store

KEY = SignerKey("tutti-ledger/test", bytes(range(32)))


def body(number: int, *, population: str = "p", run: str = "r") -> bytes:
    return entries.round_charged(
        population=population, run=run, round_index=number, leaf=number, event={"kind": "unbounded", "reason": "none"}, floor=1
    )


def test_appending_one_by_one_or_at_once_gives_the_same_tree(store: Store) -> None:
    bodies = [body(number) for number in range(23)]
    assert store.append_entry(bodies[0]) == 0
    assert store.ledger.append(*bodies[1:16]) == range(1, 16)
    assert [store.append_entry(each) for each in bodies[16:]] == list(range(16, 23))
    leaves = [merkle.leaf_hash(each) for each in bodies]
    assert store.tree_head() == merkle.frontier(leaves)
    assert [entry.body for entry in store.entries()] == bodies
    for size in range(24):
        assert store.ledger.root(size) == merkle.frontier(leaves[:size]).root()


def test_every_entry_and_every_earlier_tree_is_proved(store: Store) -> None:
    bodies = [body(number) for number in range(19)]
    store.ledger.append(*bodies)
    root = store.tree_head().root()
    for index, each in enumerate(bodies):
        proof = store.ledger.inclusion_proof(index)
        assert proofs.verify_inclusion(leaf=merkle.leaf_hash(each), index=index, size=19, proof=proof, root=root)
    for old in range(1, 20):
        proof = store.ledger.consistency_proof(old)
        assert proofs.verify_consistency(old_size=old, old_root=store.ledger.root(old), size=19, root=root, proof=proof)
    earlier = store.ledger.inclusion_proof(3, 11)
    assert proofs.verify_inclusion(
        leaf=merkle.leaf_hash(bodies[3]), index=3, size=11, proof=earlier, root=store.ledger.root(11)
    )


def test_proof_of_what_is_not_there_is_refused(store: Store) -> None:
    store.ledger.append(*[body(number) for number in range(19)])
    for index, size in ((19, None), (-1, None), (3, 20), (3, 2)):
        with pytest.raises(TuttiError) as refused:
            store.ledger.inclusion_proof(index, size)
        assert refused.value.code is ErrorCode.ARGUMENT_INVALID


STATEMENTS = {
    "": (
        "UPDATE ledger_entries SET population = 'other'",
        "UPDATE ledger_entries SET body = body WHERE entry_index = 1",
        "DELETE FROM ledger_entries WHERE entry_index = 1",
        "DELETE FROM ledger_nodes",
        "UPDATE ledger_nodes SET leaf = leaf + 100",
        "DELETE FROM checkpoints",
        "UPDATE checkpoints SET note = ''",
    ),
    "postgresql": ("TRUNCATE ledger_entries", "TRUNCATE checkpoints"),
    "sqlite": (
        "INSERT OR REPLACE INTO ledger_entries SELECT entry_index, 'x', population, run, leaf_hash, body FROM ledger_entries",
        "REPLACE INTO ledger_nodes SELECT leaf, hashes FROM ledger_nodes",
        "INSERT OR IGNORE INTO checkpoints SELECT size, key_id, '' FROM checkpoints",
    ),
}


def test_database_refuses_to_change_or_remove_what_was_written(store: Store) -> None:
    store.ledger.append(body(0), body(1))
    store.ledger.sign(KEY)
    for statement in (*STATEMENTS[""], *STATEMENTS[store.transactions.engine.dialect.name]):
        with pytest.raises(exc.DatabaseError, match="append-only"), store.transactions.begin() as session:
            session.execute(text(statement))
    assert [entry.body for entry in store.entries()] == [body(0), body(1)]


def test_pages_follow_population_run_and_kind(store: Store) -> None:
    store.ledger.append(body(0, run="a"), body(1, run="b"), body(2, population="q", run="a"), body(3, run="a"))
    store.append_entry(
        entries.round_abandoned(population="p", run="a", round_index=3, leaf=3, reason="internal", leaf_used=True)
    )
    assert [entry.index for entry in store.ledger.entries(run="a")] == [0, 2, 3, 4]
    assert [entry.index for entry in store.ledger.entries(population="p", kind="round-charged")] == [0, 1, 3]
    assert [entry.index for entry in store.ledger.entries(run="a", start=1, limit=2)] == [2, 3]
    assert [entry.index for entry in store.entries(run="a", start=3)] == [3, 4]
    assert store.ledger.entry(4).kind == "round-outcome"
    for missing in (5, -1):
        with pytest.raises(TuttiError) as refused:
            store.ledger.entry(missing)
        assert refused.value.code is ErrorCode.NOT_FOUND


def test_checkpoints_are_signed_kept_and_extend_each_other(store: Store) -> None:
    first = store.ledger.sign(KEY)
    assert checkpoint.open_checkpoint(first, KEY.verifier).size == 0
    store.ledger.append(body(0), body(1), body(2))
    second = store.ledger.sign(KEY)
    assert store.ledger.sign(KEY) == second
    head = checkpoint.open_checkpoint(second, KEY.verifier)
    assert (head.size, head.root) == (3, store.tree_head().root())
    assert store.ledger.checkpoints() == [first, second]


def test_fork_is_never_signed(store: Store) -> None:
    store.ledger.append(body(0), body(1))
    with store.transactions.begin() as session:
        forged = checkpoint.Checkpoint(KEY.name, 1, bytes(32)).sign(KEY)
        session.execute(text("INSERT INTO checkpoints (size, key_id, note) VALUES (1, 'forged', :note)"), {"note": forged})
    with pytest.raises(TuttiError) as refused:
        store.ledger.sign(KEY)
    assert refused.value.code is ErrorCode.LEDGER_BROKEN


def test_writers_at_once_lose_and_reorder_nothing(store: Store) -> None:
    def write(writer: int) -> None:
        for number in range(10):
            store.append_entry(body(number, run=f"run-{writer}"))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = list(store.entries())
    assert [entry.index for entry in found] == list(range(40))
    assert store.tree_head() == merkle.frontier(merkle.leaf_hash(entry.body) for entry in found)


# -- leases ----------------------------------------------------------------------------------------------------------------------


def test_population_has_one_owner_until_its_lease_runs_out(store: Store) -> None:
    now = [100.0]
    ours, theirs = (PopulationLeases(store.transactions, now_s=lambda: now[0]) for _ in range(2))
    lease = ours.take("p", "first", lease_s=30)
    with pytest.raises(TuttiError) as refused:
        theirs.take("p", "second")
    assert refused.value.code is ErrorCode.LEASE_HELD
    now[0] = 129.0
    assert ours.renew(lease, lease_s=30).epoch == lease.epoch
    now[0] = 159.5
    assert theirs.take("p", "second").epoch == lease.epoch + 1
    with pytest.raises(TuttiError):
        ours.renew(lease)
    found = theirs.owner("p")
    assert found is not None
    assert found.holder == "second"
    theirs.release(found)
    assert theirs.owner("p") is None
    assert ours.take("p", "first").epoch == lease.epoch + 2


def test_owner_that_lost_its_lease_writes_nothing(store: Store, store_url: str) -> None:
    now = [100.0]
    other = Store.open(store_url)
    for each in (store, other):
        each.leases._now_s = lambda: now[0]
    store.leases.take("p", "first", lease_s=30)
    store.append_entry(body(0))
    with pytest.raises(TuttiError, match="owned by first"):
        other.append_entry(body(1))
    other.append_entry(body(1, population="q"))
    now[0] = 131.0
    other.leases.take("p", "second", lease_s=30)
    other.append_entry(body(2))
    with pytest.raises(TuttiError, match="owned by second"):
        store.append_entry(body(3))
    assert [entry.index for entry in store.entries()] == [0, 1, 2]
    other.close()


# -- the signing key -------------------------------------------------------------------------------------------------------------


def test_signing_key_is_made_on_first_use_for_its_owners_eyes_only(tmp_path: Path) -> None:
    key = LedgerKey(tmp_path)
    signer = key.signer()
    assert (tmp_path / "ledger.key").stat().st_mode & 0o777 == 0o600
    assert LedgerKey(tmp_path).signer() == signer
    assert key.verifier() == signer.verifier
    assert str(signer.verifier) == key.public_path.read_text().strip()
    (tmp_path / "ledger.key").chmod(0o644)
    with pytest.raises(TuttiError, match="may be read by others"):
        key.signer()


def test_signing_key_that_another_process_made_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    made = list[SignerKey]()

    def slow(count: int) -> bytes:
        if not made:
            made.append(LedgerKey(tmp_path).signer())
        return system_entropy(count)

    assert LedgerKey(tmp_path, entropy=slow).signer() == made[0] == LedgerKey(tmp_path).signer()
    assert LedgerKey(tmp_path).verifier() == made[0].verifier


def test_stores_that_share_a_directory_have_keys_of_their_own(tmp_path: Path) -> None:
    urls = ("postgresql+psycopg://u:secret@host/one", "postgresql+psycopg://host/two", "postgresql+psycopg://v@host/one")
    one, two, same = (LedgerKey(tmp_path, store=url).signer() for url in urls)
    assert one != two
    assert one == same


def test_rotation_keeps_the_name_and_the_old_public_key(tmp_path: Path) -> None:
    key = LedgerKey(tmp_path)
    before = key.signer()
    retired, fresh = before.verifier, key.successor()
    assert key.signer() == before
    key.replace(fresh)
    assert fresh.name == before.name
    assert key.signer() == fresh
    assert key.verifier() == fresh.verifier
    assert (tmp_path / f"ledger.{retired.id.hex()}.retired.pub").read_text().strip() == str(retired)


def test_public_half_that_a_stop_left_behind_is_written_again(tmp_path: Path) -> None:
    key = LedgerKey(tmp_path)
    first = key.signer()
    fresh = key.successor()
    key.replace(fresh)
    (tmp_path / "ledger.pub").write_text(f"{first.verifier}\n", "ascii")  # stopped between the two files of the rotation
    key.signer()
    assert key.verifier() == fresh.verifier
