"""The hunt: the cases it plays, how it shrinks them, and its limits."""

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
    """The lists of faults in scenarios."""
    return (script for scenario in scenarios for script in scenario.get("faults", {}).values())


def planted(bug: str) -> Callable[[Call], Any]:
    return partial(client.call_once, bug=bug)


@contextmanager
def waiting_after_trouble() -> Iterator[Callable[[Call], Any]]:
    """A client that waits until the end of the `with` block where it should raise."""
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
    def test_the_contract_allows_every_sampled_case(self, case: Case) -> None:
        assert is_valid(operation_of(CONTRACT, case.model), case.input)
        CATALOGUE.parse(case.scenario)
        assert msgspec.json.decode(msgspec.json.encode(case), type=Case) == case

    def test_boundary_inputs_contain_every_property_at_its_limits(self) -> None:
        for operation in CONTRACT.models.values():
            inputs = list(boundary_inputs(operation))
            assert all(is_valid(operation, case) for case in inputs)
            assert {name for case in inputs for name in case} == set(operation.input)
            assert inputs[0] == {"prompt": "a"}
            assert any(
                case.get("safety_tolerance") == operation.input["safety_tolerance"]["minimum"]
                for case in inputs
            )

    def test_fixed_cases_contain_every_terminal_status_and_every_response_status(self) -> None:
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

    def test_predictions_outlast_prefer_wait_and_throttled_creates_have_a_retry_after(
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
    def test_every_part_of_a_scenario_is_played(self) -> None:
        sampled = [case.scenario for case in sample_all(CASES, 0, 400, 400)]
        played = [*sampled, *(case.scenario for case in fixed_cases(CONTRACT, MODELS, 1.0))]
        assert {part for scenario in played for part in scenario} == set(
            CATALOGUE.schema["properties"]
        ) - NOT_PLAYED
        for part in ("body", "stream", "webhooks"):
            held = {name for scenario in played for name in scenario.get(part, {})}
            assert held == set(CATALOGUE.schema["properties"][part]["properties"]), part
        assert {name for scenario in sampled for name in scenario} >= {
            "limits",
            "sometimes",
            *VARIETY,
        }
        assert {scenario["wait"] for scenario in sampled if "wait" in scenario} == {
            "final",
            "processing",
        }
        limited = {name for scenario in sampled for name in scenario.get("limits", {})}
        assert limited == {"createPrediction", "getPrediction"}
        assert any(fault and "chance" in fault for script in scripts(sampled) for fault in script)

    @pytest.mark.thorough
    def test_slow_cases_are_sampled_rarely(self) -> None:
        sampled = [case.scenario for case in sample_all(CASES, 0, 400, 400)]
        assert sum("limits" in scenario for scenario in sampled) < 60

    def test_chance_has_the_same_results_in_every_play(self) -> None:
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

    def test_endless_predictions_are_played_only_to_clients_with_a_timeout(self) -> None:
        def endless(client_timeout: float | None) -> bool:
            fixed = fixed_cases(CONTRACT, MODELS, client_timeout)
            return any(
                case.scenario.get("lifecycle", [{"status": "failed"}])[-1]["status"] == "processing"
                for case in fixed
            )

        assert not endless(None)
        assert endless(2.0)

    def test_creates_that_take_effect_fail_only_with_ambiguous_statuses(self) -> None:
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
    def test_each_step_is_smaller_or_simpler(self, case: Case) -> None:
        for candidate in simpler(case):
            assert len(candidate.key) <= len(case.key) or size(candidate) <= size(case)
            assert candidate != case

    @settings(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(CASES.filter(lambda case: "faults" in case.scenario))
    def test_irrelevant_parts_are_removed(self, case: Case) -> None:
        def still_fails(candidate: Case) -> bool:
            return _is_allowed(candidate) and "faults" in candidate.scenario

        smallest = shrink(case, first_of(still_fails))
        assert smallest.scenario == {"faults": {}}
        assert list(smallest.input) == ["prompt"]
        assert len(smallest.input["prompt"]) == 1

    def test_relevant_parts_are_kept(self) -> None:
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
    def test_a_finding_has_the_smallest_case_and_its_exchanges(self) -> None:
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
    def test_a_picture_with_a_matching_content_length_is_accepted_whatever_its_bytes(self) -> None:
        cases = list(fixed_cases(CONTRACT, MODELS, None))
        report = check_client(
            partial(client.call_once, variant="download-unchecked"), max_runs=len(cases), budget=600
        )
        assert report.findings == []
        assert report.runs == len(cases)

    def test_the_hunt_continues_after_a_finding(self) -> None:
        def call(call: Call) -> Any:
            return (
                client.Client(call, "canceled returns nothing").run()
                and client.Client(call, "").run()
            )

        assert {"MC201", "MC301"} <= {
            finding.rule for finding in check_client(call, max_runs=40).findings
        }

    def test_a_rule_broken_in_several_ways_has_a_finding_for_each(self) -> None:
        def call(call: Call) -> Any:
            output = client.Client(call, "drops falsy inputs").run()
            httpx.get(
                f"{call.base_url}/v1/predictions?key={call.token}",
                headers={"Authorization": call.token},
            )
            httpx.get(str(output), headers={"Authorization": call.token})
            return output

        report = check_client(call, max_runs=32, ignore=["MC103"])
        causes = {(finding.rule, finding.cause) for finding in report.findings}
        assert {("MC501", ("URL",)), ("MC501", ("files",))} < causes
        assert len({cause for rule, cause in causes if rule == "MC102"}) > 1
        assert len({finding.file_name for finding in report.findings}) == len(report.findings)
        assert report.broken_rules == ["MC102", "MC501"]

    def test_a_client_that_rejects_http_urls_still_gets_its_other_findings(self) -> None:
        def call(call: Call) -> Any:
            if client.call_once(call, "canceled returns nothing") is not None:
                raise ValueError("https is needed")

        findings = check_client(call, max_runs=26).findings
        assert {(finding.rule, finding.cause) for finding in findings} == {
            ("MC301", ("raised after success",)),
            ("MC301", ("canceled",)),
        }

    def test_returned_objects_are_compared_by_the_result_function(self) -> None:
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

    def test_with_tls_the_environment_names_the_certificate(self) -> None:
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

    def test_a_rule_has_at_most_five_findings_besides_the_baseline(self) -> None:
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
                    )  # without a request, so that each run ends immediately
                return client.call_once(call)

            with pytest.raises(ClientError, match="stopped working"):
                check_client(call, max_runs=170, seed=seed)
            return seen

        first = played(7)
        assert first == played(7)
        assert first != played(8)

    def test_a_client_that_clears_its_input_does_not_change_the_case(self) -> None:
        def call(call: Call) -> Any:
            own_input = dict(call.input)
            call.input.clear()  # type: ignore[attr-defined]
            return client.call_once(
                Call(call.base_url, call.token, call.model, own_input), "returns urls.get"
            )

        (finding,) = check_client(call, max_runs=2).findings
        assert finding.call["input"] == {"prompt": "a"}

    def test_models_and_rules_can_be_excluded(self) -> None:
        models = set()

        def call(call: Call) -> Any:
            models.add(call.model)
            return client.call_once(call, "canceled returns nothing")

        assert check_client(call, models=MODELS[1:], max_runs=25, ignore=["MC301"]).ok
        assert models == set(MODELS[1:])

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"models": ["a/b"]}, "no model a/b; it has"),
            ({"ignore": ["MC999"]}, "no rule MC999"),
            ({"client_timeout": 60}, "budget of at least 248 s is needed, not 30: 4 cases last"),
        ],
    )
    def test_invalid_arguments_are_reported(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(MockServerError, match=message):
            check_client(client.call_once, **settings)

    def test_a_client_that_makes_no_request_is_an_error(self) -> None:
        def call(call: Call) -> str:
            raise ModuleNotFoundError("No module named 'flux'")

        with pytest.raises(ClientError, match=r"no request.*\n.*No module named 'flux'"):
            check_client(call)

    def test_a_client_that_fails_for_one_model_is_an_error_that_names_it(self) -> None:
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
    def test_an_unreported_breach_does_not_excuse_a_client_that_creates_nothing(
        self, known: bool
    ) -> None:
        call = planted("typo in the path")
        with Harness(CONTRACT) as harness:
            findings = tuple(Hunt(harness, CallableDriver(call), Plan(max_runs=2)).run().findings)
            assert {finding.rule for finding in findings} == {"MC101"}
            plan = (
                Plan(max_runs=2, known=findings)
                if known
                else Plan(max_runs=2, ignore=frozenset(["MC101"]))
            )
            with pytest.raises(ClientError, match="created no prediction"):
                Hunt(harness, CallableDriver(call), plan).run()

    def test_a_client_that_creates_nothing_is_an_error(self) -> None:
        def call(call: Call) -> str:
            httpx.get(
                f"{call.base_url}/v1/predictions", headers={"Authorization": f"Bearer {call.token}"}
            )
            raise RuntimeError("no model today")

        with pytest.raises(ClientError, match=r"created no prediction.*\n.*no model today"):
            check_client(call)

    def test_a_client_too_slow_for_the_deadline_is_an_error(self) -> None:
        with pytest.raises(ClientError, match="longer --deadline"):
            check_client(partial(client.call_once, variant="slow"), deadline=0.15)

    def test_a_breach_that_does_not_recur_is_flaky_and_not_a_finding(self) -> None:
        returned = 0

        def call(call: Call) -> Any:
            nonlocal returned
            output = client.call_once(call)
            returned += 1
            return "nonsense" if returned == 3 else output

        report = check_client(call, max_runs=12)
        assert (report.ok, report.flaky) == (True, ["MC302"])

    def test_the_hunt_keeps_to_its_budget(self) -> None:
        report = check_client(partial(client.call_once, variant="slow"), budget=1.5)
        assert report.seconds < 3
        assert 2 <= report.runs < 30

    def test_at_the_end_of_the_budget_each_rule_is_still_confirmed_once(
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

    def test_a_client_that_stops_working_is_an_error(self) -> None:
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

    def test_a_late_poll_is_not_attributed_to_the_next_run(self) -> None:
        earlier: list[tuple[str, str]] = []

        def call(call: Call) -> Any:
            while earlier:
                address, token = earlier.pop()
                httpx.get(address, headers={"Authorization": f"Bearer {token}"})
            late = client.Client(call)
            with closing(late.connection):
                prediction = late.create()
                earlier.append((f"{call.base_url}/v1/predictions/{prediction['id']}", call.token))
                return late.result(late.follow(prediction))

        report = check_client(call, max_runs=12, budget=60)
        assert (report.findings, report.runs) == ([], 12)

    def test_a_client_that_keeps_its_first_token_breaks_a_rule(self) -> None:
        first: list[Call] = []

        def call(call: Call) -> Any:
            first.append(call)
            return client.call_once(dataclasses.replace(call, token=first[0].token))

        report = check_client(call, max_runs=3, budget=60)
        assert "MC103" in {finding.rule for finding in report.findings}

    def test_a_runaway_client_is_cut_off_long_before_the_deadline(self) -> None:
        report = check_client(planted("does not know aborted"), max_runs=26, deadline=60, budget=40)
        assert [finding.rule for finding in report.findings] == ["MC303"]
        assert report.seconds < 20
        assert "was refused everything from here on" in report.findings[0].outcome

    def test_progress_is_reported_during_a_call(self) -> None:
        def call(call: Call) -> Any:
            time.sleep(0.6)
            return client.call_once(call)

        seen: list[Progress] = []
        with Harness(CONTRACT) as harness:
            Hunt(harness, CallableDriver(call), Plan(max_runs=1), seen.append).run()
        searching = [
            progress.elapsed
            for progress in seen
            if progress.doing == "searching" and progress.runs == 0
        ]
        assert len(searching) > 5
        assert searching[-1] - searching[0] > 0.4

    @pytest.mark.thorough
    def test_a_thread_that_never_ends_is_left_behind(self) -> None:
        with waiting_after_trouble() as call:
            report = check_client(call, max_runs=26, deadline=0.7, budget=20)
        assert {finding.rule for finding in report.findings} == {"MC304"}

    def test_the_hunt_does_not_wait_out_a_long_retry_after(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fixed = list(fixed_cases(CONTRACT, MODELS, None))
        (long,) = [case for case in fixed if str(LONG_RETRY_AFTER) in str(case.scenario)]
        monkeypatch.setattr(
            "mockserver.check.hunt.case_source.fixed_cases", lambda *_: iter([fixed[0], long])
        )
        with waiting_after_trouble() as call:
            waits = check_client(call, max_runs=2, deadline=30)
        assert (waits.runs, waits.findings, waits.undecided) == (2, [], 0)
        (early,) = check_client(planted("takes a long Retry-After for none"), max_runs=2).findings
        assert (early.rule, early.scenario) == ("MC401", long.scenario)

    def test_ctrl_c_keeps_the_findings_so_far(self) -> None:
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

    def test_a_baseline_accepts_known_findings_and_lists_fixed_ones(self) -> None:
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

    def test_a_replay_accepts_another_cause_and_rejects_a_client_that_sends_nothing(
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
                match=r"made no request \(it raised\)\. .*Client output:\nOSError: no network",
            ):
                replay(harness, CallableDriver(nothing), finding, Limits())

    @pytest.mark.thorough
    def test_replaying_the_baseline_does_not_count_toward_the_budget(self) -> None:
        limits = Limits(deadline=0.7)
        with waiting_after_trouble() as call, Harness(CONTRACT) as harness:
            known = tuple(
                Hunt(harness, CallableDriver(call), Plan(max_runs=26, limits=limits)).run().findings
            )
            plan = Plan(max_runs=3, budget=0.5, limits=limits, known=known)
            report = Hunt(harness, CallableDriver(call), plan).run()
        assert {finding.rule for finding in report.accepted} == {"MC304"}
        assert report.runs > 0

    def test_a_hunt_without_a_single_run_is_an_error(self) -> None:
        with pytest.raises(
            MockServerError, match=r"budget of 0\.001 s was spent before a single case"
        ):
            check_client(partial(client.call_once, variant="slow"), budget=0.001)

    def test_another_model_needs_only_another_contract(self, tmp_path: Path) -> None:
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


def test_values_are_simplified_after_parts_were_removed() -> None:
    case = Case(model="m", input={"n": 5, "flag": True, "list": [1, 2]})
    inputs = [candidate.input for candidate in simpler(case)]
    assert {"flag": True, "list": [1, 2]} in inputs
    assert {"n": 0, "flag": True, "list": [1, 2]} in inputs
    assert {"n": 5, "flag": True, "list": [2]} in inputs
