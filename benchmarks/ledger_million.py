"""The ledger at a million entries: append, page, prove, sign, verify, each at growing sizes on one store.

    python benchmarks/ledger_million.py [--sizes 1000 10000 100000 1000000] [--store DIRECTORY-OR-URL]

prints one JSON object: for each size the seconds of appending up to it (in batches, and one transaction an entry), of a page in the middle,
of the first list of a fresh process (which checks how every entry is filed), of an inclusion and a consistency proof with their lengths, of
signing, of a whole verification (of the list and of this the processor time too), and the bytes of the store.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from contract import canonical, task
from privacy import events
from privacy.ledger import entries, merkle, proofs
from privacy.ledger.notes import SignerKey
from server.store.crosscheck import verify_store
from server.store.store import Store
from server.tasks import model_length

KEY = SignerKey("tutti-ledger/benchmark", bytes(range(32)))
ROUNDS = 2_000
BATCH = 10_000


def bodies(first: int, last: int) -> list[bytes]:
    """Entries [first, last) of runs of 2000 rounds: a registration, then a charge and an outcome a round."""
    made: list[bytes] = []
    for index in range(first, last):
        ordinal, place = divmod(index, 2 * ROUNDS + 1)
        run = canonical.digest({"task": DIGEST, "ordinal": ordinal})
        if place == 0:
            made.append(
                entries.run_registered(
                    population="p", run=run, task=TASK, task_digest=DIGEST, code_digest="c", planned=event(ROUNDS), seeded=(),
                    facts={"unit": "device", "adjacency": "zero-out", "not_covered": [], "start_digest": "s"},
                )
            )  # fmt: skip
            continue
        number, outcome = divmod(place - 1, 2)
        at: dict[str, Any] = {"population": "p", "run": run, "round_index": number, "leaf": number, "event": event(number + 1)}
        if outcome:
            made.append(entries.round_committed(**at, reported=6500, model_digest=run))
        else:
            made.append(entries.round_charged(**at, floor=5200))
    return made


TASK = cast(
    dict[str, canonical.Json],
    canonical.plain(
    task.parse_mapping(
        {
            "name": "benchmark", "population": "p", "model": {"name": "a.stub:model"}, "rounds": ROUNDS,
            "cohort": {"report_goal": 6500, "minimum_reports": 5200, "minimum_separation": 313, "max_participations": 6},
            "privacy": {"mechanism": "tree", "clip_norm": 1.0, "noise_multiplier": 7.0, "delta": 1e-10},
        }
    )),
)  # fmt: skip
DIGEST = canonical.digest(TASK)


def event(leaves: int) -> dict[str, canonical.Json]:
    return {
        "kind": "tree", "noise_multiplier": "7", "leaves": leaves, "minimum_separation": 313, "max_participations": 6,
        "restart_every": None, "law": "rounded-gaussian", "draws": leaves, "distance_log2": -128, "unit": "device",
        "adjacency": events.Adjacency.ZERO_OUT.value,
    }  # fmt: skip


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    taken: list[float] = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def first_list(where: str) -> None:
    store = Store.open(where)
    if not list(store.ledger.entries(run=_run(0), limit=1)):
        raise SystemExit("the first run is not on the list")
    store.close()


def processor(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def measure(store: Store, where: str, size: int, appended_s: float, path: Path | None) -> dict[str, Any]:
    middle, root = size // 2, store.tree_head().root()
    proof = store.ledger.inclusion_proof(middle)
    leaf = merkle.leaf_hash(store.ledger.entry(middle).body)
    if not proofs.verify_inclusion(leaf=leaf, index=middle, size=size, proof=proof, root=root):
        raise SystemExit("the inclusion proof does not verify")
    one_by_one = bodies(size, size + 100)
    verification, verified = list[Any](), list[float]()
    result = {
        "entries": size,
        "append_batches_s": appended_s,
        "page_of_100_ms": 1e3 * seconds(lambda: list(store.ledger.entries(start=middle, limit=100)), 9),
        "first_list_s": seconds(lambda: first_list(where), 3),
        "first_list_cpu_s": processor(lambda: first_list(where)),
        "page_of_a_run_ms": 1e3 * seconds(lambda: list(store.ledger.entries(run=_run(middle), start=middle, limit=100)), 9),
        "inclusion_proof_ms": 1e3 * seconds(lambda: store.ledger.inclusion_proof(middle), 9),
        "inclusion_hashes": len(proof),
        "consistency_proof_ms": 1e3 * seconds(lambda: store.ledger.consistency_proof(middle), 9),
        "consistency_hashes": len(store.ledger.consistency_proof(middle)),
        "sign_ms": 1e3 * seconds(lambda: store.ledger.sign(KEY), 3),
        "verify_s": seconds(
            lambda: verified.append(
                processor(lambda: verification.append(verify_store(store, key=KEY.verifier, length_of=model_length)))
            )
        ),
        "verify_cpu_s": verified[0],
        "problems": sorted({problem.kind.value for problem in verification[0].problems} - {"entry-without-row"}),
        "bytes_an_entry": None if path is None else _bytes(path) / size,
    }
    result["append_one_ms"] = 1e3 * seconds(lambda: [store.append_entry(body) for body in one_by_one]) / 100
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in result.items()}


def _bytes(path: Path) -> int:
    return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))


def _run(index: int) -> str:
    return canonical.digest({"task": DIGEST, "ordinal": index // (2 * ROUNDS + 1)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--store")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = arguments.store or folder
        store = Store.open(where)
        path = None if arguments.store else Path(folder) / "tutti.db"
        rows: list[dict[str, Any]] = []
        for size in sorted(arguments.sizes):
            appended_s = 0.0
            while (first := store.tree_head().size) < size:
                batch = bodies(first, min(first + BATCH, size))
                appended_s += seconds(lambda batch=batch: store.ledger.append(*batch))
            rows.append(measure(store, where, size, appended_s, path))
        store.close()
    print(json.dumps({"benchmark": "ledger_million", "sizes": rows}, indent=1))


if __name__ == "__main__":
    main()
