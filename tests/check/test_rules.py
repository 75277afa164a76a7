"""The rules of the kit, one by one: what breaks each, and what comes near and is legal."""

import json
from typing import Any, ClassVar

import pytest

from mockserver.backend.journal import Exchange
from mockserver.check.model import Case, Outcome, Run
from mockserver.check.rules.registry import RULES, find_breaches, is_runaway
from mockserver.check.rules.rule import Breach
from mockserver.contract.violations import Violation
from mockserver.scenarios.catalogue import Catalogue
from tests.helpers.documents import CONTRACT, KONTEXT, ULTRA
from tests.helpers.exchanges import CREATE, GET, TOKEN, URL, create, exchange, faulty, poll

CATALOGUE = Catalogue(CONTRACT)
LONG = [
    {"status": "starting", "seconds": 30},
    {"status": "processing", "seconds": 9},
    {"status": "succeeded"},
]


RETURNED, RAISED, HUNG = (
    Outcome("returned", URL),
    Outcome("raised", message="no picture"),
    Outcome("hung"),
)


def breaches(
    *exchanges: Exchange,
    outcome: Outcome = RETURNED,
    scenario: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, str]:
    """The rules that a run breaks, with how severely."""
    found: dict[str, str] = {}
    for breach in all_breaches(*exchanges, outcome=outcome, scenario=scenario, **more):
        found.setdefault(breach.rule, str(breach.severity))
    return found


def causes(*exchanges: Exchange, **more: Any) -> list[tuple[str, ...]]:
    """The ways in which a run breaks a rule, of which it breaks one."""
    return [breach.cause for breach in all_breaches(*exchanges, **more)]


def all_breaches(
    *exchanges: Exchange,
    outcome: Outcome = RETURNED,
    scenario: dict[str, Any] | None = None,
    **more: Any,
) -> list[Breach]:
    case = Case(
        model=str(CREATE.model),
        input=more.pop("given", {"prompt": "a cat"}),
        scenario=scenario or {},
        clock=more.pop("clock", "autojump"),
    )
    facts = {"outputs": frozenset({URL}), "seconds": 0.2, **more}
    run = Run(
        case, CATALOGUE.parse(case.scenario), CONTRACT, TOKEN, outcome, tuple(exchanges), **facts
    )
    return find_breaches(run)


def test_a_right_client_breaks_none() -> None:
    assert breaches(create(), poll(), poll("succeeded")) == {}


def test_every_rule_says_what_it_demands_and_rests_on() -> None:
    for rule in RULES.values():
        assert all((rule.title, rule.demand, rule.rests_on, rule.example)), rule.code
        assert rule.demand.endswith("."), rule.code
    warnings = [rule.code for rule in RULES.values() if rule.severity == "warning"]
    assert warnings == ["MC202", "MC404", "MC405", "MC406", "MC502"]


class TestMC101:
    @pytest.mark.parametrize(
        "path", ["/replicate/v1/model/x", "/v1/predictions", ULTRA.removeprefix("/replicate")]
    )
    def test_a_path_that_was_meant_for_the_api(self, path: str) -> None:
        assert breaches(exchange("POST", path, 404), outcome=RAISED) == {"MC101": "error"}

    def test_a_path_that_was_not_is_nobodys_business(self) -> None:
        other = exchange("GET", "/favicon.ico", 404, authorization="")
        assert breaches(create(), other, poll("succeeded")) == {}

    def test_what_the_contract_forbids_and_what_it_does_not_know(self) -> None:
        violation = Violation(
            "/input/seed", "invalid_type", "input.seed", "Invalid type", '"1"', "integer"
        )
        assert breaches(create(422, violations=(violation,)), outcome=RAISED)["MC101"] == "error"
        unknown = Violation(
            "/input/n",
            "additional_property_not_allowed",
            "input",
            "Unknown",
            "1",
            "none",
            fatal=False,
        )
        assert breaches(create(violations=(unknown,)), poll("succeeded")) == {"MC101": "warning"}

    def test_a_refusal_of_the_doubles_own(self) -> None:
        assert "MC101" in breaches(create(415), outcome=RAISED)
        assert "MC101" not in breaches(
            faulty({"status": 400}), outcome=RAISED, scenario={"retention": 0}
        )

    def test_each_pointer_is_a_cause_of_its_own(self) -> None:
        n, size = (
            Violation(
                f"/input/{name}",
                "additional_property_not_allowed",
                "input",
                "Unknown",
                "1",
                "none",
                fatal=False,
            )
            for name in ("n", "size")
        )
        found = causes(create(violations=(n, size)), poll("succeeded"))
        assert [cause[1] for cause in found] == ["/input/n", "/input/size"]


class TestLegalOddities:
    """What is seldom seen, and legal on both sides."""

    def test_an_output_shown_under_processing_may_be_returned_and_may_be_polled_on(self) -> None:
        shown = create(shown="processing", output=URL)
        assert breaches(shown) == {}
        assert breaches(shown, poll("succeeded")) == {}
        assert breaches(shown, poll(output=URL), poll("succeeded")) == {}

    def test_but_to_raise_at_once_is_to_give_up_on_what_is_there(self) -> None:
        shown = create(shown="processing", output=URL)
        assert breaches(shown, outcome=RAISED) == {"MC301": "error"}
        assert breaches(shown, outcome=RAISED, seconds=5.0) == {}, "it may have a timeout"
        assert breaches(shown, outcome=RAISED, seconds=5.0, started_after=4.0).keys() == {
            "MC301"
        }, "slow to start"

    def test_a_read_that_finds_nothing_yet_may_be_repeated_or_end_the_call_but_not_create_again(
        self,
    ) -> None:
        scenario = {"faults": {"getPrediction": [{"status": 404, "times": 2}]}}
        missed = faulty({"status": 404}, poll, at=0.1)
        assert breaches(create(), missed, missed, poll("succeeded", 0.3), scenario=scenario) == {}
        assert breaches(create(), missed, outcome=RAISED, scenario=scenario) == {}
        assert set(
            breaches(create(), missed, create(at=0.2), poll("succeeded", 0.3), scenario=scenario)
        ) == {"MC201"}

    def test_a_failure_without_a_reason_is_a_failure(self) -> None:
        scenario = {"lifecycle": [{"status": "failed", "error": None}]}
        assert breaches(create(), poll("failed"), outcome=RAISED, scenario=scenario) == {}
        assert set(breaches(create(), poll("failed"), scenario=scenario)) == {"MC301"}
        assert set(
            breaches(create(), poll("failed"), outcome=Outcome("returned"), scenario=scenario)
        ) == {"MC301"}

    def test_a_limit_is_waited_out_or_ends_the_call(self) -> None:
        scenario = {"limits": {"createPrediction": {"per_minute": 600, "left": 0}}}
        throttled = faulty({"status": 429, "retry_after": 1}, create)
        assert breaches(throttled, create(at=1.0), poll("succeeded", 1.1), scenario=scenario) == {}
        assert breaches(throttled, outcome=RAISED, scenario=scenario) == {}
        assert set(
            breaches(throttled, create(at=0.2), poll("succeeded", 0.3), scenario=scenario)
        ) == {"MC401"}

    def test_a_create_by_version_is_a_create(self) -> None:
        by_version = CONTRACT.by_id["createPredictionByVersion"]
        path, model = by_version.path, str(CREATE.model)

        def versioned(version: str, **more: Any) -> Exchange:
            body = json.dumps(
                {"version": version, "input": {"prompt": more.pop("prompt", "a cat")}}
            ).encode()
            return exchange(
                "POST",
                path,
                200,
                "starting",
                operation=by_version,
                body=body,
                body_size=len(body),
                committed=True,
                **more,
            )

        assert breaches(versioned(model), poll("succeeded")) == {}
        assert breaches(versioned(CREATE.version), poll("succeeded")) == {}
        assert set(breaches(versioned(model), versioned(model), poll("succeeded"))) == {"MC201"}
        assert set(breaches(versioned(model, prompt="a dog"), poll("succeeded"))) == {"MC102"}
        other = list(CONTRACT.models)[1]
        assert set(breaches(versioned(other), poll("succeeded"))) == {"MC102"}


class TestMC102:
    def test_a_number_that_the_gateway_would_draw_may_be_drawn(self) -> None:
        own = create(given={"prompt": "a", "seed": 7})
        assert breaches(own, poll("succeeded"), given={"prompt": "a"}) == {"MC102": "warning"}

    def test_to_refuse_an_allowed_input_and_send_nothing_is_a_warning(self) -> None:
        assert breaches(outcome=RAISED, given={"prompt": "a", "seed": 0}) == {"MC102": "warning"}

    @pytest.mark.parametrize(
        ("asked", "sent"),
        [
            ({"safety_tolerance": 2, "raw": False}, {}),
            ({}, {"aspect_ratio": "1:1"}),
            ({"image_prompt_strength": 1}, {"image_prompt_strength": 1.0}),
        ],
    )
    def test_defaults_may_be_left_out_or_filled_in(
        self, asked: dict[str, Any], sent: dict[str, Any]
    ) -> None:
        given = {"prompt": "a cat", **asked}
        assert (
            breaches(create(given={"prompt": "a cat", **sent}), poll("succeeded"), given=given)
            == {}
        )

    @pytest.mark.parametrize(
        ("asked", "sent"),
        [
            ({"safety_tolerance": 1}, {}),
            ({"raw": True}, {"raw": 1}),
            ({"seed": 0}, {}),
            ({"prompt": " a cat "}, {"prompt": "a cat"}),
        ],
    )
    def test_anything_else_is_a_change(self, asked: dict[str, Any], sent: dict[str, Any]) -> None:
        given = {"prompt": "a cat", **asked}
        arrived = create(given={"prompt": "a cat", **sent})
        assert breaches(arrived, poll("succeeded"), given=given) == {"MC102": "error"}

    def test_another_model_is_a_change(self) -> None:
        other = list(CONTRACT.models.values())[1]
        arrived = exchange(
            "POST", KONTEXT, shown="starting", operation=other, body=b"{}", committed=True
        )
        assert breaches(arrived, poll("succeeded")) == {"MC102": "error"}


class TestMC103:
    @pytest.mark.parametrize("sent", [f"Token {TOKEN}", "Bearer other", f"bearer {TOKEN}", ""])
    def test_only_bearer_and_the_token_given(self, sent: str) -> None:
        assert breaches(create(authorization=sent), poll("succeeded")) == {"MC103": "error"}

    def test_the_files_are_public(self) -> None:
        delivering = CONTRACT.of_role("deliver")[0]
        picture = exchange(
            "GET", "/xezq/a/output.jpg", operation=delivering, authorization="", arrived_at="files"
        )
        assert breaches(create(), poll("succeeded"), picture) == {}


class TestMC201:
    def test_a_create_whose_answer_was_lost_is_not_repeated(self) -> None:
        lost = faulty({"disconnect": "reset", "after": "commit"})
        scenario = {"faults": {"createPrediction": [{"disconnect": "reset", "after": "commit"}]}}
        assert breaches(lost, create(at=1), poll("succeeded"), scenario=scenario) == {
            "MC201": "error"
        }
        assert breaches(lost, outcome=RAISED, scenario=scenario) == {}

    def test_one_that_was_refused_before_may_be(self) -> None:
        scenario = {"faults": {"createPrediction": [{"status": 503}]}}
        assert (
            breaches(faulty({"status": 503}), create(at=1), poll("succeeded"), scenario=scenario)
            == {}
        )

    def test_what_made_it_create_again_is_the_cause(self) -> None:
        assert causes(
            faulty({"disconnect": "reset", "after": "commit"}), create(at=1), poll("succeeded")
        ) == [("createPrediction", "no response")]
        assert causes(create(), faulty({"status": 502}, poll), create(at=1), poll("succeeded")) == [
            ("getPrediction", "error")
        ]


class TestMC202:
    STUCK: ClassVar[dict[str, Any]] = {
        "lifecycle": [{"status": "starting", "seconds": 1}, {"status": "processing"}]
    }

    def test_a_client_that_gives_up_cancels(self) -> None:
        gave_up: dict[str, Any] = {
            "outcome": RAISED,
            "scenario": self.STUCK,
            "seconds": 3,
            "client_timeout": 3,
        }
        assert breaches(create(), poll(), **gave_up) == {"MC202": "warning"}
        (canceling,) = CONTRACT.of_role("cancel")
        cancel = exchange(
            "POST", GET + "/cancel", operation=canceling, shown="canceled", committed=True
        )
        assert breaches(create(), poll(), cancel, **gave_up) == {}
        bounded = create(
            headers=[(b"Authorization", f"Bearer {TOKEN}".encode()), (b"Cancel-After", b"5s")]
        )
        assert breaches(bounded, poll(), **gave_up) == {}

    def test_only_of_a_client_that_declares_a_timeout(self) -> None:
        assert breaches(create(), poll(), outcome=RAISED, scenario=self.STUCK, seconds=9) == {}


class TestMC301:
    @pytest.mark.parametrize("end", ["failed", "canceled", "aborted"])
    def test_no_success_without_success(self, end: str) -> None:
        scenario = {"lifecycle": [{"status": end}]}
        assert breaches(create(shown=end), outcome=RETURNED, scenario=scenario) == {
            "MC301": "error"
        }
        assert breaches(create(shown=end), outcome=RAISED, scenario=scenario) == {}

    def test_a_cut_answer_tells_nothing(self) -> None:
        scenario = {"faults": {"getPrediction": [{"cut": 0.5}]}}
        cut = poll("succeeded", fault={"cut": 0.5})
        assert breaches(create(), cut, outcome=RETURNED, scenario=scenario) == {"MC301": "error"}
        assert breaches(create(), cut, outcome=RAISED, scenario=scenario) == {}

    def test_a_slow_answer_tells_all(self) -> None:
        slow = poll("succeeded", fault={"drip": 0.1})
        assert (
            breaches(create(), slow, scenario={"faults": {"getPrediction": [{"drip": 0.1}]}}) == {}
        )

    def test_no_failure_where_all_is_well(self) -> None:
        assert breaches(create(), poll("succeeded"), outcome=RAISED) == {"MC301": "error"}
        assert breaches(create(), outcome=RAISED) == {"MC301": "error"}, "gave up at once"
        assert breaches(create(), poll(), outcome=RAISED, seconds=5) == {}, (
            "lost its patience, which is its right"
        )

    def test_raising_is_legal_wherever_there_is_a_fault(self) -> None:
        scenario = {"faults": {"getPrediction": [None, None, None, {"status": 502}]}}
        assert breaches(create(), poll("succeeded"), outcome=RAISED, scenario=scenario) == {}

    def test_an_output_that_has_expired_is_none(self) -> None:
        gone = poll("succeeded", output=None)
        assert breaches(create(), gone, outcome=RAISED, scenario={"retention": 0}) == {}
        assert (
            breaches(create(), gone, outcome=Outcome("returned", None), scenario={"retention": 0})
            == {}
        )
        shown = create(shown="processing", output=URL)
        assert (
            breaches(shown, gone, outcome=RAISED, scenario={"retention": 0, "wait": "processing"})
            == {}
        )

    def test_an_output_that_is_shown_is_success_whatever_the_status_says(self) -> None:
        odd = create(shown="processing", output=URL)
        assert breaches(odd, scenario={"wait": "processing", "lifecycle": LONG}) == {}

    def test_a_client_whose_wait_ended_while_it_was_running_may_give_up(self) -> None:
        prefer = [(b"Authorization", f"Bearer {TOKEN}".encode()), (b"Prefer", b"wait=5")]
        assert breaches(create(headers=prefer), outcome=RAISED, scenario={"lifecycle": LONG}) == {
            "MC202": "warning"
        }
        assert breaches(create(), outcome=RAISED, scenario={"lifecycle": LONG}) == {
            "MC301": "error"
        }

    def test_each_end_that_is_taken_for_success_is_a_cause_of_its_own(self) -> None:
        for end in ("failed", "canceled", "aborted"):
            assert causes(create(shown=end), scenario={"lifecycle": [{"status": end}]}) == [(end,)]


class TestMC302:
    def test_an_empty_list_is_what_none_is(self) -> None:
        gone, empty = poll("succeeded", output=None), Outcome("returned", [])
        assert breaches(create(), gone, outcome=empty, scenario={"retention": 0}) == {}
        assert breaches(create(), poll("succeeded"), outcome=empty) == {"MC302": "error"}

    @pytest.mark.parametrize("value", [URL, [URL]])
    def test_the_url_or_a_list_of_it(self, value: Any) -> None:
        assert breaches(create(), poll("succeeded"), outcome=Outcome("returned", value)) == {}

    @pytest.mark.parametrize(
        "value", ["h", None, {"url": URL}, [URL, URL], f"{URL}?x", 7, object()]
    )
    def test_nothing_else(self, value: Any) -> None:
        assert breaches(create(), poll("succeeded"), outcome=Outcome("returned", value)) == {
            "MC302": "error"
        }

    def test_the_bytes_whole(self) -> None:
        whole: dict[str, Any] = {"delivered": (b"picture",)}
        data_uri = Outcome("returned", "data:image/jpeg;base64,cGljdHVyZQ==")
        assert (
            breaches(create(), poll("succeeded"), outcome=Outcome("returned", b"picture"), **whole)
            == {}
        )
        assert breaches(create(), poll("succeeded"), outcome=data_uri, **whole) == {}
        assert breaches(
            create(), poll("succeeded"), outcome=Outcome("returned", b"pic"), **whole
        ) == {"MC302": "error"}


class TestMC303:
    def test_one_read_to_confirm_is_fine_two_are_not(self) -> None:
        assert breaches(create(), poll("succeeded"), poll("succeeded")) == {}
        assert breaches(create(), *[poll("succeeded")] * 3) == {"MC303": "error"}

    def test_a_confirming_read_that_failed_may_be_repeated(self) -> None:
        scenario = {"faults": {"getPrediction": [None, {"status": 502}]}}
        failed = faulty({"status": 502}, poll)
        assert (
            breaches(create(), poll("succeeded"), failed, poll("succeeded"), scenario=scenario)
            == {}
        )

    def test_a_runaway_is_known_before_it_ends(self) -> None:
        case = Case(model=str(CREATE.model), input={"prompt": "a"})
        run = Run(
            case, CATALOGUE.parse({}), CONTRACT, TOKEN, HUNG, (create(), *[poll("succeeded")] * 3)
        )
        assert is_runaway(run)


class TestMC304:
    def test_it_ends_once_it_knows_the_end(self) -> None:
        scenario = {"lifecycle": [{"status": "failed"}]}
        assert breaches(create(shown="failed"), outcome=HUNG, scenario=scenario) == {
            "MC304": "error"
        }

    def test_it_ends_once_it_is_refused(self) -> None:
        scenario = {"faults": {"createPrediction": [{"status": 402, "times": "always"}]}}
        refused = faulty({"status": 402, "times": "always"})
        assert breaches(refused, outcome=HUNG, scenario=scenario) == {"MC304": "error"}

    def test_waiting_for_what_may_still_come_is_legal(self) -> None:
        assert breaches(create(), poll(), outcome=HUNG) == {}
        assert breaches(create(), poll(), outcome=HUNG, client_timeout=3) == {"MC304": "error"}


class TestMC305:
    VARIED: ClassVar[dict[str, Any]] = {"body": {"null": ["logs"]}}

    def test_what_fails_only_with_variety(self) -> None:
        told = (create(), poll("succeeded"))
        assert breaches(*told, outcome=RAISED, scenario=self.VARIED, control_run=RETURNED) == {
            "MC305": "error"
        }
        assert (
            breaches(*told, outcome=HUNG, scenario=self.VARIED, control_run=RETURNED)["MC305"]
            == "error"
        )

    def test_what_fails_without_it_too_is_another_rules(self) -> None:
        assert (
            breaches(
                create(),
                poll("succeeded"),
                outcome=RAISED,
                scenario=self.VARIED,
                control_run=RAISED,
            )
            == {}
        )


class TestMC306:
    OTHERS: ClassVar[dict[str, Any]] = {
        "other_outputs": frozenset({"http://127.0.0.1:1/xezq/x55/output.jpg", b"another"})
    }

    @pytest.mark.parametrize(
        "value", ["http://127.0.0.1:1/xezq/x55/output.jpg", b"another", [b"another"]]
    )
    def test_each_call_returns_its_own_picture(self, value: Any) -> None:
        returned = Outcome("returned", value)
        assert breaches(create(), poll("succeeded"), outcome=returned, **self.OTHERS) == {
            "MC306": "error"
        }
        assert breaches(create(), poll("succeeded"), **self.OTHERS) == {}

    def test_what_succeeds_alone_succeeds_beside_others(self) -> None:
        assert breaches(outcome=RAISED, solo_outcome=RETURNED, **self.OTHERS) == {"MC306": "error"}
        assert breaches(outcome=HUNG, solo_outcome=RETURNED, **self.OTHERS) == {"MC306": "error"}
        assert breaches(outcome=RAISED, solo_outcome=RAISED, **self.OTHERS) == {}


class TestMC401:
    def scenario(self, fault: dict[str, Any]) -> dict[str, Any]:
        return {"faults": {"createPrediction": [fault]}}

    @pytest.mark.parametrize(
        ("waited", "rules"), [(0.2, {"MC401": "error"}), (0.96, {}), (1.0, {}), (9.0, {})]
    )
    def test_seconds_are_waited_out(self, waited: float, rules: dict[str, str]) -> None:
        fault = {"status": 429, "retry_after": 1}
        again = (create(at=waited), poll("succeeded", waited + 1))
        assert breaches(faulty(fault), *again, scenario=self.scenario(fault)) == rules

    @pytest.mark.parametrize(("waited", "rules"), [(0.5, {"MC401": "error"}), (1.0, {})])
    def test_a_date_is_waited_for(self, waited: float, rules: dict[str, str]) -> None:
        fault = {"status": 429, "retry_after_date": 0.3}
        again = (create(at=waited), poll("succeeded", waited + 1))
        assert breaches(faulty(fault, at=0.01), *again, scenario=self.scenario(fault)) == rules

    def test_a_delay_in_the_body_alone_is_a_warning(self) -> None:
        fault = {"status": 429, "retry_after": 1, "header": False}
        again = (create(at=0.2), poll("succeeded", 1.2))
        run = (faulty(fault), *again)
        assert breaches(*run, scenario=self.scenario(fault)) == {"MC401": "warning"}
        assert causes(*run, scenario=self.scenario(fault)) == [("createPrediction", "the body")]

    def test_giving_up_is_legal(self) -> None:
        fault = {"status": 429, "retry_after": 1}
        assert breaches(faulty(fault), outcome=RAISED, scenario=self.scenario(fault)) == {}

    def test_one_that_cannot_be_read_may_make_it_raise_and_not_hang(self) -> None:
        fault = {"status": 429, "retry_after": "soon"}
        refused, scenario = faulty(fault), self.scenario(fault)
        assert breaches(refused, outcome=RAISED, scenario=scenario, control_run=RAISED) == {}
        assert breaches(refused, outcome=RAISED, scenario=scenario, control_run=RETURNED) == {
            "MC401": "warning"
        }
        assert breaches(refused, outcome=HUNG, scenario=scenario, control_run=RETURNED) == {
            "MC401": "error"
        }


class TestMC402:
    FAULT: ClassVar[dict[str, Any]] = {"status": 503, "times": "always"}
    SCENARIO: ClassVar[dict[str, Any]] = {"faults": {"getPrediction": [FAULT]}}

    @pytest.mark.parametrize(("count", "rules"), [(20, {}), (21, {"MC402": "error"})])
    def test_twenty_requests_are_enough(self, count: int, rules: dict[str, str]) -> None:
        polls = [faulty(self.FAULT, poll, at) for at in range(count)]
        assert breaches(create(), *polls, outcome=RAISED, scenario=self.SCENARIO) == rules

    def test_it_ends(self) -> None:
        assert breaches(
            create(), faulty(self.FAULT, poll), outcome=HUNG, scenario=self.SCENARIO
        ) == {"MC402": "error"}

    def test_who_promises_to_give_up_in_time_may_poll_until_then(self) -> None:
        polls = [faulty(self.FAULT, poll, at) for at in range(30)]
        said: dict[str, Any] = {
            "outcome": RAISED,
            "scenario": self.SCENARIO,
            "client_timeout": 60.0,
            "seconds": 40.0,
        }
        assert "MC402" not in breaches(create(), *polls, **said)
        creates = [faulty(self.FAULT, create, at) for at in range(30)]
        assert "MC402" in breaches(
            *creates, outcome=RAISED, scenario=self.SCENARIO, client_timeout=60.0
        )

    @pytest.mark.parametrize("fault", [{"status": 404}, {"cut": 0.5}, {"body": "malformed"}])
    def test_what_is_never_found_or_never_whole_lasts_too(self, fault: dict[str, Any]) -> None:
        always = {**fault, "times": "always"}
        scenario = {"faults": {"getPrediction": [always]}}
        assert breaches(create(), faulty(always, poll), outcome=HUNG, scenario=scenario) == {
            "MC402": "error"
        }


class TestHedgedReads:
    """Two reads at once: neither can heed what the other is answered."""

    def test_they_are_not_what_came_after_an_answer(self) -> None:
        slow = 10**9  # nanoseconds
        for fault in ({"status": 401}, {"status": 429, "retry_after": 1}):
            scenario = {"faults": {"getPrediction": [fault]}}
            both = faulty(fault, poll, 0, took=slow), faulty(fault, poll, 0.1, took=slow)
            assert breaches(create(), *both, outcome=RAISED, scenario=scenario) == {}
        reads = [poll("succeeded", at=0.1 * number, took=slow) for number in range(3)]
        assert breaches(create(), *reads) == {}


class TestMC403:
    @pytest.mark.parametrize("status", [400, 401, 402, 403, 422])
    def test_a_refused_create_is_not_repeated(self, status: int) -> None:
        scenario = {"faults": {"createPrediction": [{"status": status}]}}
        refused = faulty({"status": status})
        assert breaches(refused, create(at=1), poll("succeeded"), scenario=scenario) == {
            "MC403": "error"
        }
        changed = create(at=1, given={"prompt": "a cat", "raw": False})
        assert breaches(refused, changed, poll("succeeded"), scenario=scenario) == {}

    @pytest.mark.parametrize(
        ("status", "rules"), [(401, {"MC403": "error"}), (403, {"MC403": "error"}), (404, {})]
    )
    def test_nor_is_a_refused_poll(self, status: int, rules: dict[str, str]) -> None:
        scenario = {"faults": {"getPrediction": [{"status": status}]}}
        assert (
            breaches(
                create(), faulty({"status": status}, poll), poll("succeeded"), scenario=scenario
            )
            == rules
        )


class TestMC404:
    @pytest.mark.parametrize(("pause", "rules"), [(0.019, {"MC404": "warning"}), (0.0201, {})])
    def test_fifty_polls_a_second(self, pause: float, rules: dict[str, str]) -> None:
        polls = [poll(at=number * pause) for number in range(60)]
        assert breaches(create(), *polls, poll("succeeded", 9), clock="real") == rules


class TestMC405:
    @pytest.mark.parametrize("fault", [{"status": 502}, {"status": 504}, {"disconnect": "reset"}])
    def test_one_hiccup_of_a_poll(self, fault: dict[str, Any]) -> None:
        scenario = {"faults": {"getPrediction": [fault]}}
        assert breaches(create(), faulty(fault, poll), outcome=RAISED, scenario=scenario) == {
            "MC405": "warning"
        }

    @pytest.mark.parametrize("fault", [{"status": 500}, {"status": 404}])
    def test_not_of_what_may_last(self, fault: dict[str, Any]) -> None:
        scenario = {"faults": {"getPrediction": [fault]}}
        assert breaches(create(), faulty(fault, poll), outcome=RAISED, scenario=scenario) == {}


class TestMC406:
    STALLED: ClassVar[dict[str, Any]] = {"faults": {"getPrediction": [{"stall": 0.5}]}}

    def test_a_silent_connection_is_given_up_and_how_long_it_was_silent_is_told(self) -> None:
        exchanges = create(), faulty({"stall": 0.5}, poll, at=2)
        assert breaches(*exchanges, outcome=HUNG, scenario=self.STALLED, timeout=10) == {
            "MC406": "warning"
        }
        (breach,) = all_breaches(*exchanges, outcome=HUNG, scenario=self.STALLED, timeout=10)
        assert "after 8.0 s of silence" in breach.message
        assert breaches(*exchanges, outcome=RAISED, scenario=self.STALLED) == {}

    def test_of_a_client_that_declares_a_timeout_it_is_an_error_of_another_rule(self) -> None:
        exchanges = create(), faulty({"stall": 0.5}, poll, at=2)
        held = breaches(*exchanges, outcome=HUNG, scenario=self.STALLED, client_timeout=3)
        assert held == {"MC304": "error"}


class TestMC501:
    @pytest.mark.parametrize(
        "leak",
        [
            {"arrived_at": "files"},
            {"arrived_at": "foreign"},
            {"query": f"token={TOKEN}".encode()},
            {"body": json.dumps({"auth": TOKEN}).encode()},
        ],
    )
    def test_where_the_token_must_not_be(self, leak: dict[str, Any]) -> None:
        assert breaches(create(), poll("succeeded"), poll(**leak))["MC501"] == "error"

    def test_the_clients_output_is_no_place_either(self) -> None:
        shown = Outcome("raised", message="401", printed=f"debug: token {TOKEN}")
        scenario = {"faults": {"createPrediction": [{"status": 401}]}}
        assert breaches(faulty({"status": 401}), outcome=shown, scenario=scenario) == {
            "MC501": "error"
        }

    def test_a_picture_may_be_fetched_without_it(self) -> None:
        delivering = CONTRACT.of_role("deliver")[0]
        picture = exchange(
            "GET", "/xezq/a/output.jpg", operation=delivering, authorization="", arrived_at="files"
        )
        assert breaches(create(), poll("succeeded"), picture) == {}

    def test_each_place_is_a_cause_of_its_own(self) -> None:
        leaks = poll(query=f"token={TOKEN}".encode()), poll(arrived_at="files")
        assert causes(create(), poll("succeeded"), *leaks) == [("URL",), ("files",)]


class TestMC502:
    def test_following_a_foreign_url(self) -> None:
        stray = exchange("GET", GET, 401, operation=None, arrived_at="foreign", authorization="")
        stray_scenario = {"urls": "foreign"}
        assert breaches(create(), stray, outcome=RAISED, scenario=stray_scenario) == {
            "MC502": "warning"
        }
        strict = breaches(
            create(), stray, outcome=RAISED, scenario=stray_scenario, strict_urls=True
        )
        assert strict == {"MC502": "error"}


class TestMC307:
    MANY_POLLS: ClassVar[dict[str, Any]] = {
        "lifecycle": [
            {"status": "starting", "seconds": 1},
            {"status": "processing", "seconds": 9, "polls": 12},
            {"status": "succeeded"},
        ]
    }

    @pytest.mark.parametrize("seconds", [0.2, 8])
    def test_five_polls_are_too_few_however_long_they_took(self, seconds: float) -> None:
        polls = [poll(at=number) for number in range(5)]
        assert breaches(
            create(), *polls, outcome=RAISED, scenario=self.MANY_POLLS, seconds=seconds
        ) == {"MC307": "error"}

    def test_a_client_that_declares_a_time_of_its_own_may_give_up(self) -> None:
        polls = [poll(at=number) for number in range(5)]
        told = breaches(
            create(),
            *polls,
            outcome=RAISED,
            scenario=self.MANY_POLLS,
            client_timeout=8,
            seconds=8.1,
        )
        assert "MC307" not in told

    def test_it_may_raise_where_anything_is_in_the_way(self) -> None:
        faults = {**self.MANY_POLLS, "faults": {"getPrediction": [{"status": 500}]}}
        failed = faulty({"status": 500}, poll)
        assert "MC307" not in breaches(create(), failed, outcome=RAISED, scenario=faults)

    @pytest.mark.parametrize(("preference", "broken"), [(b"wait", True), (b"wait=5", False)])
    def test_a_wait_that_ends_unfinished_is_no_end_unless_its_length_was_the_client_s(
        self, preference: bytes, broken: bool
    ) -> None:
        headers = [(b"Authorization", f"Bearer {TOKEN}".encode()), (b"Prefer", preference)]
        told = breaches(create(headers=headers), outcome=RAISED, scenario={"lifecycle": LONG})
        assert ("MC307" in told) == broken
