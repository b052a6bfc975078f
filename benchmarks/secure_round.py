"""A full secure round over gRPC on one machine: train, encode, mask, upload, check, unmask, decode, commit; where its time goes.

The work is that of the peers' comparison: `next_word` (1,412,250 parameters), 32 devices with 16 to 32 sentences of 20 tokens, batches of
16, one epoch of SGD, complete graph, one server process and one fleet process a core on loopback. A fleet process fetches the round's model
once for all its devices, and checks each signature once. A round is timed from the end of the one before it: check-in and commit are in
it. The stages beside it are processor seconds of the same work, measured alone on one pinned core.

    python benchmarks/secure_round.py [--rounds N] [--mechanism none|ddg] [--flower SECONDS] [--write]

prints one JSON list of rows {work, ours, unit, against, theirs, ratio, ...}; `theirs` is Flower 1.42's SecAgg+ round, which clips and
quantises and adds no noise: `none` is the like for like, `ddg` adds the discrete Gaussian noise on every device. With `--flower` it is what
Flower's own script took on this machine, else what it once took on another.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
from client_sim import cores
from client_sim.data.loader import Example, Loader
from client_sim.encoding import DistributedEncoder, encoder_of
from client_sim.fleet import Fleet
from client_sim.fleet_setup import FleetSetup
from client_sim.secure_work import secure_context, split
from contract import plan as plans
from contract import task
from contract.randomness import stream
from secagg import Client, DeviceAuthority, Floors, Result, Server
from server import registration, tasks
from server.distributed_mechanism import DistributedMechanism
from server.keys import KeyDirectory
from server.registration import RunSettings
from server.rpc.hosting import Host
from server.rpc.service import Address, RpcServer
from server.store.store import Store
from trainer import DeviceExamples, LocalTrainer
from trainer.vocabulary import public_english
from tutti import hosting

RESULTS = Path(__file__).parent / "results" / "secure_round.json"
Heard: TypeAlias = tuple[float, float, Mapping[str, Any]]
DEVICES, TOKENS = 32, 20
FLOWER_ELSEWHERE_S = 7.21
SETTLE_ROUNDS = 2
"""Compile, and learn what the phases take."""


class Sentences:
    """32 devices with 16 to 32 sentences of 20 words each, words drawn evenly: what the peers train on."""

    num_devices = DEVICES
    digest = "0" * 64

    def __init__(self) -> None:
        self._words = np.array(public_english().words)

    def examples(self, index: int) -> Sequence[Example]:
        """The sentences of one device."""
        count = int(stream(7, "size", index).integers(16, 33))
        drawn = stream(7, "sentences", index).integers(0, len(self._words), (count, TOKENS))
        return [{"text": " ".join(self._words[row])} for row in drawn]

    def held_out(self) -> Iterator[Sequence[Example]]:
        """Nobody."""
        return iter(())


def spec_of(mechanism: str, rounds: int) -> task.TaskSpec:
    """The task; without `mechanism` updates are clipped and rounded, and no noise is added."""
    private = {"noise_multiplier": 0.5, "delta": 1e-5} if mechanism != "none" else {}
    return task.parse_mapping(
        {
            "name": "secure-round",
            "population": "bench",
            "model": {"name": "next_word"},
            "cohort": {"report_goal": DEVICES, "over_selection": 1.0, "minimum_reports": DEVICES},
            "training": {"batch_size": 16, "epochs": 1, "max_examples": 32, "learning_rate": 0.5},
            "privacy": {"mechanism": mechanism, "clip_norm": 1.0, **private},
            "aggregation": {
                "secure": True,
                "bits": 16,
                "corrupt_fraction": 0.05,
                "drop_fraction": 0.0,
                "minimum_survivors": 28,
            },
            "rounds": rounds,
        }
    )


class Bench:
    """One run against a real server and a real fleet; hears each round's end."""

    def __init__(self, spec: task.TaskSpec, folder: Path) -> None:
        self.spec, self._folder = spec, folder
        self.prepared = tasks.prepare(spec)
        self._store, self._keys = Store.open(str(folder)), KeyDirectory(folder / "keys")
        self._run = registration.register(
            store=self._store,
            keys=self._keys,
            prepared=self.prepared,
            settings=RunSettings(seed=1, noise_seed=None),
            not_covered=[],
            start=self.prepared.model.init(0),
        )

    async def play(self, loader: Loader) -> list[Heard]:
        """(end, processor seconds of all processes so far, facts) of each round."""
        seed, heard = bytes(range(32)), asyncio.Queue[tuple[float, Mapping[str, Any]]]()
        loop = asyncio.get_running_loop()

        def ended(facts: Mapping[str, Any]) -> None:
            loop.call_soon_threadsafe(heard.put_nowait, (time.perf_counter(), facts))

        table = hosting.table_of(
            self._store, self._keys, self._run, self.prepared, round_guess_s=0.5, authority=DeviceAuthority(seed).public
        )
        host = Host()
        host.add(hosting.hosted(self._store, table, "bench", ended))
        server = RpcServer(host, Address(port=0))
        await server.start()
        setup = FleetSetup(
            server=f"127.0.0.1:{server.port}",
            population="bench",
            num_devices=DEVICES,
            data=loader,
            order_seed=1,
            records=self._folder / "devices.db",
            scope=self._run.id,
            authority_seed=seed,
        )
        fleet, found = await asyncio.to_thread(Fleet, setup), list[Heard]()
        try:
            while len(found) < self.spec.rounds:
                try:
                    async with asyncio.timeout(1.0):
                        end_s, facts = await heard.get()
                    found.append((end_s, processor_s(fleet), facts))
                except TimeoutError:
                    fleet.ended()  # says if a process cannot go on
        finally:
            await asyncio.to_thread(fleet.stop)
            await server.close(grace_s=0.2)
        return found


def processor_s(fleet: Fleet) -> float:
    """Processor seconds of this process and the fleet's."""
    total = time.process_time()
    for pid in fleet.process_ids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def rounds(mechanism: str, count: int, flower_s: float | None = None) -> dict[str, Any]:
    """The row of one kind of round: the median over `count` rounds, the time of its phases and its processor seconds.

    Args:
      flower_s: of Flower's round on this machine.
    """
    from secure_round import Sentences as Importable  # processes of the fleet import the class by this name

    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(Bench(spec_of(mechanism, count + SETTLE_ROUNDS), Path(folder)).play(Importable()))
    ends = [end_s for end_s, _, _ in found[SETTLE_ROUNDS - 1 :]]
    busy = [busy_s for _, busy_s, _ in found[SETTLE_ROUNDS - 1 :]]
    taken, facts = np.diff(ends), [facts for _, _, facts in found[SETTLE_ROUNDS:]]
    phases = {name: round(statistics.median(one["phases_s"][name] for one in facts), 3) for name in facts[0]["phases_s"]}
    selection = round(statistics.median(one["selection_s"] for one in facts), 3)
    seconds, theirs_s = float(np.median(taken)), flower_s or FLOWER_ELSEWHERE_S
    return {
        "work": f"secure round over gRPC, next_word, {DEVICES} devices, complete graph, {mechanism}",
        "ours": round(seconds, 3),
        "unit": "s a round",
        "against": f"Flower 1.42 SecAgg+, measured {'on this machine' if flower_s else 'elsewhere on a like machine'}",
        "theirs": theirs_s,
        "ratio": round(seconds / theirs_s, 3),
        "fastest": round(float(taken.min()), 3),
        "processor_s": round(float(np.median(np.diff(busy))), 3),
        "selection_s": selection,
        "phases_s": phases,
        "rest_s": round(seconds - selection - sum(phases.values()), 3),
        "reported": [one["reported"] for one in facts],
        "load": round(os.getloadavg()[0], 2),
    }


def stages(mechanism: str) -> dict[str, Any]:
    """Processor seconds of each stage for all devices together, on one pinned core."""
    spec = spec_of(mechanism, 1)
    prepared = tasks.prepare(spec)
    with cores.pinned(cores.available()[0]):
        clock = Stopwatch()
        trainer = LocalTrainer(model=prepared.model, batch_size=16, learning_rate=0.5)
        examples = [prepared.model.featurize(Sentences().examples(device)) for device in range(DEVICES)]
        for _ in range(2):  # the first compiles
            clock.seconds.clear()
            one_round(prepared, trainer, examples, clock)
    kept = {name: round(seconds, 3) for name, seconds in clock.seconds.items()}
    return {
        "work": f"stages of that round for all {DEVICES} devices on one pinned core, {mechanism}",
        "ours": round(sum(kept.values()), 3),
        "unit": "processor s",
        "stages_s": kept,
    }


class Stopwatch:
    """Processor seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, act: Callable[[], Any]) -> Any:
        start = time.process_time()
        found = act()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start
        return found


def one_round(prepared: tasks.PreparedTask, trainer: LocalTrainer, examples: list[DeviceExamples], clock: Stopwatch) -> None:
    """The protocol in memory, with a clock on each stage."""
    mechanism, start = prepared.mechanism, prepared.model.init(0)
    assert isinstance(mechanism, DistributedMechanism)
    plan = mechanism.plan_bytes(
        spec=prepared.spec, run="r" * 64, round_index=0, leaf=0, model_digest="d", ledger_checkpoint="00" * 32
    )
    encoder, context, authority = encoder_of(plans.decode(plan)), secure_context(plan), DeviceAuthority(bytes(32))
    assert isinstance(encoder, DistributedEncoder)
    server = Server(context=context, authority=authority.public)

    def client() -> Client:
        identity = authority.enrol(context.epoch, os.urandom)
        return Client(context=context, authority=authority.public, identity=identity, floors=Floors(), entropy=os.urandom)

    clients = [client() for _ in range(DEVICES)]
    said: dict[int, Any] = clock("keys", lambda: {device: one.advertise_keys() for device, one in enumerate(clients)})
    for name in ("keys", "shares", "mask", "check", "release"):
        for device, message in said.items():
            clock(f"server: {name}", lambda device=device, message=message: server.handle(device, message))
        heard = clock(f"server: {name}", server.close_phase)
        if name == "check":
            heard = server.request_unmasking()
        if name == "shares":
            deltas = clock("train", lambda: list(trainer.train_many(start, examples, list(range(DEVICES)))))
            for one, (delta, _) in zip(clients, deltas, strict=True):
                vector = clock("encode", lambda delta=delta: encoder.encode(delta, os.urandom))
                one.set_input(split(encoder, vector))
        following = {"keys": "shares", "shares": "mask", "mask": "check", "check": "release"}.get(name, "")
        said = {
            device: clock(following, lambda device=device, message=message: clients[device].handle(message))
            for device, message in heard.items()
        }
    result = server.result()
    assert isinstance(result, Result), result
    total, seed = np.concatenate(list(result.sums.values())), plans.rotation_seed(plans.decode(plan))
    clock("server: decode", lambda: mechanism.decode(total, count=DEVICES, seed=seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--mechanism", nargs="+", choices=["none", "ddg"], default=["none", "ddg"])
    parser.add_argument("--flower", type=float, help="seconds of Flower's round on this machine")
    parser.add_argument("--stages-only", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    arguments = parser.parse_args()
    rows = [stages(mechanism) for mechanism in arguments.mechanism]
    if not arguments.stages_only:
        rows += [rounds(mechanism, arguments.rounds, arguments.flower) for mechanism in arguments.mechanism]
    print(json.dumps(rows, indent=1))
    if arguments.write:
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
