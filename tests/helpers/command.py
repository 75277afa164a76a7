"""The `mockserver` command, as a shell runs it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "mockserver"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )


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
