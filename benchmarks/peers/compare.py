"""`make bench-peers`: the same rounds on the peers and on ours, in turns in one run, each at its best; rows for `results/latest.json`.

    python benchmarks/peers/compare.py [--peers pfl flower tff] [--work nwp mlp] [--repeats 2]

The peers' scripts and the definition of the work are not part of this repository: they are read from `../shared/peers`, beside the
checkout, or from --scripts. Their environments are built with uv under `benchmarks/peers/.environments` when they are not there; TFF
takes the environment of our engine on it (docs/tff.md). Ours is the product's main job: `tutti run` with its workers, DP-FTRL noise, store,
ledger and records. Where somebody is measured more than once, the fastest counts, for them as for us; memory is that of the whole tree of
processes, shared pages once.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent), str(ROOT)]
import results_file
from machine import machine

from tutti.engines import environment as tff_environment

ENVIRONMENTS = HERE / ".environments"
MODELS = {"nwp": "nwp", "mlp": "small"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """How a peer is installed, and how it is at its best on two cores.

    Args:
      torch: PyTorch, by pip, which takes the CPU build where one is offered.
      packages: by uv, with `overrides` for what the package pins and the index has no more.
    """

    packages: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    torch: bool = True
    program: tuple[str, ...] = ("python",)
    script: str
    flags: tuple[str, ...] = ()
    rounds: Mapping[str, int]


PEERS = {
    "pfl": Peer(
        packages=("pfl[pytorch]==0.6.0", "psutil"),
        program=("torchrun", "--nproc_per_node", "2"),
        script="peer_pfl.py",
        flags=("--threads", "1"),
        rounds={"nwp": 5, "mlp": 40},
    ),
    "flower": Peer(
        packages=("flwr[simulation]==1.42.0", "psutil"), overrides=("certifi",), script="peer_flower.py",
        rounds={"nwp": 4, "mlp": 8},
    ),
    "tff": Peer(packages=(), torch=False, script="peer_tff.py", rounds={"nwp": 3, "mlp": 10}),
}  # fmt: skip


def environment(name: str) -> Path:
    """The folder with a peer's Python, built if it is not there."""
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    if name == "tff":
        return tff_environment.interpreter().parents[1]
    peer, folder = PEERS[name], ENVIRONMENTS / name
    if (folder / "built").exists():
        return folder
    ENVIRONMENTS.mkdir(exist_ok=True)
    subprocess.run([uv, "venv", "--quiet", "--clear", "--seed", "--python", "3.11", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "torch==2.13.0"], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(python), *peer.packages]
    if peer.overrides:
        overrides = folder / "overrides.txt"
        overrides.write_text("\n".join(peer.overrides) + "\n")
        install += ["--override", str(overrides)]
    subprocess.run(install, check=True)
    (folder / "built").touch()
    return folder


def run_peer(name: str, work: str, scripts: Path) -> dict[str, Any]:
    """What the peer's script prints. Its output goes to a file: a worker that is left behind would hold a pipe open."""
    peer, folder = PEERS[name], environment(name)
    command = [str(folder / "bin" / peer.program[0]), *peer.program[1:], peer.script, "--model", MODELS[work]]
    command += ["--rounds", str(peer.rounds[work]), *peer.flags]
    paths = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV", "JAX_PLATFORMS")}
    with tempfile.TemporaryFile("w+") as out:
        subprocess.run(command, cwd=scripts, stdout=out, stderr=subprocess.DEVNULL, check=True, env=clean | {"PATH": paths})
        out.seek(0)
        lines = [line for line in out.read().splitlines() if line.startswith("{")]
    return json.loads(lines[-1])


def run_ours(work: str) -> dict[str, Any]:
    """The product's main job on the same work."""
    command = [sys.executable, str(HERE.parent / "product_rounds.py"), "--work", work]
    command += ["--rounds", "12" if work == "nwp" else "60"]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    return json.loads(printed.stdout)[0]


def compare(work: str, peers: list[str], repeats: int, scripts: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows for one work, and everything that was measured."""
    ours: list[dict[str, Any]] = []
    theirs: dict[str, list[dict[str, Any]]] = {name: [] for name in peers}
    for turn in range(repeats):
        print(f"{work}: turn {turn + 1} of {repeats}", file=sys.stderr, flush=True)
        ours.append(run_ours(work))
        for name in peers:
            theirs[name].append(run_peer(name, work, scripts))
    best, memory = min(found["ours"] for found in ours), max(found["peak_pss_mb"] for found in ours)
    on = machine()
    rows = [results_file.row(work, best, "s/round", "peak", min(found["theirs"] for found in ours), machine=on)]
    for name, found in theirs.items():
        fastest, smallest = min(row["s_per_round"] for row in found), min(row["peak_pss_mb"] for row in found)
        rows.append(results_file.row(work, best, "s/round", name, fastest, machine=on))
        rows.append(results_file.row(f"{work}, peak memory", memory, "MB", name, smallest, machine=on))
    return rows, {"ours": ours, **theirs}


def main() -> None:
    """Builds, measures, writes and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", nargs="+", choices=sorted(PEERS), default=list(PEERS))
    parser.add_argument("--work", nargs="+", choices=sorted(MODELS), default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--scripts", type=Path, default=ROOT.parent / "shared" / "peers")
    arguments = parser.parse_args()
    if not (arguments.scripts / "workload.py").exists():
        parser.error(f"there are no peers' scripts in {arguments.scripts}; say with --scripts where they are")
    details: dict[str, Any] = {}
    for name in arguments.peers:
        environment(name)
    for work in arguments.work:
        rows, details[work] = compare(work, arguments.peers, arguments.repeats, arguments.scripts)
        results_file.put(rows)
    kept = results_file.RESULTS / "peers.json"
    before: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    kept.write_text(
        json.dumps(before | {work: before.get(work, {}) | found for work, found in details.items()}, indent=1) + "\n"
    )
    print(results_file.table(row for row in results_file.read() if row["work"].partition(",")[0] in arguments.work))


if __name__ == "__main__":
    main()
