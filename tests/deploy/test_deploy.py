"""The files of `deploy/`, checked as far as that is possible without the programs that they are for."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.front import http_request
from tests.support.serving import serving, settings_for

if TYPE_CHECKING:
    from datas3t.embedded.stack import Services

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs/operations.md").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
ALERTS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/datas3t.json").read_text())


def expressions() -> Iterator[str]:
    """Yield the expressions of all alerts and panels."""
    for group in ALERTS["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def test_every_metric_that_is_named_exists(services: "Services", database: str, tmp_path: Path) -> None:
    with serving(settings_for(services, database, tmp_path)) as server:
        http_request(server.url, "GET", "/api/v1/datas3ts")  # metrics of calls appear with the first call
        page = http_request(server.url, "GET", "/metrics").body.decode()
    families = list(text_string_to_metric_families(page))
    known = {sample.name for family in families for sample in family.samples} | {family.name for family in families}
    # Families that have no sample before the first call to S3.
    known |= {f"{family.name}_total" for family in families if family.type == "counter"}
    named = {name for each in expressions() for name in re.findall(r"\b(?:datas3t|process)_\w+", each)}
    assert len(named) > 20
    assert named - known == set()


def test_alerts_say_what_happened_and_what_to_do() -> None:
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    covered = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(covered)) == len(covered)
    assert max(x for x, _ in covered) < 24


def settings_of_the_server() -> set[str]:
    """Return the environment variables that the page about operations lists."""
    table = PAGE.partition("\n## Settings\n")[2].partition("\n## ")[0]
    names = {name for line in table.splitlines() if line[:1] == "|" for name in re.findall(r"`([A-Z][A-Z_]+)`", line)}
    return names | {f"{name}_FILE" for name in ("DB_URL", "ENCRYPTION_KEY")}


def test_only_settings_that_exist_are_set() -> None:
    known = settings_of_the_server()
    values = yaml.safe_load((DEPLOY / "helm/datas3t/values.yaml").read_text())
    assert set(values["settings"]) <= known
    assert set(COMPOSE["services"]["server"]["environment"]) <= known
    unit = (DEPLOY / "systemd/datas3t.service").read_text()
    assert set(re.findall(r"\b([A-Z_]{4,})=", unit)) <= known
    deployment = (DEPLOY / "helm/datas3t/templates/deployment.yaml").read_text()
    assert set(re.findall(r"- name: ([A-Z_]+)\n", deployment)) <= known
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert set(re.findall(r"\b([A-Z_]{4,})=/", dockerfile)) - {"PATH"} <= known


def test_compose_defines_the_secrets_and_volumes_that_it_uses() -> None:
    services = COMPOSE["services"].values()
    assert {name for service in services for name in service.get("secrets", ())} == set(COMPOSE["secrets"])
    volumes = {str(each).partition(":")[0] for service in services for each in service.get("volumes", ())}
    assert volumes == set(COMPOSE["volumes"])
    dockerfile = DEPLOY.parent / COMPOSE["services"]["server"]["build"]["dockerfile"]
    assert dockerfile.is_file()
    # Nothing is open to other machines.
    assert all(port.startswith("127.0.0.1:") for service in services for port in service.get("ports", ()))
    # The page makes each of the files.
    page = (ROOT / "docs/deploy.md").read_text()
    assert all(f" {Path(secret['file']).name}" in page for secret in COMPOSE["secrets"].values())


def test_the_image_has_what_the_wheel_is_built_from() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    project = (ROOT / "pyproject.toml").read_text()
    tables = project.partition("[tool.hatch.build.targets.wheel]")[2].partition("\n[tool.ruff")[0]
    sources = {path.partition("/")[0] for path in re.findall(r'"(\w+/[\w/]+)"', tables)} - {"datas3t"}
    assert sources - kept == set(), "add them to .dockerignore"
    assert {"LICENSE", "NOTICE", "README.md", "pyproject.toml"} <= kept
    assert all((ROOT / name).exists() for name in kept)


def test_the_dockerfile_has_no_finding_of_hadolint() -> None:
    hadolint = shutil.which("hadolint", path=f"{ROOT / '.venv/bin'}") or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint has no wheel for this platform")
    found = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_has_no_finding_of_systemd(tmp_path: Path) -> None:
    unit = tmp_path / "datas3t.service"
    # The program is only there once it is installed.
    unit.write_text((DEPLOY / "systemd/datas3t.service").read_text().replace("/opt/datas3t/bin/datas3t", "/bin/true"))
    found = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


def test_versions_are_those_of_the_project() -> None:
    project = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    chart = yaml.safe_load((DEPLOY / "helm/datas3t/Chart.yaml").read_text())
    assert project is not None
    assert (chart["version"], chart["appVersion"]) == (project[1], project[1])


@pytest.mark.skipif(shutil.which("helm") is None, reason="Helm is not installed")
@pytest.mark.parametrize("everything", [False, True])
def test_the_chart_renders_to_objects_of_kubernetes(everything: bool) -> None:
    names = ("optimize", "ingress", "networkPolicy", "serviceMonitor")
    values = [f"--set={name}.enabled=true" for name in names if everything]
    rendered = subprocess.run(
        ["helm", "template", "x", DEPLOY / "helm/datas3t", *values], capture_output=True, text=True, check=True
    )
    objects = [each for each in yaml.safe_load_all(rendered.stdout) if each]
    assert len(objects) == (9 if everything else 5)
    for each in objects:
        assert each["metadata"]["labels"]["app.kubernetes.io/name"] == "datas3t"
    containers = [
        container
        for each in objects
        if each["kind"] == "Deployment"
        for container in each["spec"]["template"]["spec"]["containers"]
    ]
    for container in containers:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert all(isinstance(argument, str) for argument in container["args"])
