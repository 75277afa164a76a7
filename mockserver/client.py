"""Clients of a running double: a tenant's address, and everything that `/__admin` offers."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from secrets import token_hex
from typing import Any
from urllib.parse import urlencode, urlsplit

from mockserver.clock import Mode
from mockserver.errors import MockServerError
from mockserver.redaction import shortened_secret
from mockserver.scenarios.scenario import Scenario

PREFIX = "/__admin"
BASE_PATH = "/replicate"  # of the base URL for clients, who append a version and a resource
ADMIN_TOKEN_HEADER = "x-mock-admin-token"  # noqa: S105
TIMEOUT = 30.0  # seconds


def with_scheme(url: str) -> str:
    """A double's address with its scheme: `http` for one such as `localhost:3589`."""
    return (url if "://" in url else f"http://{url}").rstrip("/")


class AdminError(MockServerError):
    """The admin API refused a request, or could not be reached."""


class RunningServer:
    """A double in another process, by its address."""

    def __init__(self, url: str, *, admin_token: str | None = None) -> None:
        self.url = with_scheme(url)
        self.base_url = self.url + BASE_PATH
        self._admin_token = admin_token

    def tenant(self, token: str | None = None) -> Tenant:
        """Open a tenant, with a fresh token unless one is given."""
        # Random, since other suites may use the same double.
        token = f"test-{token_hex(6)}" if token is None else token
        return Tenant(self.url, token, admin_token=self._admin_token)


class Tenant:
    """One isolated world on a double: predictions, journal, clock and scenario of its own.

    `url` is the double's address, and `base_url` that address plus `/replicate`, for clients.
    `token` is the bearer token that clients have to send, and the tenant's name; an empty one
    stands for requests without a token. All methods raise AdminError if the double refuses the
    request or cannot be reached.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        admin_token: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.url = with_scheme(url)
        self.base_url = self.url + BASE_PATH
        self.token = token
        self._admin_token = admin_token
        self._tls = tls

    def __repr__(self) -> str:
        return f"Tenant({self.base_url!r}, {shortened_secret(self.token)!r})"

    def use(self, scenario: str | Scenario | Mapping[str, Any] | None) -> None:
        """Set the scenario: a name, a Scenario or its JSON value; None resets it to the default."""
        if scenario is None:
            self.call("DELETE", "/scenario")
            return

        value = scenario
        if isinstance(scenario, Scenario):
            # A value with nothing but a name would stand for the named scenario.
            value = {"faults": {}, **scenario.as_json()}
        self.call("PUT", "/scenario", value)

    def scenario(self) -> dict[str, Any]:
        """The scenario in force, as JSON values."""
        return self.call("GET", "/scenario")

    def set_clock(
        self, mode: Mode, *, speed: float | None = None, now: str | None = None
    ) -> dict[str, Any]:
        """Set how time passes: `autojump`, `real` (`speed` times as fast) or `frozen`.

        `now` is the RFC 3339 instant to begin from. Returns the clock: mode, speed, now.
        """
        setting = {"mode": mode, "speed": speed, "now": now}
        present = {name: value for name, value in setting.items() if value is not None}
        return self.call("PUT", "/clock", present)

    def freeze(self, now: str | None = None) -> dict[str, Any]:
        """Stop time, now or at an RFC 3339 instant. Returns the clock."""
        return self.set_clock("frozen", now=now)

    def advance(self, seconds: float) -> list[dict[str, Any]]:
        """Move time forward. Returns what happened meanwhile, in order, once all of it has."""
        response = self.call("POST", "/clock/advance", {"seconds": seconds})
        happened: list[dict[str, Any]] = response["happened"]
        return happened

    def requests(
        self,
        *,
        since: int = 0,
        limit: int = 1000,
        unmatched: bool = False,
        violations: bool = False,
    ) -> list[dict[str, Any]]:
        """The journal: exchanges with numbers above `since`, oldest first.

        Optionally only those with an unknown path, or with violations.
        """
        query = {"since": since, "limit": limit, "unmatched": unmatched, "violations": violations}
        response = self.call("GET", "/requests?" + urlencode(query).lower())
        exchanges: list[dict[str, Any]] = response["requests"]
        return exchanges

    def predictions(self) -> list[dict[str, Any]]:
        """The current predictions, oldest first. Unlike a poll, this does not advance them."""
        predictions: list[dict[str, Any]] = self.call("GET", "/predictions")["predictions"]
        return predictions

    def webhooks(self) -> list[dict[str, Any]]:
        """The attempts to deliver webhooks, oldest first."""
        deliveries: list[dict[str, Any]] = self.call("GET", "/webhooks")["deliveries"]
        return deliveries

    def verdict(self) -> dict[str, Any]:
        """The journal, judged."""
        return self.call("GET", "/verdict")

    def coverage(self) -> dict[str, Any]:
        """Which parts of the contract were covered, and which were not."""
        return self.call("GET", "/coverage")

    def reset(self) -> None:
        """Forget everything: predictions, journal, scenario, clock. Ids start over."""
        self.call("POST", "/reset")

    def as_async(self) -> AsyncTenant:
        """The same tenant, for a test that is a coroutine."""
        return AsyncTenant(self)

    def call(self, method: str, path: str, value: object = None) -> dict[str, Any]:
        """One request of the admin API, by its path under `/__admin`; returns its JSON."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if self._admin_token is not None:
            headers[ADMIN_TOKEN_HEADER] = self._admin_token
        body = None if value is None else json.dumps(value)

        try:
            connection = self._connect()
        except (ValueError, HTTPException) as reason:
            raise AdminError(f"{self.url} is not an address: {reason}") from reason
        try:
            connection.request(method, PREFIX + path, body, headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, HTTPException) as reason:
            raise AdminError(
                f"no double answers at {self.url}: {reason}; is it running?"
            ) from reason
        except ValueError as reason:
            raise AdminError(
                "the token or the address has characters that HTTP headers cannot hold"
            ) from reason
        finally:
            connection.close()

        return self._read(response.status, text)

    def _connect(self) -> HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme == "https":
            return HTTPSConnection(parts.netloc, timeout=TIMEOUT, context=self._tls)
        return HTTPConnection(parts.netloc, timeout=TIMEOUT)

    def _read(self, status: int, text: bytes) -> dict[str, Any]:
        try:
            value: dict[str, Any] = json.loads(text)
        except ValueError as reason:
            raise AdminError(f"{self.url} does not answer as a mockserver does") from reason
        if status >= 400:
            raise AdminError(str(value.get("detail", value)))
        return value


class AsyncTenant:
    """A tenant with the methods of `Tenant` as coroutines, which do not block the event loop.

    A test whose own loop receives the webhooks, or runs the client, needs this: `Tenant.advance`
    would keep that loop from answering what the advance waits for.
    """

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self.url, self.base_url, self.token = tenant.url, tenant.base_url, tenant.token

    async def use(self, scenario: str | Scenario | Mapping[str, Any] | None) -> None:
        """`Tenant.use`."""
        await asyncio.to_thread(self._tenant.use, scenario)

    async def scenario(self) -> dict[str, Any]:
        """`Tenant.scenario`."""
        return await asyncio.to_thread(self._tenant.scenario)

    async def set_clock(
        self, mode: Mode, *, speed: float | None = None, now: str | None = None
    ) -> dict[str, Any]:
        """`Tenant.set_clock`."""
        return await asyncio.to_thread(self._tenant.set_clock, mode, speed=speed, now=now)

    async def freeze(self, now: str | None = None) -> dict[str, Any]:
        """`Tenant.freeze`."""
        return await asyncio.to_thread(self._tenant.freeze, now)

    async def advance(self, seconds: float) -> list[dict[str, Any]]:
        """`Tenant.advance`."""
        return await asyncio.to_thread(self._tenant.advance, seconds)

    async def requests(
        self,
        *,
        since: int = 0,
        limit: int = 1000,
        unmatched: bool = False,
        violations: bool = False,
    ) -> list[dict[str, Any]]:
        """`Tenant.requests`."""
        return await asyncio.to_thread(
            self._tenant.requests,
            since=since,
            limit=limit,
            unmatched=unmatched,
            violations=violations,
        )

    async def predictions(self) -> list[dict[str, Any]]:
        """`Tenant.predictions`."""
        return await asyncio.to_thread(self._tenant.predictions)

    async def webhooks(self) -> list[dict[str, Any]]:
        """`Tenant.webhooks`."""
        return await asyncio.to_thread(self._tenant.webhooks)

    async def verdict(self) -> dict[str, Any]:
        """`Tenant.verdict`."""
        return await asyncio.to_thread(self._tenant.verdict)

    async def coverage(self) -> dict[str, Any]:
        """`Tenant.coverage`."""
        return await asyncio.to_thread(self._tenant.coverage)

    async def reset(self) -> None:
        """`Tenant.reset`."""
        await asyncio.to_thread(self._tenant.reset)
