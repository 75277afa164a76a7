"""A tenant of a running double, from Python: its address, and everything that `/__admin` offers."""

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
BASE_PATH = "/replicate"  # what clients are given as the base URL ends in this; versions and resources follow
ADMIN_TOKEN_HEADER = "x-mock-admin-token"  # noqa: S105
TIMEOUT = 30.0  # seconds


def with_scheme(url: str) -> str:
    """A double's address; `localhost:3589` is one too."""
    return (url if "://" in url else f"http://{url}").rstrip("/")


class AdminError(MockServerError):
    """The admin API refused a request, or could not be reached."""


class RunningServer:
    """A double that runs elsewhere, by its address."""

    def __init__(self, url: str, *, admin_token: str | None = None) -> None:
        self.url = with_scheme(url)
        self.base_url = self.url + BASE_PATH
        self._admin_token = admin_token

    def tenant(self, token: str | None = None) -> Tenant:
        """A tenant of its own: with a fresh token, unless one is given."""
        # Others may be on the same double, so a fresh token must not come twice.
        token = f"test-{token_hex(6)}" if token is None else token
        return Tenant(self.url, token, admin_token=self._admin_token)


class Tenant:
    """One isolated world on a double. Everything here concerns this tenant alone.

    `url` is the double's address, `base_url` that address plus `/replicate`, which is what clients
    are given; `token` is the bearer token that clients are to send, and the tenant's name. An empty
    token stands for requests without one.
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
        """Have the gateway behave by a scenario: a name, a Scenario or its JSON value. None goes back to usual.

        Raises AdminError, which says what is wrong with it.
        """
        if scenario is None:
            self.call("DELETE", "/scenario")
        else:
            # A value that has a name and nothing else asks for the scenario of that name.
            value = (
                {"faults": {}, **scenario.as_json()} if isinstance(scenario, Scenario) else scenario
            )
            self.call("PUT", "/scenario", value)

    def scenario(self) -> dict[str, Any]:
        """The scenario in force, as JSON values."""
        return self.call("GET", "/scenario")

    def set_clock(
        self, mode: Mode, *, speed: float | None = None, now: str | None = None
    ) -> dict[str, Any]:
        """Let time pass in another way: `autojump`, `real` (times `speed`) or `frozen`, from the instant `now`."""
        wanted = {"mode": mode, "speed": speed, "now": now}
        return self.call(
            "PUT", "/clock", {name: value for name, value in wanted.items() if value is not None}
        )

    def freeze(self, now: str | None = None) -> dict[str, Any]:
        """Stop time, at the present or at an RFC 3339 instant."""
        return self.set_clock("frozen", now=now)

    def advance(self, seconds: float) -> list[dict[str, Any]]:
        """Move time forward, and return what happened on the way, in order, once all of it has."""
        happened: list[dict[str, Any]] = self.call("POST", "/clock/advance", {"seconds": seconds})[
            "happened"
        ]
        return happened

    def requests(
        self,
        *,
        since: int = 0,
        limit: int = 1000,
        unmatched: bool = False,
        violations: bool = False,
    ) -> list[dict[str, Any]]:
        """The journal: exchanges with numbers above `since`, only unmatched or violating ones if asked."""
        query = {"since": since, "limit": limit, "unmatched": unmatched, "violations": violations}
        found: list[dict[str, Any]] = self.call("GET", "/requests?" + urlencode(query).lower())[
            "requests"
        ]
        return found

    def predictions(self) -> list[dict[str, Any]]:
        """The predictions as they stand, oldest first. Looking at them here moves nothing."""
        found: list[dict[str, Any]] = self.call("GET", "/predictions")["predictions"]
        return found

    def webhooks(self) -> list[dict[str, Any]]:
        """The attempts to deliver webhooks, oldest first."""
        found: list[dict[str, Any]] = self.call("GET", "/webhooks")["deliveries"]
        return found

    def verdict(self) -> dict[str, Any]:
        """The journal, judged."""
        return self.call("GET", "/verdict")

    def coverage(self) -> dict[str, Any]:
        """What of the contract has been met, and what never."""
        return self.call("GET", "/coverage")

    def reset(self) -> None:
        """Forget everything: predictions, journal, scenario, clock. Ids begin again."""
        self.call("POST", "/reset")

    def as_async(self) -> AsyncTenant:
        """The same tenant, for a test that is a coroutine."""
        return AsyncTenant(self)

    def call(self, method: str, path: str, value: object = None) -> dict[str, Any]:
        """One request of the admin API, by its path under `/__admin`. Raises AdminError."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if self._admin_token is not None:
            headers[ADMIN_TOKEN_HEADER] = self._admin_token
        body = None if value is None else json.dumps(value)
        try:
            connection = self._connect()
        except (ValueError, HTTPException) as reason:
            raise AdminError(f"{self.url} is no address: {reason}") from reason
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
                "a token, or an address, has letters that cannot be sent in a request's head"
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
    """A tenant whose methods are awaited, so that the loop runs on meanwhile.

    A test whose own loop receives the webhooks, or serves the client, has to use it:
    `Tenant.advance` would keep the loop from answering what the advance waits for. The methods are
    those of `Tenant`.
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
