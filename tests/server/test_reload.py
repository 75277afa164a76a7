"""`serve --watch`: the contract and the scenario are reloaded when they change, and kept while the new ones are invalid."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mockserver.contract.loader import shipped_contract
from mockserver.server.app import App, build_app
from mockserver.server.reload import Watch
from tests.helpers.command import serving
from tests.helpers.documents import KONTEXT

CREATE = {"input": {"prompt": "a lighthouse"}}
GOOD = "name: mine\ncreate_status: 201\n"
OTHER = "name: mine\ncreate_status: 200\nerrors: new-api\n"
WRONG = "name: mine\ncreate_status: 299\n"


class Watched:
    """A double that goes by two files, looked at when a test says so."""

    def __init__(self, folder: Path) -> None:
        self.contract, self.scenario = folder / "contract.yaml", folder / "scenario.yaml"
        self.contract.write_bytes(shipped_contract().read_bytes())
        self.scenario.write_text(GOOD)
        self._watch = Watch(self.contract, str(self.scenario))
        self.app: App = build_app(self.contract, str(self.scenario))
        self._loop = asyncio.Runner()
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://127.0.0.1"
        )

    def ask(self, method: str, path: str, **more: object) -> httpx.Response:
        return self._loop.run(self.client.request(method, path, **more))  # type: ignore[arg-type]

    def create(self) -> httpx.Response:
        return self.ask("POST", KONTEXT, json=CREATE)

    def look(self) -> list[str]:
        """Look at the files until they have settled; what was said."""
        said: list[str] = []
        for _ in range(2):
            self.look_once(said)
        return said

    def look_once(self, said: list[str]) -> None:
        self._loop.run(self._watch.look(self.app, said.append))

    def close(self) -> None:
        self._loop.run(self.client.aclose())
        self._loop.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    double = Watched(tmp_path)
    yield double
    double.close()


def test_nothing_is_said_while_nothing_changes(watched: Watched) -> None:
    watched.contract.touch()
    assert watched.look() == []


def test_a_file_that_is_being_written_is_not_read_before_it_stays_as_it_is(
    watched: Watched,
) -> None:
    said: list[str] = []
    for text in ("", WRONG, OTHER):
        watched.scenario.write_text(text)
        watched.look_once(said)
        assert said == []
    watched.look_once(said)
    assert said == [f"scenario {watched.scenario} reloaded: its faults are counted afresh"]


def test_a_scenario_that_changes_is_in_force_and_keeps_what_is_there(watched: Watched) -> None:
    made = watched.create()
    assert made.status_code == 201
    watched.scenario.write_text(OTHER)
    assert watched.look() == [
        f"scenario {watched.scenario} reloaded: its faults are counted afresh"
    ]
    assert watched.create().status_code == 200
    assert watched.ask("GET", made.json()["urls"]["get"]).json()["id"] == made.json()["id"]


def test_a_scenario_s_faults_are_counted_afresh_but_not_those_of_a_tenant_s_own(
    watched: Watched,
) -> None:
    faults = "faults: {listPredictions: [{status: 500}]}\n"
    own = {"Authorization": "Bearer own"}
    scenario = {"faults": {"listPredictions": [{"status": 500}]}}
    watched.scenario.write_text(GOOD + faults)
    watched.look()
    watched.ask("PUT", "/__admin/scenario", json=scenario, headers=own)
    assert [watched.ask("GET", "/replicate/v1/predictions").status_code for _ in range(2)] == [
        500,
        200,
    ]
    assert watched.ask("GET", "/replicate/v1/predictions", headers=own).status_code == 500
    watched.scenario.write_text(OTHER + faults)
    watched.look()
    assert watched.ask("GET", "/replicate/v1/predictions").status_code == 500
    assert watched.ask("GET", "/replicate/v1/predictions", headers=own).status_code == 200


@pytest.mark.parametrize("wrong", [WRONG, "{", "- 1", None])
def test_a_wrong_scenario_leaves_the_old_one_in_force_and_is_told_once(
    watched: Watched, wrong: str | None
) -> None:
    if wrong is None:
        watched.scenario.unlink()
    else:
        watched.scenario.write_text(wrong)
    (said,) = watched.look()
    assert said.startswith("scenario")
    assert said.endswith("; the previous version stays in force")
    assert watched.look() == []
    assert watched.create().status_code == 201
    watched.scenario.write_text(GOOD)
    assert watched.look() == ["the files are valid again, and unchanged"]


def test_a_contract_that_changes_is_in_force_and_all_tenants_begin_anew(watched: Watched) -> None:
    made = watched.create().json()
    assert watched.ask("GET", "/__admin/version").json()["models"] == [
        "black-forest-labs/flux-1.1-pro-ultra",
        "black-forest-labs/flux-kontext-max",
    ]
    watched.contract.write_text(
        watched.contract.read_text().replace("flux-kontext-max", "flux-kontext-pro")
    )
    assert watched.look() == [f"contract {watched.contract} reloaded: all tenants begin anew"]
    assert watched.ask("GET", made["urls"]["get"]).status_code == 404
    assert watched.create().status_code == 404
    assert watched.ask("POST", KONTEXT.replace("max", "pro"), json=CREATE).status_code == 201
    assert (
        watched.ask("GET", "/__admin/version").json()["models"][1]
        == "black-forest-labs/flux-kontext-pro"
    )
    assert watched.ask("GET", "/openapi.yaml").content == watched.contract.read_bytes()


def test_a_wrong_contract_leaves_the_old_one_in_force_and_its_place_is_told(
    watched: Watched,
) -> None:
    good = watched.contract.read_text()
    watched.contract.write_text(good.replace("x-mock-role: cancel", "x-mock-role: cancle"))
    (said,) = watched.look()
    assert "x-mock-role 'cancle' is not one of" in said
    assert "/paths/" in said
    assert watched.create().status_code == 201


def test_a_contract_that_the_scenario_no_longer_fits_leaves_the_old_ones_in_force(
    watched: Watched,
) -> None:
    watched.scenario.write_text(
        GOOD + "faults: {createFluxKontextMaxPrediction: [{status: 429}]}\n"
    )
    watched.look()
    watched.contract.write_text(
        watched.contract.read_text().replace("createFluxKontextMax", "createKontext")
    )
    (said,) = watched.look()
    assert said.startswith(
        "scenario mine is refused: /faults/createFluxKontextMaxPrediction: no such operation"
    )
    assert watched.create().status_code == 429


@pytest.mark.parametrize("kind", ["contract", "scenario"])
def test_a_file_that_becomes_a_pipe_is_not_waited_for(watched: Watched, kind: str) -> None:
    file: Path = getattr(watched, kind)
    file.unlink()
    os.mkfifo(file)
    assert watched.look() == [
        f"{kind} {file} is no regular file; the previous version stays in force"
    ]
    assert watched.create().status_code == 201


def replace(file: Path, text: str) -> None:
    """Write a file at one stroke, as editors do."""
    beside = file.with_suffix(".new")
    beside.write_text(text)
    beside.replace(file)


@pytest.mark.slow
def test_serve_says_what_it_watches_and_what_it_reads_again(tmp_path: Path) -> None:
    scenario = tmp_path / "mine.yaml"
    scenario.write_text(GOOD)
    with serving("--watch", "--scenario", str(scenario), "--files-origin", "separate") as (
        process,
        url,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        while not (line := process.stdout.readline()).startswith("watching"):
            pass
        assert line == f"watching {shipped_contract()} and {scenario}\n"
        replace(scenario, WRONG)
        assert "stays in force" in process.stderr.readline()
        assert httpx.post(url + KONTEXT, json=CREATE).status_code == 201
        replace(scenario, OTHER)
        assert process.stderr.readline() == (
            f"mockserver: scenario {scenario} reloaded: its faults are counted afresh\n"
        )
        assert httpx.post(url + KONTEXT, json=CREATE).status_code == 200
        process.terminate()
        assert process.wait(20) == 0
