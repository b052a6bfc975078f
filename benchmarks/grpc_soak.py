"""Many devices over gRPC for many rounds: does every round complete, does the server's memory stay flat, is anything left over?

    python benchmarks/grpc_soak.py [--devices 300] [--goal 100] [--rounds 50] [--dropout 0.1] [--workers 2]

The server has a process of its own, so that its memory is the server's alone; the fleet runs beside it on the same cores.
"""

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from client_sim.data import open_loader
from client_sim.fleet import Fleet
from client_sim.fleet_setup import FleetSetup
from client_sim.timing import Loss
from contract import task
from contract.clock import SystemClock
from server import registration, tasks
from server.keys import KeyDirectory
from server.registration import RunSettings
from server.rpc.hosting import Host
from server.rpc.service import Address, RpcServer
from server.store.store import Store
from tutti import hosting


def spec_of(arguments: argparse.Namespace) -> task.TaskSpec:
    return task.parse_mapping(
        {
            "name": "soak",
            "population": "soak",
            "model": {"name": "mlp"},
            "data": {"source": "synthetic", "devices": arguments.devices},
            "cohort": {"report_goal": arguments.goal, "over_selection": 1.3, "minimum_reports": arguments.goal},
            "training": {"batch_size": 10, "max_examples": 20, "learning_rate": 0.1},
            "privacy": {"mechanism": "tree", "clip_norm": 0.5, "noise_multiplier": 3.0, "delta": 1e-5},
            "rounds": arguments.rounds,
        }
    )


def resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


async def serve(arguments: argparse.Namespace, folder: str, parent: Connection) -> None:
    store, keys = Store.open(folder), KeyDirectory(Path(folder) / "keys")
    spec = spec_of(arguments)
    prepared = tasks.prepare(spec)
    run = registration.register(
        store=store, keys=keys, prepared=prepared, settings=RunSettings(transport="grpc"), not_covered=[],
        start=prepared.model.init(0),
    )  # fmt: skip
    clock = SystemClock()
    rounds: list[dict[str, Any]] = []

    def ended(facts: Any) -> None:
        row = {name: facts[name] for name in ("round", "state", "cohort", "selection_s", "collection_s", "refused")}
        rounds.append(row | {"at_s": clock.now_s(), "resident": resident_bytes(), "threads": threading.active_count()})

    table = hosting.table_of(store, keys, run, prepared, round_guess_s=0.5)
    hosted = hosting.hosted(store, table, "soak", ended)
    host = Host()
    host.add(hosted)
    server = RpcServer(host, Address(port=0))
    await server.start()
    tasks_before = len(asyncio.all_tasks())
    parent.send(server.port)
    await hosted.ended
    parent.send("over")
    await asyncio.to_thread(parent.recv)  # the fleet is gone
    for _ in range(100):
        await asyncio.sleep(0.05)
        if len(asyncio.all_tasks()) <= tasks_before:
            break
    left = {"tasks": len(asyncio.all_tasks()) - tasks_before, "places": table.places, "uploads": table.uploads}
    await server.close(grace_s=0.0)
    left["tasks_after_close"] = len(asyncio.all_tasks()) - 1
    states = [row.state for row in store.rounds(run.id)]
    store.close()
    parent.send({"rounds": rounds, "left": left, "states": states})


def serve_process(arguments: argparse.Namespace, folder: str, parent: Connection) -> None:
    asyncio.run(serve(arguments, folder, parent))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in (("devices", 300), ("goal", 100), ("rounds", 50), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dropout", type=float, default=0.1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = measure(arguments, folder)
    print(json.dumps(report, indent=2))


def measure(arguments: argparse.Namespace, folder: str) -> dict[str, Any]:
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=serve_process, args=(arguments, folder, theirs))
    process.start()
    theirs.close()  # a server that dies is then noticed
    port = ours.recv()
    spec, share = spec_of(arguments), arguments.dropout / 10
    setup = FleetSetup(
        server=f"127.0.0.1:{port}",
        population="soak",
        num_devices=arguments.devices,
        data=open_loader(spec.data, model="mlp"),
        order_seed=1,
        loss=Loss(download=2 * share, training=6 * share, upload=2 * share),
        records=Path(folder) / "devices.db",
    )
    fleet, shapes = Fleet(setup, workers=arguments.workers), dict[str, int]()
    while not ours.poll(0.5):
        for shape, number in fleet.ended()[0].items():
            shapes[shape] = shapes.get(shape, 0) + number
    ours.recv()
    fleet.stop()
    ours.send("fleet is gone")
    found = ours.recv()
    process.join()
    return summary(found, shapes)


def summary(found: dict[str, Any], shapes: dict[str, int]) -> dict[str, Any]:
    rounds = found["rounds"]
    half = len(rounds) // 2
    span_s = rounds[-1]["at_s"] - rounds[0]["at_s"]
    return {
        "committed": found["states"].count("committed"),
        "abandoned": found["states"].count("abandoned"),
        "seconds_a_round": round(span_s / max(1, len(rounds) - 1), 3),
        "selection_s": round(sum(row["selection_s"] for row in rounds[1:]) / max(1, len(rounds) - 1), 3),
        "collection_s": round(sum(row["collection_s"] for row in rounds[1:]) / max(1, len(rounds) - 1), 3),
        "resident_mb": {
            str(row["round"]): round(row["resident"] / 2**20, 1) for row in rounds[:: max(1, len(rounds) // 8)] + rounds[-1:]
        },
        "growth_mb_second_half": round((rounds[-1]["resident"] - rounds[half]["resident"]) / 2**20, 2),
        "threads": [rounds[0]["threads"], rounds[-1]["threads"]],
        "left_over": found["left"],
        "sessions": dict(sorted(shapes.items(), key=lambda item: -item[1])),
    }


if __name__ == "__main__":
    main()
