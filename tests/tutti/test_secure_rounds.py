"""Distributed DP in process: the real protocol gives the plain sum of the same encoded updates, and the charge comes first."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import tutti
from client_sim.data import open_loader
from client_sim.executor import Job
from client_sim.secure_cohort import SecureCohort
from client_sim.secure_work import Replies
from client_sim.timing import Phase
from client_sim.workers import open_executor
from contract import task
from contract.errors import ErrorCode
from contract.simulation import SealedContribution
from contract.task import DataSpec
from secagg.messages import MaskedInput, ServerMessage
from server import tasks
from server.distributed_mechanism import DistributedMechanism, lanes
from tutti import stores
from tutti.commands import ledger
from tutti.commands.transcripts import check_transcripts
from tutti.secure_simulation import IdealSum, ProtocolSum

TASK: dict[str, Any] = {
    "name": "secure",
    "population": "test",
    "model": {"name": "mlp"},
    "data": {"source": "synthetic", "devices": 400},
    "cohort": {"report_goal": 20, "over_selection": 1.4, "minimum_reports": 18, "max_participations": 2},
    "training": {"batch_size": 10, "max_examples": 10, "learning_rate": 0.1},
    "privacy": {"mechanism": "ddg", "clip_norm": 0.5, "noise_multiplier": 1.0, "delta": 1e-5, "metrics": {}},
    "aggregation": {"secure": True, "bits": 16, "minimum_survivors": 16, "corrupt_fraction": 0.05, "drop_fraction": 0.1},
    "rounds": 2,
}


def job_of(spec_mapping: Mapping[str, Any], devices: np.ndarray) -> tuple[Job, Any, Any]:
    """A round's work for `devices`, with seeded noise, and its executor."""
    prepared = tasks.prepare(task.parse_mapping(dict(spec_mapping)))
    plan = prepared.mechanism.plan_bytes(
        spec=prepared.spec, run="r", round_index=0, leaf=0, model_digest="d", ledger_checkpoint="00" * 32
    )
    loader = open_loader(DataSpec(devices=400), model="mlp")
    job = Job(plan=plan, parameters=prepared.model.init(0), devices=devices, order_seed=1, noise_seed=bytes(32))
    assert isinstance(prepared.mechanism, DistributedMechanism)
    return job, open_executor(prepared.spec, loader, workers=0), prepared.mechanism.vectors


@pytest.mark.parametrize("mechanism", ["ddg", "skellam", "none"])
def test_the_protocol_gives_the_plain_sum_bit_for_bit(mechanism: str) -> None:
    privacy = TASK["privacy"] | {"mechanism": mechanism}
    if mechanism == "none":
        privacy = {"mechanism": "none", "clip_norm": 0.5, "metrics": {}}
    devices = np.arange(20, dtype=np.int64) * 7
    job, executor, vectors = job_of({**TASK, "privacy": privacy}, devices)
    survivors = devices[2:]
    leaves = {int(devices[0]): Phase.TRAINING, int(devices[1]): Phase.UPLOAD}
    plain = IdealSum(executor, lanes(vectors)).run(job, survivors=survivors, leaves={}).reveal()
    secure = ProtocolSum(executor, entropy=lambda n: bytes(range(n)), seed=1, lost_after_input=0.05)
    masked = secure.run(job, survivors=survivors, leaves=leaves).reveal()
    assert plain is not None
    assert masked is not None
    assert np.array_equal(plain, masked)


def test_devices_of_a_secure_round_train_on_what_their_caches_hold() -> None:
    arriving = {"devices": 400, "cache": {"longest_days": 10.0, "arrival_days": 25.0}}
    devices = np.arange(20, dtype=np.int64) * 7
    job, executor, vectors = job_of({**TASK, "data": arriving}, devices)
    sums = list[bytes]()
    for at in (job, replace(job, at_s=12 * 86_400.0)):
        plain = IdealSum(executor, lanes(vectors)).run(at, survivors=devices, leaves={}).reveal()
        secure = ProtocolSum(executor, entropy=lambda n: bytes(range(n)), seed=1, lost_after_input=0.0)
        masked = secure.run(at, survivors=devices, leaves={}).reveal()
        assert plain is not None
        assert masked is not None
        assert np.array_equal(plain, masked)
        sums.append(masked.tobytes())
    assert sums[0] != sums[1]


def test_too_few_survivors_reveal_nothing() -> None:
    devices = np.arange(20, dtype=np.int64) * 7
    job, executor, _ = job_of(TASK, devices)
    sealed = ProtocolSum(executor, entropy=lambda n: bytes(range(n)), seed=1, lost_after_input=0.0).run(
        job, survivors=devices[5:], leaves={}
    )
    assert sealed.reveal() is None


class DeadWorker:
    """Clients of a secure round, one of whom dies with its worker before its masked input."""

    def __init__(self, cohort: SecureCohort, device: int) -> None:
        self._cohort, self._device, self.metrics = cohort, device, cohort.metrics

    def advertise(self) -> Replies:
        return self._cohort.advertise()

    def answer(self, messages: Mapping[int, ServerMessage]) -> Replies:
        replies = self._cohort.answer(messages)
        return {
            device: reply for device, reply in replies.items() if device != self._device or not isinstance(reply, MaskedInput)
        }


def losing(begin: Callable[[Job, bytes], SecureCohort], device: int) -> Callable[[Job, bytes], DeadWorker]:
    """`begin_secure`, of whose clients one dies."""

    def begun(job: Job, authority_seed: bytes) -> DeadWorker:
        return DeadWorker(begin(job, authority_seed), device)

    return begun


def test_only_inputs_that_are_in_the_sum_count_as_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = np.arange(20, dtype=np.int64) * 7
    job, executor, _ = job_of(TASK, devices)
    monkeypatch.setattr(executor, "begin_secure", losing(executor.begin_secure, 14))
    secure = ProtocolSum(executor, entropy=lambda n: bytes(range(n)), seed=1, lost_after_input=0.0)
    sealed = secure.run(job, survivors=devices, leaves={})
    assert sealed.count == 19
    assert sealed.reveal() is not None


def test_a_round_is_charged_for_the_inputs_that_are_in_its_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ProtocolSum.run

    def with_a_dead_worker(self: ProtocolSum, job: Job, **rest: Any) -> SealedContribution:
        executor = self._executor  # pyright: ignore[reportPrivateUsage] - the test breaks what it is made of
        with monkeypatch.context() as patched:
            patched.setattr(executor, "begin_secure", losing(executor.begin_secure, int(rest["survivors"][0])))
            return run(self, job, **rest)

    monkeypatch.setattr(ProtocolSum, "run", with_a_dead_worker)
    tutti.run({**TASK, "rounds": 1}, store=str(tmp_path), workers=0, seed=3)
    with stores.opened(str(tmp_path)) as (database, _):
        outcomes = [body for entry in database.entries() if (body := json.loads(entry.body)).get("result")]
    assert [outcome["result"] for outcome in outcomes] == ["committed"]
    assert outcomes[0]["reported"] < 20
    assert outcomes[0]["event"]["parts"][0]["contributors"] == [outcomes[0]["reported"]]


def test_the_charge_is_at_the_floor_and_the_outcome_at_what_happened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tutti.run(TASK, store=str(tmp_path), workers=0, seed=3)
    with stores.opened(str(tmp_path)) as (database, _):
        bodies = [json.loads(entry.body) for entry in database.entries()]
    signed = [body for body in bodies if body["kind"] == "secagg-transcript"]
    committed = [body["round"] for body in bodies if body.get("result") == "committed"]
    assert [body["round"] for body in signed] == committed
    assert len({body["transcript"] for body in signed}) == len(committed)
    check_transcripts(store=str(tmp_path), out=tmp_path / "out", json_output=True)
    told = json.loads(capsys.readouterr().out)["transcripts"]
    assert [(one["round"], one["state"], one["devices"]) for one in told] == [(number, "sound", 20) for number in committed]
    ledger.export_ledger(out=tmp_path / "ledger.jsonl", store=str(tmp_path))
    check_transcripts(result["run"][:8], from_export=tmp_path / "ledger.jsonl", from_folder=tmp_path / "out", json_output=True)
    assert json.loads(capsys.readouterr().out)["transcripts"] == told
    swapped = [tmp_path / "out" / result["run"] / f"{number}-0.json" for number in committed[:2]]
    swapped[0].write_bytes(swapped[1].read_bytes())
    with pytest.raises(typer.Exit) as ended:
        check_transcripts(from_export=tmp_path / "ledger.jsonl", from_folder=tmp_path / "out")
    assert ended.value.exit_code == ErrorCode.LEDGER_BROKEN.value.exit_code
    assert "this is not the transcript that was recorded" in capsys.readouterr().out
    charged = next(body for body in bodies if body["kind"] == "round-charged")
    outcome = next(body for body in bodies if body.get("result") == "committed")
    assert charged["floor"] == 16
    assert charged["event"]["parts"][0]["contributors"] == [16]
    assert outcome["event"]["parts"][0]["contributors"] == [outcome["reported"]]
    assert outcome["colluding"]["parts"][0]["contributors"] == [outcome["reported"] - 1]
    assert result["privacy"]["conversion"] == "generic"
    assert result["privacy"]["rho"] is None


def test_federated_metrics_are_inside_the_sum(tmp_path: Path) -> None:
    exact = {**TASK, "privacy": {"mechanism": "none", "metrics": {"clip_norm": 32.0}}}
    result = tutti.run(exact, store=str(tmp_path), workers=0, seed=3)
    found = result["metrics"]
    assert found["train_federated_examples"] == pytest.approx(
        found["train_examples"] * 19, rel=0.25
    )  # the oracle is a mean over the survivors, the federated count their sum
    assert any("NO GUARANTEE" in line for line in result["privacy"]["first_lines"])


def test_noise_that_the_survivors_cannot_make_is_refused() -> None:
    impossible = {**TASK, "aggregation": TASK["aggregation"] | {"minimum_survivors": 19}}
    problems = tasks.problems(task.parse_mapping(impossible))
    assert [problem.path for problem in problems] == ["aggregation.minimum_survivors"]
