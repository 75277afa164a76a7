"""docs/verify.md tells the truth: its commands run, and nothing that there is goes unmentioned."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mockserver import MockServer
from mockserver.check.gateway_rules import GATEWAY_RULES
from mockserver.commands.verifying import verify

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parent.parent / "docs" / "verify.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def shell(script: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-e", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **environment},
    )


def test_the_first_command_runs(server: MockServer, tmp_path: Path) -> None:
    (command,) = blocks("sh")
    ended = shell(command, tmp_path, GATEWAY_URL=server.url, MOCKSERVER_POLL="0")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 of 2 spent" in ended.stdout


def test_the_session_that_is_shown_begins_so(server: MockServer, tmp_path: Path) -> None:
    (session,) = blocks("console")
    command, shown = session.removeprefix("$ ").split("\n", 1)
    ended = shell(command.replace("http://127.0.0.1:3589", server.url), tmp_path)
    assert ended.stdout.startswith(shown.replace("http://127.0.0.1:3589", server.url))


def test_every_flag_is_in_the_table() -> None:
    for parameter in verify.params[1:]:
        assert f"| `{parameter.opts[0]}" in PAGE


def test_every_rule_is_in_the_table_in_order() -> None:
    rows = re.findall(r"^\| `(MC\d+)` \| (\(advice\))?", PAGE, re.M)
    assert rows == [(rule.code, "(advice)" if rule.severity == "advice" else "") for rule in GATEWAY_RULES]
