"""YAML as JSON values."""

import time
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from mockserver.contract.yaml import MAX_ALIASED, read_yaml

TEXT = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(JSON)
@example({"a \u2028 b": "c \u2029 d"})
def test_json_is_read_as_it_is(value: Any) -> None:
    text = msgspec.json.encode(value)
    assert read_yaml(text) == msgspec.json.decode(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a:", {"a": None}),
        ("null", None),
        ("true", True),
        ("-3", -3),
        ("1.5e3", 1500.0),
        ("yes", "yes"),
        ("~", "~"),
        ("2025-01-01", "2025-01-01"),
        ("2025-99-99", "2025-99-99"),
        ("0o17", "0o17"),
        ("0123", "0123"),
        ("1_000", "1_000"),
        (".5", ".5"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("{200: a, null: b, 1.5: c}", {"200": "a", "null": "b", "1.5": "c"}),
        ("{a: &x [1], b: *x}", {"a": [1], "b": [1]}),
    ],
)
def test_what_is_not_json_is_text(text: str, value: Any) -> None:
    found = read_yaml(text.encode())
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "expected node content"),
        ("&a [*a]", "it holds itself, by an alias"),
        ("{a: 1, a: 2}", "the key 'a' stands here twice"),
        ("{[1]: 2}", "a key is text"),
        ("!!python/object/apply:os.getcwd []", "python/object"),
        ("!!binary aGk=", "the tag tag:yaml.org,2002:binary is not known"),
        ("1" * 5000, "Exceeds the limit"),
        ("[" * 100_000, "nested more than 200 levels deep"),
        ("a: 1\n---\nb: 2", "but found another document"),
        ("*nobody", "found undefined alias"),
    ],
)
def test_what_cannot_be_read_is_an_error_of_yaml(text: str, said: str) -> None:
    with pytest.raises(yaml.YAMLError, match=said):
        read_yaml(text.encode())


def test_json_with_many_values_is_read_as_json() -> None:
    value = {"list": list(range(150_000))}
    began = time.process_time()
    assert read_yaml(msgspec.json.encode(value)) == value
    assert time.process_time() - began < 0.5, "the YAML parser takes seconds"


def test_json_that_is_too_deep_or_has_a_key_twice_is_refused_with_the_place() -> None:
    with pytest.raises(yaml.YAMLError, match=r"nested more than 200 levels(.|\n)*line 1, column"):
        read_yaml(b'{"a": ' + b"[" * 250 + b"]" * 250 + b"}")
    with pytest.raises(yaml.YAMLError, match=r"'a' stands here twice(.|\n)*line 2, column 2"):
        read_yaml(b'{"a": 1,\n "a": 2}')


@pytest.mark.parametrize("depth", [200, 202])
def test_lists_may_be_nested_200_levels_deep(depth: int) -> None:
    text = "- " * depth + "x"
    if depth > 200:
        with pytest.raises(yaml.YAMLError, match="nested more than 200 levels deep"):
            read_yaml(text.encode())
    else:
        assert read_yaml(text.encode())[0][0][0]


def test_aliases_that_repeat_aliases_are_bounded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    bomb = "\n".join(lines).encode()
    assert len(bomb) < 700
    began = time.process_time()
    with pytest.raises(yaml.YAMLError, match=f"repeat more than {MAX_ALIASED:,} values"):
        read_yaml(bomb)
    assert time.process_time() - began < 2, "it would take minutes to lay out"
