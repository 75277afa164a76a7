"""No pattern takes long on what a client sends: a stray space in a header must not stop the double for everybody."""

import ast
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import mockserver
from mockserver.http.connection import MAX_HEAD
from mockserver.redaction import redacted
from tests.helpers.documents import CONTRACT

pytestmark = pytest.mark.slow  # it measures the processor's time

LIMIT = 0.025  # seconds of the processor's time: 5 ms, on a machine that is five times as slow; quadratic ones take seconds
PACKAGE = Path(mockserver.__file__).parent

# What only the user's own files and flags meet.
OWN_FILES = {"contract/yaml", "contract/contract", "contract/operation"}
OWN_ROOMS = {"scenarios", "check", "conformance", "cli", "deploy"}

SOURCES = {
    str(path.relative_to(PACKAGE).with_suffix("")): path for path in sorted(PACKAGE.rglob("*.py"))
}
TEXTS = {
    name: path.read_text()
    for name, path in SOURCES.items()
    if name not in OWN_FILES and name.partition("/")[0] not in OWN_ROOMS
}


def patterns() -> Iterator[tuple[str, str, str | bytes]]:
    """Every pattern that clients can reach: its module, and the function it is used with."""
    for module, text in TEXTS.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Assign) and is_call_of(node.value, {"compile"}):
                name = ast.unparse(node.targets[0])
                for use in sorted(set(re.findall(rf"\b{name}\.(\w+)\(", "".join(TEXTS.values())))):
                    yield module, use, pattern_in(node.value)
            elif is_call_of(node, {"fullmatch", "sub", "split"}):
                assert isinstance(node, ast.Call)
                assert isinstance(node.func, ast.Attribute)
                yield module, node.func.attr, pattern_in(node)


def is_call_of(node: ast.AST, names: set[str]) -> bool:
    """Whether code calls one of those functions of `re`."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr=name)):
            return name in names
    return False


def pattern_in(call: ast.expr) -> str | bytes:
    assert isinstance(call, ast.Call)
    value: str | bytes = ast.literal_eval(call.args[0])
    return value


def hostile(pattern: str | bytes) -> Iterator[str]:
    """Long texts of what a pattern is about: each of its letters and a few others, alone and in pairs."""
    result = pattern if isinstance(pattern, str) else pattern.decode("latin-1")
    letters = sorted({*re.sub(r"[\\()\[\]{}?*+|^$]", "", result), *' \t,;=a0.-:"'})
    for letter in letters:
        yield letter * MAX_HEAD
        yield f"a{letter * MAX_HEAD}b"
        for other in " ,a0":
            yield (letter + other) * (MAX_HEAD // 2)
    words = [word for word in re.findall(r"[\w:/;,-]{3,}", result) if not word.startswith("dd")]
    for word in words:
        yield word * (MAX_HEAD // len(word))
        yield word + " " * MAX_HEAD
        yield word + "a" * MAX_HEAD + "\n"


PATTERNS = list(patterns())


def test_there_are_patterns() -> None:
    assert len(PATTERNS) >= 8


USES: dict[str, Any] = {
    "fullmatch": re.Pattern.fullmatch,
    "match": re.Pattern.match,
    "search": re.Pattern.search,
    "sub": lambda compiled, data: compiled.sub(data[:0], data),
    "split": re.Pattern.split,
    "finditer": lambda compiled, data: sum(1 for _ in compiled.finditer(data)),
}


@pytest.mark.parametrize(("module", "use", "pattern"), PATTERNS)
def test_each_pattern_is_quick_at_its_worst(module: str, use: str, pattern: str | bytes) -> None:
    compiled = re.compile(pattern)
    for text in hostile(pattern):
        data = text if isinstance(pattern, str) else text.encode("latin-1")
        act = partial(USES[use], compiled)
        assert min(seconds(act, data) for _ in range(3)) < LIMIT, text[:30]


def seconds(act: object, data: object) -> float:
    began = time.process_time()
    act(data)  # type: ignore[operator]
    return time.process_time() - began


def test_the_contract_s_patterns_are_quick() -> None:
    for operation in CONTRACT.operations:
        for parameter in operation.parameters:
            for text in (
                "1" * MAX_HEAD,
                "a" * MAX_HEAD,
                "1h" * (MAX_HEAD // 2),
                "wait=" * (MAX_HEAD // 5),
            ):
                assert min(seconds(parameter.check, text) for _ in range(3)) < LIMIT, parameter.name


def test_secrets_are_masked_quickly() -> None:
    for text in ("whsec_" * (MAX_HEAD // 6), "r8_somebod" * (MAX_HEAD // 10), "r8_somebody" * 100):
        result = min(seconds(lambda text: redacted(text, "r8_somebody"), text) for _ in range(3))
        assert result < LIMIT
