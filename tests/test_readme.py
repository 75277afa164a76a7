"""The README tells the truth: its commands run, their output is real, and nothing that there is goes unmentioned."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from mockserver import MockServer
from mockserver.admin import Admin
from mockserver.app import App
from mockserver.check.rules import RULES
from mockserver.commands.checking import check
from mockserver.commands.serving import serve
from mockserver.gateway import Options
from mockserver.scenarios import Catalogue
from tests.helpers.documents import CONTRACT

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CATALOGUE = Catalogue(CONTRACT)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def normal(text: str, port: str) -> str:
    """What differs from run to run, replaced by what stays."""
    text = text.replace(f"localhost:{port}", "localhost:3589")
    text = re.sub(r"\b[0-9a-hjkmnp-tv-z]{26}\b", "<id>", text)
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<time>", text).strip()


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **more}


@pytest.mark.parametrize("session", blocks("console"), ids=lambda block: block.split("-d '")[1][:30])
def test_a_shown_session_gives_the_shown_output(session: str, server: MockServer, tmp_path: Path) -> None:
    if "file -b" in session and not shutil.which("file"):
        session = re.sub(r" && file -b .*\n.*\n", "\n", session)
    commands = re.findall(r"^\$ ((?:.*\\\n)*.*)$", session, re.M)
    shown = re.sub(r"^\$ ((?:.*\\\n)*.*)$", "", session, flags=re.M)
    port = str(server.port)
    script = "\n".join(commands).replace("localhost:3589", f"localhost:{port}")
    ended = subprocess.run(
        ["bash", "-e", "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment(), timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    shown_lines = [line for line in normal(shown, port).splitlines() if line]
    assert normal(ended.stdout, port).splitlines() == shown_lines


def test_the_pytest_examples_pass(tmp_path: Path) -> None:
    examples = [block for block in blocks("python") if "def test_" in block]
    for number, example in enumerate(examples):
        (tmp_path / f"test_example_{number}.py").write_text(example)
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--strict-markers",
            "-p",
            "no:cacheprovider",
            *[path.name for path in sorted(tmp_path.iterdir())],
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(REPLICATE_POLL_INTERVAL="0"),
        timeout=60,
    )
    assert "4 passed" in ended.stdout, ended.stdout + ended.stderr


def test_the_other_python_example_runs(tmp_path: Path) -> None:
    (example,) = (block for block in blocks("python") if "def test_" not in block)
    ended = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/replicate test-\S+\n", ended.stdout)


GOOD = """
import os, replicate
replicate.run("black-forest-labs/flux-1.1-pro-ultra", input={"prompt": "a lighthouse"})
"""
BAD = GOOD.replace('"prompt"', '"prompts"') + "\n"


def in_ci(tmp_path: Path, npm: str | None) -> int:
    """The exit code of the README's line for CI, with an `npm test` that runs a Python program."""
    (line,) = (block for block in blocks("sh") if "mockserver run" in block)
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    if npm is not None:
        (folder / "client.py").write_text(npm)
        (folder / "npm").write_text(f"#!/bin/sh\n{sys.executable} {folder / 'client.py'} || true\n")
        (folder / "npm").chmod(0o755)
    path = f"{folder}:{Path(sys.executable).parent}:/bin"
    command = ["/bin/bash", "-e", "-c", line if npm is not None else line.replace("npm", "npm-is-not-here")]
    return subprocess.run(command, env={"PATH": path}, cwd=tmp_path, timeout=60, capture_output=True).returncode


def test_the_line_for_ci_is_red_exactly_when_something_was_wrong(tmp_path: Path) -> None:
    assert in_ci(tmp_path, BAD) == 1, "the client swallows its error"
    assert in_ci(tmp_path, "") == 2, "it asks nothing"
    assert in_ci(tmp_path, None) == 127
    command = [str(Path(sys.executable).with_name("mockserver")), "run", "--", "sleep", "60"]
    with subprocess.Popen(command, start_new_session=True) as killed:
        killed.kill()
    assert in_ci(tmp_path, GOOD) == 0, "nothing of a run that was killed is in the way"


def test_the_example_scenario_is_one(tmp_path: Path) -> None:
    (example,) = blocks("yaml")
    file = tmp_path / "scenario.yaml"
    file.write_text(example)
    scenario = CATALOGUE.read(str(file))
    assert (scenario.name, scenario.body.null) == ("my-bad-day", ("logs",))


def test_every_scenario_is_in_the_table_in_order() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+?)(?:\. The default)? \|$", README, re.M)
    described = {name: said for name, said in rows if name in CATALOGUE}
    assert list(described) == [scenario.name for scenario in CATALOGUE]
    for scenario in CATALOGUE:
        assert described[scenario.name].replace("`", "") == scenario.description.rstrip(".").replace("`", "")


def test_every_flag_of_serve_is_in_the_table() -> None:
    for parameter in serve.params:
        assert f"`{parameter.opts[0]}" in README


def test_every_flag_of_check_is_in_the_table() -> None:
    table = README.partition("| flag of `check` |")[2].partition("\n\n")[0]
    for parameter in check.params[:-1]:
        assert f"`{parameter.opts[0]}" in table


def test_every_rule_is_in_the_table_in_order() -> None:
    rows = re.findall(r"^\| `(MC\d+)` \| (\(advice\))?", README, re.M)
    assert [code for code, _ in rows] == list(RULES)
    assert {code for code, advice in rows if advice} == {
        rule.code for rule in RULES.values() if rule.severity == "advice"
    }


@pytest.mark.skipif(not shutil.which("node"), reason="no Node here")
def test_the_finding_that_is_shown_is_found(tmp_path: Path) -> None:
    shown = README.partition("```\n$ mockserver check")[2].partition("```")[0]
    command, *lines = f"$ mockserver check{shown}".splitlines()
    shutil.copy(ROOT / "examples" / "client.mjs", tmp_path)
    ended = subprocess.run(
        command.removeprefix("$ ").split(), capture_output=True, text=True, cwd=tmp_path, env=environment(), timeout=60
    )
    assert ended.returncode == 1

    def plain(text: str) -> str:
        text = re.sub(r"127\.0\.0\.1:\d+", "<host>", re.sub(r" \d\.\d{3} ", " <at> ", text))
        return re.sub(r"\b[0-9a-z]{26}\b", "<id>", re.sub(r"…[0-9a-z]{4} created", "<id> created", text))

    assert plain("\n".join(lines)) in plain(ended.stdout)


def test_every_request_of_the_admin_api_is_in_the_table() -> None:
    told = set(re.findall(r"/__admin/[a-z/{}_]*", README))
    there = {route.path for route in Admin(App(CONTRACT, CATALOGUE, Options()).gateway).routes()}
    assert {path for path in there if path.startswith("/__admin/") and "{path" not in path} == told


def test_the_clients_are_tested_in_the_versions_that_are_told() -> None:
    packages = json.loads((ROOT / "tests" / "clients" / "package.json").read_text())["dependencies"]
    assert f"| PyPI `replicate` | {metadata.version('replicate')} |" in README
    assert f"| npm `replicate` | {packages['replicate']} |" in README
    assert f"| {packages['@ai-sdk/replicate']} with {packages['ai']} |" in README


def test_every_make_target_that_is_told_of_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`?make ([a-z-]+)`?(?=`|   #)", README)) <= targets
