"""Dockerfile and compose.yaml. No image is built here: what they say of the project is held against it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mockserver import MockServer
from mockserver.cli.serve import serve
from tests.helpers.pages import ROOT

pytestmark = pytest.mark.slow

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())


def words(instruction: str) -> list[str]:
    (found,) = re.findall(rf"^{instruction}.*?(\[.*\])$", DOCKERFILE, re.M)
    return json.loads(found)  # type: ignore[no-any-return]


def test_it_copies_what_there_is_and_what_building_needs_is_not_ignored() -> None:
    for source in re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, re.M):
        assert (ROOT / source).exists(), source
    kept = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line[0] == "!"
    }
    assert all((ROOT / name).exists() for name in kept)
    assert {
        "mockserver",
        "contracts",
        "requirements",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    } == kept


def test_it_serves_to_other_machines_but_not_as_root() -> None:
    assert words("ENTRYPOINT") == ["mockserver"]
    command, flag, host = words("CMD")
    assert (command, host) == (serve.name, "0.0.0.0")
    assert flag in {name for parameter in serve.params for name in parameter.opts}
    assert DOCKERFILE.index("\nUSER mockserver") < DOCKERFILE.index("\nENTRYPOINT")


def test_its_health_check_tells_a_double_that_answers_from_one_that_does_not(
    server: MockServer,
) -> None:
    _, *arguments = words("HEALTHCHECK")
    check = [
        sys.executable,
        *(word.replace("127.0.0.1:3589", server.url[7:]) for word in arguments),
    ]
    assert subprocess.run(check).returncode == 0
    dead = [sys.executable, *(word.replace("127.0.0.1:3589", "127.0.0.1:9") for word in arguments)]
    assert subprocess.run(dead, capture_output=True).returncode == 1


def test_compose_sets_what_serve_reads_and_waits_until_it_is_well() -> None:
    variables = {name for parameter in serve.params for name in parameter.envvar or ()}
    text = (ROOT / "compose.yaml").read_text()
    assert set(re.findall(r"MOCKSERVER_\w+", text)) <= variables
    services = COMPOSE["services"]
    assert services["tests"]["depends_on"] == {"mockserver": {"condition": "service_healthy"}}
    assert services["mockserver"]["ports"] == ["127.0.0.1:3589:3589"]


def test_under_the_name_that_compose_gives_it_the_admin_api_answers(tmp_path: Path) -> None:
    address = COMPOSE["services"]["mockserver"]["environment"]["MOCKSERVER_PUBLIC_URL"]
    with MockServer(public_url=address) as server:
        asked = ["curl", "-s", "-H", f"Host: {address[7:]}", server.url + "/__admin/health"]
        assert json.loads(subprocess.check_output(asked))["status"] == "ok"
