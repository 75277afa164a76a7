"""Scenarios as values: read, checked against their schema and the contract, and applied."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mockserver import Body, Fault, MockServer, Scenario, Step
from mockserver.errors import ScenarioError
from mockserver.scenarios.catalogue import Catalogue
from mockserver.scenarios.scenario import fault_at, script_length
from mockserver.scenarios.variation import vary
from tests.helpers.documents import CONTRACT

CATALOGUE = Catalogue(CONTRACT)
PROMISED = [
    "succeeded",
    "immediate",
    "slow",
    "failed",
    "nsfw",
    "canceled",
    "aborted",
    "stuck",
    "rate-limited",
    "flaky",
    "outage",
    "unauthorized",
    "out-of-credit",
    "expired",
    "silent-processing",
]

FAULTS = st.one_of(
    st.none(),
    st.builds(
        Fault,
        status=st.sampled_from([429, 500, 503]),
        page=st.sampled_from(["api", "html", "text", "empty"]),
        retry_after=st.none() | st.integers(0, 100) | st.just("soon"),
        times=st.integers(1, 5),
    ),
    st.builds(
        Fault,
        disconnect=st.sampled_from(["close", "reset"]),
        after=st.sampled_from([None, "commit"]),
    ),
    st.builds(Fault, cut=st.floats(0, 0.99), delay=st.none() | st.floats(0.1, 5)),
    st.builds(Fault, body=st.sampled_from(["malformed", "empty"])),
    st.builds(Fault, delay=st.floats(0.1, 5)),
)
LIFECYCLES = st.sampled_from([scenario.lifecycle for scenario in CATALOGUE])
SCENARIOS = st.builds(
    Scenario,
    name=st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True),
    lifecycle=LIFECYCLES,
    retention=st.floats(0, 7200),
    faults=st.dictionaries(
        st.sampled_from(["createPrediction", "*"]), st.lists(FAULTS, max_size=5).map(tuple)
    ),
    body=st.builds(
        Body,
        extra=st.dictionaries(st.sampled_from(["queue_position", "x"]), st.integers() | st.text()),
        omit=st.lists(
            st.sampled_from(["metrics", "logs", "started_at", "urls.stream"]), unique=True
        ).map(tuple),
        null=st.sampled_from([(), ("logs",)]),
        fraction=st.none() | st.integers(0, 9),
    ),
    headers=st.dictionaries(
        st.sampled_from(["X-Served-By", "x-cost"]), st.sampled_from(["0", "cache 7"])
    ),
    create_status=st.sampled_from([None, 200, 201, 202]),
    errors=st.sampled_from([None, "replicate", "new-api"]),
    wait=st.sampled_from(["final", "processing"]),
)


def test_the_promised_names_are_there_and_described() -> None:
    assert {scenario.name for scenario in CATALOGUE} >= set(PROMISED)
    assert all(scenario.description for scenario in CATALOGUE)


@given(SCENARIOS)
def test_a_scenario_is_read_back_from_its_json(scenario: Scenario) -> None:
    assert CATALOGUE.parse(scenario.as_json()) == scenario
    assert CATALOGUE.coerce(scenario) == scenario


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("text", '/: "text" is not of type "object"'),
        ({"name": "Has Spaces"}, "/name"),
        ({"lifecycle": []}, "/lifecycle"),
        (
            {"lifecycle": [{"status": "done"}]},
            "/lifecycle/0/status: 'done' is not a status; there are: starting,",
        ),
        (
            {"lifecycle": [{"status": "processing", "seconds": 1}, {"status": "starting"}]},
            "/lifecycle/1/status: starting cannot follow processing",
        ),
        (
            {"lifecycle": [{"status": "succeeded"}, {"status": "failed"}]},
            "/lifecycle/1/status: failed cannot follow succeeded",
        ),
        (
            {"lifecycle": [{"status": "processing", "seconds": 1}, {"status": "aborted"}]},
            "/lifecycle/1/status: aborted is for what never started",
        ),
        (
            {"lifecycle": [{"status": "failed", "seconds": 1}]},
            "/lifecycle/0/seconds: failed is terminal",
        ),
        (
            {"lifecycle": [{"status": "starting"}, {"status": "failed"}]},
            "/lifecycle/0/seconds: needed",
        ),
        (
            {"lifecycle": [{"status": "processing", "polls": 3}]},
            "/lifecycle/0/polls: a status that lasts for no time",
        ),
        (
            {"lifecycle": [{"status": "succeeded", "error": "e"}]},
            "/lifecycle/0/error: only failed has an error",
        ),
        (
            {"faults": {"getFoo": [{"status": 500}]}},
            "/faults/getFoo: no such operation; there are: *, createPrediction",
        ),
        (
            {"faults": {"getPrediction": [{"status": 418}]}},
            "/faults/getPrediction/0/status: the contract has no 418",
        ),
        (
            {"faults": {"getPrediction": [None, {"delay": 1, "after": "commit"}]}},
            "/faults/getPrediction/1/after: getPrediction changes nothing",
        ),
        (
            {"faults": {"*": [{"status": 500, "cut": 0.5}]}},
            "/faults/*/0: a fault has exactly one of status,",
        ),
        ({"faults": {"*": [{"times": 2}]}}, "/faults/*/0: a fault has exactly one of status,"),
        ({"faults": {"*": [{"cut": 1}]}}, "/faults/*/0/cut"),
        ({"faults": {"*": [{"disconnect": "close", "retry_after": 1}]}}, "/faults/*/0"),
        (
            {"faults": {"*": [{"status": 500, "times": "always"}, None]}},
            "/faults/*/0/times: what follows an endless fault is never met",
        ),
        ({"body": {"extra": {"id": 1}}}, "/body/extra/id: the contract knows id"),
        ({"body": {"omit": ["status"]}}, "/body/omit: the contract requires status"),
        (
            {"body": {"null": ["created_at"]}},
            "/body/null: the contract never lets created_at be null",
        ),
        ({"body": {"null": ["foo"]}}, "/body/null: the contract never lets foo be null"),
        (
            {"create_status": 204},
            "/create_status: the contract answers a create with one of [200, 201, 202]",
        ),
        ({"urls": "elsewhere"}, "/urls"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_what_contradicts_itself_or_the_contract_is_refused_with_reason_and_place(
    value: Any, said: str
) -> None:
    with pytest.raises(ScenarioError) as refusal:
        CATALOGUE.parse(value)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_every_contradiction_is_told_at_once() -> None:
    with pytest.raises(ScenarioError) as refusal:
        CATALOGUE.parse(
            {
                "lifecycle": [{"status": "done"}],
                "create_status": 204,
                "body": {"omit": ["id", "model"]},
            }
        )
    assert str(refusal.value).count(";") >= 3


def test_a_wrong_name_is_told_with_the_right_ones_and_the_nearest() -> None:
    with pytest.raises(ScenarioError, match=r"did you mean nsfw.*there are: succeeded, immediate"):
        CATALOGUE.named("nfsw")


def test_a_whole_number_may_be_written_as_a_fraction() -> None:
    written = {
        "create_status": 201.0,
        "faults": {"getPrediction": [{"status": 503.0, "times": 2.0}]},
    }
    whole = {"create_status": 201, "faults": {"getPrediction": [{"status": 503, "times": 2}]}}
    assert CATALOGUE.parse(written) == CATALOGUE.parse(whole)


@pytest.mark.parametrize(("former", "now"), [("upstream", "replicate"), ("gateway", "new-api")])
def test_the_former_name_of_a_dialect_is_accepted(former: str, now: str) -> None:
    assert CATALOGUE.parse({"errors": former}).as_json()["errors"] == now


def test_a_scenario_is_given_by_name_by_value_or_by_file(tmp_path: Path) -> None:
    nsfw = CATALOGUE.named("nsfw")
    assert CATALOGUE.coerce("nsfw") == CATALOGUE.coerce({"name": "nsfw"}) == nsfw
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nlifecycle: [{status: failed, error: broken}]\n")
    assert CATALOGUE.read(str(file)).lifecycle == (Step("failed", error="broken"),)
    assert CATALOGUE.read("nsfw") == nsfw
    file.write_text("name: mine\nbody: {null: [logs]}\ndescription: 2025-01-01\n")
    assert CATALOGUE.read(str(file)).body.null == ("logs",)
    file.write_text("1: 2\n")
    with pytest.raises(ScenarioError, match="'1'"):
        CATALOGUE.read(str(file))
    file.write_text("{")
    with pytest.raises(ScenarioError, match=r"mine\.yaml"):
        CATALOGUE.read(str(file))


@given(st.lists(FAULTS, max_size=6), st.integers(0, 40))
def test_a_script_is_its_faults_each_as_often_as_it_says(
    faults: list[Fault | None], number: int
) -> None:
    played = [fault for fault in faults for _ in range(1 if fault is None else int(fault.times))]
    assert script_length(faults) == len(played)
    assert fault_at(faults, number) == (played[number] if number < len(played) else None)


def test_an_endless_fault_has_no_end() -> None:
    faults = [None, Fault(status=500, times="always")]
    assert script_length(faults) is None
    assert fault_at(faults, 10**6) == faults[1]


@given(
    SCENARIOS,
    st.sampled_from(list(CONTRACT.templates)),
    st.sampled_from(["getPrediction", "cancelPrediction"]),
)
def test_variety_stays_within_the_contract(scenario: Scenario, status: str, name: str) -> None:
    operation, shown = CONTRACT.by_id[name], CONTRACT.templates[status]
    varied = vary(scenario.body, operation, 200, shown)
    assert operation.check_response(200, "application/json", varied) == []
    assert {key: varied[key] for key in scenario.body.extra} == scenario.body.extra
    assert varied.keys() >= shown.keys() - set(scenario.body.omit)
    assert ("stream" in varied["urls"]) == ("urls.stream" not in scenario.body.omit)
    if scenario.body.fraction is not None:
        assert len(varied["created_at"].partition(".")[2].rstrip("Z")) == scenario.body.fraction


def test_an_operations_own_faults_come_before_those_of_its_kind_and_of_all() -> None:
    ultra, kontext = CONTRACT.models.values()
    faults: dict[str, tuple[Fault | None, ...]] = {
        ultra.operation_id: (Fault(status=500),),
        "createPrediction": (Fault(status=502),),
        "*": (Fault(status=503),),
    }
    scenario = Scenario(faults=faults)
    assert scenario.script(ultra) == (ultra.operation_id, faults[ultra.operation_id])
    assert scenario.script(kontext) == ("createPrediction", faults["createPrediction"])
    assert scenario.script(CONTRACT.by_id["getPrediction"]) == ("*", faults["*"])
    assert Scenario().script(ultra) is None


def test_a_scenario_that_only_has_a_name_is_itself_and_not_one_that_ships() -> None:
    mine = Scenario(name="mine")
    assert CATALOGUE.coerce(mine).name == "mine"
    with MockServer(scenario=mine) as server:
        assert server.tenant().scenario()["name"] == "mine"
        tenant = server.tenant(scenario=Scenario(name="another"))
        assert tenant.scenario()["name"] == "another"
    with pytest.raises(ScenarioError, match="no scenario is called"):
        CATALOGUE.coerce({"name": "mine"})
