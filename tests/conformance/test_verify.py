"""`mockserver verify`: planted departures are found, each by its rule; faithful gateways are not accused; the lid holds."""

import json
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from mockserver import MockServer
from mockserver.conformance import fuzz
from mockserver.conformance.exchange import GatewayExchange
from mockserver.conformance.gateway import Gateway, GatewaySession
from mockserver.conformance.inputs import forbidden_creates, valid_input
from mockserver.conformance.plan import plan_for
from mockserver.conformance.rules import GATEWAY_RULES
from mockserver.conformance.verification import Verification, VerifySettings
from mockserver.conformance.verify_report import VerifyReport
from mockserver.errors import MockServerError
from mockserver.json_text import read_json
from tests.conformance.gateways import (
    CONTRACT,
    FAITHFUL,
    PLANTED,
    TAKEN,
    Departing,
    Planted,
    standing,
    taking,
)
from tests.helpers.share import first

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-the-team"


def verified(
    url: str,
    spend: int = 2,
    *,
    waits: list[float] | None = None,
    whole: bool = True,
    sleep: Any = None,
    **settings: Any,
) -> VerifyReport:
    """The report of a gateway, without waiting; if it need not be whole, creates that are to be refused are left out."""
    waited = [] if waits is None else waits
    with GatewaySession(Gateway(url)) as session:
        verification = Verification(
            CONTRACT,
            session,
            VerifySettings(TOKEN, spend, 0.0, **settings),
            sleep=sleep or waited.append,
        )
        if not whole:
            verification.plan = verification.plan._replace(
                forbidden=verification.plan.forbidden[:1]
            )
        found = verification.run()
    assert found.spent <= spend
    assert TOKEN not in repr(found), "the token stands in no report"
    return found


def verified_departing(
    server: MockServer, planted: Planted, spend: int = 2, **settings: Any
) -> VerifyReport:
    server.tenant(TOKEN).reset()
    with standing(Departing(server.url, planted.change, planted.prepare)) as gateway:
        return verified(gateway.url, spend, **settings)


@pytest.mark.parametrize(
    "planted",
    [
        # The first of each rule each time; all of them when there is more time.
        pytest.param(
            planted,
            id=f"{planted.rule} {planted.name}",
            marks=()
            if planted.rule not in {before.rule for before in PLANTED[:number]}
            else pytest.mark.thorough,
        )
        for number, planted in enumerate(PLANTED)
    ],
)
def test_a_departure_is_found_as_exactly_its_rule(server: MockServer, planted: Planted) -> None:
    found = verified_departing(
        server, planted, whole=planted.rule == "MC705"
    )  # `make bench-verify` has them all whole
    broken, warned = {each.rule for each in found.findings}, {each.rule for each in found.warnings}
    assert (broken, warned) == (
        (set(), {planted.rule}) if planted.warning else ({planted.rule}, set())
    )
    assert found.ok == planted.warning
    for each in (*found.findings, *found.warnings):
        assert each.line, "it says which line of the contract says otherwise"


def test_every_rule_has_departures_planted() -> None:
    assert {planted.rule for planted in PLANTED} == {rule.code for rule in GATEWAY_RULES}
    assert len(PLANTED) >= 80


@pytest.mark.parametrize("name", first(4, FAITHFUL))
def test_a_gateway_that_keeps_to_the_contract_is_not_accused(name: str) -> None:
    with MockServer(**FAITHFUL[name]) as server:
        found = verified(server.url, 9)
    assert [(each.rule, each.message) for each in found.findings] == []
    warned = {"varied": {"MC702"}, "urls of the API behind it": {"MC708"}}.get(name, set())
    assert {each.rule for each in found.warnings} <= warned


def test_without_spending_nothing_is_created(server: MockServer) -> None:
    tenant = server.tenant(TOKEN)
    tenant.reset()
    found = verified(server.url, 0)
    assert (found.spent, tenant.predictions()) == (0, [])
    assert all(
        each["request"]["method"] != "POST" or each["operation"] == "cancelPrediction"
        for each in tenant.requests()
    )
    assert any("--spend" in each.reason for each in found.not_seen)


def test_with_enough_to_spend_everything_is_seen(server: MockServer) -> None:
    tenant = server.tenant(TOKEN)
    tenant.reset()
    found = verified(server.url, 9)
    assert (found.spent, found.not_seen) == (5, [])
    statuses = sorted(each["status"] for each in tenant.predictions())
    assert statuses == ["canceled", "succeeded", "succeeded", "succeeded", "succeeded"]
    for name in ("getPrediction", "cancelPrediction", "getOutputFile"):
        assert found.operations[name]["200"] == "conforms"


@pytest.mark.parametrize("spend", [0, 1, 2, 5])
def test_the_lid_on_spending_holds_against_a_gateway_that_takes_everything(
    server: MockServer, spend: int
) -> None:
    tenant = server.tenant(TOKEN)
    found = verified_departing(server, Planted("", "", None, taking(lambda asked: True)), spend)
    made = tenant.predictions()
    assert len(made) == found.spent == spend
    assert {each["status"] for each in made} <= {"canceled"}, (
        "what should have been refused is canceled at once"
    )
    assert any(each.reason == "the spend limit was reached" for each in found.not_seen) == (
        spend > 0
    )


def test_a_create_whose_answer_is_lost_may_have_been_billed(server: MockServer) -> None:
    def lose(asked: Any, answer: Any, memory: dict[str, Any]) -> None:
        if asked.role == "create" and answer.good:
            answer.status = 0

    tenant = server.tenant(TOKEN)
    found = verified_departing(server, Planted("", "", lose), 2)
    assert (found.spent, len(tenant.predictions())) == (2, 2)
    assert (found.findings, found.unverified) == ([], "no prediction could be made")


def test_a_gateway_that_fails_on_every_create_is_not_asked_again_and_again(
    server: MockServer,
) -> None:
    def fail(asked: Any, answer: Any, memory: dict[str, Any]) -> None:
        if asked.role == "create":
            answer.status, answer.value = 503, {"detail": "later", "status": 503}
            answer.headers["retry-after"] = "0"

    assert verified_departing(server, Planted("", "", fail), 3).spent == 3


def test_retry_after_is_waited_for(server: MockServer) -> None:
    waits: list[float] = []

    def throttle(asked: Any, answer: Any, memory: dict[str, Any]) -> None:
        if asked.role == "list" and not memory.setdefault("done", False):
            memory["done"] = True
            answer.status, answer.value = 429, {"detail": "slow down", "status": 429}
            answer.headers["retry-after"] = "7"

    found = verified_departing(server, Planted("", "", throttle), 0, waits=waits)
    assert 7.0 in waits
    assert found.operations["listPredictions"] == {"429": "conforms", "200": "conforms"}


def test_a_retry_after_that_is_too_long_is_not_waited_for(server: MockServer) -> None:
    waits: list[float] = []

    def throttle(asked: Any, answer: Any, memory: dict[str, Any]) -> None:
        if asked.role == "list":
            answer.status, answer.value = (
                429,
                {"detail": "slow down", "status": 429, "retry_after": 86400},
            )

    found = verified_departing(server, Planted("", "", throttle), 0, waits=waits)
    assert not waits
    assert [each.reason for each in found.not_seen if "listPredictions" in each.what] == [
        "answered 429"
    ]


def test_a_prediction_that_does_not_end_is_canceled(server: MockServer) -> None:
    tenant = server.tenant(TOKEN)
    tenant.reset()
    tenant.use("stuck")
    found = verified(server.url, 1, deadline=1e-9)
    assert found.ok
    assert [each["status"] for each in tenant.predictions()] == ["canceled"]


def test_an_interrupt_cancels_what_is_running_and_reports_what_was_seen(server: MockServer) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    tenant = server.tenant(TOKEN)
    tenant.reset()
    found = verified(server.url, 2, sleep=interrupt)
    assert found.interrupted
    assert [each["status"] for each in tenant.predictions()] == ["canceled"]


def test_what_the_baseline_knows_is_accepted_and_what_is_gone_is_told() -> None:
    first, second = (
        each for each in PLANTED if each.name in ("reads without version", "lists as octets")
    )
    with MockServer() as server:
        known = verified_departing(server, first).findings
        again = verified_departing(server, first, accepted=known)
        assert (again.ok, again.findings, [each.rule for each in again.accepted]) == (
            True,
            [],
            ["MC702"],
        )
        other = verified_departing(server, second, accepted=known)
        assert (other.ok, other.accepted, other.fixed) == (
            False,
            [],
            ["MC702 getPrediction /version"],
        )


@pytest.mark.parametrize(
    ("known", "now"),
    [
        ("creates below a range", "creates without a prompt"),
        ("a picture of another format", "no picture"),
        ("runs on after its end", "an unknown status"),
        ("refuses reads as text/html", "reads as text/html"),
    ],
)
def test_a_baseline_accepts_no_other_departure_at_the_same_place(known: str, now: str) -> None:
    first, second = (next(each for each in PLANTED if each.name == name) for name in (known, now))
    with MockServer() as server:
        accepted = verified_departing(server, first, 2).findings
        assert verified_departing(server, first, 2, accepted=accepted).ok
        other = verified_departing(server, second, 2, accepted=accepted)
    assert {finding.rule for finding in other.findings} == {first.rule}


def test_a_token_that_is_refused_is_no_departure() -> None:
    with (
        MockServer(scenario="unauthorized") as server,
        pytest.raises(MockServerError, match="the token is refused"),
    ):
        verified(server.url)


def test_a_redirect_is_not_followed_with_the_token(server: MockServer) -> None:
    with standing(Departing(server.url, None)) as elsewhere:

        def lead_away(asked: Any, answer: Any, memory: dict[str, Any]) -> None:
            if asked.role == "get":
                answer.status, answer.headers["location"] = 307, elsewhere.url + asked.path

        with standing(Departing(server.url, lead_away)) as gateway:
            found = verified(gateway.url, 2)
        assert {each.rule for each in found.findings} == {"MC701"}
        assert elsewhere.asked == []


def test_the_picture_is_fetched_from_another_origin_without_the_token(server: MockServer) -> None:
    with standing(Departing(server.url, None)) as files:

        def deliver_elsewhere(asked: Any, answer: Any, memory: dict[str, Any]) -> None:
            if asked.role == "get" and answer.good and answer.value["output"]:
                answer.value["output"] = (
                    files.url + "/xezq/" + answer.value["output"].partition("/xezq/")[2]
                )

        with standing(Departing(server.url, deliver_elsewhere)) as gateway:
            assert verified(gateway.url, 2).ok
        (asked,) = files.asked
        assert "authorization" not in asked.headers


def test_hostile_answers_are_bounded(server: MockServer) -> None:
    def bury(asked: Any, answer: Any, memory: dict[str, Any]) -> None:
        if asked.role == "list":
            for number in range(500):
                answer.value[f"{number}\x1b[2J" * 20] = "x" * 5000

    found = verified_departing(server, Planted("", "", bury), 0)
    assert 0 < len(found.warnings) <= 20
    assert all(
        len(each.pointer) <= 300 and len(json.dumps(each.exchange)) < 20_000
        for each in found.warnings
    )


def test_the_plan_s_forbidden_creates_are_each_forbidden_and_of_every_kind() -> None:
    for operation in CONTRACT.models.values():
        assert (
            operation.check_body("application/json", {"input": valid_input(CONTRACT, operation)})
            == []
        )
        kinds = {each.wrong for each in forbidden_creates(CONTRACT, operation)}
        assert {"no input", "no prompt", "broken JSON", "a body declared text/plain"} <= kinds
        for name, node in operation.input.items():
            assert f"{name} of another type" in kinds
            assert (f"{name} below its range" in kinds) == ("minimum" in node)
            assert (f"{name} above its range" in kinds) == ("maximum" in node)
            assert (f"{name} none of its values" in kinds) == ("enum" in node)
    plan = plan_for(CONTRACT, b"seed")
    assert not any(probe.creates for probe in plan.free)
    assert all(probe.creates and len(probe.body or b"") < 10_000 for probe in plan.forbidden)


def test_each_forbidden_create_that_is_taken_is_billed_once_and_stops_at_the_lid(
    server: MockServer,
) -> None:
    found = verified_departing(
        server, Planted("", "", None, taking(TAKEN["creates below a range"])), 9
    )
    assert {each.rule for each in found.findings} == {"MC705"}
    assert found.spent == 5 + sum(
        "below" in probe.title for probe in plan_for(CONTRACT, b"seed").forbidden
    )


DRAWN = 12
plan = partial(plan_for, CONTRACT, b"seed")


def test_creates_are_drawn_that_are_forbidden_and_ask_nobody_else() -> None:
    drawn = [probe for probe in plan(DRAWN).forbidden if probe.title.startswith("fuzzed")]
    assert len({(probe.path, probe.body) for probe in drawn}) == DRAWN
    assert {probe.operation.model for probe in drawn} == set(CONTRACT.models)
    assert drawn == [
        probe for probe in plan(DRAWN).forbidden if probe.title.startswith("fuzzed")
    ], "each time the same"
    for probe in drawn:
        assert probe.creates
        assert probe.must_refuse
        with suppress(ValueError):
            body = read_json(probe.body or b"")
            assert not isinstance(body, dict) or not body.keys() & {
                "webhook",
                "webhook_events_filter",
                "stream",
            }
            given = body.get("input") if isinstance(body, dict) else None
            assert not isinstance(given, dict) or not given.keys() & probe.operation.images


def test_a_faithful_gateway_refuses_what_is_drawn(server: MockServer) -> None:
    server.tenant(TOKEN).reset()
    found = verified(server.url, 9, fuzz=DRAWN)
    assert (found.findings, found.spent) == ([], 5)
    assert found.requests >= DRAWN + len(plan().forbidden)


def test_what_is_drawn_stands_under_the_same_lid(server: MockServer) -> None:
    everything = Planted("", "", None, taking(lambda asked: True))
    spend = len(plan().forbidden) + 3
    found = verified_departing(server, everything, spend, fuzz=DRAWN)
    assert found.spent == len(server.tenant(TOKEN).predictions()) == spend
    assert 0 < sum("fuzzed" in each.what for each in found.not_seen) < DRAWN


def test_drawing_without_schemathesis_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "find_spec", lambda name: None)
    with pytest.raises(MockServerError, match=r"pip install 'flux-mockserver\[fuzz\]'"):
        plan(1)


def test_an_exchange_in_a_report_shows_the_token_in_part() -> None:
    seen = GatewayExchange(
        operation=CONTRACT.of_role("create")[0],
        method="POST",
        path="/x",
        token=TOKEN,
        sent_headers={"authorization": f"Bearer {TOKEN}"},
        headers=[("x-echo", TOKEN), ("set-cookie", "session=1")],
        body=TOKEN.encode(),
    )
    shown = json.dumps(seen.as_json())
    assert TOKEN not in shown
    assert "session" not in shown
    assert seen.as_json()["response"]["body"] == "a-toke…"
