"""The `mockserver` command, as a shell runs it."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest

from mockserver.cli.entry import main

COMMAND = [sys.executable, "-m", "mockserver"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def invoke(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, in a tenth of the time. An exception that it does not handle is raised."""
    out, err = io.StringIO(), io.StringIO()
    with patch.dict(os.environ, environment), redirect_stdout(out), redirect_stderr(err):
        try:
            main(arguments, prog_name="mockserver")
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@contextmanager
def serving(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running server and its URL, taken from the line it prints once it answers."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        try:
            line = process.stdout.readline()
            if not re.match(r"mockserver listening on https?://127\.0\.0\.1:", line):
                process.kill()  # else its standard error has no end
                pytest.fail(line + process.stderr.read())
            yield process, line.split()[-1]
        finally:
            process.kill()
