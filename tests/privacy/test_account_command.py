"""`tutti account`: the published figures come out of the command line, and questions that cannot be answered are refused."""

import json

import pytest
from typer.testing import CliRunner

from contract.errors import ErrorCode, TuttiError
from tutti.cli import app

TREE = ["tree", "--rounds", "2000", "--min-separation", "313", "--delta", "1e-10"]
DDG = ["--dimension", str(1 << 20), "--noise-multiplier", "1", "--delta", "1e-5"]


def account(*arguments: str) -> dict:
    result = CliRunner().invoke(app, ["account", *arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def test_production_tree():
    found = account(*TREE, "--noise-multiplier", "7", "--max-participations", "6")
    assert found["sensitivity_squared"] == 79
    assert (f"{found['rho']:.6f}", f"{found['epsilons']['generic']:.4f}", f"{found['epsilon']:.3f}") == (
        "0.806122",
        "8.8985",
        "8.526",
    )
    assert found["conversion"] == "exact"
    assert any("7 participations fit" in line for line in found["first_lines"])


def test_production_tree_without_a_cap():
    found = account(*TREE, "--noise-multiplier", "7")
    assert (found["sensitivity_squared"], f"{found['rho']:.5f}") == (87, "0.88776")
    assert (f"{found['epsilons']['generic']:.3f}", f"{found['epsilons']['exact']:.3f}") == ("9.389", "8.998")
    assert found["first_lines"] == []


def test_a_person_with_two_devices():
    found = account(*TREE, "--noise-multiplier", "7", "--max-participations", "6", "--devices-per-person", "2")
    assert f"{found['person']['rho']:.5f}" == "3.22449"


def test_banded_and_blt():
    banded = account(
        "banded", "--bands", "400", "--column-norm-squared", "0.2", "--noise-multiplier", "1.411", "--rounds", "2000",
        "--min-separation", "484", "--max-participations", "3", "--delta", "1e-10",
    )  # fmt: skip
    assert (f"{banded['rho']:.8f}", f"{banded['epsilon']:.4f}") == ("0.15068403", "3.4240")
    blt = account(
        "blt", "--noise-multiplier", "1", "--rounds", "100", "--min-separation", "49", "--delta", "1e-10", "--buf-decay",
        "0.9999999999921251,0.9944453083640997,0.8985923474607591,0.4912001418098778", "--output-scale",
        "0.0070314825502323835,0.10613806907600574,0.1898159060327625,0.1966594748073734",
    )  # fmt: skip
    assert f"{blt['rho']:.8f}" == "3.17226586"


@pytest.mark.parametrize(
    ("devices", "bits", "beta", "scaled_clip", "inflation", "epsilon"),
    [
        (100, 12, "0", "523.9", "2.9546", "17.897"), (100, 12, None, "523.9", "1.3996", "7.0057"),
        (100, 16, None, "8382", "1.0019", "4.7624"), (1000, 16, None, "6026", "1.0037", "4.7712"),
    ],
)  # fmt: skip
def test_discrete_gaussian_table(devices: int, bits: int, beta: str | None, scaled_clip: str, inflation: str, epsilon: str):
    more = [] if beta is None else ["--beta", beta]
    found = account("ddg", "--devices", str(devices), "--bits", str(bits), *more, *DDG)
    assert f"{found['scale']:.{1 if '.' in scaled_clip else 0}f}" == scaled_clip
    assert f"{found['inflated_norm'] / found['scale']:.4f}" == inflation
    assert f"{found['epsilon']:.{len(epsilon.split('.')[1])}f}" == epsilon
    assert found["epsilons"]["exact"] is None
    assert found["rho"] is None


def test_the_colluding_claim_is_dearer_and_the_floor_sizes_the_noise():
    plain = account("skellam", "--devices", "100", "--bits", "16", *DDG)
    floor = account(
        "skellam",
        "--devices",
        "100",
        "--bits",
        "16",
        "--survivors",
        "90",
        "--minimum-survivors",
        "80",
        "--corrupt-fraction",
        "0.05",
        *DDG,
    )
    assert floor["scale"] == plain["scale"]
    assert floor["local_sigma"] == pytest.approx(plain["local_sigma"] * (100 / 75) ** 0.5)
    assert floor["colluding"]["contributors"] == 85
    assert floor["epsilon"] < floor["colluding"]["epsilon"] < plain["epsilon"]


@pytest.mark.slow
def test_dp_sgd_statement():
    common = ["gaussian", "--noise-multiplier", "1.1", "--delta", "1e-5"]
    sampled = account(*common, "--rounds", "6000", "--sampling-rate", "0.0025", "--devices-per-person", "2")
    assert f"{sampled['epsilons']['generic']:.3f}" == "0.997"
    assert f"{sampled['person']['epsilons']['generic']:.3f}" == "2.228"
    assert sampled["epsilon"] == sampled["epsilons"]["pld"] < 0.997
    assert sampled["adjacency"] == "add-or-remove"
    assert sampled["sensitivity_squared"] is None
    plain = account(*common, "--rounds", "15")
    assert plain["epsilons"]["generic"] == pytest.approx(21.901, abs=1e-3)


def test_a_target_finds_the_noise_or_the_rounds(tmp_path):
    picture = tmp_path / "epsilon.svg"
    noise = account("tree", "--rounds", "100", "--epsilon", "2", "--delta", "1e-6", "--plot", str(picture))
    assert 1.99 < noise["epsilon"] <= 2
    assert picture.read_text().startswith("<?xml")
    rounds = account("gaussian", "--noise-multiplier", "5", "--epsilon", "2", "--delta", "1e-6")
    assert (
        rounds["epsilon"]
        <= 2
        < account("gaussian", "--noise-multiplier", "5", "--rounds", str(rounds["rounds"] + 1), "--delta", "1e-6")["epsilon"]
    )


def test_no_noise_has_no_epsilon():
    found = account("tree", "--noise-multiplier", "0", "--rounds", "3", "--delta", "1e-6")
    assert (found["epsilon"], found["rho"], found["first_lines"][0][:12]) == (None, None, "NO GUARANTEE")


@pytest.mark.parametrize(
    "arguments",
    [
        ["tree", "--delta", "1e-6"],
        ["tree", "--delta", "2", "--rounds", "3", "--noise-multiplier", "1"],
        ["blt", "--delta", "1e-6", "--rounds", "3", "--noise-multiplier", "1"],
        ["blt", "--delta", "1e-6", "--rounds", "3", "--noise-multiplier", "1", "--buf-decay", "a", "--output-scale", "0.5"],
        ["banded", "--bands", "9", "--delta", "1e-6", "--rounds", "30", "--noise-multiplier", "1", "--min-separation", "3"],
        ["ddg", "--devices", "100", "--survivors", "101", *DDG],
        ["ddg", "--devices", "300", "--bits", "8", *DDG],
    ],
    ids=lambda arguments: " ".join(arguments[:4]),
)
def test_what_cannot_be_answered_is_refused(arguments: list[str]):
    result = CliRunner().invoke(app, ["account", *arguments])
    assert isinstance(result.exception, TuttiError)
    assert result.exception.code is ErrorCode.ARGUMENT_INVALID


def test_a_device_day_costs_one_participation():
    day = account(*TREE, "--noise-multiplier", "7", "--unit", "device-day")
    assert (day["sensitivity_squared"], day["unit"]) == (11, "device-day")
    assert "not the device" in day["first_lines"][0]
