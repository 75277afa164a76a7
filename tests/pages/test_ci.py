"""The CI command in the READMEs and docs/ci.md fails if the tests fail or sent an invalid request."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.pages import ROOT, blocks_of

pytestmark = pytest.mark.slow

LINES = {
    block.text
    for name in ("README.md", "README.zh-CN.md", "docs/ci.md", "docs/recipes.md")
    for block in blocks_of(ROOT / name)
    if block.language == "sh" and "npm test" in block.text
}

GOOD = """
import os, replicate
replicate.run("black-forest-labs/flux-1.1-pro-ultra", input={"prompt": "a lighthouse"})
"""
BAD = GOOD.replace('"prompt"', '"prompts"') + "\n"


def in_ci(tmp_path: Path, npm: str | None) -> int:
    """The exit code of the documented command, with an `npm test` that runs a Python program."""
    (line,) = LINES
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    if npm is not None:
        (folder / "client.py").write_text(npm)
        (folder / "npm").write_text(f"#!/bin/sh\n{sys.executable} {folder / 'client.py'} || true\n")
        (folder / "npm").chmod(0o755)
    path = f"{folder}:{Path(sys.executable).parent}:/bin"
    command = [
        "/bin/bash",
        "-e",
        "-c",
        line if npm is not None else line.replace("npm", "npm-is-not-here"),
    ]
    return subprocess.run(
        command, env={"PATH": path}, cwd=tmp_path, timeout=60, capture_output=True
    ).returncode


def test_the_ci_command_fails_exactly_when_something_is_wrong(tmp_path: Path) -> None:
    assert in_ci(tmp_path, BAD) == 1, "the client ignores its error"
    assert in_ci(tmp_path, "") == 2, "it sends no request"
    assert in_ci(tmp_path, None) == 127
    command = [str(Path(sys.executable).with_name("mockserver")), "run", "--", "sleep", "60"]
    with subprocess.Popen(command, start_new_session=True) as killed:
        killed.kill()
    assert in_ci(tmp_path, GOOD) == 0, "a killed run leaves nothing behind"
