"""Secrets shown in part: enough to know them again, too little to use them."""

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
MAX_BEGINNINGS = 50  # places that are looked at where a text may end within a secret
_OWN_NAME = re.compile(
    r"[a-z_]{1,30}"
)  # a name in JSON that is the double's, or no secret in any case
_WEBHOOK_MARK = "whsec_"
_WEBHOOK_KEY = rf"{_WEBHOOK_MARK}[A-Za-z0-9+/=]+"
T = TypeVar("T")


def redacted(shown: T, secret: str) -> T:
    """JSON values with secrets shown in part wherever they stand, in names too.

    A text that was cut may end within a secret: what there is of it is shown in part as well. A
    token too short to be a secret is left.
    """
    return cast(T, _redacted(shown, _secrets(secret)))


class _Secrets(msgspec.Struct, frozen=True):
    """What to look for: `whole` finds secrets, `begun` the beginnings of those in `spelt`, in lower case.

    A text that has none of `marks`, in lower case, has no secret: that is found out fast, also
    where it is long.
    """

    marks: tuple[str, ...]
    whole: re.Pattern[str]
    begun: re.Pattern[str] | None = None
    spelt: tuple[str, ...] = ()
    least: int = 0


@lru_cache(64)
def _secrets(token: str) -> _Secrets:
    """A token as it may be spelt in URLs, JSON and names of headers, and whatever looks like a key of webhooks."""
    if len(token) < MIN_SECRET:
        return _Secrets((_WEBHOOK_MARK,), re.compile(_WEBHOOK_KEY))
    spelt = {token, quote(token), quote(token, safe=""), msgspec.json.encode(token).decode()[1:-1]}
    longest_first = sorted((each.lower() for each in spelt), key=len, reverse=True)
    least = max(MIN_SECRET, min(6, len(token) // 3) + 1)
    whole = "|".join([*map(re.escape, longest_first), _WEBHOOK_KEY])
    begun = "|".join(re.escape(each[:least]) for each in longest_first)
    marks = (_WEBHOOK_MARK, *dict.fromkeys(each[:least] for each in longest_first))
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
    text = secrets.whole.sub(lambda found: shortened_secret(found.group()), text)
    if secrets.begun is None or not secrets.begun.search(text):
        return text
    return "…".join(_without_beginning(part, secrets) for part in text.split("…")).replace(
        "……", "…"
    )


def _without_beginning(text: str, secrets: _Secrets) -> str:
    """A text that may have been cut, with the beginning of a secret at its end shown in part."""
    end = len(text.rstrip("'\""))
    for spelt in secrets.spelt:
        place = max(0, end - len(spelt))
        for _ in range(MAX_BEGINNINGS):
            place = text.lower().find(spelt[: secrets.least], place, end)
            if place < 0:
                break
            if spelt.startswith(text[place:end].lower()):
                return text[:place] + shortened_secret(text[place:end]) + text[end:]
            place += 1
    return text


def shortened_secret(secret: str) -> str:
    """A secret shown in part: enough to know it again, too little to use it."""
    return secret[: min(6, len(secret) // 3)] + "…"


def displayed(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[str, str]]:
    """Names and values of headers as text, credentials shown in part."""
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        yield name, _redacted_credentials(value) if name in SECRET_HEADERS else value


def _redacted_credentials(credentials: str) -> str:
    """The value of a header with all of it in part, but for the word that says what kind it is."""
    scheme, space, rest = credentials.partition(" ")
    kind = scheme + space if rest and "=" not in scheme else ""
    return kind + re.sub(
        r"[^\s;,=]+", lambda found: shortened_secret(found.group()), credentials.removeprefix(kind)
    )
