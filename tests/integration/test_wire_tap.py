"""A tap on the wire over a whole secure run: what devices say is the protocol's, and says nothing of one device's update.

The tap is an interceptor on the server: it keeps the bytes of every message as they came in, before anything read them. Keys, noise and
rounding are seeded, so that the test knows what each device encoded; the server knows none of it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import unknown_fields
from google.protobuf.message import Message

import tutti
from client_sim.data import open_loader
from client_sim.encoding import DistributedEncoder, encoder_of
from client_sim.executor import Job
from client_sim.local_work import LocalWork, WorkSetup
from client_sim.secure_work import key_entropy, secure_context, split
from client_sim.timing import Loss
from contract import plan as plans
from contract import task
from protos.tutti.v1 import aggregations_pb2 as aggregations
from protos.tutti.v1 import resources_pb2 as resources
from protos.tutti.v1 import secure_aggregations_pb2 as secure
from protos.tutti.v1 import task_assignments_pb2 as assignments
from secagg import Client, DeviceAuthority, packing, wire
from secagg.messages import MaskedInput
from server import tasks
from server.distributed_mechanism import DistributedMechanism
from tutti import loopback, simulation, stores

DEVICES = 14
TASK: dict[str, Any] = {
    "name": "tapped",
    "population": "test",
    "model": {"name": "mlp"},
    "data": {"source": "synthetic", "devices": DEVICES},
    "cohort": {"report_goal": DEVICES, "over_selection": 1.0, "minimum_reports": 10},
    "deadlines": {"selection_s": 10, "reporting_s": 60},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
    "privacy": {"mechanism": "ddg", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5, "metrics": {}},
    "aggregation": {"secure": True, "minimum_survivors": 8, "corrupt_fraction": 0.0, "drop_fraction": 0.2},
    "rounds": 1,
}
DEVICE_CALLS = {
    "RequestEligibilityEvalTask",
    "StartTaskAssignment",
    "ReadResource",
    "AdvertiseKeys",
    "ShareKeys",
    "StartSecureAggregationDataUpload",
    "UploadSecureAggregationData",
    "SubmitSecureAggregationResult",
    "ConsistencyCheck",
    "Unmask",
    "AbortSecureAggregation",
    "ReportTaskResult",
}
LARGEST_BUT_INPUTS = 1 << 14


@dataclass
class Tap(grpc.aio.ServerInterceptor):
    """Keeps every message: (method, its type, its bytes), requests and answers apart."""

    asked: list[tuple[str, Any, bytes]] = field(default_factory=list)
    answered: list[tuple[str, bytes]] = field(default_factory=list)

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler, method = await continuation(handler_call_details), handler_call_details.method.rsplit("/", 1)[1]
        if handler is None:
            return None
        read, write = handler.request_deserializer, handler.response_serializer

        def tapped(raw: bytes) -> Any:
            message = read(raw)
            self.asked.append((method, type(message), raw))
            return message

        def written(message: Any) -> bytes:
            raw = write(message)
            self.answered.append((method, raw))
            return raw

        kinds = {
            (False, False): (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
            (False, True): (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
            (True, False): (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
            (True, True): (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
        }
        make, behaviour = kinds[handler.request_streaming, handler.response_streaming]
        return make(behaviour, request_deserializer=tapped, response_serializer=written)


@dataclass(frozen=True)
class Tapped:
    """A run and all that was said in it."""

    tap: Tap
    result: dict[str, Any]
    plan: bytes
    start: np.ndarray
    final: np.ndarray
    devices: dict[str, int]
    """Which device is behind each session: found by the keys it advertised, which only the seed of the test gives away."""
    encoded: dict[int, np.ndarray]
    """Each device's encoded update with its noise, int32."""
    mechanism: DistributedMechanism

    def said(self, method: str, kind: Callable[..., Any]) -> Iterator[Any]:
        """The messages of one method, parsed."""
        for name, _, raw in self.tap.asked:
            if name == method:
                yield kind.FromString(raw)  # type: ignore[attr-defined]

    def masked(self) -> dict[int, MaskedInput]:
        """The masked input of each device that uploaded all of it."""
        chunks = defaultdict[str, dict[int, bytes]](dict)
        for chunk in self.said("UploadSecureAggregationData", aggregations.UploadChunk):
            chunks[chunk.session_id][chunk.offset] = chunk.data
        found: dict[int, MaskedInput] = {}
        for session, parts in chunks.items():
            message = wire.read_device_message(b"".join(parts[offset] for offset in sorted(parts)))
            assert isinstance(message, MaskedInput), "half an upload or something else"
            found[self.devices[session]] = message
        return found


@pytest.fixture(scope="module")
def tapped(tmp_path_factory: pytest.TempPathFactory) -> Tapped:
    """One run from the Python interface: a real server, a real fleet, two devices lost on the way."""
    folder, tap = str(tmp_path_factory.mktemp("tapped")), Tap()
    with pytest.MonkeyPatch.context() as patched:
        serve = grpc.aio.server
        patched.setattr(grpc.aio, "server", lambda **options: serve(interceptors=[tap], **options))
        patched.setattr(loopback, "Loss", lambda **_: Loss(download=0.0, training=0.1, upload=0.08))
        result = tutti.run(TASK, transport="grpc", store=folder, workers=1, seed=5, seed_noise=4)
    prepared = tasks.prepare(task.parse_mapping(TASK))
    assert isinstance(prepared.mechanism, DistributedMechanism)
    with stores.opened(folder) as (database, _):
        run = database.run(result["run"])
        noise_seed, order_seed = simulation.noise_seed(run), simulation.simulation_seed(run)
        authority = DeviceAuthority(loopback.device_authority(run))
        final = database.model(run.id).parameters
    plan = last_plan(tap)
    start = start_of(tap, prepared.model.num_parameters)
    return Tapped(
        tap=tap,
        result=result,
        plan=plan,
        start=start,
        final=final,
        devices=players(tap, plan, authority, noise_seed),
        encoded=encoded_updates(plan, start, order_seed, noise_seed),
        mechanism=prepared.mechanism,
    )


def last_plan(tap: Tap) -> bytes:
    """The plan of the round that was committed: the last one that went out."""
    for method, raw in reversed(tap.answered):
        if method == "StartTaskAssignment":
            answer = assignments.StartTaskAssignmentResponse.FromString(raw)
            if answer.HasField("task_assignment"):
                return answer.task_assignment.plan
    raise ValueError("no plan went out")


def start_of(tap: Tap, dimension: int) -> np.ndarray:
    """The model that devices fetched."""
    parts: dict[int, bytes] = {}
    for method, raw in tap.answered:
        if method == "ReadResource":
            chunk = resources.ResourceChunk.FromString(raw)
            parts[chunk.offset] = chunk.data
    return np.frombuffer(b"".join(parts[offset] for offset in sorted(parts)), "<f4")[:dimension].copy()


def players(tap: Tap, plan: bytes, authority: DeviceAuthority, noise_seed: bytes | None) -> dict[str, int]:
    """The device of each session."""
    context, round_index, by_key = secure_context(plan), plans.decode(plan).round_index, dict[bytes, int]()
    floors = loopback.floors_of(task.parse_mapping(TASK))
    for device in range(DEVICES):
        entropy = key_entropy(noise_seed, round_index, device)
        identity = authority.enrol(context.epoch, entropy)
        client = Client(context=context, authority=authority.public, identity=identity, floors=floors, entropy=entropy)
        by_key[client.advertise_keys().mask_key] = device  # type: ignore[union-attr]
    found: dict[str, int] = {}
    for method, _, raw in tap.asked:
        if method == "AdvertiseKeys":
            request = secure.AdvertiseKeysRequest.FromString(raw)
            if request.HasField("advertise_keys") and request.advertise_keys.mask_key in by_key:
                found[request.session_id] = by_key[request.advertise_keys.mask_key]
    return found


def encoded_updates(plan: bytes, start: np.ndarray, order_seed: int, noise_seed: bytes | None) -> dict[int, np.ndarray]:
    """What each device would hand to secure aggregation."""
    spec = task.parse_mapping(TASK)
    work = LocalWork(WorkSetup(loader=open_loader(spec.data, model="mlp"), model="mlp", training=spec.training))
    job = Job(
        plan=plan, parameters=start, devices=np.arange(DEVICES, dtype=np.int64), order_seed=order_seed, noise_seed=noise_seed
    )
    return {update.device: update.vector.copy() for update in work.updates(job)}


@pytest.mark.slow
def test_the_run_ends_without_the_devices_that_left(tapped: Tapped) -> None:
    assert tapped.result["rounds"] == 1
    assert len(tapped.devices) == DEVICES
    assert 10 <= len(tapped.masked()) < DEVICES


@pytest.mark.slow
def test_the_devices_of_one_process_fetch_the_model_once(tapped: Tapped) -> None:
    assert [method for method, _, _ in tapped.tap.asked].count("ReadResource") == 1


@pytest.mark.slow
def test_the_aggregate_is_the_plain_sum_of_the_survivors_updates(tapped: Tapped) -> None:
    survivors = sorted(tapped.masked())
    total = sum(tapped.encoded[device].astype(np.int64) for device in survivors)
    seed = plans.rotation_seed(plans.decode(tapped.plan))
    summed, _ = tapped.mechanism.decode(np.asarray(total), count=len(survivors), seed=seed)
    assert np.array_equal(tapped.final, tapped.start + (summed / len(survivors)).astype(np.float32))


@pytest.mark.slow
def test_devices_say_nothing_but_the_protocols_fields(tapped: Tapped) -> None:
    assert {method for method, _, _ in tapped.tap.asked} <= DEVICE_CALLS
    for _, kind, raw in tapped.tap.asked:
        message = kind.FromString(raw)
        assert not list(strangers(message))
        assert len(message.SerializeToString()) == len(raw)


def strangers(message: Message) -> Iterator[int]:
    """Numbers of fields that the protocol does not know, in a message and in those inside it."""
    yield from (one.field_number for one in unknown_fields.UnknownFieldSet(message))
    for described, value in message.ListFields():
        if described.message_type is not None:
            for inner in value if described.is_repeated else [value]:
                yield from strangers(inner)


@pytest.mark.slow
def test_no_field_of_a_devices_message_could_hold_a_real_number(tapped: Tapped) -> None:
    seen: set[str] = set()

    def walk(descriptor: Any) -> None:
        if descriptor.full_name in seen:
            return
        seen.add(descriptor.full_name)
        for one in descriptor.fields:
            assert one.type not in (one.TYPE_DOUBLE, one.TYPE_FLOAT), one.full_name
            if one.message_type is not None:
                walk(one.message_type)

    for _, kind, _ in tapped.tap.asked:
        walk(kind.DESCRIPTOR)


@pytest.mark.slow
def test_only_masked_inputs_are_large(tapped: Tapped) -> None:
    for method, _, raw in tapped.tap.asked:
        assert method == "UploadSecureAggregationData" or len(raw) < LARGEST_BUT_INPUTS, method


@pytest.mark.slow
def test_masked_words_cannot_be_told_from_uniform_ones(tapped: Tapped) -> None:
    """Bytes by position in a word, and differences of two devices' words: 16 chi-squared tests of 255 degrees of freedom a device.

    A threshold of 255 + 6.5 sqrt(510) has a false alarm below 1e-8 each, below 1e-5 for all of them.
    """
    words = [message.words for message in tapped.masked().values()]
    for one, other in zip(words, [*words[1:], words[0]], strict=True):
        for column in np.concatenate([octets(one), octets(one - other)], axis=1).T:
            counts = np.bincount(column, minlength=256)
            expected = counts.sum() / 256
            assert ((counts - expected) ** 2 / expected).sum() < 255 + 6.5 * np.sqrt(510)


def octets(words: np.ndarray) -> np.ndarray:
    """The bytes of each word, uint8, shape (words, 8)."""
    return np.ascontiguousarray(words).view(np.uint8).reshape(len(words), 8)


@pytest.mark.slow
def test_plain_words_would_have_failed_that_test(tapped: Tapped) -> None:
    encoder = encoder_of(plans.decode(tapped.plan))
    assert isinstance(encoder, DistributedEncoder)
    plain = packing.pack(secure_context(tapped.plan).parameters.vectors, split(encoder, tapped.encoded[0]))
    worst = 0.0
    for column in octets(plain).T:
        counts = np.bincount(column, minlength=256)
        worst = max(worst, float(((counts - counts.mean()) ** 2 / counts.mean()).sum()))
    assert worst > 10_000


@pytest.mark.slow
def test_no_word_of_a_masked_input_is_the_word_of_an_encoded_update(tapped: Tapped) -> None:
    encoder = encoder_of(plans.decode(tapped.plan))
    assert isinstance(encoder, DistributedEncoder)
    vectors = secure_context(tapped.plan).parameters.vectors
    for device, message in tapped.masked().items():
        plain = packing.pack(vectors, split(encoder, tapped.encoded[device]))
        # Chance hits at one place: 20,000 words in 2^64 values.
        assert not np.any(message.words == plain)


@pytest.mark.slow
def test_no_stretch_of_an_encoded_update_is_on_the_wire(tapped: Tapped) -> None:
    stretches = [vector[:8].astype("<i4").tobytes() for vector in tapped.encoded.values()]
    stretches += [vector[:16].astype("<i2").tobytes() for vector in tapped.encoded.values()]
    for _, _, raw in tapped.tap.asked:
        assert not any(stretch in raw for stretch in stretches)
