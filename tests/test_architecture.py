"""The house: each module stands on a row, and imports only from rows above its own."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "mockserver"

ROWS = [
    {"violations", "clock", "images"},
    {"errors", "lifecycle"},
    {"contract"},
    {"scenarios"},
    {"wire"},
    {"connection", "predictions", "journal", "coverage", "admin_client", "deliveries", "files"},
    {"store", "verdict", "pictures", "request"},
    {"gateway"},
    {"stream", "webhooks", "validation"},
    {"api"},
    {"exchange", "admin"},
    {"app"},
    {"server"},
    {"check.cases"},
    {"check.rules", "check.inputs", "check.drivers", "check.shrinker", "check.formatting"},
    {"check.harness", "check.catalogue", "check.findings", "check.receivers"},
    {"check.strategies"},
    {"check.hunt", "check.page"},
    {"check.client", "check.reports", "check.terminal"},
    {"cli", "pytest_plugin"},
    {"__main__"},
]
LEVEL = {name: level for level, row in enumerate(ROWS) for name in row}


def imports(path: Path) -> Iterator[str]:
    """The package's modules that a file imports, also within functions."""
    for node in ast.walk(ast.parse(path.read_text())):
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


def test_the_domain_does_not_look_at_the_wall_clock() -> None:
    for path in modules():
        if path.stem in ("clock", "exchange"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute | ast.Name):
                said = ast.unparse(node)
                assert said not in ("time.time", "time.time_ns", "time.monotonic", "datetime.now"), (
                    f"{path.stem}: {said}"
                )


def test_what_the_contract_says_is_not_said_again_in_python() -> None:
    for path in modules():
        text = path.read_text()
        for word in ("flux-1.1", "kontext", "black-forest", "aspect_ratio", "safety_tolerance", "replicate.com"):
            assert word not in text, f"{path.stem} says {word!r}"
