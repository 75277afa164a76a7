"""The pytest plugin: a double for the session, a fresh tenant for each test, and a verdict at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mockserver.admin_client import RunningServer, Tenant
    from mockserver.check.drivers import Call
    from mockserver.check.findings import Report
    from mockserver.server import MockServer

_MARKER = (
    'mockserver(scenario=None, clock=None, violations="refuse"): how the `mockserver` fixture behaves. '
    'scenario: a name, a Scenario or its JSON value; clock: "autojump", "real" or "frozen"; violations: "allow" lets '
    "a test send what the contract does not allow."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer `--mockserver-url`."""
    group = parser.getgroup("mockserver")
    group.addoption("--mockserver-url", metavar="URL", help="use the double that runs at URL instead of starting one")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, for suites with --strict-markers."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture(scope="session")
def mockserver_server(request: pytest.FixtureRequest) -> Iterator[MockServer | RunningServer]:
    """The double of this session (of this worker, under xdist): `.tenant()` opens a fresh tenant on it."""
    # Imported here, since every suite loads this plugin, and few use it.
    url = request.config.getoption("--mockserver-url")
    if url:
        from mockserver.admin_client import RunningServer

        yield RunningServer(url)
    else:
        from mockserver.server import MockServer

        with MockServer() as server:
            yield server


@pytest.fixture
def mockserver(request: pytest.FixtureRequest, mockserver_server: MockServer | RunningServer) -> Iterator[Tenant]:
    """A fresh tenant for this test: give a client its `base_url` and `token`.

    When the test ends the tenant is judged and reset: requests that the contract does not allow fail the test,
    even if the client swallowed the error.
    """
    settings = _settings(request)
    tenant = mockserver_server.tenant(_token(request))
    tenant.reset()
    if settings["scenario"] is not None:
        tenant.use(settings["scenario"])
    if settings["clock"] is not None:
        tenant.set_clock(settings["clock"])
    yield tenant
    verdict = tenant.verdict()
    tenant.reset()
    if settings["violations"] != "allow":
        from mockserver.verdict import failures

        if lines := failures(verdict, ("violations", "unmatched")):
            pytest.fail("the client sent what the contract does not allow:\n  " + "\n  ".join(lines), pytrace=False)


@pytest.fixture
def mockserver_check() -> Callable[..., Report]:
    """Play the whole kit to a client, as `check_client(call_fn, ...)` does; fail the test on what it finds."""

    def play(call_fn: Callable[[Call], Any], **settings: Any) -> Report:
        from mockserver.check.client import check_client

        report = check_client(call_fn, **settings)
        if not report.ok:
            from mockserver.check.findings import describe

            pytest.fail("\n\n".join(map(describe, report.findings)), pytrace=False)
        return report

    return play


def _token(request: pytest.FixtureRequest) -> str | None:
    """The same token for a test on every run, and so the same ids, where the double is this session's own."""
    if request.config.getoption("--mockserver-url"):
        return None
    return "test-" + blake2b(request.node.nodeid.encode(), digest_size=6).hexdigest()


def _settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    settings: dict[str, Any] = {"scenario": None, "clock": None, "violations": "refuse"}
    marker = request.node.get_closest_marker("mockserver")
    if marker is None:
        return settings
    unknown = sorted(marker.kwargs.keys() - settings.keys())
    if unknown or marker.args:
        wrong = ", ".join(unknown) or repr(marker.args[0])
        raise pytest.UsageError(
            f"@pytest.mark.mockserver does not know {wrong}; it takes {', '.join(settings)} by keyword"
        )
    settings.update(marker.kwargs)
    if settings["violations"] not in ("allow", "refuse"):
        raise pytest.UsageError('@pytest.mark.mockserver(violations=…) is "allow" or "refuse"')
    return settings
