"""Cost of secure aggregation: a device's and the server's CPU time, beside the limits of this core measured in the same run.

Writes benchmarks/results/secagg.json, the table secagg.md and the plot secagg.svg. Times are process CPU time on one pinned core, the best
of a few rounds, and everything counts that happens inside `Client` and `Server`: packing, checks, signatures, sharing, masks. Flower's
467 ms a device and 5,100 ms on the server (1.41, same cohort and vector) were measured on the machine of NUMBERS.md, section 7.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from contract.entropy import system_entropy
from contract.randomness import stream
from secagg import LOWEST_FLOORS, Client, DeviceAuthority, Phase, Result, Server, Vector, choose, keys, wire
from secagg.authority import is_certified
from secagg.testing import context_of

RESULTS = Path(__file__).parent / "results"
LEAVES_AT = Phase.MASKED_INPUT  # the dearest moment for the server: keys are shared, the input is missing


def best_ms(work: Callable[[], object], repeats: int = 7) -> float:
    """Least CPU time of `work` in milliseconds."""
    found = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        found = min(found, time.process_time() - start)
    return found * 1e3


def limits() -> dict[str, float]:
    """What the primitives alone cost on this core."""
    zeros, out = bytes(1 << 18), bytearray(1 << 18)

    def encrypt() -> None:
        encryptor = Cipher(algorithms.AES(bytes(32)), modes.CTR(bytes(16))).encryptor()
        for _ in range(64):
            encryptor.update_into(zeros, out)

    authority, pair = DeviceAuthority(bytes(32)), keys.generate(system_entropy)
    identity = authority.enrol(1, system_entropy)
    return {
        "aes_256_ctr_gb_per_s": 64 * len(zeros) / best_ms(encrypt, 15) / 1e6,
        "x25519_per_s": 1e5 / best_ms(lambda: pair.agree_all([pair.public] * 100)),
        "ed25519_verify_per_s": 1e5
        / best_ms(lambda: [is_certified(identity.certificate, authority.public, 1) for _ in range(100)]),
    }


class Meter:
    """CPU time by party, and bytes that one device sends."""

    def __init__(self) -> None:
        self.device_s = self.server_s = 0.0
        self.by_phase: dict[str, float] = {}

    def device(self, phase: Phase, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        answer = work()
        spent = time.process_time() - start
        self.device_s += spent
        self.by_phase[f"device, {phase.value}"] = self.by_phase.get(f"device, {phase.value}", 0.0) + spent
        return answer

    def server(self, phase: Phase, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        answer = work()
        spent = time.process_time() - start
        self.server_s += spent
        self.by_phase[f"server, {phase.value}"] = self.by_phase.get(f"server, {phase.value}", 0.0) + spent
        return answer


def answer(client: Client, message: Any) -> Any:
    """A device's answer; its first words if nothing was said yet."""
    return client.advertise_keys() if message is None else client.handle(message)


def play(n: int, d: int, lane_bits: int, drop: float, corrupt: float) -> dict[str, Any]:
    """One whole round; times of it, checked to give the right sum."""
    largest = ((1 << (lane_bits - 1)) - 1) // n
    vector = Vector(name="update", length=d, lane_bits=lane_bits, largest=max(1, largest))
    asked = choose(roster_size=n, vectors=(vector,), corrupt_fraction=corrupt, drop_fraction=max(drop, 0.1))
    context, authority, meter = context_of(asked), DeviceAuthority(bytes(32)), Meter()
    values = stream(1, "bench").integers(-vector.largest, vector.largest + 1, d)
    clients: dict[int, Client] = {}
    for device in range(n):
        identity = authority.enrol(context.epoch, system_entropy)
        clients[device] = Client(
            context=context, authority=authority.public, identity=identity, floors=LOWEST_FLOORS, entropy=system_entropy
        )
        clients[device].set_input({"update": values})
    server = Server(context=context, authority=authority.public)
    leaving = set(range(int(drop * n)))
    deaf: set[int] = set()
    sent_bytes = 0
    shown: dict[int, Any] = dict.fromkeys(clients)
    while server.result() is None:
        phase = server.phase
        if phase is LEAVES_AT:
            deaf = leaving
        # Read the clock twice a phase, not twice a message: here and there a reading costs milliseconds.
        asked_now = [(device, message) for device, message in shown.items() if device not in deaf]
        replies = meter.device(phase, lambda: [answer(clients[device], message) for device, message in asked_now])  # noqa: B023
        told = [(device, reply) for (device, _), reply in zip(asked_now, replies, strict=True)]
        sent_bytes += sum(len(wire.write_device_message(reply)) for device, reply in told if device == n - 1)
        refusals = meter.server(phase, lambda: [server.handle(device, reply) for device, reply in told])  # noqa: B023
        if any(refusals):
            raise ValueError(f"devices were refused: {server.refusals}")
        shown = dict(meter.server(phase, server.close_phase))
        if server.phase is Phase.AWAITING_CHARGE:
            shown = dict(meter.server(server.phase, server.request_unmasking))
    result = server.result()
    if not isinstance(result, Result) or (result.sums["update"] != values * (n - len(leaving))).any():
        raise ValueError(f"the round went wrong: {result}")
    topology = asked.topology(n)
    masks_device = topology.degree + 1
    neighbours_left = (n - len(leaving)) * topology.degree / (n - 1)
    dropped_masks = len(leaving) * neighbours_left
    return {
        "n": n,
        "d": d,
        "lane_bits": lane_bits,
        "dropped": len(leaving),
        "k": topology.degree,
        "t": topology.threshold,
        "device_ms": meter.device_s / n * 1e3,
        "server_ms": meter.server_s * 1e3,
        "bytes_per_parameter": round(sent_bytes / d, 3),
        "device_mask_gb": masks_device * vector.words * 8 / 1e9,
        "server_mask_gb": (n - len(leaving) + dropped_masks) * vector.words * 8 / 1e9,
        "phases_ms": {k: round(v * 1e3 / (n if k.startswith("device") else 1), 2) for k, v in meter.by_phase.items()},
    }


def measure(n: int, d: int, lane_bits: int = 21, drop: float = 0.0, corrupt: float = 0.05, repeats: int = 3) -> dict[str, Any]:
    """The best of a few rounds, and its share of the cipher's limit on this core, measured just before and after."""
    before = limits()
    rounds = [play(n, d, lane_bits, drop, corrupt) for _ in range(repeats)]
    after = limits()
    row = min(rounds, key=lambda r: r["device_ms"])
    row["server_ms"] = min(r["server_ms"] for r in rounds)
    rate = max(before["aes_256_ctr_gb_per_s"], after["aes_256_ctr_gb_per_s"])
    row["device_cipher_ms"] = row["device_mask_gb"] / rate * 1e3
    row["server_cipher_ms"] = row["server_mask_gb"] / rate * 1e3
    row["device_share_of_cipher_limit"] = row["device_cipher_ms"] / row["device_ms"]
    row["server_share_of_cipher_limit"] = row["server_cipher_ms"] / row["server_ms"]
    row["limits"] = {name: round(max(value, after[name]), 2) for name, value in before.items()}
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    head = "| n | k, t | d | bits | dropped | device ms | of it cipher | share of AES-CTR limit | server ms | its share | bytes each |"
    lines = [head, "|" + "---|" * 11]
    for r in rows:
        cells = (r["n"], f"{r['k']}, {r['t']}", f"{r['d']:,}", r["lane_bits"], r["dropped"], f"{r['device_ms']:.1f}")
        cells += (f"{r['device_cipher_ms']:.1f}", f"{r['device_share_of_cipher_limit']:.0%}", f"{r['server_ms']:.1f}")
        cells += (f"{r['server_share_of_cipher_limit']:.0%}", r["bytes_per_parameter"])
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Cost against n, d and dropouts."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "secagg"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    for party, axis in zip(("device", "server"), axes, strict=True):
        for n, dropped in sorted({(r["n"], r["dropped"] > 0) for r in rows if r["lane_bits"] == 21 and r["n"] <= 64}):
            line = sorted(
                (r["d"], r[f"{party}_ms"])
                for r in rows
                if r["n"] == n and (r["dropped"] > 0) == dropped and r["lane_bits"] == 21
            )
            label = f"{n} devices" + (", 10% drop out" if dropped else "")
            axis.loglog(*zip(*line, strict=True), marker="o", label=label)
        axis.set(title=f"{party}, CPU ms a round", xlabel="parameters", ylabel="ms")
        axis.legend(fontsize=7)
        axis.grid(visible=True, which="major", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the required round only")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows = [measure(32, 1_300_000, repeats=8)]
    if not arguments.quick:
        rows += [measure(32, 1_300_000, lane_bits=12)]
        rows += [measure(32, 1_300_000, drop=0.1)]
        rows += [measure(n, d, drop=q) for n in (16, 32, 64) for d in (10_000, 100_000) for q in (0.0, 0.1)]
        rows += [measure(n, 1_300_000, drop=q, repeats=1) for n in (16, 64) for q in (0.0, 0.1)]
        rows += [measure(1000, d, drop=0.1, corrupt=0.1, repeats=1) for d in (100_000, 1_300_000)]
    first = rows[0]
    summary = {
        "work": "secagg, 32 devices, 1.3M parameters, 21 bits, complete graph",
        "device_ms": first["device_ms"],
        "device_budget_ms": 30,
        "device_against_flower": round(first["device_ms"] / 467, 4),
        "server_ms": first["server_ms"],
        "server_budget_ms": 45,
        "server_against_flower": round(first["server_ms"] / 5100, 4),
        "load": round(os.getloadavg()[0], 2),
        "rows": rows,
    }
    print(json.dumps({k: v for k, v in summary.items() if k != "rows"}, indent=1))
    print(table(rows))
    if not arguments.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "secagg.json").write_text(json.dumps(summary, indent=1) + "\n")
        (RESULTS / "secagg.md").write_text(f"# Secure aggregation, cost by size\n\n{table(rows)}")
        plot(rows, RESULTS / "secagg.svg")


if __name__ == "__main__":
    main()
