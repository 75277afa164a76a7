"""Runs the code blocks of a documentation page, in order, in one directory, next to a running server."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mockserver import MockServer
from mockserver.scenarios.catalogue import Catalogue
from tests.helpers.command import serving
from tests.helpers.documents import CONTRACT
from tests.helpers.pages import ROOT, Block, blocks_of

EXAMPLES = ROOT / "examples"
MODULES = ROOT / "tests" / "clients" / "node_modules"
NODE_PACKAGE = ROOT / "clients" / "node"


class PageRunner:
    """A directory with the examples, and an environment in which the documented commands exist."""

    def __init__(self, server: MockServer, folder: Path) -> None:
        self._server = server
        self._folder = folder / "page"
        shutil.copytree(EXAMPLES, self._folder)
        self._install_node_packages(self._folder / "node_modules")
        self._environment = self._make_environment(folder / "bin")
        self._runners: dict[str, Callable[[Block], None]] = {
            "console": self._run_console,
            "sh": self._run_shell,
            "bash": self._run_shell,
            "python": self._run_python,
            "py": self._run_python,
            "js": self._run_javascript,
            "yaml": self._read_scenario,
            "json": self._read_json,
            "text": self._ignore,
        }

    def run(self, block: Block) -> None:
        """Run a block. Raises AssertionError if it does not do what the page says."""
        assert block.language in self._runners, (
            f"{block.place}: give the block one of {', '.join(self._runners)}"
        )
        if block.not_run:
            return
        if block.tested_by:
            tests = (ROOT / block.tested_by).read_text()
            assert block.page.name in tests, (
                f"{block.place}: {block.tested_by} does not read this page"
            )
            return
        if block.same_as:
            others = blocks_of(ROOT / block.same_as)
            assert block.text in [other.text for other in others], (
                f"{block.place}: not a block of {block.same_as}"
            )
            return
        if block.title.startswith("examples/"):  # run by tests/pages/test_examples.py
            assert (ROOT / block.title).read_text().endswith(block.text), (
                f"{block.place} differs from {block.title}"
            )
            return
        if block.title:
            file = self._folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)
        self._runners[block.language](block)

    def _install_node_packages(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "flux-mockserver").symlink_to(NODE_PACKAGE)
        for module in MODULES.iterdir() if MODULES.exists() else ():
            (folder / module.name).symlink_to(module)

    def _make_environment(self, folder: Path) -> dict[str, str]:
        folder.mkdir()
        make = shutil.which("make")
        # Other tests run make's targets; this only checks that they exist.
        (folder / "make").write_text(f'#!/bin/sh\nexec {make} -C {ROOT} -n "$@" >/dev/null\n')
        (folder / "make").chmod(0o755)
        path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {
            **os.environ,
            "PATH": path,
            "REPLICATE_BASE_URL": self._server.base_url,
            "REPLICATE_API_TOKEN": "page",
            "REPLICATE_POLL_INTERVAL": "0",
            "MOCKSERVER_URL": self._server.url,
            "MOCKSERVER_BUDGET": "300",  # findings must not depend on the load of the machine
        }

    def _bash(self, script: str) -> subprocess.CompletedProcess[str]:
        return self._execute(
            ["bash", "-e", "-c", script.replace("localhost:3589", f"localhost:{self._server.port}")]
        )

    def _execute(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._folder,
            env=self._environment,
            timeout=300,
        )

    def _run_console(self, block: Block) -> None:
        session = block.text
        if "file -b" in session and not shutil.which("file"):
            session = re.sub(r" && file -b .*\n.*\n", "\n", session)
        commands = re.findall(r"^\$ ((?:.*\\\n)*.*)$", session, re.M)
        expected = re.sub(r"^\$ ((?:.*\\\n)*.*)\n", "", session, flags=re.M)
        if not shutil.which("node") and any(" node " in command for command in commands):
            return

        completed = self._bash("\n".join(commands))
        output = _normalized(completed.stdout)
        assert completed.returncode == block.exits, f"{block.place}: {completed.stdout}"

        pattern = "[^\0]*".join(re.escape(_normalized(part)) for part in expected.split("[…]\n"))
        assert re.fullmatch(pattern, output), (
            f"{block.place}: expected\n{_normalized(expected)}\nactual\n{output}"
        )

    def _run_shell(self, block: Block) -> None:
        lines = block.text.replace("\\\n", " ").splitlines(keepends=True)
        for line in lines:
            if line.startswith("mockserver serve"):  # it would run forever
                with serving(*shlex.split(line, comments=True)[2:], cwd=self._folder):
                    pass
        completed = self._bash(
            "".join(line for line in lines if not line.startswith("mockserver serve"))
        )
        assert completed.returncode == block.exits, f"{block.place}: {completed.stdout}"

    def _run_python(self, block: Block) -> None:
        command = [sys.executable]
        if "def test_" in block.text:
            (self._folder / f"test_{block.line}.py").write_text(block.text)
            command += [
                "-m",
                "pytest",
                "-q",
                "--strict-markers",
                "-p",
                "no:cacheprovider",
                f"test_{block.line}.py",
            ]
        else:
            command += ["-W", "error", "-c", block.text]
        completed = self._execute(command)
        assert completed.returncode == block.exits, f"{block.place}: {completed.stdout}"

    def _run_javascript(self, block: Block) -> None:
        if not shutil.which("node") or not MODULES.exists():
            return
        program = self._folder / (block.title or f"block_{block.line}.mjs")
        program.write_text(block.text)
        completed = self._execute(["node", str(program)])
        assert completed.returncode == block.exits, f"{block.place}: {completed.stdout}"

    def _read_scenario(self, block: Block) -> None:
        file = self._folder / (block.title or f"scenario_{block.line}.yaml")
        file.write_text(block.text)
        assert Catalogue(CONTRACT).read(str(file)).name in block.text

    def _read_json(self, block: Block) -> None:
        json.loads(block.text)

    def _ignore(self, block: Block) -> None:
        """Do nothing: the block is not code."""


def _normalized(text: str) -> str:
    """The text with everything that differs between runs replaced."""
    text = re.sub(r"(localhost|127\.0\.0\.1):\d+", r"<host>", text)
    text = re.sub(r"\b[0-9a-hjkmnp-tv-z]{26}\b", "<id>", text)
    text = re.sub(r"…[0-9a-z]{4} created", "<id> created", text)
    text = re.sub(r" \d\.\d{3} ", " <at> ", text)
    text = re.sub(r"(MC\d{3})-[0-9a-f]{4}", r"\1-<case>", text)
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<time>", text)
