"""`mockserver scenarios`: the names, and each scenario as a file to start one's own from."""

from __future__ import annotations

from pathlib import Path

import pytest

from mockserver.contract.yaml import read_yaml
from mockserver.scenarios.catalogue import Catalogue
from tests.helpers.command import invoke
from tests.helpers.documents import CONTRACT

CATALOGUE = Catalogue(CONTRACT)


def test_every_scenario_is_listed_with_its_description_in_order() -> None:
    ended = invoke("scenarios")
    assert (ended.returncode, ended.stderr) == (0, "")
    listed, _, hint = ended.stdout.rstrip().rpartition("\n\n")
    assert [line.split(maxsplit=1) for line in listed.splitlines()] == [
        [scenario.name, scenario.description] for scenario in CATALOGUE
    ]
    assert hint == "`mockserver scenarios NAME` prints one as YAML."


@pytest.mark.parametrize("name", [scenario.name for scenario in CATALOGUE])
def test_one_is_printed_as_a_file_that_behaves_the_same(name: str, tmp_path: Path) -> None:
    ended = invoke("scenarios", name)
    assert ended.returncode == 0
    file = tmp_path / "mine.yaml"
    file.write_text(ended.stdout)
    assert CATALOGUE.read(str(file)) == CATALOGUE.named(name)
    assert read_yaml(ended.stdout.encode())["name"] == name


def test_a_name_that_there_is_not_is_told_with_the_nearest() -> None:
    ended = invoke("scenarios", "flakey")
    assert ended.returncode == 2
    assert "did you mean flaky?" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_only_those_that_fit_a_contract_are_listed(tmp_path: Path) -> None:
    assert invoke("scenarios", "--contract", "/nowhere.yaml").returncode == 2
