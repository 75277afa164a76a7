"""Ctrl-C before a command has begun: no traceback, at whatever moment it comes."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# Sends the signal when a module is about to be imported, which is as exact as a time is not.
INTERRUPTED_AT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
finder = Finder()
sys.meta_path.insert(0, finder)
from mockserver.cli import main
main({words!r}, prog_name="mockserver")
"""
VERIFY = ["verify", "http://127.0.0.1:9"]
CHECK = ["check", "--", "true"]
MODULES = [
    ("mockserver.cli.entry", ["rules"]),
    ("click", ["rules"]),
    ("yaml", ["serve"]),
    ("mockserver.server.app", ["serve"]),
    ("mockserver.backend.backend", ["run", "--", "true"]),
    ("uvicorn", ["run", "--", "true"]),
    ("mockserver.conformance.proxy", ["proxy", "http://127.0.0.1:9"]),
    ("httpx", VERIFY),
    ("hypothesis", CHECK),
]


@pytest.mark.parametrize(("module", "words"), MODULES)
def test_an_import_is_interrupted_without_a_traceback(
    tmp_path: Path, module: str, words: list[str]
) -> None:
    script = INTERRUPTED_AT.format(module=module, words=words)
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert ended.returncode == 128 + signal.SIGINT
    assert (ended.stdout + ended.stderr).count("\n") <= 1
