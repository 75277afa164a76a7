"""The pytest plugin: a double for the session, a fresh tenant for each test, and its verdict."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pytest

if TYPE_CHECKING:
    from mockserver.backend.backend import Backend
    from mockserver.check.drive.protocol import Call
    from mockserver.check.report.findings import Report
    from mockserver.client import RunningServer, Tenant
    from mockserver.server.mock_server import MockServer

T = TypeVar("T")

SETTLE = 0.5  # seconds to wait for responses under way before a verdict
SHOWN = 10  # exchanges in the report of a failed test
DEPARTED = "the gateway behind the proxy answered what the contract does not allow:"
INVALID = "the client sent what the contract does not allow:"
LATE = "requests that came after their test had ended:"
UNATTRIBUTED = "requests that belong to no test; does a client omit its token, or use another one?"
UNUSED = "faults of the scenario were never met:"

_MARKER = (
    'mockserver(scenario=None, clock=None, violations="refuse", unused_faults="refuse"): '
    "how the `mockserver` fixture behaves. scenario: a name, a Scenario or its JSON value; "
    'clock: "autojump", "real" or "frozen"; violations="allow": the test may send invalid '
    'requests; unused_faults="allow": it need not meet every fault of its scenario. Markers of '
    "module, class and function are merged, key by key."
)
_DEFAULTS = {"scenario": None, "clock": None, "violations": "refuse", "unused_faults": "refuse"}
_TENANT = pytest.StashKey[Any]()


class _Ended(NamedTuple):
    """A test that has ended."""

    nodeid: str
    allows_violations: bool


_ENDED = pytest.StashKey[dict[str, _Ended]]()  # by their tokens


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's flags, and its settings in an ini file."""
    group = parser.getgroup("mockserver")
    group.addoption(
        "--mockserver-url",
        metavar="URL",
        default=os.environ.get("MOCKSERVER_URL"),
        help="use the double running at URL instead of starting one (default: MOCKSERVER_URL)",
    )
    group.addoption(
        "--mockserver-admin-token",
        metavar="SECRET",
        help="the admin token that this double was started with",
    )
    parser.addini("mockserver_scenario", "default scenario of tests without a marker for it")
    parser.addini(
        "mockserver_clock",
        "default clock of tests without a marker for it: autojump, real or frozen",
    )
    parser.addini(
        "mockserver_violations",
        "allow or refuse invalid requests in tests without a marker for it",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, for suites with --strict-markers."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture(scope="session")
def mockserver_server(request: pytest.FixtureRequest) -> Iterator[MockServer | RunningServer]:
    """The double of this session, or of this worker under xdist; `.tenant()` opens a tenant."""
    # Imports are local: every suite loads this plugin, and few use it.
    url = request.config.getoption("--mockserver-url")
    if url:
        from mockserver.client import RunningServer

        running = RunningServer(
            url, admin_token=request.config.getoption("--mockserver-admin-token")
        )
        before = _fail_without_traceback(lambda: running.tenant("").verdict()["exchanges"])
        yield running
        # Other tokens may belong to other suites on that double.
        unattributed = [_line(exchange) for exchange in running.tenant("").requests(since=before)]
        late: list[str] = []
    else:
        from mockserver.server.mock_server import MockServer

        ended = request.config.stash.setdefault(_ENDED, {})
        with MockServer() as server:
            yield server
            unattributed = server.unattributed_requests()
            late = _late_requests(server, ended) + _unreadable(server)

    # No test can be blamed for these: the session fails.
    if lines := _sections([(UNATTRIBUTED, unattributed[:SHOWN]), (LATE, late[:SHOWN])]):
        pytest.fail("\n".join(lines), pytrace=False)


@pytest.fixture
def mockserver(
    request: pytest.FixtureRequest, mockserver_server: MockServer | RunningServer
) -> Iterator[Tenant]:
    """A fresh tenant for this test: give a client its `base_url` and `token`.

    When the test ends the tenant is judged and reset. Invalid requests fail the test, even if the
    client swallowed the error; so do requests that belong to no test, and faults that were never
    met.
    """
    from mockserver.server.mock_server import MockServer

    settings = _settings(request)
    tenant = mockserver_server.tenant(_token(request))
    _fail_without_traceback(tenant.reset)
    if settings["scenario"] is not None:
        _fail_without_traceback(lambda: tenant.use(settings["scenario"]))
    if settings["clock"] is not None:
        _fail_without_traceback(lambda: tenant.set_clock(settings["clock"]))
    request.node.stash[_TENANT] = tenant

    yield tenant

    if isinstance(mockserver_server, MockServer):
        mockserver_server.settle(SETTLE)
    verdicts, unattributed = [tenant.verdict()], []
    tenant.reset()
    if isinstance(mockserver_server, MockServer):
        verdicts += _take_verdicts_of_suffixed(mockserver_server, tenant.token)
        unattributed = mockserver_server.unattributed_requests()

    ended = request.config.stash.setdefault(_ENDED, {})
    ended[tenant.token] = _Ended(request.node.nodeid, settings["violations"] == "allow")
    if lines := _problems(verdicts, unattributed, settings):
        pytest.fail("\n".join(lines), pytrace=False)


def _take_verdicts_of_suffixed(server: MockServer, token: str) -> list[dict[str, Any]]:
    """The verdicts of tenants named by a test's token and a scenario; they are forgotten."""

    def collect(backend: Backend) -> list[dict[str, Any]]:
        suffixed = [
            tenant for tenant in backend.store.tenants() if tenant.name.rpartition("+")[0] == token
        ]
        verdicts = [backend.verdict(tenant) for tenant in suffixed]
        for tenant in suffixed:
            backend.store.forget(tenant.name)
        return verdicts

    return server.call_in_loop(collect)


def _late_requests(server: MockServer, ended: Mapping[str, _Ended]) -> list[str]:
    """Violations and creates, one per line, with the tokens of tests that had ended.

    A client that keeps its first token creates with it in later tests.
    """

    def collect(backend: Backend) -> list[str]:
        lines = []
        for tenant in backend.store.tenants():
            test = ended.get(tenant.name) or ended.get(tenant.name.rpartition("+")[0])
            if test is None:
                continue
            wrong = [] if test.allows_violations else _violations(backend.verdict(tenant))
            wrong += [
                f"{exchange.method} {exchange.path} (exchange {exchange.number}): "
                "does a client keep its first token?"
                for exchange in tenant.journal
                if exchange.committed
            ]
            lines += [f"{test.nodeid}, after it had ended: {line}" for line in wrong]
        return lines

    return server.call_in_loop(collect)


def _unreadable(server: MockServer) -> list[str]:
    """The counts of what was not a readable request, and so belongs to no test, one per line."""
    refused = server.call_in_loop(lambda backend: dict(backend.metrics.unreadable))
    reasons = {400: "as no HTTP", 431: "for a head that is too large"}
    return [f"refused {reasons[status]}: {count}" for status, count in refused.items()]


def _violations(verdict: Mapping[str, Any]) -> list[str]:
    from mockserver.backend.verdict import failures

    return failures(verdict, ("violations", "unmatched"))


def _problems(
    verdicts: Sequence[Mapping[str, Any]], unattributed: Sequence[str], settings: Mapping[str, Any]
) -> list[str]:
    """Why a test fails, as lines. The first verdict is that of its own tenant."""
    from mockserver.backend.verdict import failures

    violations, unused = [], []
    if settings["violations"] != "allow":
        violations = [line for verdict in verdicts for line in _violations(verdict)]
    if settings["unused_faults"] != "allow":
        unused = failures(verdicts[0], ("unused-faults",))
    departures = failures(verdicts[0], ("departures",))
    return _sections(
        [
            (INVALID, violations),
            (DEPARTED, departures),
            (UNATTRIBUTED, unattributed),
            (UNUSED, unused),
        ]
    )


def _sections(sections: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Lines under their titles; no title without lines."""
    text = []
    for title, lines in sections:
        if lines:
            text += [title, *(f"  {line}" for line in lines)]
    return text


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the tenant's last exchanges to the report of a failed test."""
    report = yield
    tenant = item.stash.get(_TENANT, None)
    if tenant is not None and report.when == "call" and report.failed:
        lines = [_line(exchange) for exchange in tenant.requests()[-SHOWN:]]
        report.sections.append(("mockserver: the last exchanges", "\n".join(lines) or "none"))
    return report


def _line(exchange: Mapping[str, Any]) -> str:
    request, response = exchange["request"], exchange["response"]
    parts = (str(response["status"] or "no response"), response["prediction_status"])
    result = " ".join(filter(None, parts))
    fault = f"  fault {exchange['fault']}" if exchange["fault"] else ""
    violations = "".join(
        f"\n      {violation['pointer']} {violation['description']}"
        for violation in exchange["violations"]
    )
    start = f"{exchange['number']:>4}  {request['method']} {request['path']}"
    return f"{start} → {result}{fault}{violations}"


@pytest.fixture
def mockserver_check() -> Callable[..., Report]:
    """Check a client as `check_client(call_fn, ...)` does; findings fail the test."""

    def run(call_fn: Callable[[Call], Any], **settings: Any) -> Report:
        from mockserver.check.client import check_client

        report = check_client(call_fn, **settings)
        if report.findings:
            from mockserver.check.report.findings import describe

            pytest.fail("\n\n".join(map(describe, report.findings)), pytrace=False)
        report.raise_for_findings()  # after Ctrl-C, which has to end the suite too
        return report

    return run


def _token(request: pytest.FixtureRequest) -> str | None:
    """A test's token: on the session's own double the same, with the same ids, on every run."""
    if request.config.getoption("--mockserver-url"):
        return None
    return "test-" + blake2b(request.node.nodeid.encode(), digest_size=6).hexdigest()


def _settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The settings of a test: the ini file's, overridden by markers, of which the nearest wins."""
    configured = {
        name: request.config.getini(f"mockserver_{name}")
        for name in ("scenario", "clock", "violations")
    }
    settings: dict[str, Any] = {
        **_DEFAULTS,
        **{name: value for name, value in configured.items() if value},
    }

    for marker in reversed(list(request.node.iter_markers("mockserver"))):
        unknown = sorted(marker.kwargs.keys() - _DEFAULTS.keys())
        if unknown or marker.args:
            wrong = ", ".join(unknown) or repr(marker.args[0])
            pytest.fail(
                f"@pytest.mark.mockserver does not know {wrong}; "
                f"it takes {', '.join(_DEFAULTS)} by keyword",
                pytrace=False,
            )
        settings.update(marker.kwargs)

    for name in ("violations", "unused_faults"):
        if settings[name] not in ("allow", "refuse"):
            pytest.fail(f'@pytest.mark.mockserver({name}=…) is "allow" or "refuse"', pytrace=False)
    return settings


def _fail_without_traceback(act: Callable[[], T]) -> T:
    """Call a function; a MockServerError fails the test with its message and no traceback."""
    from mockserver.errors import MockServerError

    try:
        return act()
    except MockServerError as reason:
        pytest.fail(str(reason), pytrace=False)
