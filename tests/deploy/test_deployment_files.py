"""Deployment files are read as what reads them would, and hold what they must."""

import configparser
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from server.observability import Metrics
from server.store.tallies import Tallies
from tutti.cli import app

DEPLOY = Path(__file__).parents[2] / "deploy"
ROOT = DEPLOY.parent
METRIC = re.compile(r"\btutti_[a-z_]+")


def _documents() -> list[dict[str, Any]]:
    kustomization = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    texts = [(DEPLOY / "kubernetes" / name).read_text() for name in kustomization["resources"]]
    return [document for text in texts for document in yaml.safe_load_all(text)]


def _compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def _pods() -> list[dict[str, Any]]:
    return [document["spec"]["template"]["spec"] for document in _documents() if document["kind"] == "Deployment"]


def _metrics() -> Metrics:
    metrics = Metrics()
    metrics.follow(
        lambda: Tallies(runs={("p", "running"): 1}, rounds={("p", "committed"): 1}, reports={"p": 1}, entries=1),
        lambda: {"queued": 0},
    )
    return metrics


def test_the_dashboard_shows_every_metric_that_exists_and_no_other() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "tutti.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = {name for expression in expressions for name in METRIC.findall(expression)}
    existing = _metrics().names()
    assert shown <= existing, shown - existing
    families = {metric.name for metric in _metrics().registry.collect()}
    assert not [family for family in families if not any(name.startswith(family) for name in shown)]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(places) == len(set(places))


def test_every_resource_of_the_kustomization_exists_and_names_its_own_labels() -> None:
    documents = _documents()
    assert {document["kind"] for document in documents} >= {"Deployment", "Service", "PersistentVolumeClaim", "NetworkPolicy"}
    deployments = [document for document in documents if document["kind"] == "Deployment"]
    for deployment in deployments:
        wanted, has = deployment["spec"]["selector"]["matchLabels"], deployment["spec"]["template"]["metadata"]["labels"]
        assert wanted.items() <= has.items()
    service = next(document for document in documents if document["kind"] == "Service")
    labels = [deployment["spec"]["template"]["metadata"]["labels"] for deployment in deployments]
    assert any(service["spec"]["selector"].items() <= has.items() for has in labels)
    listed = {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")} - {"kustomization.yaml"}
    assert listed == set(yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"])


@pytest.mark.parametrize("pod", _pods(), ids=lambda pod: pod["containers"][0]["name"])
def test_pods_run_without_privileges_and_mount_what_they_name(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    claims = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
        assert {mount["name"] for mount in container["volumeMounts"]} <= claims
        assert container["env"][0]["valueFrom"]["secretKeyRef"]["name"] == "tutti-store"


def test_probes_ask_for_an_address_that_exists() -> None:
    container = _pods()[0]["containers"][0]
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] == "/healthz"
        assert container[probe]["httpGet"]["port"] in ports


def test_compose_publishes_on_loopback_only_and_mounts_files_that_exist() -> None:
    services = _compose()["services"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    files = [name for name in mounted if name.startswith("./")]
    assert files
    assert all((DEPLOY / name).exists() for name in files)
    assert all(set(service.get("depends_on", {})) <= set(services) for service in services.values())
    assert "cap_drop" in services["server"]


def test_every_command_that_a_file_starts_is_one_of_ours_with_options_that_it_has() -> None:
    services = _compose()["services"]
    units = {path: _unit(path)["Service"]["ExecStart"].split() for path in (DEPLOY / "systemd").glob("*.service")}
    commands = [services["server"]["command"], services["runner"]["command"], *units.values()]
    commands += [container["args"] for pod in _pods() for container in pod["containers"]]
    assert len(commands) >= 6
    options = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).output
    for command in commands:
        program = Path(command[0]).name
        if program == "tutti":
            assert command[1] == "serve"
            assert not [word for word in command if word.startswith("--") and word not in options]
        else:
            assert program == "python"
            assert command[1:] == ["-m", "tutti.runner"]


def test_units_are_hardened_and_wait_for_a_round_to_end() -> None:
    for path in (DEPLOY / "systemd").glob("*.service"):
        service = _unit(path)["Service"]
        assert service["NoNewPrivileges"] == "yes"
        assert service["ProtectSystem"] == "strict"
        assert int(service["TimeoutStopSec"]) >= 60
        assert _unit(path)["Install"]["WantedBy"] == "multi-user.target"


def test_the_image_holds_every_package_and_runs_as_nobody_special() -> None:
    lines = (DEPLOY / "image" / "Dockerfile").read_text().splitlines()
    words = [line.split() for line in lines if line and not line.startswith(("#", " "))]
    copied = {line[1] for line in words if line[0] == "COPY" and len(line) == 3}
    packages = re.search(r"^packages = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages
    assert {name.strip(' "') for name in packages[1].split(",")} <= copied
    assert ["USER", "tutti"] in words
    known = {"ARG", "FROM", "RUN", "WORKDIR", "ENV", "COPY", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {line[0] for line in words} <= known
    ignored = (DEPLOY / "image" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied if not name.startswith("--")} <= set(ignored)


def test_prometheus_scrapes_the_port_that_the_server_has() -> None:
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())["scrape_configs"][0]
    assert scrape["static_configs"] == [{"targets": ["server:7311"]}]


def _unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return parser
