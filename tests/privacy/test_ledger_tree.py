"""The Merkle tree, its proofs, signed notes and checkpoints against published vectors and a naive second implementation."""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.ledger import checkpoint, merkle, proofs
from privacy.ledger.checkpoint import Checkpoint
from privacy.ledger.notes import NoteInvalid, SignerKey, VerifierKey, open_note
from privacy.ledger.proofs import Node

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "ledger" / "merkle.json").read_text())
LEAVES = [merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in VECTORS["leaves"]]


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 9162, 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 9162, 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """RFC 9162, 2.1.4.1."""
    if m == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m <= k:
        return [*naive_subproof(m, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], False), naive_root(leaves[:k])]


def reader(leaves: list[bytes], asked: list[Node] | None = None) -> proofs.ReadNodes:
    """Stored nodes as a store keeps them: what each leaf completes."""
    stored: dict[Node, bytes] = {}
    tree = merkle.Frontier()
    for index, leaf in enumerate(leaves):
        tree, completed = tree.grow(leaf)
        stored[Node(0, index)] = leaf
        for level, node in enumerate(completed, start=1):
            stored[Node(level, index >> level)] = node

    def read(nodes: Iterable[Node]) -> Mapping[Node, bytes]:
        wanted = list(nodes)
        if asked is not None:
            asked.extend(wanted)
        return {node: stored[node] for node in wanted}

    return read


def test_roots_are_the_published_ones() -> None:
    for size, expected in enumerate(VECTORS["roots"]):
        assert merkle.frontier(LEAVES[:size]).root().hex() == expected
        assert proofs.root(size, reader(LEAVES)).hex() == expected
        assert naive_root(LEAVES[:size]).hex() == expected


@pytest.mark.parametrize("case", VECTORS["inclusion"], ids=str)
def test_inclusion_proofs_are_the_published_ones(case: dict[str, Any]) -> None:
    proof = proofs.assemble(proofs.inclusion_path(case["index"], case["size"]), reader(LEAVES[: case["size"]]))
    assert [step.hex() for step in proof] == case["proof"]
    assert proofs.verify_inclusion(
        leaf=LEAVES[case["index"]], index=case["index"], size=case["size"], proof=proof, root=naive_root(LEAVES[: case["size"]])
    )


@pytest.mark.parametrize("case", VECTORS["consistency"], ids=str)
def test_consistency_proofs_are_the_published_ones(case: dict[str, Any]) -> None:
    proof = proofs.assemble(proofs.consistency_path(case["old_size"], case["size"]), reader(LEAVES[: case["size"]]))
    assert [step.hex() for step in proof] == case["proof"]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.data())
def test_every_proof_is_that_of_the_naive_tree_and_no_other_is_accepted(size: int, data: st.DataObject) -> None:
    leaves = [merkle.leaf_hash(bytes([i])) for i in range(size)]
    root, read = naive_root(leaves), reader(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = proofs.assemble(proofs.inclusion_path(index, size), read)
    assert proof == naive_path(index, leaves)
    facts = {"leaf": leaves[index], "index": index, "size": size, "proof": proof, "root": root}
    assert proofs.verify_inclusion(**facts)
    for changed in _changes(proof):
        assert not proofs.verify_inclusion(**{**facts, "proof": changed})
    for wrong in set(range(size + 1)) - {index}:
        assert not proofs.verify_inclusion(**{**facts, "index": wrong})
    assert not proofs.verify_inclusion(**{**facts, "root": bytes(32)})

    old = data.draw(st.integers(1, size))
    old_root, proof = naive_root(leaves[:old]), proofs.assemble(proofs.consistency_path(old, size), read)
    assert proof == naive_subproof(old, leaves, True)
    sizes = {"old_size": old, "old_root": old_root, "size": size, "root": root, "proof": proof}
    assert proofs.verify_consistency(**sizes)
    for changed in _changes(proof):
        assert not proofs.verify_consistency(**{**sizes, "proof": changed})
    assert not proofs.verify_consistency(**{**sizes, "old_root": bytes(32)})
    assert not proofs.verify_consistency(**{**sizes, "root": bytes(32)})
    if old < size:
        assert not proofs.verify_consistency(**{**sizes, "old_size": size, "size": old})


def _changes(proof: list[bytes]) -> list[list[bytes]]:
    flipped = [[*proof[:i], bytes([step[0] ^ 1]) + step[1:], *proof[i + 1 :]] for i, step in enumerate(proof)]
    return [*flipped, [*proof, bytes(32)], *([proof[:-1]] if proof else []), *([proof[::-1]] if len(proof) > 1 else [])]


def test_everything_extends_the_empty_tree() -> None:
    empty = merkle.Frontier().root()
    assert proofs.verify_consistency(old_size=0, old_root=empty, size=8, root=naive_root(LEAVES), proof=[])
    assert not proofs.verify_consistency(old_size=0, old_root=bytes(32), size=8, root=naive_root(LEAVES), proof=[])


@pytest.mark.parametrize("size", [1, 2, 1000, 65_535, 65_536, 1_000_001, 2**40 - 1])
def test_proofs_read_and_hold_logarithmically_many_hashes(size: int) -> None:
    for index in {0, size // 3, size - 1}:
        path = proofs.inclusion_path(index, size)
        assert len(path) <= size.bit_length()
        assert sum(len(proofs.nodes_of(span)) for span in path) <= 2 * size.bit_length()
    for old in {1, size // 3 + 1, size}:
        path = proofs.consistency_path(old, size)
        assert len(path) <= size.bit_length() + 1
        assert sum(len(proofs.nodes_of(span)) for span in path) <= 2 * size.bit_length() + 2


def test_proof_of_what_is_not_there_is_refused() -> None:
    for index, size in ((3, 3), (-1, 3), (0, 0)):
        with pytest.raises(ValueError, match="is not in a tree"):
            proofs.inclusion_path(index, size)
    for old, size in ((0, 3), (4, 3)):
        with pytest.raises(ValueError, match="no consistency proof"):
            proofs.consistency_path(old, size)


# -- signed notes ----------------------------------------------------------------------------------------------------------------

# The example of Go's package golang.org/x/mod/sumdb/note.
PUBLISHED_KEY = VerifierKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
PUBLISHED_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PUBLISHED_NOTE = (
    f"{PUBLISHED_TEXT}\n\u2014 PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
PUBLISHED_SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
KEY = SignerKey("example.org/log", bytes(range(32)))


def test_published_note_is_opened_and_written_byte_for_byte() -> None:
    assert open_note(PUBLISHED_NOTE, PUBLISHED_KEY) == PUBLISHED_TEXT
    signer = SignerKey.parse(PUBLISHED_SIGNER)
    assert signer.verifier == PUBLISHED_KEY
    assert signer.sign(PUBLISHED_TEXT) == PUBLISHED_NOTE
    assert signer.secret_text() == PUBLISHED_SIGNER


def test_note_with_a_changed_text_or_a_foreign_signature_is_refused() -> None:
    with pytest.raises(NoteInvalid, match="does not fit"):
        open_note(PUBLISHED_NOTE.replace("answer", "Answer"), PUBLISHED_KEY)
    with pytest.raises(NoteInvalid, match="not signed by"):
        open_note(PUBLISHED_NOTE, KEY.verifier)
    assert open_note(KEY.sign(PUBLISHED_TEXT) + PUBLISHED_NOTE.split("\n\n")[1], PUBLISHED_KEY, KEY.verifier) == PUBLISHED_TEXT


@pytest.mark.parametrize(
    "damage", ["", "text\n", "text\n\n", "text\n\nno signature\n", "te\x01xt\n\n\u2014 a AAAAAAAA\n", "a\n\n\u2014 a !!\n"]
)
def test_what_is_no_note_is_refused(damage: str) -> None:
    with pytest.raises(NoteInvalid):
        open_note(damage, KEY.verifier)


def test_keys_survive_being_written_and_hide_their_secret() -> None:
    assert SignerKey.parse(KEY.secret_text()) == KEY
    assert VerifierKey.parse(str(KEY.verifier)) == KEY.verifier
    assert base64.b64encode(KEY.seed).decode() not in repr(KEY)
    assert repr(KEY) == "SignerKey(name='example.org/log')"
    for wrong in ("", "a+b", str(KEY.verifier).replace("example", "sample"), str(KEY.verifier)[:-4]):
        with pytest.raises(ValueError, match=r"key|id of"):
            VerifierKey.parse(wrong)


def test_published_checkpoint_is_read() -> None:
    # The example of C2SP tlog-checkpoint; its key is not published, so only the form is read.
    note = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    )
    found = checkpoint.unverified(note)
    assert (found.origin, found.size) == ("example.com/behind-the-sofa", 20852163)
    assert found.root.hex().startswith("0ac5186a")


def test_checkpoint_is_its_logs_and_its_keys() -> None:
    head = Checkpoint("example.org/log", 8, naive_root(LEAVES))
    note = head.sign(KEY)
    assert checkpoint.open_checkpoint(note, KEY.verifier) == head
    other = SignerKey("example.org/log", bytes(32))
    with pytest.raises(NoteInvalid, match="not signed by"):
        checkpoint.open_checkpoint(note, other.verifier)
    with pytest.raises(ValueError, match="cannot sign for"):
        Checkpoint("example.org/other", 8, bytes(32)).sign(KEY)
    with pytest.raises(NoteInvalid, match="checkpoint of the log"):
        checkpoint.open_checkpoint(KEY.sign("elsewhere\n8\n" + base64.b64encode(bytes(32)).decode() + "\n"), KEY.verifier)


@pytest.mark.parametrize(
    "text", ["a\n", "a\n1\n", "a\n01\n" + "A" * 43 + "=\n", "a\n1\nAAAA\n", "a\n-1\n" + "A" * 43 + "=\n", "a\nx\n\n"]
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteInvalid):
        checkpoint.parse(text)
