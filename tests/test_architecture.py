"""The house: each module stands on a row, and imports only from rows above its own."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mockserver"

MAP = (PACKAGE.parent / "CONTRIBUTING.md").read_text()
ROWS = [line.split() for line in MAP.partition("```text\nviolations")[2].partition("```")[0].splitlines()]
ROWS[0].insert(0, "violations")
LEVEL = {name: level for level, row in enumerate(ROWS) for name in row}


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    """Everything in a file's syntax tree."""
    return list(ast.walk(ast.parse(path.read_text())))


def imports(path: Path) -> Iterator[str]:
    """The package's modules that a file imports, also within functions."""
    for node in nodes_of(path):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            assert name != "mockserver", f"{path.name}: import from the module, not from the package"
            if name.startswith("mockserver."):
                yield name.removeprefix("mockserver.")


def name_of(path: Path) -> str:
    """A module's name within the package: `check.rules`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def test_every_module_stands_on_a_row() -> None:
    assert {name_of(path) for path in modules()} == LEVEL.keys()


def test_imports_run_one_way() -> None:
    for path in modules():
        for name in imports(path):
            assert LEVEL[name] < LEVEL[name_of(path)], f"{name_of(path)} imports {name}"


DOMAIN = [
    "store",
    "journal",
    "verdict",
    "gateway",
    "predictions",
    "scenarios",
    "tenants",
    "check.rules",
    "check.shrinker",
]


@pytest.mark.parametrize("name", DOMAIN)
def test_the_domain_is_there_without_the_server(name: str) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"import mockserver.{name}, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    packages = {module.partition(".")[0] for module in loaded.stdout.split()}
    assert "mockserver" in packages
    assert packages.isdisjoint({"uvicorn", "starlette", "httptools", "click"})


def test_nothing_private_of_the_server_s_libraries_is_used() -> None:
    for path in modules():
        for node in nodes_of(path):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("uvicorn", "starlette"):
                parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                assert not [part for part in parts if part.startswith("_")], f"{path.stem} imports {parts}"
            if isinstance(node, ast.Attribute):
                assert node.attr not in UNDOCUMENTED, f"{path.stem} uses {node.attr}"


# Attributes of uvicorn's protocols that it nowhere describes.
UNDOCUMENTED = frozenset(
    {"cycle", "pipeline", "flow", "message_event", "response_complete", "on_response", "server_state", "__self__"}
)


def test_the_domain_does_not_look_at_the_wall_clock() -> None:
    for path in modules():
        if path.stem in ("clock", "exchange"):
            continue
        for node in nodes_of(path):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                said = f"{node.value.id}.{node.attr}"
                assert said not in ("time.time", "time.time_ns", "time.monotonic", "datetime.now"), (
                    f"{path.stem}: {said}"
                )


def test_what_the_contract_says_is_not_said_again_in_python() -> None:
    for path in modules():
        text = path.read_text()
        for word in ("flux-1.1", "kontext", "black-forest", "aspect_ratio", "safety_tolerance", "replicate.com"):
            assert word not in text, f"{path.stem} says {word!r}"


def test_modules_and_functions_stay_small() -> None:
    for path in modules():
        assert path.read_text().count("\n") < 500, path.stem
        for node in nodes_of(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path.stem}.{node.name}"
