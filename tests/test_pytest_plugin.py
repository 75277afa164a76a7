"""The pytest plugin, as a suite that uses it sees it."""

import pytest

from mockserver import MockServer

pytestmark = pytest.mark.slow

CLIENT = """
import json
import urllib.error
import urllib.request

import pytest

MODEL = "/v1/models/black-forest-labs/flux-kontext-max/predictions"


def ask(tenant, path, value=None):
    body = None if value is None else json.dumps(value).encode()
    headers = {"Authorization": f"Bearer {tenant.token}", "Content-Type": "application/json"}
    request = urllib.request.Request(tenant.base_url + path, body, headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def swallowing(tenant, path, value=None):
    try:
        return ask(tenant, path, value)
    except urllib.error.HTTPError as error:
        error.close()
        return None
"""


@pytest.fixture(autouse=True)
def without_other_plugins(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schemathesis' plugin takes a second to import, and the suites here do not use it."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:schemathesis -p no:hypothesispytest")


STRICT = ("--strict-markers", "-W", "error", "-p", "no:cacheprovider")


def test_each_test_has_a_fresh_tenant_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        CLIENT
        + """
tokens = []

@pytest.mark.parametrize("number", range(5))
def test_one(mockserver, number):
    tokens.append(mockserver.token)
    assert mockserver.predictions() == []
    assert ask(mockserver, MODEL, {"input": {"prompt": "p"}})["status"] == "starting"
    assert len(mockserver.predictions()) == 1

def test_other():
    assert len(set(tokens)) == 5
"""
    )
    pytester.runpytest_subprocess(*STRICT).assert_outcomes(passed=6)


def test_the_marker_sets_the_scenario_and_the_clock(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        CLIENT
        + """
from mockserver import Scenario, Step

@pytest.mark.mockserver(scenario="nsfw", clock="frozen")
def test_by_name(mockserver):
    ask(mockserver, MODEL, {"input": {"prompt": "p"}})
    assert [event["status"] for event in mockserver.advance(10)] == ["processing", "failed"]

@pytest.mark.mockserver(scenario=Scenario(lifecycle=(Step("failed", error="my own"),)))
def test_by_value(mockserver):
    assert ask(mockserver, MODEL, {"input": {"prompt": "p"}})["error"] == "my own"

@pytest.mark.mockserver(scenario={"lifecycle": [{"status": "canceled"}]})
class TestByClass:
    def test_by_json(self, mockserver):
        assert ask(mockserver, MODEL, {"input": {"prompt": "p"}})["status"] == "canceled"
"""
    )
    pytester.runpytest_subprocess(*STRICT).assert_outcomes(passed=3)


def test_a_client_that_swallows_its_error_fails_its_test_all_the_same(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        CLIENT
        + """
def test_refused(mockserver):
    swallowing(mockserver, MODEL, {"input": {"prompt": 1}})

def test_answered_but_unknown(mockserver):
    assert ask(mockserver, MODEL, {"input": {"prompt": "p", "sede": 1}})

def test_unmatched(mockserver):
    swallowing(mockserver, "/v1/prediction")

def test_fine(mockserver):
    ask(mockserver, MODEL, {"input": {"prompt": "p"}})
"""
    )
    ended = pytester.runpytest_subprocess(*STRICT)
    ended.assert_outcomes(passed=4, errors=3)
    ended.stdout.fnmatch_lines_random(
        [
            "*the client sent what the contract does not allow:*",
            "*at /input/prompt: Invalid type. Expected: string, given: integer; sent 1, allowed: type string*",
            "*at /input/sede: Additional property sede is not allowed; sent 1, allowed: seed, perhaps*",
            "*GET /replicate/v1/prediction * was answered 404*nearest is GET /replicate/v1/predictions*",
        ]
    )


def test_a_test_may_allow_violations(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        CLIENT
        + """
@pytest.mark.mockserver(violations="allow")
def test_refused(mockserver):
    swallowing(mockserver, MODEL, {"input": {"prompt": 1}})
    assert not mockserver.verdict()["ok"]
"""
    )
    pytester.runpytest_subprocess(*STRICT).assert_outcomes(passed=1)


WRONG_MARKERS = {
    "scenari='nsfw'": "*does not know scenari; it takes scenario, clock, violations, unused_faults by keyword*",
    "'nsfw'": "*does not know 'nsfw'*",
    "violations='maybe'": '*violations=*is "allow" or "refuse"*',
    "scenario='nfsw'": "*did you mean nsfw*",
    "clock='fast'": "*/mode*",
}


def test_a_wrong_marker_is_explained(pytester: pytest.Pytester) -> None:
    tests = (
        f"@pytest.mark.mockserver({marker})\ndef test_{number}(mockserver): pass\n"
        for number, marker in enumerate(WRONG_MARKERS)
    )
    pytester.makepyfile("import pytest\n" + "".join(tests))
    ended = pytester.runpytest_subprocess(*STRICT)
    ended.assert_outcomes(errors=len(WRONG_MARKERS))
    ended.stdout.fnmatch_lines(list(WRONG_MARKERS.values()))
    assert "Traceback" not in ended.stdout.str()
    assert "pytest_plugin.py" not in ended.stdout.str(), "one sentence, no code of ours"


def test_markers_are_merged_key_by_key_and_the_nearest_wins(pytester: pytest.Pytester) -> None:
    pytester.makeini(
        "[pytest]\nmockserver_scenario = failed\nmockserver_violations = allow\nmockserver_clock = frozen\n"
    )
    pytester.makepyfile(
        CLIENT
        + """
@pytest.mark.mockserver(scenario="nsfw", clock="autojump")
class TestClass:
    @pytest.mark.mockserver(scenario="canceled")
    def test_both(self, mockserver):
        assert mockserver.scenario()["name"] == "canceled"
        assert mockserver.call("GET", "/clock")["mode"] == "autojump"

    def test_class(self, mockserver):
        assert mockserver.scenario()["name"] == "nsfw"

def test_ini(mockserver):
    assert mockserver.scenario()["name"] == "failed"
    assert mockserver.call("GET", "/clock")["mode"] == "frozen"
    swallowing(mockserver, MODEL, {"input": {}})
"""
    )
    pytester.runpytest_subprocess(*STRICT).assert_outcomes(passed=3)


def test_requests_that_belong_to_no_test_fail_the_one_during_which_they_came(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        CLIENT
        + """
def request(url, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers)).close()

def test_without_a_token(mockserver):
    request(mockserver.base_url + "/v1/predictions")

def test_with_a_token_of_its_own(mockserver):
    request(mockserver.base_url + "/v1/predictions", "made-up-token")

def test_with_a_scenario_behind_its_token(mockserver):
    request(mockserver.base_url + "/v1/predictions", mockserver.token + "+nsfw")

def test_with_two_tenants(mockserver, mockserver_server):
    request(mockserver.base_url + "/v1/predictions", mockserver_server.tenant("second").token)
"""
    )
    ended = pytester.runpytest_subprocess(*STRICT)
    ended.assert_outcomes(passed=4, errors=2)
    ended.stdout.fnmatch_lines_random(
        ["*belong to no test*", "*anonymous: GET /replicate/v1/predictions*", "*made*: GET *"]
    )
    assert (
        "made-up-token" not in ended.stdout.str().partition("ERRORS")[2].partition("def request")[0]
    )


def test_what_is_sent_with_a_scenario_behind_the_token_is_judged_too(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        CLIENT
        + """
from types import SimpleNamespace

def suffixed(mockserver):
    return SimpleNamespace(base_url=mockserver.base_url, token=mockserver.token + "+nsfw")

def test_wrong(mockserver):
    swallowing(suffixed(mockserver), "/v1/prediction")

def test_right(mockserver):
    swallowing(suffixed(mockserver), "/v1/predictions")

@pytest.mark.mockserver(violations="allow")
def test_meant(mockserver):
    swallowing(suffixed(mockserver), "/v1/prediction")
"""
    )
    ended = pytester.runpytest_subprocess(*STRICT)
    ended.assert_outcomes(passed=3, errors=1)
    ended.stdout.fnmatch_lines(["*/v1/prediction * was answered 404*"])


def test_what_comes_after_its_test_has_ended_fails_the_session(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        CLIENT
        + """
TENANTS = []

def test_first(mockserver):
    TENANTS.append(mockserver)

@pytest.mark.mockserver(violations="allow")
def test_second(mockserver):
    TENANTS.append(mockserver)

def test_third(mockserver):
    for tenant in TENANTS:
        swallowing(tenant, "/v1/prediction")
        ask(tenant, "/v1/predictions")
"""
    )
    ended = pytester.runpytest_subprocess(*STRICT)
    ended.assert_outcomes(passed=3, errors=1)
    ended.stdout.fnmatch_lines(
        [
            "requests that came after their test had ended:*",
            "*::test_first, after it had ended: GET /replicate/v1/prediction * was answered 404*",
        ]
    )
    assert "::test_second, after" not in ended.stdout.str()


def test_a_client_that_keeps_its_first_token_fails_the_session(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        CLIENT
        + """
FIRST = []

@pytest.mark.parametrize("number", range(2))
def test_it(mockserver, number):
    FIRST.append(mockserver)
    ask(FIRST[0], MODEL, {"input": {"prompt": "p"}})
"""
    )
    ended = pytester.runpytest_subprocess(*STRICT)
    ended.assert_outcomes(passed=2, errors=1)
    ended.stdout.fnmatch_lines(
        ["*::test_it[[]0], after it had ended: POST * does a client keep its first token?*"]
    )


@pytest.mark.thorough
def test_a_picture_that_is_fetched_late_is_nobody_s_fault(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        CLIENT
        + """
PICTURES = []

def test_first(mockserver):
    prediction = ask(mockserver, MODEL, {"input": {"prompt": "p"}})
    while prediction["output"] is None:
        prediction = ask(mockserver, "/v1/predictions/" + prediction["id"])
    PICTURES.append(prediction["output"])

def test_second(mockserver):
    try:
        urllib.request.urlopen(PICTURES[0]).close()
    except urllib.error.HTTPError as error:
        error.close()
"""
    )
    pytester.runpytest_subprocess(*STRICT).assert_outcomes(passed=2)


@pytest.mark.thorough
def test_what_is_no_http_fails_the_session(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        CLIENT
        + """
import socket

def test_it(mockserver):
    with socket.create_connection(mockserver.url.removeprefix("http://").split(":")) as connection:
        connection.sendall(b"nonsense")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
"""
    )
    ended = pytester.runpytest_subprocess(*STRICT)
    ended.assert_outcomes(passed=1, errors=1)
    ended.stdout.fnmatch_lines(["*refused as no HTTP: 1*"])


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.thorough)])
def test_requests_after_the_last_tenant_fail_the_session(
    pytester: pytest.Pytester, workers: str
) -> None:
    pytester.makepyfile(
        CLIENT
        + """
def test_of_its_own_making(mockserver_server):
    urllib.request.urlopen(mockserver_server.base_url + "/v1/predictions").close()
"""
    )
    ended = pytester.runpytest_subprocess(*STRICT, "-n", workers)
    ended.assert_outcomes(passed=1, errors=1)
    assert ended.ret == pytest.ExitCode.TESTS_FAILED


def test_a_shared_double_s_anonymous_requests_fail_the_session(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        CLIENT
        + """
def test_forgets_its_token(mockserver):
    urllib.request.urlopen(mockserver.base_url + "/v1/predictions").close()
"""
    )
    with MockServer(admin_token="s3cret") as server:
        flags = ("--mockserver-url", server.url, "--mockserver-admin-token", "s3cret")
        pytester.runpytest_subprocess(*STRICT, *flags).assert_outcomes(passed=1, errors=1)


@pytest.mark.parametrize(("marker", "errors"), [("", 1), (', unused_faults="allow"', 0)])
def test_a_fault_that_is_never_met_fails_the_test_unless_it_may(
    pytester: pytest.Pytester, marker: str, errors: int
) -> None:
    pytester.makepyfile(
        CLIENT
        + f"""
@pytest.mark.mockserver(scenario="rate-limited"{marker})
def test_it(mockserver):
    ask(mockserver, "/v1/predictions")
"""
    )
    ended = pytester.runpytest_subprocess(*STRICT)
    ended.assert_outcomes(passed=1, errors=errors)
    assert ("createPrediction: fault 0" in ended.stdout.str()) is bool(errors)


def test_the_last_exchanges_are_shown_when_a_test_fails_for_another_reason(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        CLIENT
        + """
def test_it(mockserver):
    ask(mockserver, MODEL, {"input": {"prompt": "p"}})
    assert False
"""
    )
    ended = pytester.runpytest_subprocess(*STRICT)
    ended.assert_outcomes(failed=1)
    ended.stdout.fnmatch_lines(
        [
            "*mockserver: the last exchanges*",
            "*1  POST *flux-kontext-max/predictions → 200 starting*",
        ]
    )


@pytest.mark.thorough
def test_it_works_under_xdist(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        CLIENT
        + """
@pytest.mark.parametrize("number", range(20))
def test_one(mockserver, number):
    ask(mockserver, MODEL, {"input": {"prompt": str(number)}})
    assert [each["input"]["prompt"] for each in mockserver.predictions()] == [str(number)]
"""
    )
    pytester.runpytest_subprocess(*STRICT, "-n", "2").assert_outcomes(passed=20)


@pytest.mark.thorough
def test_a_running_double_can_be_used_by_several_suites_at_once(
    pytester: pytest.Pytester, server: MockServer
) -> None:
    pytester.makepyfile(
        CLIENT
        + """
def test_one(mockserver, mockserver_server):
    assert mockserver.predictions() == []
    ask(mockserver, MODEL, {"input": {"prompt": "p"}})
    assert len(mockserver.predictions()) == 1
    assert mockserver_server.tenant().token != mockserver_server.tenant().token
    print("double", mockserver_server.url)
"""
    )
    words = (*STRICT, "-s", "--mockserver-url", server.url)
    pytester.runpytest_subprocess(*words, "-n", "2").assert_outcomes(passed=1)
    alone = pytester.runpytest_subprocess(*words)
    alone.assert_outcomes(passed=1)
    alone.stdout.fnmatch_lines([f"*double {server.url}*"])


def test_a_double_that_does_not_run_is_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_one(mockserver): pass")
    ended = pytester.runpytest_subprocess("--mockserver-url", "http://127.0.0.1:1")
    ended.assert_outcomes(errors=1)
    ended.stdout.fnmatch_lines(["*no double answers at http://127.0.0.1:1*is it running?*"])


def test_a_suite_that_does_not_use_it_pays_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import sys

def test_nothing():
    heavy = ("starlette", "uvicorn", "jsonschema_rs", "orjson", "yaml", "PIL", "mockserver.server", "mockserver.contract")
    assert [name for name in heavy if name in sys.modules] == []
"""
    )
    pytester.runpytest_subprocess(
        *STRICT, "-p", "no:schemathesis", "-p", "no:hypothesispytest"
    ).assert_outcomes(passed=1)


def test_it_is_listed_where_people_look(pytester: pytest.Pytester) -> None:
    assert (
        "@pytest.mark.mockserver(scenario=None, clock=None"
        in pytester.runpytest_subprocess("--markers").stdout.str()
    )
    fixtures = pytester.runpytest_subprocess("--fixtures").stdout.str()
    assert "A fresh tenant for this test" in fixtures
    assert "The double of this session" in fixtures
    assert "--mockserver-url" in pytester.runpytest_subprocess("--help").stdout.str()


def test_the_whole_kit_is_one_test_of_three_lines(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        CLIENT
        + """
import time


def call_fn(call, ends=("succeeded", "failed", "canceled", "aborted")):
    prediction = ask(call, f"/v1/models/{call.model}/predictions", {"input": call.input})
    while prediction["status"] not in ends:
        time.sleep(0.002)
        prediction = ask(call, f"/v1/predictions/{prediction['id']}")
    if prediction["status"] != "succeeded":
        raise RuntimeError(prediction["status"])
    return prediction["output"]


def test_right(mockserver_check):
    report = mockserver_check(call_fn, max_runs=40)
    assert report.runs == 40


def test_wrong(mockserver_check):
    mockserver_check(lambda call: call_fn(call, ends=("succeeded", "failed", "canceled")), max_runs=40)
"""
    )
    result = pytester.runpytest_subprocess(*STRICT)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["MC303  keeps polling after the end*", "*▶*GET*200 aborted*"])
