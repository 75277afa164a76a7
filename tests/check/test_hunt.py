"""How the kit hunts: what it draws, how it shrinks, what it keeps to."""

import dataclasses
import itertools
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from mockserver import check_client
from mockserver.check.drive.callables import CallableDriver
from mockserver.check.drive.protocol import Call
from mockserver.check.generate.catalogue import LONG_RETRY_AFTER, fixed_cases
from mockserver.check.generate.inputs import boundary_inputs
from mockserver.check.generate.sample import sample_all
from mockserver.check.generate.shrink import shrink, simpler
from mockserver.check.generate.strategies import cases
from mockserver.check.hunt.harness import Harness, Limits
from mockserver.check.hunt.hunt import Hunt
from mockserver.check.hunt.plan import Plan
from mockserver.check.hunt.replay import replay
from mockserver.check.model import VARIETY, Case, ClientError, is_valid, operation_of
from mockserver.check.progress import Progress
from mockserver.check.report.findings import Finding, FindingsError, Report
from mockserver.check.report.summary import notes_on
from mockserver.clock import wall_time
from mockserver.contract.contract import Contract
from mockserver.errors import MockServerError, ScenarioError
from mockserver.scenarios.catalogue import Catalogue
from tests.check import client
from tests.helpers.cases import size
from tests.helpers.documents import CONTRACT

pytestmark = pytest.mark.slow

CATALOGUE = Catalogue(CONTRACT)
MODELS = list(CONTRACT.models)
CASES = cases(CATALOGUE, CONTRACT, MODELS)
NOT_PLAYED = {"name", "description"}


def scripts(scenarios: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any] | None]]:
    """The lists of faults that scenarios have."""
    return (script for scenario in scenarios for script in scenario.get("faults", {}).values())


def planted(bug: str) -> Callable[[Call], Any]:
    return partial(client.call_once, bug=bug)


@contextmanager
def waiting_after_trouble() -> Iterator[Callable[[Call], Any]]:
    """A right client, but for one thing: where it should raise it waits, for as long as the `with` block lasts."""
    release = threading.Event()

    def call(call: Call) -> Any:
        try:
            return client.call_once(call)
        except client.FluxError:
            release.wait(60)

    try:
        yield call
    finally:
        release.set()


class TestCases:
    @settings(max_examples=100, suppress_health_check=list(HealthCheck))
    @given(CASES)
    def test_each_drawn_case_is_one_the_contract_allows(self, case: Case) -> None:
        assert is_valid(operation_of(CONTRACT, case.model), case.input)
        CATALOGUE.parse(case.scenario)
        assert msgspec.json.decode(msgspec.json.encode(case), type=Case) == case

    def test_the_boundary_inputs_hold_every_property_at_its_edges(self) -> None:
        for operation in CONTRACT.models.values():
            found = list(boundary_inputs(operation))
            assert all(is_valid(operation, case) for case in found)
            assert {name for case in found for name in case} == set(operation.input)
            assert found[0] == {"prompt": "a"}
            assert any(
                case.get("safety_tolerance") == operation.input["safety_tolerance"]["minimum"]
                for case in found
            )

    def test_the_fixed_cases_hold_every_way_to_end_and_every_status_of_the_contract(self) -> None:
        fixed = [case.scenario for case in fixed_cases(CONTRACT, MODELS, None)]
        assert fixed[0] == {}
        ends = {
            scenario["lifecycle"][-1]["status"] for scenario in fixed if "lifecycle" in scenario
        }
        assert ends == set(CONTRACT.statuses) - {"starting", "processing"}
        assert CONTRACT.reader is not None
        read = {
            fault.get("status")
            for scenario in fixed
            for fault in scenario.get("faults", {}).get("getPrediction", [])
        }
        assert read >= {status for status in CONTRACT.reader.responses if status >= 400} - {
            405,
            413,
        }

    def test_an_end_comes_after_a_wait_that_ran_out_and_a_throttled_create_says_when_to_come_back(
        self,
    ) -> None:
        fixed = [case.scenario for case in fixed_cases(CONTRACT, MODELS, None)]
        longest = {
            scenario["lifecycle"][-1]["status"]: scenario
            for scenario in fixed
            if "lifecycle" in scenario
        }
        assert set(longest) == {"succeeded", "failed", "canceled", "aborted"}
        for end in longest:
            begun = [scenario["lifecycle"][:-1] for scenario in fixed if "lifecycle" in scenario]
            ending = [
                scenario["lifecycle"][-1]["status"] for scenario in fixed if "lifecycle" in scenario
            ]
            waits = [
                sum(step["seconds"] for step in steps)
                for steps, last in zip(begun, ending, strict=True)
                if last == end
            ]
            assert max(waits) > 60, f"{end} always comes within a wait"
        for status in (429, 503):
            assert {"faults": {"createPrediction": [{"status": status, "retry_after": 1}]}} in fixed

    @pytest.mark.thorough
    def test_all_that_a_scenario_may_hold_is_played(self) -> None:
        drawn = [case.scenario for case in sample_all(CASES, 0, 400, 400)]
        played = [*drawn, *(case.scenario for case in fixed_cases(CONTRACT, MODELS, 1.0))]
        assert {part for scenario in played for part in scenario} == set(
            CATALOGUE.schema["properties"]
        ) - NOT_PLAYED
        for part in ("body", "stream", "webhooks"):
            held = {name for scenario in played for name in scenario.get(part, {})}
            assert held == set(CATALOGUE.schema["properties"][part]["properties"]), part
        assert {name for scenario in drawn for name in scenario} >= {
            "limits",
            "sometimes",
            *VARIETY,
        }
        assert {scenario["wait"] for scenario in drawn if "wait" in scenario} == {
            "final",
            "processing",
        }
        limited = {name for scenario in drawn for name in scenario.get("limits", {})}
        assert limited == {"createPrediction", "getPrediction"}
        assert any(fault and "chance" in fault for script in scripts(drawn) for fault in script)

    @pytest.mark.thorough
    def test_what_takes_seconds_is_drawn_rarely(self) -> None:
        drawn = [case.scenario for case in sample_all(CASES, 0, 400, 400)]
        assert sum("limits" in scenario for scenario in drawn) < 60

    def test_what_is_left_to_chance_comes_out_the_same_in_every_play(self) -> None:
        failing = [
            {
                "chance": 0.5,
                "lifecycle": [{"status": "starting", "seconds": 30}, {"status": "failed"}],
            }
        ]
        script = [
            {"status": 503, "chance": 0.5},
            {"status": 502, "chance": 0.5},
            {"status": 504, "chance": 0.5},
        ]
        scenario = {"sometimes": failing, "faults": {"getPrediction": script}}
        case = Case(model=MODELS[0], input={"prompt": "a cat"}, scenario=scenario)

        def story(seed: int) -> list[tuple[int, str | None]]:
            driver = CallableDriver(client.call_once)
            with Harness(CONTRACT, seed=seed) as harness:
                run = harness.play(case, driver, Limits())
            assert run.last_status == run.exchanges[-1].prediction_status
            return [(exchange.status, exchange.prediction_status) for exchange in run.exchanges]

        assert story(0) == story(1) == story(2)

    def test_only_a_client_that_gives_up_by_itself_meets_what_never_ends(self) -> None:
        def endless(client_timeout: float | None) -> bool:
            found = fixed_cases(CONTRACT, MODELS, client_timeout)
            return any(
                case.scenario.get("lifecycle", [{"status": "failed"}])[-1]["status"] == "processing"
                for case in found
            )

        assert not endless(None)
        assert endless(2.0)

    def test_a_refusal_that_took_effect_is_never_played_for_no_client_could_know(self) -> None:
        played = [case.scenario for case in fixed_cases(CONTRACT, MODELS, 1.0)]
        lost = [
            fault
            for scenario in played
            for fault in scenario.get("faults", {}).get("createPrediction", [])
            if fault
        ]
        assert {fault.get("status") for fault in lost if fault.get("after")} == {
            None,
            500,
            502,
            504,
        }


class TestShrinking:
    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(CASES)
    def test_a_step_is_smaller_or_plainer(self, case: Case) -> None:
        for candidate in simpler(case):
            assert len(candidate.key) <= len(case.key) or size(candidate) <= size(case)
            assert candidate != case

    @settings(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(CASES.filter(lambda case: "faults" in case.scenario))
    def test_what_does_not_matter_goes(self, case: Case) -> None:
        def still_fails(candidate: Case) -> bool:
            return _is_allowed(candidate) and "faults" in candidate.scenario

        smallest = shrink(case, first_of(still_fails))
        assert smallest.scenario == {"faults": {}}
        assert list(smallest.input) == ["prompt"]
        assert len(smallest.input["prompt"]) == 1

    def test_what_matters_stays(self) -> None:
        script = [
            None,
            {"status": 429, "retry_after": 1, "page": "html"},
            {"status": 502, "detail": "x" * 50},
        ]
        scenario = {
            "faults": {"createPrediction": script, "getPrediction": [{"cut": 0.5}]},
            "create_status": 201,
        }
        case = Case(model=MODELS[0], input={"prompt": "a cat", "raw": True}, scenario=scenario)

        def still_fails(candidate: Case) -> bool:
            faults = candidate.scenario.get("faults", {}).get("createPrediction", [])
            return _is_allowed(candidate) and any(
                fault and fault.get("status") == 502 for fault in faults
            )

        smallest = shrink(case, first_of(still_fails))
        assert smallest.scenario == {"faults": {"createPrediction": [{"status": 502}]}}
        assert smallest.input == {"prompt": "a"}


class TestHunting:
    def test_a_finding_has_the_smallest_case_and_tells_the_story(self) -> None:
        report = check_client(planted("creates again when the network fails"), max_runs=45)
        finding, clone = report.findings
        assert (finding.rule, finding.title, finding.severity) == (
            "MC201",
            "double billing",
            "error",
        )
        assert (finding.cause, clone.cause) == (
            ("createPrediction", "no response"),
            ("createPrediction", "spoilt response"),
        )
        assert finding.scenario == {
            "faults": {"createPrediction": [{"disconnect": "reset", "after": "commit"}]}
        }
        assert finding.call == {"model": MODELS[0], "input": {"prompt": "a"}}
        assert [line.method for line in finding.exchanges] == ["POST", "POST", "GET", "GET"]
        assert [line.marked for line in finding.exchanges] == [False, True, False, False]
        assert finding.confirmed == 2
        with pytest.raises(FindingsError, match=r"MC201.*double billing"):
            report.raise_for_findings()

    @pytest.mark.thorough
    def test_a_picture_delivered_as_http_frames_it_is_the_picture_whatever_its_bytes(self) -> None:
        cases = list(fixed_cases(CONTRACT, MODELS, None))
        report = check_client(
            partial(client.call_once, variant="download-unchecked"), max_runs=len(cases), budget=60
        )
        assert report.findings == []
        assert report.runs == len(cases)

    def test_it_goes_on_after_a_finding_and_finds_the_next_rule(self) -> None:
        def call(call: Call) -> Any:
            return (
                client.Client(call, "canceled returns nothing").run()
                and client.Client(call, "").run()
            )

        assert {"MC201", "MC301"} <= {
            found.rule for found in check_client(call, max_runs=40).findings
        }

    def test_a_rule_that_is_broken_in_several_ways_has_a_finding_for_each(self) -> None:
        def call(call: Call) -> Any:
            output = client.Client(call, "drops falsy inputs").run()
            httpx.get(
                f"{call.base_url}/v1/predictions?key={call.token}",
                headers={"Authorization": call.token},
            )
            httpx.get(str(output), headers={"Authorization": call.token})
            return output

        found = check_client(call, max_runs=32, ignore=["MC103"])
        causes = {(finding.rule, finding.cause) for finding in found.findings}
        assert {("MC501", ("URL",)), ("MC501", ("files",))} < causes
        assert len({cause for rule, cause in causes if rule == "MC102"}) > 1
        assert len({finding.file_name for finding in found.findings}) == len(found.findings)
        assert found.broken_rules == ["MC102", "MC501"]

    def test_a_client_that_takes_only_https_has_its_other_lies_found_over_http_too(self) -> None:
        def call(call: Call) -> Any:
            if client.call_once(call, "canceled returns nothing") is not None:
                raise ValueError("https is needed")

        found = check_client(call, max_runs=26).findings
        assert {(finding.rule, finding.cause) for finding in found} == {
            ("MC301", ("raised after success",)),
            ("MC301", ("canceled",)),
        }

    def test_an_object_that_is_returned_is_compared_as_its_author_says(self) -> None:
        class Picture:
            def __init__(self, data: bytes) -> None:
                self.size = len(data)

        def call(call: Call) -> Any:
            return Picture(client.call_once(call, variant="download"))

        def same(returned: Any, served: bytes) -> bool:
            return bool(returned.size == len(served))

        assert check_client(call, max_runs=3, result=same).ok
        (finding,) = check_client(call, max_runs=3).findings
        assert (finding.rule, "a Picture, which is not the output" in finding.message) == (
            "MC302",
            True,
        )
        assert check_client(client.call_once, max_runs=3, result=same).ok, (
            "a URL is compared as ever"
        )
        with pytest.raises(
            ClientError, match=r"`result`, which compares .* raised ZeroDivisionError"
        ):
            check_client(call, max_runs=3, result=lambda returned, served: 1 / 0 > 1)

    def test_over_https_the_environment_names_the_certificate(self) -> None:
        def call(call: Call) -> Any:
            assert call.base_url.startswith("https://")
            assert call.ca_file == os.environ["SSL_CERT_FILE"] == os.environ["REQUESTS_CA_BUNDLE"]
            headers = {"Authorization": f"Bearer {call.token}"}
            with httpx.Client(
                base_url=call.base_url, headers=headers, verify=trusting(call.ca_file)
            ) as http:
                created = http.post(
                    f"/v1/models/{call.model}/predictions", json={"input": dict(call.input)}
                )
                prediction = created.raise_for_status().json()
                while prediction["status"] in ("starting", "processing"):
                    prediction = (
                        http.get(f"/v1/predictions/{prediction['id']}").raise_for_status().json()
                    )
                assert prediction["output"].startswith("https://")
                return prediction["output"]

        before = os.environ.get("SSL_CERT_FILE")
        report = check_client(call, max_runs=4, tls=True, jobs=2)
        assert (report.findings, report.runs) == ([], 4)
        assert os.environ.get("SSL_CERT_FILE") == before

    def test_no_rule_has_more_than_five_beside_those_of_the_baseline(self) -> None:
        def call(call: Call) -> Any:
            for name in "abcdefgh":
                httpx.post(
                    f"{call.base_url}/v1/models/{call.model}/predictions",
                    headers={"Authorization": f"Bearer {call.token}"},
                    json={"input": {**call.input, name: 1}},
                )
            return client.call_once(call)

        ignore = ("MC201", "MC102")
        report = check_client(call, max_runs=2, ignore=ignore)
        assert [finding.rule for finding in report.warnings] == ["MC101"] * 5
        assert notes_on(report) == [
            "Ignored: MC102, MC201.",
            "At most 5 ways to break a rule are reported; there may be more of: MC101.",
        ]
        with Harness(CONTRACT) as harness:
            plan = Plan(max_runs=2, ignore=frozenset(ignore), known=tuple(report.warnings))
            further = Hunt(harness, CallableDriver(call), plan).run()
        assert [finding.rule for finding in further.accepted] == ["MC101"] * 5
        assert {finding.cause for finding in further.warnings}.isdisjoint(
            finding.cause for finding in report.warnings
        )
        assert len(further.warnings) == 3

    def test_the_same_seed_plays_the_same_cases(self) -> None:
        def played(seed: int) -> list[tuple[str, str]]:
            seen: list[tuple[str, str]] = []

            def call(call: Call) -> Any:
                seen.append((call.token, call.input["prompt"]))
                if len(seen) > len(MODELS):
                    raise RuntimeError(
                        "not today"
                    )  # without a request, so that each run is over at once
                return client.call_once(call)

            with pytest.raises(ClientError, match="stopped working"):
                check_client(call, max_runs=170, seed=seed)
            return seen

        first = played(7)
        assert first == played(7)
        assert first != played(8)

    def test_a_client_that_uses_its_input_up_does_no_harm_to_the_case(self) -> None:
        def call(call: Call) -> Any:
            given = dict(call.input)
            call.input.clear()  # type: ignore[attr-defined]
            return client.call_once(
                Call(call.base_url, call.token, call.model, given), "returns urls.get"
            )

        (finding,) = check_client(call, max_runs=2).findings
        assert finding.call["input"] == {"prompt": "a"}

    def test_models_and_rules_can_be_left_out(self) -> None:
        asked = set()

        def call(call: Call) -> Any:
            asked.add(call.model)
            return client.call_once(call, "canceled returns nothing")

        assert check_client(call, models=MODELS[1:], max_runs=25, ignore=["MC301"]).ok
        assert asked == set(MODELS[1:])

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"models": ["a/b"]}, "no model a/b; it has"),
            ({"ignore": ["MC999"]}, "no rule MC999"),
            ({"client_timeout": 60}, "budget of at least 248 s is needed, not 30: 4 cases last"),
        ],
    )
    def test_a_wrong_word_is_told(self, settings: dict[str, Any], said: str) -> None:
        with pytest.raises(MockServerError, match=said):
            check_client(client.call_once, **settings)

    def test_a_client_that_makes_no_request_is_no_clean_client(self) -> None:
        def call(call: Call) -> str:
            raise ModuleNotFoundError("No module named 'flux'")

        with pytest.raises(ClientError, match=r"no request.*\n.*No module named 'flux'"):
            check_client(call)

    def test_one_that_fails_for_a_model_without_a_reason_is_told_so(self) -> None:
        def call(call: Call) -> Any:
            if call.model == MODELS[1]:
                raise KeyError(call.model)
            return client.call_once(call)

        with pytest.raises(
            ClientError,
            match=rf"with {MODELS[1]}, the client made no request .*\n.*\n.*--model {MODELS[0]}",
        ):
            check_client(call, max_runs=2)
        assert check_client(call, max_runs=2, models=MODELS[:1]).ok

    @pytest.mark.parametrize("known", [False, True])
    def test_a_broken_rule_that_is_not_told_is_no_excuse_for_one_that_creates_nothing(
        self, known: bool
    ) -> None:
        call = planted("typo in the path")
        with Harness(CONTRACT) as harness:
            found = tuple(Hunt(harness, CallableDriver(call), Plan(max_runs=2)).run().findings)
            assert {finding.rule for finding in found} == {"MC101"}
            plan = (
                Plan(max_runs=2, known=found)
                if known
                else Plan(max_runs=2, ignore=frozenset(["MC101"]))
            )
            with pytest.raises(ClientError, match="created no prediction"):
                Hunt(harness, CallableDriver(call), plan).run()

    def test_nor_is_one_that_creates_nothing(self) -> None:
        def call(call: Call) -> str:
            httpx.get(
                f"{call.base_url}/v1/predictions", headers={"Authorization": f"Bearer {call.token}"}
            )
            raise RuntimeError("no model today")

        with pytest.raises(ClientError, match=r"created no prediction.*\n.*no model today"):
            check_client(call)

    def test_a_client_too_slow_for_the_deadline_is_told_so(self) -> None:
        with pytest.raises(ClientError, match="longer --deadline"):
            check_client(partial(client.call_once, variant="slow"), deadline=0.15)

    def test_what_is_seen_once_and_not_again_is_flaky_and_held_against_nobody(self) -> None:
        returned = 0

        def call(call: Call) -> Any:
            nonlocal returned
            output = client.call_once(call)
            returned += 1
            return "nonsense" if returned == 3 else output

        report = check_client(call, max_runs=12)
        assert (report.ok, report.flaky) == (True, ["MC302"])

    def test_the_budget_is_kept(self) -> None:
        report = check_client(partial(client.call_once, variant="slow"), budget=1.5)
        assert report.seconds < 3
        assert 2 <= report.runs < 30

    def test_when_the_time_is_over_each_rule_is_still_confirmed_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls, returned, release = itertools.count(), itertools.count(1), threading.Event()
        over = threading.Event()

        def call(call: Call) -> Any:
            if next(calls) == len(
                MODELS
            ):  # the first case of the hunt, so that those after it are played and not judged
                release.wait(60)
            output = client.call_once(call, "drops falsy inputs")
            if next(returned) == 16:
                over.set()
            return output

        hours = 10**13
        monkeypatch.setattr(
            "mockserver.check.hunt.budget.wall_time", lambda: wall_time() + hours * over.is_set()
        )
        try:
            report = check_client(call, jobs=4, budget=600)
        finally:
            release.set()
        assert report.runs > 10
        assert [finding.rule for finding in report.findings] == ["MC102"]

    def test_a_client_that_breaks_down_for_good_is_not_cleared(self) -> None:
        broken: list[bool] = []

        def call(call: Call) -> Any:
            if broken:
                raise client.FluxError("the session is closed")
            try:
                return client.call_once(call)
            except OSError:
                broken.append(True)
                raise

        with pytest.raises(
            ClientError, match=r"In \d+ of 60 runs the client sent nothing.*the session is closed"
        ):
            check_client(call, max_runs=60)

    def test_a_read_that_comes_late_is_not_held_against_the_next_run(self) -> None:
        earlier: list[tuple[str, str]] = []

        def call(call: Call) -> Any:
            while earlier:
                address, token = earlier.pop()
                httpx.get(address, headers={"Authorization": f"Bearer {token}"})
            asking = client.Client(call)
            with closing(asking.connection):
                prediction = asking.create()
                earlier.append((f"{call.base_url}/v1/predictions/{prediction['id']}", call.token))
                return asking.result(asking.follow(prediction))

        report = check_client(call, max_runs=12, budget=60)
        assert (report.findings, report.runs) == ([], 12)

    def test_a_client_that_keeps_its_first_token_is_found(self) -> None:
        first: list[Call] = []

        def call(call: Call) -> Any:
            first.append(call)
            return client.call_once(dataclasses.replace(call, token=first[0].token))

        report = check_client(call, max_runs=3, budget=60)
        assert "MC103" in {found.rule for found in report.findings}

    def test_a_runaway_is_cut_off_and_ends_long_before_the_deadline(self) -> None:
        report = check_client(planted("does not know aborted"), max_runs=26, deadline=60, budget=40)
        assert [finding.rule for finding in report.findings] == ["MC303"]
        assert report.seconds < 20
        assert "was refused everything from here on" in report.findings[0].outcome

    def test_progress_is_reported_while_a_call_lasts(self) -> None:
        def call(call: Call) -> Any:
            time.sleep(0.6)
            return client.call_once(call)

        seen: list[Progress] = []
        with Harness(CONTRACT) as harness:
            Hunt(harness, CallableDriver(call), Plan(max_runs=1), seen.append).run()
        looking = [
            progress.elapsed
            for progress in seen
            if progress.doing == "looking" and progress.runs == 0
        ]
        assert len(looking) > 5
        assert looking[-1] - looking[0] > 0.4

    @pytest.mark.thorough
    def test_a_thread_that_never_ends_is_left_behind(self) -> None:
        with waiting_after_trouble() as call:
            report = check_client(call, max_runs=26, deadline=0.7, budget=20)
        assert {finding.rule for finding in report.findings} == {"MC304"}

    def test_a_long_retry_after_is_waited_out_by_the_client_and_not_by_the_hunt(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fixed = list(fixed_cases(CONTRACT, MODELS, None))
        (long,) = [case for case in fixed if str(LONG_RETRY_AFTER) in str(case.scenario)]
        monkeypatch.setattr(
            "mockserver.check.hunt.hunt.fixed_cases", lambda *_: iter([fixed[0], long])
        )
        with waiting_after_trouble() as call:
            waits = check_client(call, max_runs=2, deadline=30)
        assert (waits.runs, waits.findings, waits.undecided) == (2, [], 0)
        (early,) = check_client(planted("takes a long Retry-After for none"), max_runs=2).findings
        assert (early.rule, early.scenario) == ("MC401", long.scenario)

    def test_ctrl_c_keeps_what_was_found(self) -> None:
        def listen(progress: Progress) -> None:
            if progress.broken_rules:
                raise KeyboardInterrupt

        with Harness(CONTRACT) as harness:
            plan = Plan()
            report = Hunt(
                harness, CallableDriver(planted("first character of the output")), plan, listen
            ).run()
        assert report.interrupted
        with pytest.raises(FindingsError):
            report.raise_for_findings()
        with pytest.raises(KeyboardInterrupt):
            Report(runs=3, interrupted=True).raise_for_findings()
        assert not Report(runs=3, interrupted=True).ok
        assert [finding.rule for finding in report.findings] == ["MC302"]

    def test_a_baseline_accepts_what_is_known_and_tells_what_is_fixed(self) -> None:
        known = check_client(planted("canceled returns nothing"), max_runs=25).findings
        with Harness(CONTRACT) as harness:
            plan = Plan(max_runs=25, known=tuple(known))
            still = Hunt(harness, CallableDriver(planted("canceled returns nothing")), plan).run()
            fixed = Hunt(harness, CallableDriver(client.call_once), plan).run()
        assert still.ok
        assert [finding.rule for finding in still.accepted] == ["MC301"]
        assert (fixed.fixed, fixed.accepted) == (["MC301"], [])

    def test_a_finding_is_saved_and_replayed(self, tmp_path: Path) -> None:
        (finding,) = check_client(planted("returns urls.get"), max_runs=3).findings
        path = finding.save(tmp_path / "found")
        saved = Finding.read(path)
        assert saved == finding
        assert path.name.startswith("MC302-")
        with Harness(CONTRACT) as harness:
            again = replay(harness, CallableDriver(planted("returns urls.get")), saved, Limits())
            kept = replay(harness, CallableDriver(client.call_once), saved, Limits())
        assert (again.confirmed, kept.confirmed) == (1, 0)

    def test_a_replay_takes_a_rule_for_broken_whatever_breaks_it_and_a_client_that_sends_nothing_for_none(
        self,
    ) -> None:
        def nothing(call: Call) -> str:
            raise OSError("no network")

        (finding,) = check_client(planted("returns urls.get"), max_runs=3).findings
        with Harness(CONTRACT) as harness:
            other = CallableDriver(
                lambda call: client.call_once(call) and "http://wrong.example/x.jpg"
            )
            assert replay(harness, other, finding, Limits()).confirmed == 1
            with pytest.raises(
                ClientError,
                match=r"made no request \(it raised\)\. Make sure .*Client output:\nOSError: no network",
            ):
                replay(harness, CallableDriver(nothing), finding, Limits())

    @pytest.mark.thorough
    def test_what_a_baseline_accepts_takes_nothing_from_the_budget(self) -> None:
        limits = Limits(deadline=0.7)
        with waiting_after_trouble() as call, Harness(CONTRACT) as harness:
            known = tuple(
                Hunt(harness, CallableDriver(call), Plan(max_runs=26, limits=limits)).run().findings
            )
            plan = Plan(max_runs=3, budget=0.5, limits=limits, known=known)
            report = Hunt(harness, CallableDriver(call), plan).run()
        assert {finding.rule for finding in report.accepted} == {"MC304"}
        assert report.runs > 0

    def test_a_hunt_that_looked_at_nothing_says_so(self) -> None:
        with pytest.raises(
            MockServerError, match=r"budget of 0\.001 s was spent before a single case"
        ):
            check_client(partial(client.call_once, variant="slow"), budget=0.001)

    def test_a_third_model_needs_no_line_of_python(self, tmp_path: Path) -> None:
        path = tmp_path / "contract.yaml"
        path.write_bytes(CONTRACT.source.replace(b"flux-kontext-max", b"flux-kontext-pro"))
        contract = Contract.load(path)
        models = list(contract.models)
        report = check_client(
            planted("drops falsy inputs"), contract=path, models=models[1:], max_runs=26
        )
        assert {(finding.rule, finding.call["model"]) for finding in report.findings} == {
            ("MC102", models[1])
        }


def trusting(ca_file: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)


def first_of(fails: Callable[[Case], bool]) -> Callable[[Sequence[Case]], Case | None]:
    return lambda steps: next(filter(fails, steps), None)


def _is_allowed(case: Case) -> bool:
    try:
        CATALOGUE.parse(case.scenario)
    except ScenarioError:
        return False
    return is_valid(operation_of(CONTRACT, case.model), case.input)


def test_simpler_values_of_the_same_kind_come_after_leaving_out() -> None:
    case = Case(model="m", input={"n": 5, "flag": True, "list": [1, 2]})
    inputs = [candidate.input for candidate in simpler(case)]
    assert {"flag": True, "list": [1, 2]} in inputs
    assert {"n": 0, "flag": True, "list": [1, 2]} in inputs
    assert {"n": 5, "flag": True, "list": [2]} in inputs
