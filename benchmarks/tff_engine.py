"""Rounds a second of both engines on the same task in one run, and what a device pays to encode under TFF's distributed DP and under ours.

    python benchmarks/tff_engine.py [--rounds 8] [--clients 40] [--repeats 3] [--dimension 1412250]

needs the engine's environment (`make test-tff` makes it) and prints one JSON object; `ratio` is theirs over ours. The rounds are the same
devices, examples and order, without noise; each engine is asked in turn, and the median is taken. Encoding is processor time of one
device's clip, rotation, rounding and noise at 16 bits for 100 devices: TFF's from the slope between sums over one and over several clients.
"""

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np

from client_sim.data import open_loader
from contract.entropy import system_entropy
from contract.task import DataSpec
from privacy import distributed_plans
from trainer import LocalTrainer
from trainer.models import registry
from tutti.engines.process import EngineProcess, start
from tutti.engines.tff import ARRAYS, constants

MODELS = {"mlp": (10, 20, 0.1), "next_word_small": (16, 32, 0.3)}
SEED = bytes(range(32))


def rounds(engine: EngineProcess, name: str, *, clients: int, count: int) -> dict[str, Any]:
    batch, most, rate = MODELS[name]
    model = registry.get(name)
    loader = open_loader(DataSpec(devices=clients, seed=1), model=name)
    examples = [model.featurize(loader.examples(device)).first(most) for device in range(clients)]
    trainer = LocalTrainer(model=model, batch_size=batch, epochs=1, max_examples=most, learning_rate=rate)
    read = [{key: each.arrays[key] for key in ARRAYS[name] if key in each.arrays} for each in examples]
    arrays = {key: np.concatenate([each[key] for each in read]) for key in read[0]}
    parameters = model.init(0)
    specs = {key: [array.dtype.str, list(array.shape[1:])] for key, array in read[0].items()}
    facts = {
        "model": {"name": name, "shapes": {key: list(shape) for key, shape in model.shapes.items()}, "specs": specs},
        "learning_rate": rate,
        "server": {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.0},
        "aggregation": {"kind": "none"},
    }
    engine.call("build", facts, {"parameters": parameters, **constants(model)})
    asked = {"rows": [each.num_examples for each in examples], "epochs": 1, "batch_size": batch}
    ours, theirs, work = list[float](), list[float](), list[tuple[float, float]]()
    for _ in range(count + 1):  # the first of each compiles
        began, used = time.perf_counter(), time.process_time()
        updates = trainer.train_many(parameters, examples, [None] * clients)
        parameters = parameters + np.mean([delta for delta, _ in updates], axis=0, dtype=np.float64).astype(np.float32)
        ours.append(time.perf_counter() - began)
        used = time.process_time() - used
        answer = engine.call("round", asked, arrays)[0]
        theirs.append(float(answer["seconds"]))
        work.append((used, float(answer["cpu_s"])))
    found = {"tutti": statistics.median(ours[1:]), "tff": statistics.median(theirs[1:])}
    return {
        "clients": clients,
        "rounds_per_s": {who: round(1 / seconds, 3) for who, seconds in found.items()},
        "ratio": round(found["tff"] / found["tutti"], 2),
        "cpu_ratio": round(statistics.median(w[1] for w in work[1:]) / statistics.median(w[0] for w in work[1:]), 2),
    }


def encoding(engine: EngineProcess, *, dimension: int, repeats: int) -> dict[str, Any]:
    vectors = np.random.Generator(np.random.SFC64(1)).normal(size=(3, dimension)).astype(np.float32)
    found: dict[str, Any] = {"dimension": dimension}
    for mechanism in ("ddg", "skellam"):
        plan = distributed_plans.plan(
            mechanism=mechanism, dimension=dimension, clip_norm=0.3, noise_multiplier=1.0, devices=100, bits=16
        )
        asked = {
            "clip_norm": 0.3,
            "noise_multiplier": 1.0,
            "clients": 100,
            "bits": 16,
            "beta": plan.beta,
            "mechanism": mechanism,
        }
        each: dict[int, float] = {}
        for clients in (1, 3):
            call = {"aggregation": asked, "repeats": repeats + 1}
            costs = engine.call("distributed_sums", call, {"vectors": vectors[:clients]})[0]["each_cpu_s"]
            each[clients] = statistics.median(costs[1:])  # the first compiles
        theirs, own = (each[3] - each[1]) / 2, list[float]()
        for _ in range(repeats + 1):
            began = time.process_time()
            plan.encode(vectors[0], system_entropy, SEED)
            own.append(time.process_time() - began)
        ours = statistics.median(own[1:])
        found[mechanism] = {
            "tutti_ms": round(1e3 * ours, 1),
            "tff_ms": round(1e3 * theirs, 1),
            "ratio": round(theirs / ours, 1),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dimension", type=int, default=1_412_250)
    arguments = parser.parse_args()
    with start(print) as engine:
        found = {name: rounds(engine, name, clients=arguments.clients, count=arguments.rounds) for name in MODELS}
        encoded = encoding(engine, dimension=arguments.dimension, repeats=arguments.repeats)
    print(json.dumps({"rounds": found, "encode": encoded}))


if __name__ == "__main__":
    main()
