"""`serve --watch`: reloads the contract and the scenario when their files change.

While a file is invalid, the previous version stays in force.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mockserver.contract.contract import Contract
from mockserver.contract.loader import shipped_contract
from mockserver.errors import MockServerError
from mockserver.scenarios.catalogue import Catalogue
from mockserver.scenarios.scenario import Scenario
from mockserver.server.app import App

INTERVAL = 0.2  # seconds; files are polled, since shared folders send no notifications


class Loaded(NamedTuple):
    """The content of the files."""

    contract: Contract
    catalogue: Catalogue
    scenario: Scenario


class Watch:
    """The files of a double's contract and scenario, with their content when last read.

    Create it before the double is built from them, so that no change in between is missed.
    `scenario` is a name or a file.
    """

    def __init__(self, contract: Path | None, scenario: str) -> None:
        self._contract = contract or shipped_contract()
        self._scenario = scenario
        self.files: Sequence[Path] = [
            self._contract,
            *([Path(scenario)] if Path(scenario).is_file() else []),
        ]
        self._seen = self._before = self._contents()
        self._wrong = False

    async def follow(self, app: App, report: Callable[[str], None]) -> None:
        """Keep an application up to date with the files, until canceled."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.look(app, report)

    async def look(self, app: App, report: Callable[[str], None]) -> None:
        """Reload changed files and report the result, once they are the same at two looks."""
        now = await asyncio.to_thread(self._contents)
        # Until then, an editor may still be writing.
        settled, self._before = now == self._before, now
        if not settled or now == self._seen:
            return

        self._seen = now
        try:
            loaded = await asyncio.to_thread(self._read)
        except MockServerError as reason:
            self._wrong = True
            report(f"{reason}; the previous version stays in force")
            return
        self._use(loaded, app, report)

    def _use(self, loaded: Loaded, app: App, report: Callable[[str], None]) -> None:
        backend, was_wrong = app.backend, self._wrong
        self._wrong = False
        if loaded.contract.source != backend.contract.source:
            app.use_backend(backend.with_contract(*loaded))
            report(f"contract {self._contract} reloaded: all tenants begin anew")
        elif loaded.scenario != backend.options.scenario:
            backend.use_scenario(loaded.scenario)
            report(f"scenario {self._scenario} reloaded: its faults are counted afresh")
        elif was_wrong:
            report("the files are valid again, and unchanged")
        backend.store.changes.note()

    def _contents(self) -> list[bytes | None]:
        return [_content(file) for file in self.files]

    def _read(self) -> Loaded:
        for kind, file in zip(("contract", "scenario"), self.files, strict=False):
            if file.exists() and not file.is_file():
                raise MockServerError(f"{kind} {file} is no regular file")
        contract = Contract.load(self._contract)
        catalogue = Catalogue(contract)
        return Loaded(contract, catalogue, catalogue.read(self._scenario))


def _content(file: Path) -> bytes | None:
    """The content of a regular file; None for others, of which a pipe would block its reader."""
    try:
        with open(file, "rb", opener=_open_without_waiting) as stream:
            return stream.read() if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else None
    except OSError:
        return None


def _open_without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK)
