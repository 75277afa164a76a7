"""The suite itself."""

import ast
from pathlib import Path

TESTS = Path(__file__).parent


def test_no_test_imports_from_another() -> None:
    files = [path for path in TESTS.rglob("*.py") if "node_modules" not in path.parts]
    assert len(files) > 40
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").rpartition(".")[2].startswith("test_"), f"{path.name}: {node.module}"
