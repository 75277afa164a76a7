"""Secrets shown in part: enough to recognize them, too little to use them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TypeVar, cast
from urllib.parse import quote

import msgspec

SECRET_HEADERS = frozenset(
    {"authorization", "cookie", "set-cookie", "proxy-authorization", "x-mock-admin-token"}
)
MIN_SECRET = 6  # characters
MAX_BEGINNINGS = 50  # places that are tried where a text may end within a secret
_OWN_NAME = re.compile(r"[a-z_]{1,30}")  # a name in the double's own JSON, which is no secret
_WEBHOOK_MARK = "whsec_"
_WEBHOOK_KEY = rf"{_WEBHOOK_MARK}[A-Za-z0-9+/=]+"
T = TypeVar("T")


def redacted(value: T, secret: str) -> T:
    """JSON values with secrets shown in part, in names too.

    A text that was cut may end within a secret: that beginning is shown in part as well. A token
    that is too short to be a secret is left as it is.
    """
    return cast(T, _redacted(value, _secrets(secret)))


class _Secrets(msgspec.Struct, frozen=True):
    """What to look for: `whole` finds secrets, `begun` the beginnings of those in `spellings`.

    A text that has none of `marks`, in lower case, has no secret: the usual case is fast, also for
    a long text.
    """

    marks: tuple[str, ...]
    whole: re.Pattern[str]
    begun: re.Pattern[str] | None = None
    spellings: tuple[str, ...] = ()
    least: int = 0


@lru_cache(64)
def _secrets(token: str) -> _Secrets:
    """A token in the spellings of URLs, JSON and headers, and all keys of webhooks."""
    if len(token) < MIN_SECRET:
        return _Secrets((_WEBHOOK_MARK,), re.compile(_WEBHOOK_KEY))
    in_json = msgspec.json.encode(token).decode()[1:-1]
    spellings = {token, quote(token), quote(token, safe=""), in_json}
    longest_first = sorted(map(str.lower, spellings), key=len, reverse=True)
    least = max(MIN_SECRET, min(6, len(token) // 3) + 1)
    whole = "|".join([*map(re.escape, longest_first), _WEBHOOK_KEY])
    begun = "|".join(re.escape(spelling[:least]) for spelling in longest_first)
    marks = (_WEBHOOK_MARK, *dict.fromkeys(spelling[:least] for spelling in longest_first))
    patterns = re.compile(whole, re.IGNORECASE), re.compile(begun, re.IGNORECASE)
    return _Secrets(marks, *patterns, tuple(longest_first), least)


def _redacted(value: object, secrets: _Secrets) -> object:
    if isinstance(value, str):
        return _masked(value, secrets)
    if isinstance(value, dict):
        return {
            name if _OWN_NAME.fullmatch(name) else _masked(name, secrets): _redacted(part, secrets)
            for name, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redacted(part, secrets) for part in value]
    return value


def _masked(text: str, secrets: _Secrets) -> str:
    lowered = text.lower()
    if not any(mark in lowered for mark in secrets.marks):
        return text
    text = secrets.whole.sub(lambda match: shortened_secret(match.group()), text)
    if secrets.begun is None or not secrets.begun.search(text):
        return text
    return "…".join(_without_beginning(part, secrets) for part in text.split("…")).replace(
        "……", "…"
    )


def _without_beginning(text: str, secrets: _Secrets) -> str:
    """A text that may have been cut, with the beginning of a secret at its end shown in part."""
    end = len(text.rstrip("'\""))
    for spelling in secrets.spellings:
        place = max(0, end - len(spelling))
        for _ in range(MAX_BEGINNINGS):
            place = text.lower().find(spelling[: secrets.least], place, end)
            if place < 0:
                break
            if spelling.startswith(text[place:end].lower()):
                return text[:place] + shortened_secret(text[place:end]) + text[end:]
            place += 1
    return text


def shortened_secret(secret: str) -> str:
    """The beginning of a secret: enough to recognize it, too little to use it."""
    return secret[: min(6, len(secret) // 3)] + "…"


def displayed(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[str, str]]:
    """Names and values of headers as text, with credentials shown in part."""
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        yield name, _redacted_credentials(value) if name in SECRET_HEADERS else value


def _redacted_credentials(credentials: str) -> str:
    """Credentials with each part shortened, except for the scheme."""
    scheme, space, rest = credentials.partition(" ")
    kind = scheme + space if rest and "=" not in scheme else ""
    return kind + re.sub(
        r"[^\s;,=]+", lambda match: shortened_secret(match.group()), credentials.removeprefix(kind)
    )
