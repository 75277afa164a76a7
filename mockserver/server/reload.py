"""Reads the contract and the scenario again when their files change. What is wrong leaves the old ones in force."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mockserver.contract.contract import Contract
from mockserver.contract.loader import shipped_contract
from mockserver.errors import MockServerError
from mockserver.scenarios.catalogue import Catalogue
from mockserver.scenarios.scenario import Scenario
from mockserver.server.app import App

INTERVAL = 0.2  # seconds between two looks; files on shared folders tell of no change by themselves


class Loaded(NamedTuple):
    """What the files hold, read."""

    contract: Contract
    catalogue: Catalogue
    scenario: Scenario


class Watch:
    """The files of a double's contract and scenario, and what they held when they were last looked at.

    Make it before the double is built from them, so that no change between is missed. `scenario` is
    a name or a file.
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

    async def follow(self, app: App, say: Callable[[str], None]) -> None:
        """Have an application keep to the files, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.look(app, say)

    async def look(self, app: App, say: Callable[[str], None]) -> None:
        """Read what has changed, once it stays so from one look to the next, and say what came of it."""
        now = self._contents()
        settled, self._before = now == self._before, now  # an editor may be in the midst of writing
        if not settled or now == self._seen:
            return
        self._seen = now
        try:
            loaded = await asyncio.to_thread(self._read)
        except MockServerError as reason:
            self._wrong = True
            say(f"{reason}; what was read before stays in force")
            return
        self._use(loaded, app, say)

    def _use(self, loaded: Loaded, app: App, say: Callable[[str], None]) -> None:
        backend, was_wrong = app.backend, self._wrong
        self._wrong = False
        if loaded.contract.source != backend.contract.source:
            app.use_backend(backend.with_contract(*loaded))
            say(f"contract {self._contract} read again: all tenants begin anew")
        elif loaded.scenario != backend.options.scenario:
            backend.use_scenario(loaded.scenario)
            say(f"scenario {self._scenario} read again: its faults are counted afresh")
        elif was_wrong:
            say("the files are right again, and as they were read before")
        backend.store.changes.note()

    def _contents(self) -> list[bytes | None]:
        return [_content(file) for file in self.files]

    def _read(self) -> Loaded:
        contract = Contract.load(self._contract)
        catalogue = Catalogue(contract)
        return Loaded(contract, catalogue, catalogue.read(self._scenario))


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None
