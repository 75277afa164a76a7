"""The limits in docs/security.md match the constants, and the tests it names exist."""

import importlib
import re
from pathlib import Path

import pytest

from tests.helpers.pages import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()
ROWS = re.findall(
    r"^\| ([^|]+) \| ([^|]+) \|(?: `([\w.]+)\.(\w+)`)? \| `([\w/]+\.py)(?:::(\w+))?` \|$",
    PAGE,
    re.M,
)


def written(value: float) -> set[str]:
    """The ways to write a limit: as a size or as a number."""
    sizes = {
        f"{value / 1024**power:g} {unit}"
        for power, unit in enumerate(("KiB", "MiB", "GiB"), start=1)
    }
    return {f"{value:,g}", *sizes}


def test_every_row_is_parsed() -> None:
    table = PAGE.partition("| test |")[2].partition("\n\n")[0]
    assert len(ROWS) == table.count("\n") - 1 > 20


@pytest.mark.parametrize(
    ("bound", "module", "constant"),
    [row[1:4] for row in ROWS if row[2]],
    ids=[row[3] for row in ROWS if row[2]],
)
def test_a_limit_has_the_documented_value(bound: str, module: str, constant: str) -> None:
    value = getattr(importlib.import_module(f"mockserver.{module}"), constant)
    assert any(
        re.search(rf"(?<![\d,]){re.escape(way)}(?![\d,])", bound) for way in written(value)
    ), f"{constant} is {value}"


@pytest.mark.parametrize(("file", "name"), sorted({row[4:6] for row in ROWS}))
def test_a_documented_test_exists(file: str, name: str) -> None:
    text = (Path(__file__).parent.parent / file).read_text()
    assert not name or f"def {name}(" in text
