"""The pytest plugin: a double for the session, a fresh tenant for each test, and a verdict at its end."""

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

UNDER_WAY = 0.5  # seconds that answers under way are waited for before a verdict
SHOWN = 10  # exchanges in the report of a test that failed
DEPARTED = "the gateway behind the proxy answered what the contract does not allow:"
FAILED = "the client sent what the contract does not allow:"
LATE = "what came that the contract does not allow, and fails no test:"
STRAYED = "requests came that belong to no test; does a client leave its token out, or use one of its own?"

_MARKER = (
    'mockserver(scenario=None, clock=None, violations="refuse", unused_faults="refuse"): how the `mockserver` fixture '
    'behaves. scenario: a name, a Scenario or its JSON value; clock: "autojump", "real" or "frozen"; '
    'violations="allow": the test may send what the contract does not allow; unused_faults="allow": it need not meet '
    "every fault of its scenario. Markers of class and method are merged, key by key."
)
_DEFAULTS = {"scenario": None, "clock": None, "violations": "refuse", "unused_faults": "refuse"}
_TENANT = pytest.StashKey[Any]()


class _Ended(NamedTuple):
    """A test that has ended."""

    nodeid: str
    may_do_wrong: bool


_ENDED = pytest.StashKey[dict[str, _Ended]]()  # by their tokens


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the plugin's flags, and its settings in an ini file."""
    group = parser.getgroup("mockserver")
    group.addoption(
        "--mockserver-url",
        metavar="URL",
        default=os.environ.get("MOCKSERVER_URL"),
        help="use the double that runs at URL instead of starting one; MOCKSERVER_URL, if left out",
    )
    group.addoption(
        "--mockserver-admin-token",
        metavar="SECRET",
        help="what that double was started with, if it was",
    )
    parser.addini("mockserver_scenario", "how the gateway behaves where no marker says otherwise")
    parser.addini(
        "mockserver_clock",
        "how time passes where no marker says otherwise: autojump, real or frozen",
    )
    parser.addini(
        "mockserver_violations",
        "allow or refuse what the contract does not allow, where no marker says",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, for suites with --strict-markers."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture(scope="session")
def mockserver_server(request: pytest.FixtureRequest) -> Iterator[MockServer | RunningServer]:
    """The double of this session (of this worker, under xdist): `.tenant()` opens a fresh tenant on it."""
    # Imported here, since every suite loads this plugin, and few use it.
    url = request.config.getoption("--mockserver-url")
    if url:
        from mockserver.client import RunningServer

        running = RunningServer(
            url, admin_token=request.config.getoption("--mockserver-admin-token")
        )
        before = _fail_without_traceback(lambda: running.tenant("").verdict()["exchanges"])
        yield running
        strays, late = (
            [_line(exchange) for exchange in running.tenant("").requests(since=before)],
            [],
        )
    else:
        from mockserver.server.mock_server import MockServer

        ended = request.config.stash.setdefault(_ENDED, {})
        with MockServer() as server:
            yield server
            strays, late = server.strays(), _late(server, ended)
            late += _unreadable(server)
    # Which test strays belong to cannot be said any more.
    if wrong := _told([(STRAYED, strays[:SHOWN]), (LATE, late[:SHOWN])]):
        pytest.fail("\n".join(wrong), pytrace=False)


@pytest.fixture
def mockserver(
    request: pytest.FixtureRequest, mockserver_server: MockServer | RunningServer
) -> Iterator[Tenant]:
    """A fresh tenant for this test: give a client its `base_url` and `token`.

    When the test ends the tenant is judged and reset: requests that the contract does not allow
    fail the test, even if the client swallowed the error, and so do requests that belong to no
    test, and faults never met.
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
        mockserver_server.settle(UNDER_WAY)
    verdicts, strays = [tenant.verdict()], []
    tenant.reset()
    if isinstance(mockserver_server, MockServer):
        verdicts += _take_verdicts_of_suffixed(mockserver_server, tenant.token)
        strays = mockserver_server.strays()
    may_do_wrong = settings["violations"] == "allow"
    request.config.stash.setdefault(_ENDED, {})[tenant.token] = _Ended(
        request.node.nodeid, may_do_wrong
    )
    if wrong := _wrong(verdicts, strays, settings):
        pytest.fail("\n".join(wrong), pytrace=False)


def _take_verdicts_of_suffixed(server: MockServer, token: str) -> list[dict[str, Any]]:
    """The verdicts of tenants that are named by a test's token and a scenario behind it; they are forgotten then."""

    def collect(backend: Backend) -> list[dict[str, Any]]:
        suffixed = [
            tenant for tenant in backend.store.tenants() if tenant.name.rpartition("+")[0] == token
        ]
        verdicts = [backend.verdict(tenant) for tenant in suffixed]
        for tenant in suffixed:
            backend.store.forget(tenant.name)
        return verdicts

    return server.call_in_loop(collect)


def _late(server: MockServer, ended: Mapping[str, _Ended]) -> list[str]:
    """What is wrong with what came under the tokens of tests that had ended, a line each: it fails none of them.

    A client that keeps its first token creates under it.
    """

    def collect(backend: Backend) -> list[str]:
        lines = []
        for tenant in backend.store.tenants():
            test = ended.get(tenant.name) or ended.get(tenant.name.rpartition("+")[0])
            if test is None:
                continue
            wrong = [] if test.may_do_wrong else _violations(backend.verdict(tenant))
            wrong += [
                f"{exchange.method} {exchange.path} (exchange {exchange.number}): does a client keep its first token?"
                for exchange in tenant.journal
                if exchange.committed
            ]
            lines += [f"{test.nodeid}, after it had ended: {line}" for line in wrong]
        return lines

    return server.call_in_loop(collect)


def _unreadable(server: MockServer) -> list[str]:
    """What came and was no request, and so of no test, a line each."""
    refused = server.call_in_loop(lambda backend: dict(backend.metrics.unreadable))
    reasons = {400: "as no HTTP", 431: "for a head that is too large"}
    return [f"refused {reasons[status]}: {count}" for status, count in refused.items()]


def _violations(verdict: Mapping[str, Any]) -> list[str]:
    from mockserver.backend.verdict import failures

    return failures(verdict, ("violations", "unmatched"))


def _wrong(
    verdicts: Sequence[Mapping[str, Any]], strays: Sequence[str], settings: Mapping[str, Any]
) -> list[str]:
    """Lines that say what fails a test; none if nothing does. The first verdict is that of its own tenant."""
    from mockserver.backend.verdict import failures

    allowed, may_spare = settings["violations"] == "allow", settings["unused_faults"] == "allow"
    return _told(
        [
            (
                FAILED,
                [] if allowed else [line for verdict in verdicts for line in _violations(verdict)],
            ),
            (DEPARTED, failures(verdicts[0], ("departures",))),
            (STRAYED, strays),
            (
                "faults of the scenario were never met:",
                [] if may_spare else failures(verdicts[0], ("unused-faults",)),
            ),
        ]
    )


def _told(found: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """What was found, each kind under its title; nothing of what was not."""
    return [
        line
        for title, lines in found
        if lines
        for line in (title, *(f"  {each}" for each in lines))
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add a tenant's last exchanges to the report of a test that has failed."""
    report = yield
    tenant = item.stash.get(_TENANT, None)
    if tenant is not None and report.when == "call" and report.failed:
        lines = [_line(exchange) for exchange in tenant.requests()[-SHOWN:]]
        report.sections.append(("mockserver: the last exchanges", "\n".join(lines) or "none"))
    return report


def _line(exchange: Mapping[str, Any]) -> str:
    request, response = exchange["request"], exchange["response"]
    told = " ".join(
        filter(None, (str(response["status"] or "no response"), response["prediction_status"]))
    )
    fault = f"  fault {exchange['fault']}" if exchange["fault"] else ""
    violations = "".join(
        f"\n      {each['pointer']} {each['description']}" for each in exchange["violations"]
    )
    return f"{exchange['number']:>4}  {request['method']} {request['path']} → {told}{fault}{violations}"


@pytest.fixture
def mockserver_check() -> Callable[..., Report]:
    """Play the whole kit to a client, as `check_client(call_fn, ...)` does; fail the test on what it finds."""

    def play(call_fn: Callable[[Call], Any], **settings: Any) -> Report:
        from mockserver.check.client import check_client

        report = check_client(call_fn, **settings)
        if report.findings:
            from mockserver.check.report.findings import describe

            pytest.fail("\n\n".join(map(describe, report.findings)), pytrace=False)
        report.raise_for_findings()  # Ctrl-C, which is to end the suite too
        return report

    return play


def _token(request: pytest.FixtureRequest) -> str | None:
    """The same token for a test on every run, and so the same ids, where the double is this session's own."""
    if request.config.getoption("--mockserver-url"):
        return None
    return "test-" + blake2b(request.node.nodeid.encode(), digest_size=6).hexdigest()


def _settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the ini file says, and the markers of module, class and function over it, the nearest last."""
    named = {
        name: request.config.getini(f"mockserver_{name}")
        for name in ("scenario", "clock", "violations")
    }
    settings: dict[str, Any] = {
        **_DEFAULTS,
        **{name: value for name, value in named.items() if value},
    }
    for marker in reversed(list(request.node.iter_markers("mockserver"))):
        unknown = sorted(marker.kwargs.keys() - _DEFAULTS.keys())
        if unknown or marker.args:
            wrong = ", ".join(unknown) or repr(marker.args[0])
            pytest.fail(
                f"@pytest.mark.mockserver does not know {wrong}; it takes {', '.join(_DEFAULTS)} by keyword",
                pytrace=False,
            )
        settings.update(marker.kwargs)
    for name in ("violations", "unused_faults"):
        if settings[name] not in ("allow", "refuse"):
            pytest.fail(f'@pytest.mark.mockserver({name}=…) is "allow" or "refuse"', pytrace=False)
    return settings


def _fail_without_traceback(act: Callable[[], T]) -> T:
    """Do something; what the double has against it fails the test in a sentence, without a traceback."""
    from mockserver.errors import MockServerError

    try:
        return act()
    except MockServerError as reason:
        pytest.fail(str(reason), pytrace=False)
