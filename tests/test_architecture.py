"""What the sources of the package keep to, beside the direction of imports, which import-linter holds."""

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "mockserver"


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    """Everything in a file's syntax tree."""
    return list(ast.walk(ast.parse(path.read_text())))


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def test_nothing_private_of_the_server_s_libraries_is_used() -> None:
    for path in modules():
        for node in nodes_of(path):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in (
                "uvicorn",
                "starlette",
            ):
                parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                assert not [part for part in parts if part.startswith("_")], (
                    f"{path.stem} imports {parts}"
                )
            if isinstance(node, ast.Attribute):
                assert node.attr not in UNDOCUMENTED, f"{path.stem} uses {node.attr}"


# Attributes of uvicorn's protocols that it nowhere describes.
UNDOCUMENTED = frozenset(
    {
        "cycle",
        "pipeline",
        "flow",
        "message_event",
        "response_complete",
        "on_response",
        "server_state",
        "__self__",
    }
)


def test_the_domain_does_not_look_at_the_wall_clock() -> None:
    for path in modules():
        if path.stem in ("clock", "pipeline"):
            continue
        for node in nodes_of(path):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                said = f"{node.value.id}.{node.attr}"
                assert said not in (
                    "time.time",
                    "time.time_ns",
                    "time.monotonic",
                    "datetime.now",
                ), f"{path.stem}: {said}"


def test_what_the_contract_says_is_not_said_again_in_python() -> None:
    for path in modules():
        text = path.read_text()
        for word in (
            "flux-1.1",
            "kontext",
            "black-forest",
            "aspect_ratio",
            "safety_tolerance",
            "replicate.com",
        ):
            assert word not in text, f"{path.stem} says {word!r}"


def test_no_module_imports_itself_through_others_not_even_for_types() -> None:
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in modules()}
    imports: dict[str, set[str]] = {}
    for path in modules():
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        imported = {
            target
            for node in nodes_of(path)
            if isinstance(node, ast.ImportFrom) and node.module
            for target in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        }
        imports[name] = imported & names

    # Remove modules that import none of the rest, until only circles and their users are left.
    while free := [name for name, imported in imports.items() if not imported & imports.keys()]:
        for name in free:
            del imports[name]
    assert not imports
