"""The address of a gateway, and requests to it: TLS, no redirects, everything within bounds."""

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

TIMEOUT = 75.0  # seconds for one read; a `Prefer: wait` takes up to 60
PATIENCE = 120.0  # seconds for a whole response
MAX_PICTURE = 64 * 1024 * 1024  # bytes
MAX_REDIRECTS = 5


class GatewayUnreachable(Exception):
    """The gateway gave no complete response. The message says why."""


class Gateway:
    """A gateway's address.

    The contract's paths are appended to `url`. `origin` is its scheme, host and port.
    """

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
                f"{self.url} is without TLS, so others could read the token on the way; use https, "
                "or --insecure"
            )
        self._ca_file = ca_file

    def tls(self) -> ssl.SSLContext:
        """The settings for verifying the gateway's certificate. Raises MockServerError."""
        try:
            return ssl.create_default_context(
                cafile=None if self._ca_file is None else str(self._ca_file)
            )
        except (OSError, ssl.SSLError) as reason:
            raise MockServerError(f"--gateway-ca {self._ca_file}: {reason}") from reason

    def may_fetch(self, url: str) -> str | None:
        """Why a URL from the gateway is not downloaded; None if it may be."""
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
    """Whether all addresses of a host are public; a host without addresses is unreachable."""
    try:
        entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return True
    addresses = {str(entry[4][0]).partition("%")[0] for entry in entries}
    return all(ipaddress.ip_address(address).is_global for address in addresses)


def require_httpx(command: str) -> Any:
    """The httpx package, which only requests to a gateway need. Raises MockServerError."""
    if find_spec("httpx") is None:
        raise MockServerError(
            f"`mockserver {command}` needs httpx: pip install 'flux-mockserver[verify]'"
        )
    import httpx

    return httpx


class Reply:
    """A response, with its body decoded and within bounds, and header names in lower case.

    `at` is when the request was sent, in nanoseconds since the epoch.
    """

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
    """A connection to one gateway, for the time of a `with` block."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._httpx = require_httpx("verify")

    def __enter__(self) -> Self:
        # trust_env would add credentials from ~/.netrc, and send the token to a proxy.
        self._client = self._httpx.Client(
            verify=self.gateway.tls(), timeout=TIMEOUT, follow_redirects=False, trust_env=False
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Reply:
        """Send a request to the API. Raises GatewayUnreachable."""
        return self._exchange(method, self.gateway.url + path, headers, body, None)

    def fetch(self, url: str) -> Reply:
        """Download from a URL of the gateway, without a token. Raises GatewayUnreachable."""
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
    """The seconds to wait, by the header or the body of a response; None if neither says."""
    header = headers.get("retry-after", "")
    if header.isdecimal() and len(header) < 10:
        return float(header)
    if header:
        try:
            return max(0.0, parsedate_to_datetime(header).timestamp() - wall_time() / SECOND)
        except (ValueError, TypeError, OverflowError):
            return None
    seconds = body.get("retry_after") if isinstance(body, dict) else None
    return (
        float(seconds)
        if isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds >= 0
        else None
    )
