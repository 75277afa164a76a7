"""The suite itself."""

import re
from pathlib import Path

TESTS = Path(__file__).parent


def test_no_test_imports_from_another() -> None:
    files = [path for path in TESTS.rglob("*.py") if "node_modules" not in path.parts]
    assert len(files) > 40
    for path in files:
        for module in re.findall(r"^\s*from (\S+) import", path.read_text(), re.M):
            assert not module.rpartition(".")[2].startswith("test_"), f"{path.name}: {module}"
