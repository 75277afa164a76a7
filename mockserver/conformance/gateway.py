"""Where the gateway is, and how it is asked: nothing without TLS, no redirects, everything within bounds."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

from mockserver.clock import SECOND, wall_time
from mockserver.conformance.exchange import BodyReader
from mockserver.conformance.judge import origin_of
from mockserver.errors import MockServerError

TIMEOUT = 75.0  # seconds that one read may take; a `Prefer: wait` takes up to 60
PATIENCE = 120.0  # seconds that one answer may take in all
MAX_PICTURE = 64 * 1024 * 1024  # bytes
MAX_REDIRECTS = 5


class GatewayUnreachable(Exception):
    """The gateway gave no whole answer. The message says why."""


class Gateway:
    """A gateway's address: `url` is what the contract's paths are appended to, `origin` its scheme, host and port."""

    def __init__(self, url: str, *, insecure: bool = False, ca_file: Path | None = None) -> None:
        self.url = url.rstrip("/")
        parts = _split(url)
        origin = origin_of(url)
        if (
            parts is None
            or origin is None
            or parts.scheme not in ("http", "https")
            or parts.query
            or parts.fragment
        ):
            raise MockServerError(
                f"{url[:200]!r}: the gateway's address is needed, such as https://gateway.example"
            )
        if parts.username or parts.password:
            raise MockServerError(
                "the gateway's address holds a name or password; the token goes into --token"
            )
        self.origin = origin
        self.host = parts.hostname or ""
        self.loopback = is_loopback(self.host)
        self.insecure = insecure
        if parts.scheme == "http" and not self.loopback and not insecure:
            raise MockServerError(
                f"{self.url} is without TLS, so that the token could be read on the way; use https, or --insecure"
            )
        self._ca_file = ca_file

    def tls(self) -> ssl.SSLContext:
        """What the gateway's certificate is verified with. Raises MockServerError."""
        try:
            return ssl.create_default_context(
                cafile=None if self._ca_file is None else str(self._ca_file)
            )
        except (OSError, ssl.SSLError) as reason:
            raise MockServerError(f"--upstream-ca {self._ca_file}: {reason}") from reason

    def may_fetch(self, url: str) -> str | None:
        """Why a URL that the gateway handed out is not fetched; None if it may be."""
        parts = _split(url)
        where = origin_of(url)
        if parts is None or where is None or parts.scheme not in ("http", "https"):
            return "it is no http(s) URL"
        if where == self.origin or (self.loopback and is_loopback(parts.hostname or "")):
            return None
        if parts.scheme == "http" and not self.insecure:
            return "it is without TLS"
        return (
            None
            if _is_public(parts.hostname or "")
            else "it leads to an address that is not public"
        )


def _split(url: str) -> Any:
    try:
        parts = urlsplit(url)
        return parts if parts.hostname and all(letter > " " for letter in url) else None
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or address alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_public(host: str) -> bool:
    """Whether all the addresses of a host are public ones; a name that has none will not be reached anyway."""
    try:
        found = {
            str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        }
    except (OSError, UnicodeError):
        return True
    return all(ipaddress.ip_address(address.partition("%")[0]).is_global for address in found)


def require_httpx(command: str) -> Any:
    """The httpx package, which is only needed to talk to a gateway. Raises MockServerError."""
    if find_spec("httpx") is None:
        raise MockServerError(
            f"`mockserver {command}` needs httpx: pip install 'flux-mockserver[verify]'"
        )
    import httpx

    return httpx


class Reply:
    """What came back: `headers` in lower case, the body decoded and within bounds; `at` in ns since the epoch."""

    def __init__(
        self, status: int, headers: list[tuple[str, str]], body: BodyReader, at: int, seconds: float
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body.body
        self.size = body.size
        self.whole = body.whole
        self.unreadable = body.unreadable
        self.at = at
        self.seconds = seconds


class GatewaySession:
    """Asks one gateway, for the time of a `with` block."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._httpx = require_httpx("verify")

    def __enter__(self) -> Self:
        # Not by the environment: ~/.netrc would add credentials, and a proxy would be sent the
        # token.
        self._client = self._httpx.Client(
            verify=self.gateway.tls(), timeout=TIMEOUT, follow_redirects=False, trust_env=False
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Reply:
        """One request of the API. Raises GatewayUnreachable."""
        return self._exchange(method, self.gateway.url + path, headers, body, None)

    def fetch(self, url: str) -> Reply:
        """What a URL that the gateway handed out leads to, without any token. Raises GatewayUnreachable."""
        for _ in range(MAX_REDIRECTS):
            refused = self.gateway.may_fetch(url)
            if refused is not None:
                raise GatewayUnreachable(f"{url[:200]} is not fetched: {refused}")
            reply = self._exchange("GET", url, {}, None, MAX_PICTURE)
            target = dict(reply.headers).get("location")
            if not 300 <= reply.status < 400 or target is None:
                return reply
            url = urljoin(url, target)
        raise GatewayUnreachable(f"more than {MAX_REDIRECTS} redirects")

    def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        limit: int | None,
    ) -> Reply:
        at, began = wall_time(), perf_counter()
        sent = {
            "accept": "*/*",
            "accept-encoding": "gzip",
            "user-agent": "mockserver-verify",
            **headers,
        }
        try:
            with self._client.stream(method, url, headers=sent, content=body) as response:
                encoding = response.headers.get("content-encoding", "").strip().lower()
                reader = BodyReader(encoding) if limit is None else BodyReader(encoding, limit)
                for chunk in response.iter_raw():
                    reader.feed(chunk)
                    if not reader.whole:
                        break
                    if perf_counter() - began > PATIENCE:
                        raise GatewayUnreachable(f"no whole answer within {PATIENCE:g} s")
                named = [
                    (name.decode("latin-1").lower(), value.decode("latin-1"))
                    for name, value in response.headers.raw
                ]
                return Reply(response.status_code, named, reader, at, perf_counter() - began)
        except (self._httpx.HTTPError, self._httpx.InvalidURL, OSError, ValueError) as reason:
            raise GatewayUnreachable(str(reason) or type(reason).__name__) from reason


def retry_after(headers: Mapping[str, str], body: Any) -> float | None:
    """Seconds that an answer asks to wait, by its header or its body; None if it does not say."""
    said = headers.get("retry-after", "")
    if said.isdecimal() and len(said) < 10:
        return float(said)
    if said:
        try:
            return max(0.0, parsedate_to_datetime(said).timestamp() - wall_time() / SECOND)
        except (ValueError, TypeError, OverflowError):
            return None
    named = body.get("retry_after") if isinstance(body, dict) else None
    return (
        float(named)
        if isinstance(named, int | float) and not isinstance(named, bool) and named >= 0
        else None
    )
