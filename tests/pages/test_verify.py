"""docs/verify.md is correct: its commands run, and all flags and rules are documented."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from mockserver import MockServer
from mockserver.cli.verify import verify
from mockserver.conformance.rules import GATEWAY_RULES
from tests.conformance.gateways import PLANTED, Departing, standing

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "verify.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def shell(script: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-e", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **environment,
        },
    )


def test_the_first_command_runs(server: MockServer, tmp_path: Path) -> None:
    (command,) = blocks("sh")
    completed = shell(command, tmp_path, GATEWAY_URL=server.url, MOCKSERVER_POLL="0")
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "2 of 2 spent" in completed.stdout


def test_the_console_session_starts_as_documented(server: MockServer, tmp_path: Path) -> None:
    (session,) = blocks("console")
    command, expected = session.removeprefix("$ ").split("\n", 1)
    completed = shell(command.replace("http://127.0.0.1:3589", server.url), tmp_path)
    assert completed.stdout.startswith(expected.replace("http://127.0.0.1:3589", server.url))


def test_every_flag_is_in_the_table() -> None:
    for parameter in verify.params[1:]:
        assert f"| `{parameter.opts[0]}" in PAGE


def test_every_rule_is_in_the_table_in_order() -> None:
    rows = re.findall(r"^\| `(MC\d+)` \| (\(warning\))?", PAGE, re.M)
    assert rows == [
        (rule.code, "(warning)" if rule.severity == "warning" else "") for rule in GATEWAY_RULES
    ]


@pytest.mark.thorough
def test_the_nightly_workflow_works(server: MockServer, tmp_path: Path) -> None:
    (block,) = blocks("yaml")
    workflow = yaml.safe_load(block)
    steps = workflow["jobs"]["verify"]["steps"]
    install, verifying, reporting = (step for step in steps if "run" in step)
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("pip", "gh"):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $@" >> "$CALLED"\n')
        (folder / name).chmod(0o755)
    path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    settings = {
        "CALLED": str(tmp_path / "called"),
        "MOCKSERVER_POLL": "0",
        "PATH": path,
        "GITHUB_ACTIONS": "true",
    }
    settings |= {"GATEWAY_URL": server.url, "REPLICATE_API_TOKEN": "nightly-token"}

    assert shell(install["run"], tmp_path, **settings).returncode == 0
    completed = shell(verifying["run"], tmp_path, **settings)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert {"verify.json", "verify.html", "gateway.yaml"} <= {
        file.name for file in tmp_path.iterdir()
    }

    planted = next(change for change in PLANTED if change.name == "another prompt")
    with standing(Departing(server.url, planted.change)) as gateway:
        settings["GATEWAY_URL"] = gateway.url
        completed = shell(verifying["run"], tmp_path, **settings)
        assert completed.returncode == 1
        assert "::error " in completed.stdout
        assert reporting["if"].startswith("failure()")
        assert shell(reporting["run"], tmp_path, **settings).returncode == 0
        (tmp_path / "verify.json").rename(tmp_path / "known.json")
        assert shell(verifying["run"], tmp_path, **settings).returncode == 0, (
            "known departures are accepted"
        )
    called = (tmp_path / "called").read_text().splitlines()
    assert (
        called[0]
        == "pip install flux-mockserver[verify] @ git+https://github.com/your-organization/mockserver"
    )
    assert called[1].startswith("gh issue create --title The gateway departs")


def test_every_documented_extra_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    pages = PAGE + (ROOT / "docs" / "proxy.md").read_text()
    assert {"verify", "http2"} <= set(extras)
    assert set(re.findall(r"flux-mockserver\[(\w+)\]", pages)) <= set(extras)
