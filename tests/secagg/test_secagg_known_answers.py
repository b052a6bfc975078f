"""The package gives the script's bytes, the script is what the naive implementation writes, and the failures fail as written."""

import hashlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from secagg import (
    LOWEST_FLOORS,
    Abort,
    AbortReason,
    Client,
    Context,
    DeviceAuthority,
    MaskCipher,
    Parameters,
    Phase,
    Server,
    Vector,
    VectorKind,
    bitmaps,
    graph,
    statements,
    thresholds,
)
from secagg.authority import Certificate, OneTimeIdentity
from secagg.messages import NeighbourKeys

HERE = Path(__file__).parent
SCRIPT = json.loads((HERE.parent / "vectors" / "secagg" / "rounds.json").read_text())
ROUNDS = pytest.mark.parametrize("case", SCRIPT["rounds"], ids=lambda case: case["name"])


def draws(seed, name):
    counter = iter(range(10**9))
    return lambda n: hashlib.sha256(f"{seed}/{name}/{next(counter)}".encode()).digest()[:n]


def context_of(case) -> Context:
    asked = case["parameters"]
    vectors = tuple(Vector(**{**v, "kind": VectorKind(v["kind"])}) for v in asked["vectors"])
    fractions = {name: float(asked[name]) for name in ("corrupt_fraction", "drop_fraction")}
    cipher = MaskCipher(asked["cipher"])
    return Context(**case["context"], parameters=Parameters(**{**asked, **fractions, "vectors": vectors, "cipher": cipher}))


class Round:
    """The scripted round in the package."""

    def __init__(self, case) -> None:
        self.case, self.context = case, context_of(case)
        authority = DeviceAuthority(hashlib.sha256(f"{case['seed']}/authority".encode()).digest())
        assert authority.public.hex() == case["expected"]["authority"]
        self.server = Server(context=self.context, authority=authority.public)
        self.clients = {}
        for device in range(case["devices"]):
            entropy = draws(case["seed"], device)
            identity = authority.enrol(self.context.epoch, entropy)
            client = Client(
                context=self.context, authority=authority.public, identity=identity, floors=LOWEST_FLOORS, entropy=entropy
            )
            client.set_input({name: np.array(values) for name, values in case["inputs"][str(device)].items()})
            self.clients[device] = client
        self.sent = {device: client.advertise_keys() for device, client in self.clients.items()}
        self.shown = {}

    def advance(self):
        """Delivers what devices sent, closes the phase, and hands the server's messages to the devices."""
        phase = self.server.phase
        stay_away = {Phase.SHARE_KEYS: self.case["never_share"], Phase.MASKED_INPUT: self.case["drop"]}.get(phase, [])
        for device, message in self.sent.items():
            if device not in stay_away:
                assert self.server.handle(device, message) is None
        self.shown = self.server.close_phase()
        if self.server.phase is Phase.AWAITING_CHARGE:
            self.shown = self.server.request_unmasking()
        return self.shown

    def answer(self):
        self.sent = {device: self.clients[device].handle(message) for device, message in self.shown.items()}
        return self.sent


@ROUNDS
def test_package_gives_the_scripts_bytes(case):
    played, expected = Round(case), case["expected"]
    assert played.context.digest().hex() == expected["ctx0"]
    for device, message in played.sent.items():
        assert advertised(message) == expected["devices"][str(device)]["advertise_keys"]
    rosters = played.advance()
    assert {roster.identities.hex() for roster in rosters.values()} == {expected["identities"]}
    assert {roster.key_digests.hex() for roster in rosters.values()} == {expected["key_digests"]}
    for device, message in played.answer().items():
        assert message.context.hex() == expected["ctx1"]
        assert dealt(message) == expected["devices"][str(device)]["share_keys"]
    assert {message.sharers.hex() for message in played.advance().values()} == {expected["sharers"]}
    for device, message in played.answer().items():
        assert [f"{word:016x}" for word in message.words.tolist()] == expected["devices"][str(device)]["masked_input"]
    assert {message.survivors.hex() for message in played.advance().values()} == {expected["survivors"]}
    for device, message in played.answer().items():
        assert message.signature.hex() == expected["devices"][str(device)]["consistency_check"]
    witnesses = {tuple(witness.slot for witness in request.witnesses) for request in played.advance().values()}
    signing = [
        slot
        for slot in expected.get("witnesses", [])
        if slot in bitmaps.slots_of(bitmaps.decode(bytes.fromhex(expected["survivors"]), case["devices"]))
    ]
    assert witnesses == {tuple(signing[: case["threshold"]])}
    for device, message in played.answer().items():
        answer = expected["devices"][str(device)]
        assert [[s.neighbour, s.kind.value, s.share.hex()] for s in message.shares] == answer["releases"]
        assert message.signature.hex() == answer["release_signature"]
    played.advance()
    assert {name: values.tolist() for name, values in played.server.result().sums.items()} == expected["sums"]


def advertised(message) -> dict:
    word = message.certificate
    found = {"identity": word.identity.hex(), "epoch": word.epoch, "certificate": word.signature.hex()}
    return found | {name: getattr(message, name).hex() for name in ("cipher_key", "mask_key", "signature")}


def dealt(message) -> dict:
    shares = [
        [s.recipient, s.ciphertext.hex(), s.self_mask_commitment.hex(), s.mask_key_commitment.hex()] for s in message.shares
    ]
    signed = {"signature": message.signature.hex()} if message.signature else {}
    return {"seed_commitment": message.seed_commitment.hex(), "shares": shares} | signed


@pytest.mark.slow
def test_script_is_what_the_naive_implementation_writes():
    spec = importlib.util.spec_from_file_location("naive_secagg", HERE / "naive_secagg.py")
    naive = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(naive)
    assert naive.script() == SCRIPT


def test_naive_implementation_imports_nothing_of_the_package():
    imported = [line for line in (HERE / "naive_secagg.py").read_text().splitlines() if line.startswith(("import", "from"))]
    assert imported == ["import hashlib", "import hmac", "import json", "import sys"]


@pytest.mark.parametrize("item", SCRIPT["graphs"], ids=lambda item: f"{item['size']} devices")
def test_ring_gives_the_scripts_neighbours(item):
    topology = thresholds.ring_topology(item["size"], item["degree"], 11, 0.05)
    identities = b"".join(i.to_bytes(32, "big") for i in range(item["size"]))
    ring = graph.build(topology, bytes.fromhex(item["ctx0"]), identities)
    assert [list(ring.neighbours(0)), list(ring.neighbours(99))] == item["neighbours_of_0_and_99"]
    assert list(ring.witnesses) == item["witnesses"]


def test_dealing_on_a_ring_is_signed_as_the_script_says():
    item = SCRIPT["dealing_on_a_ring"]
    identity = OneTimeIdentity(bytes.fromhex(item["seed"]), Certificate(bytes(32), 7, bytes(64)))
    assert identity.sign(statements.dealing(bytes.fromhex(item["ctx1"]), item["slot"])).hex() == item["signature"]


def flip(raw: bytes) -> bytes:
    return bytes([raw[0] ^ 1]) + raw[1:]


def first_neighbour(roster, **changes):
    first = roster.neighbours[0]
    return replace(
        roster, neighbours=(NeighbourKeys(slot=first.slot, keys=replace(first.keys, **changes)), *roster.neighbours[1:])
    )


def flipped_certificate(roster):
    word = roster.neighbours[0].keys.certificate
    return first_neighbour(roster, certificate=replace(word, signature=flip(word.signature)))


def cleared(bitmap: bytes, slot: int) -> bytes:
    changed = bytearray(bitmap)
    changed[slot // 8] &= ~(1 << slot % 8)
    return bytes(changed)


CHANGES = {
    "drop the last identity": lambda m, slot: replace(m, identities=m.identities[:-32]),
    "flip a bit of the first neighbour's mask key": lambda m, slot: first_neighbour(
        m, mask_key=flip(m.neighbours[0].keys.mask_key)
    ),
    "flip a bit of the first neighbour's signature": lambda m, s: first_neighbour(
        m, signature=flip(m.neighbours[0].keys.signature)
    ),
    "flip a bit of the first neighbour's certificate": lambda m, slot: flipped_certificate(m),
    "flip a bit of every ciphertext": lambda m, slot: replace(
        m, shares=tuple(replace(sealed, ciphertext=flip(sealed.ciphertext)) for sealed in m.shares)
    ),
    "clear this device's bit among the sharers": lambda m, slot: replace(m, sharers=cleared(m.sharers, slot)),
    "clear this device's bit among the survivors": lambda m, slot: replace(m, survivors=cleared(m.survivors, slot)),
    "announce another context": lambda m, slot: replace(m, context=flip(m.context)),
    "leave out the last signature": lambda m, slot: replace(m, signatures=m.signatures[:-1]),
    "flip a bit of the first signature": lambda m, slot: replace(
        m, signatures=(replace(m.signatures[0], signature=flip(m.signatures[0].signature)), *m.signatures[1:])
    ),
}
PHASES = ["roster", "forwarded_shares", "survivors_announcement", "unmask_request"]


@pytest.mark.parametrize("failure", SCRIPT["failures"], ids=lambda failure: failure["change"])
def test_failures_fail_as_written(failure):
    case = SCRIPT["rounds"][0]
    played, slot = Round(case), case["expected"]["devices"]["0"]["slot"]
    played.advance()
    for _ in range(PHASES.index(failure["message"])):
        played.answer()
        played.advance()
    message, client = played.shown[0], played.clients[0]
    if failure["change"] == "ask twice":
        assert not isinstance(client.handle(message), Abort)
    else:
        message = CHANGES[failure["change"]](message, slot)
    left = client.handle(message)
    assert isinstance(left, Abort)
    assert left.reason is AbortReason[failure["reason"]]
    assert client.state == left
