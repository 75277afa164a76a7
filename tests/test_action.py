"""action.yml: its steps, run by bash as a runner does. Around them stand the steps of a workflow: docs/recipes.md."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from mockserver.server.tls import CA_VARIABLES
from tests.helpers.documents import KONTEXT
from tests.helpers.pages import ROOT, blocks_of

pytestmark = [pytest.mark.slow, pytest.mark.thorough]

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}


class Runner:
    """What GitHub's runner gives to steps: its files and variables, which a step's own additions join."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "home").mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "RUNNER_TEMP": str(folder),
            "GITHUB_ENV": str(folder / "env"),
            "GITHUB_OUTPUT": str(folder / "output"),
            "GITHUB_ACTION_PATH": str(ROOT),
            "HOME": str(folder / "home"),
            # Without the network: what it depends on, and what builds it, are the tests' own.
            "PYTHONPATH": sysconfig.get_path("purelib"),
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip's word for: without
        }

    def run(self, step: dict[str, Any], **inputs: str) -> subprocess.CompletedProcess[str]:
        given = {
            name: settings.get("default", "") for name, settings in ACTION["inputs"].items()
        } | inputs
        own = {
            name: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda found: given[found[1]], value)
            for name, value in step.get("env", {}).items()
        }
        file = self._folder / "step.sh"
        file.write_text(step["run"])
        ended = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(file)],
            env={**self.environment, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        env = Path(self.environment["GITHUB_ENV"])
        if env.exists():
            self.environment |= dict(line.split("=", 1) for line in env.read_text().splitlines())
        return ended


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    runner = Runner(tmp_path_factory.mktemp("runner"))
    ended = runner.run(STEPS["Install"], python=sys.executable)
    assert ended.returncode == 0, ended.stdout
    return runner


def test_it_starts_a_double_and_judges_what_the_steps_between_have_sent(installed: Runner) -> None:
    started = installed.run(STEPS["Start"], arguments="--strict --scenario immediate")
    assert started.returncode == 0, started.stdout
    url, token = (
        installed.environment["MOCKSERVER_URL"],
        installed.environment["REPLICATE_API_TOKEN"],
    )
    assert installed.environment["REPLICATE_BASE_URL"] == url + "/replicate"
    assert Path(installed.environment["GITHUB_OUTPUT"]).read_text() == f"url={url}\n"
    sent = httpx.post(
        url + KONTEXT, json={"input": {"prompt": 1}}, headers={"Authorization": f"Bearer {token}"}
    )
    assert sent.status_code == 422
    judged = installed.run(STEPS["Judge"])
    assert judged.returncode == 1, judged.stdout
    assert "at /input/prompt" in judged.stdout
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_it_judges_one_that_speaks_tls_and_has_an_admin_token(installed: Runner) -> None:
    installed.environment["MOCKSERVER_ADMIN_TOKEN"] = "s3cret"
    started = installed.run(STEPS["Start"], arguments="--tls")
    assert started.returncode == 0, started.stdout
    url, trusted = installed.environment["MOCKSERVER_URL"], installed.environment["SSL_CERT_FILE"]
    assert url.startswith("https://")
    assert [installed.environment[name] for name in CA_VARIABLES] == [trusted] * len(CA_VARIABLES)
    sent = httpx.post(
        url + KONTEXT,
        json={"input": {"prompt": "p"}},
        verify=ssl.create_default_context(cafile=trusted),
    )
    assert sent.status_code == 200
    judged = installed.run(STEPS["Judge"])
    assert (judged.returncode, "verdict: ok" in judged.stdout) == (0, True), judged.stdout


def test_a_double_that_cannot_start_fails_the_step_and_says_why(installed: Runner) -> None:
    started = installed.run(STEPS["Start"], arguments="--scenario flakey")
    assert started.returncode == 1
    assert "did you mean flaky?" in started.stdout


def test_each_step_runs_where_it_should() -> None:
    assert {name: step["if"] for name, step in STEPS.items()} == {
        "Install": "inputs.judge != 'true'",
        "Start": "inputs.judge != 'true'",
        "Judge": "inputs.judge == 'true'",
    }


def test_the_documented_workflow_uses_it_as_it_is() -> None:
    (workflow,) = (
        yaml.safe_load(block.text)
        for block in blocks_of(ROOT / "docs" / "recipes.md")
        if block.title.startswith(".github/workflows")
    )
    uses = [
        step for step in workflow["jobs"]["test"]["steps"] if "mockserver" in step.get("uses", "")
    ]
    assert len(uses) == 2
    for step in uses:
        assert step.get("with", {}).keys() <= ACTION["inputs"].keys()
    assert uses[-1]["with"] == {"judge": True}
    assert uses[-1]["if"] == "success()"
