"""Each shipped scenario, as a plain client meets it over a socket, and the five ways to choose one."""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from mockserver import AdminError, MockServer, Scenario, Tenant
from mockserver.contract.contract import Contract
from mockserver.errors import ScenarioError
from mockserver.scenarios.catalogue import Catalogue

CONTRACT = Contract.load()
CATALOGUE = Catalogue(CONTRACT)
CREATES = {operation.operation_id: operation.path for operation in CONTRACT.models.values()}
KONTEXT = "createFluxKontextMaxPrediction"
ULTRA = "createFlux11ProUltraPrediction"
LIST = "/replicate/v1/predictions"

EXEMPT = {"silent-processing": "needs `Prefer: wait`, which has a test file of its own"}
SHOWN: set[str] = set()


def shows(name: str) -> pytest.MarkDecorator:
    """Play a test under a shipped scenario, and note that it has been shown."""
    SHOWN.add(name)
    return pytest.mark.parametrize("player", [name], indirect=True)


class Player:
    """A plain client of one tenant. Each answer that it takes in is held against the contract."""

    def __init__(self, client: httpx.Client, tenant: Tenant) -> None:
        self.client = client
        self.tenant = tenant

    def create(
        self,
        prompt: str = "a lighthouse",
        *,
        operation: str = KONTEXT,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        response = self.client.post(
            CREATES[operation], json={"input": {"prompt": prompt}}, headers=headers
        )
        return self.held(operation, response)

    def get(
        self, prediction: dict[str, Any], headers: dict[str, str] | None = None
    ) -> httpx.Response:
        return self.held(
            "getPrediction", self.client.get(f"{LIST}/{prediction['id']}", headers=headers)
        )

    def cancel(self, prediction: dict[str, Any]) -> httpx.Response:
        return self.held("cancelPrediction", self.client.post(f"{LIST}/{prediction['id']}/cancel"))

    def listed(self) -> httpx.Response:
        return self.held("listPredictions", self.client.get(LIST))

    def looks(self, prediction: dict[str, Any], times: int) -> list[dict[str, Any]]:
        return [self.get(prediction).json() for _ in range(times)]

    def life(self, looks: int) -> list[dict[str, Any]]:
        first: dict[str, Any] = self.create().json()
        return [first, *self.looks(first, looks)]

    def held(self, operation: str, response: httpx.Response) -> httpx.Response:
        kind = response.headers["content-type"].partition(";")[0]
        value = response.json() if "json" in kind else response.text
        assert CONTRACT.by_id[operation].check_response(response.status_code, kind, value) == []
        return response


def statuses(predictions: list[dict[str, Any]]) -> list[str]:
    return [prediction["status"] for prediction in predictions]


def lasted(prediction: dict[str, Any]) -> float:
    """Seconds from a prediction's creation to its end."""
    created, ended = (
        datetime.fromisoformat(prediction[name]) for name in ("created_at", "completed_at")
    )
    return (ended - created).total_seconds()


@contextmanager
def playing(tenant: Tenant) -> Iterator[Player]:
    headers = {"Authorization": f"Bearer {tenant.token}"}
    # No certificates are needed, and reading them would take longer than the test.
    with httpx.Client(base_url=tenant.url, headers=headers, timeout=10, verify=False) as client:
        yield Player(client, tenant)


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer() as running:
        yield running


@pytest.fixture(scope="module")
def failing_server() -> Iterator[MockServer]:
    with MockServer(scenario="failed") as running:
        yield running


@pytest.fixture
def player(server: MockServer, request: pytest.FixtureRequest) -> Iterator[Player]:
    with playing(server.tenant(scenario=getattr(request, "param", None))) as one:
        yield one


def test_every_shipped_scenario_is_shown_here_or_exempt_for_a_reason() -> None:
    names = {scenario.name for scenario in CATALOGUE}
    assert names - SHOWN == EXEMPT.keys()
    assert names >= SHOWN


class TestLives:
    """The scenarios that differ in what becomes of a prediction."""

    @shows("succeeded")
    def test_succeeded_passes_all_statuses_at_the_pace_of_the_real_models_and_delivers(
        self, player: Player
    ) -> None:
        seen = player.life(3)
        assert statuses(seen) == ["starting", "processing", "succeeded", "succeeded"]
        assert seen[3] == seen[2]
        assert seen[2]["metrics"] == {"image_count": 1, "predict_time": 3.5}
        assert lasted(seen[2]) == pytest.approx(
            3.9, abs=0.001
        )  # `created_at` has milliseconds only
        assert seen[2]["created_at"] < seen[2]["started_at"] < seen[2]["completed_at"]
        picture = player.client.get(seen[2]["output"])
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
        assert picture.content.startswith(b"\x89PNG")

    @shows("immediate")
    def test_immediate_answers_the_create_itself_with_the_picture(self, player: Player) -> None:
        (first,) = player.life(0)
        assert first["status"] == "succeeded"
        assert lasted(first) == pytest.approx(0, abs=0.001)
        assert player.client.get(first["output"]).status_code == 200

    @shows("slow")
    def test_slow_queues_half_a_minute_and_works_for_two(self, player: Player) -> None:
        player.tenant.freeze()
        first = player.create().json()
        seen = []
        for step in (29.9, 0.1, 119.9, 0.1):
            player.tenant.advance(step)
            seen += player.looks(first, 1)
        assert statuses(seen) == ["starting", "processing", "processing", "succeeded"]
        assert seen[-1]["metrics"]["predict_time"] == 120
        assert lasted(seen[-1]) == pytest.approx(150, abs=0.001)

    @shows("failed")
    def test_failed_ends_with_an_error_and_without_a_picture(self, player: Player) -> None:
        seen = player.life(3)
        assert statuses(seen) == ["starting", "processing", "failed", "failed"]
        assert [prediction["error"] is None for prediction in seen] == [True, True, False, False]
        assert seen[-1]["output"] is None
        assert player.client.get(f"/xezq/{seen[0]['id']}/output.png").status_code == 404

    @shows("nsfw")
    def test_nsfw_fails_with_the_words_of_the_safety_filter(self, player: Player) -> None:
        seen = player.life(2)
        assert statuses(seen) == ["starting", "processing", "failed"]
        assert seen[-1]["error"] == (
            "The input or output was flagged as sensitive. Please try again with different inputs. (E005) (uIJ6l3ruRD)"
        )

    @shows("failed-silently")
    def test_failed_silently_fails_without_a_word(self, player: Player) -> None:
        seen = player.life(3)
        assert statuses(seen) == ["starting", "processing", "failed", "failed"]
        assert [prediction["error"] for prediction in seen] == [None] * 4
        stream = player.client.get(seen[0]["urls"]["stream"]).text
        assert 'event: error\ndata: {"detail":""}' in stream

    @shows("interrupted")
    def test_interrupted_asks_to_be_sent_again(self, player: Player) -> None:
        seen = player.life(2)
        assert statuses(seen) == ["starting", "processing", "failed"]
        assert seen[-1]["error"] == "Prediction interrupted; please retry (code: PA)"

    @shows("model-error")
    def test_model_error_gives_a_code(self, player: Player) -> None:
        assert (
            player.life(2)[-1]["error"] == "Director: unexpected error handling prediction (E9243)"
        )

    @shows("start-timeout")
    def test_start_timeout_fails_after_ten_minutes_without_having_run(self, player: Player) -> None:
        player.tenant.freeze()
        first = player.create().json()
        player.tenant.advance(599)
        waiting = player.get(first).json()
        player.tenant.advance(1)
        failed = player.get(first).json()
        assert statuses([waiting, failed]) == ["starting", "failed"]
        assert (failed["error"][-7:], failed["logs"]) == ("(E6716)", "")
        assert failed.keys().isdisjoint({"started_at", "metrics"})
        assert lasted(failed) == pytest.approx(600, abs=0.001)

    @shows("cold-boot")
    def test_cold_boot_outlasts_a_wait_and_then_goes_as_usual(self, player: Player) -> None:
        waited = player.create(headers={"Prefer": "wait"}).json()
        assert waited["status"] == "starting"
        seen = player.looks(waited, 2)
        assert statuses(seen) == ["processing", "succeeded"]
        assert lasted(seen[-1]) == pytest.approx(183.5, abs=0.001)

    @shows("canceled")
    def test_canceled_is_ended_by_somebody_else_a_second_into_its_work(
        self, player: Player
    ) -> None:
        seen = player.life(3)
        assert statuses(seen) == ["starting", "processing", "canceled", "canceled"]
        assert (seen[-1]["error"], seen[-1]["output"], seen[-1]["metrics"]["predict_time"]) == (
            None,
            None,
            1,
        )

    @shows("aborted")
    def test_aborted_never_starts(self, player: Player) -> None:
        seen = player.life(2)
        assert statuses(seen) == ["starting", "aborted", "aborted"]
        assert "started_at" not in seen[-1]
        assert "predict_time" not in seen[-1].get("metrics", {})

    @shows("stuck")
    def test_stuck_never_ends_until_it_is_canceled(self, player: Player) -> None:
        seen = player.life(20)
        assert statuses(seen) == ["starting"] + ["processing"] * 20
        assert player.tenant.advance(86400) == []
        assert statuses(player.looks(seen[0], 2)) == ["processing"] * 2
        assert player.cancel(seen[0]).json()["status"] == "canceled"
        assert statuses(player.looks(seen[0], 1)) == ["canceled"]

    @shows("expired")
    def test_expired_has_lost_its_data_by_the_time_that_it_is_told(self, player: Player) -> None:
        first, second, last = player.life(2)
        assert [first["input"]["prompt"], second["input"]["prompt"]] == ["a lighthouse"] * 2
        assert (last["status"], last["data_removed"], last["output"], last["input"]) == (
            "succeeded",
            True,
            None,
            {},
        )
        assert "logs" not in last
        assert player.listed().json()["results"] == [{**last, "source": "api"}]
        assert player.client.get(f"/xezq/{first['id']}/output.png").status_code == 404

    @shows("variety")
    @pytest.mark.parametrize("operation", [KONTEXT, ULTRA])
    def test_variety_sends_201_and_what_is_extra_and_leaves_out_or_nulls_what_it_may(
        self, player: Player, operation: str
    ) -> None:
        response = player.create(operation=operation)
        assert response.status_code == 201
        first = response.json()
        seen = [first, *player.looks(first, 2)]
        assert statuses(seen) == ["starting", "processing", "succeeded"]
        for prediction in seen:
            assert (prediction["queue_position"], prediction["source"]) == (3, "api")
            assert prediction.keys().isdisjoint({"started_at", "completed_at"})
            assert prediction["input"].keys() == CONTRACT.by_id[operation].defaults.keys() | {
                "prompt"
            }
        assert [len(prediction["urls"]) for prediction in seen] == [
            4,
            2,
            2,
        ]  # the documents' creates have all four
        assert seen[-1]["metrics"] == {"total_time": pytest.approx(3.9, abs=0.001)}
        # A create's logs are a string in the documents; only a read may send null.
        assert [prediction["logs"] for prediction in seen] == ["", None, None]
        assert player.client.get(seen[-1]["output"]).status_code == 200


class TestRefusals:
    """The scenarios that differ in how requests are answered."""

    @shows("rate-limited")
    def test_rate_limited_throttles_the_first_create_and_says_how_long_to_wait(
        self, player: Player
    ) -> None:
        throttled = player.create()
        assert (throttled.status_code, throttled.headers["retry-after"]) == (429, "1")
        assert throttled.json()["retry_after"] == 1
        assert player.tenant.predictions() == []
        assert statuses(player.life(2)) == ["starting", "processing", "succeeded"]
        assert player.create().status_code == 200

    @shows("flaky")
    def test_flaky_meets_every_second_poll_with_another_trouble(self, player: Player) -> None:
        assert (player.create().status_code, player.create().status_code) == (429, 200)
        (first,) = player.tenant.predictions()
        assert player.get(first).json()["status"] == "processing"
        proxy = player.get(first)
        assert (proxy.status_code, proxy.headers["content-type"]) == (502, "text/html")
        assert player.get(first).json()["status"] == "succeeded"
        with pytest.raises(httpx.ReadError):
            player.get(first)
        assert player.get(first).json()["status"] == "succeeded"
        with pytest.raises(
            httpx.RemoteProtocolError, match="without sending complete message body"
        ):
            player.get(first)
        with pytest.raises(httpx.ReadTimeout):  # two seconds' delay, longer than this client waits
            player.client.get(f"{LIST}/{first['id']}", timeout=0.2)
        assert player.tenant.verdict()["unused_faults"] == []
        assert statuses(player.looks(first, 2)) == ["succeeded"] * 2

    @shows("outage")
    def test_outage_answers_every_operation_with_a_proxys_page_for_ever(
        self, player: Player
    ) -> None:
        nobody = {"id": "0" * 26}
        for _ in range(3):
            for response in (
                player.create(),
                player.get(nobody),
                player.cancel(nobody),
                player.listed(),
            ):
                assert (response.status_code, response.headers["content-type"]) == (
                    503,
                    "text/html",
                )
            assert player.client.get(f"/xezq/{'0' * 26}/output.png").status_code == 503
        assert player.tenant.predictions() == []

    @shows("unauthorized")
    def test_unauthorized_knows_no_token(self, player: Player) -> None:
        for response in (
            player.create(),
            player.get({"id": "0" * 26}),
            player.listed(),
            player.create(),
        ):
            assert (response.status_code, response.headers["content-type"]) == (
                401,
                "application/problem+json",
            )
            assert response.json() == {
                "title": "Unauthenticated",
                "detail": "You did not pass a valid authentication token",
                "status": 401,
            }
        assert player.tenant.predictions() == []

    @shows("not-found-yet")
    def test_not_found_yet_misses_the_first_two_reads_of_each_prediction(
        self, player: Player
    ) -> None:
        for _ in range(2):
            first = player.create().json()
            missed = [player.get(first) for _ in range(2)]
            assert [response.status_code for response in missed] == [404, 404]
            assert missed[0].json() == {
                "detail": "The requested resource could not be found.",
                "status": 404,
            }
            assert statuses(player.looks(first, 2)) == ["processing", "succeeded"]
        assert player.get({"id": "0" * 26}).status_code == 404
        assert player.tenant.verdict()["unused_faults"] == []

    def test_not_found_yet_tells_which_reads_were_never_tried(self, player: Player) -> None:
        player.tenant.use("not-found-yet")
        player.get(player.create().json())
        (unused,) = player.tenant.verdict()["unused_faults"]
        assert (unused["operation"], unused["fault"]["times"]) == ("getPrediction", 2)

    @shows("low-credit")
    def test_low_credit_lets_one_through_every_ten_seconds(self, player: Player) -> None:
        player.tenant.freeze()
        assert [player.create().status_code, player.create(operation=ULTRA).status_code] == [
            200,
            429,
        ]
        throttled = player.create()
        assert (
            "reduced to 6 requests per minute with a burst of 1 requests"
            in throttled.json()["detail"]
        )
        assert throttled.json()["detail"].endswith("resets in ~10s.")
        assert (throttled.json()["retry_after"], throttled.headers["retry-after"]) == (10, "10")
        player.tenant.advance(10)
        assert player.create().status_code == 200
        assert len(player.tenant.predictions()) == 2

    @shows("spend-limit")
    def test_spend_limit_has_a_title_of_its_own(self, player: Player) -> None:
        for _ in range(2):
            refused = player.create()
            assert (refused.status_code, refused.json()["title"]) == (
                402,
                "Monthly spend limit reached",
            )
        assert player.tenant.predictions() == []

    @shows("out-of-credit")
    def test_out_of_credit_refuses_creates_only(self, player: Player) -> None:
        for operation in (KONTEXT, ULTRA, KONTEXT):
            refused = player.create(operation=operation)
            assert refused.status_code == 402
            assert refused.json()["title"] == "Insufficient credit"
            assert refused.json()["detail"].startswith(
                "You have insufficient credit to run this model. Go to https://"
            )
        assert player.listed().json()["results"] == []

    def test_out_of_credit_speaks_the_gateways_dialect_too(self, player: Player) -> None:
        player.tenant.use({**CATALOGUE.named("out-of-credit").as_json(), "errors": "new-api"})
        refused = player.create()
        assert refused.status_code == 402
        assert refused.json() == {
            "error": {
                "message": "用户额度不足, 剩余额度: 0",
                "type": "new_api_error",
                "param": "",
                "code": "insufficient_user_quota",
            }
        }

    def test_a_server_of_the_other_dialect_plays_the_same_scenarios(self) -> None:
        with MockServer(errors="new-api") as other:
            for name, status, kind in [
                ("unauthorized", 401, "new_api_error"),
                ("rate-limited", 429, "new_api_error"),
                ("out-of-credit", 402, "new_api_error"),
            ]:
                with playing(other.tenant(scenario=name)) as player:
                    refused = player.create()
                    assert (refused.status_code, refused.json()["error"]["type"]) == (status, kind)

    @shows("lost-answer")
    def test_lost_answer_commits_before_it_hangs_up_so_that_a_repeat_is_billed_twice(
        self, player: Player
    ) -> None:
        with pytest.raises(httpx.ReadError):
            player.create()
        (lost,) = player.tenant.predictions()
        (exchange,) = player.tenant.requests()
        assert (exchange["committed"], exchange["prediction"]) == (True, lost["id"])
        assert player.create().status_code == 200
        assert len(player.tenant.predictions()) == 2
        assert statuses(player.looks(lost, 2)) == ["processing", "succeeded"]


@pytest.mark.parametrize("operation", [KONTEXT, ULTRA])
@pytest.mark.parametrize(
    "player", sorted({scenario.name for scenario in CATALOGUE} - EXEMPT.keys()), indirect=True
)
def test_nothing_that_a_scenario_sends_breaks_the_contract_unless_a_fault_breaks_it(
    player: Player, operation: str
) -> None:
    def tried(method: str, path: str, **settings: Any) -> None:
        try:
            player.client.request(method, path, **settings)
        except httpx.TransportError:
            assert player.tenant.requests()[-1]["fault"]

    for _ in range(2):
        tried("POST", CREATES[operation], json={"input": {"prompt": "a lighthouse"}})
    known = [prediction["id"] for prediction in player.tenant.predictions()] or ["0" * 26]
    for _ in range(3):
        tried("GET", f"{LIST}/{known[-1]}")
    tried("POST", f"{LIST}/{known[-1]}/cancel")
    tried("GET", LIST)
    journal = player.tenant.requests()
    assert len(journal) == 7
    for exchange in journal:
        sent = exchange["response"]
        if sent["status"]:
            contract = CONTRACT.by_id[exchange["operation"]]
            assert contract.check_response(sent["status"], sent["content_type"], sent["body"]) == []
        else:
            assert exchange["fault"]
        assert exchange["violations"] == []


# Strongest first. Each way is one of these words, with the name of the scenario that it asks for.
WAYS = ("header", "prompt", "token", "put", "server")
ENDS = {"succeeded": "succeeded", "failed": "failed", "aborted": "aborted", "canceled": "canceled"}
_numbers = itertools.count()


def end_of(server: MockServer, **ways: str) -> str:
    """The last status of a prediction whose scenario is asked for in some ways at once."""
    ending = f"+{ways['token']}" if "token" in ways else ""
    tenant = server.tenant(f"way-{next(_numbers)}{ending}")
    if "put" in ways:
        tenant.use(ways["put"])
    with playing(tenant) as player:
        prompt = f"a [mock:{ways['prompt']}] lighthouse" if "prompt" in ways else "a lighthouse"
        headers = {"X-Mock-Scenario": ways["header"]} if "header" in ways else None
        first = player.create(prompt, headers=headers).json()
        return statuses(player.looks(first, 3))[-1]


class TestFiveWaysToChoose:
    @pytest.mark.parametrize("name", ENDS)
    @pytest.mark.parametrize("way", [way for way in WAYS if way != "server"])
    def test_each_way_alone_is_enough(self, server: MockServer, way: str, name: str) -> None:
        assert end_of(server, **{way: name}) == ENDS[name]

    def test_the_servers_own_scenario_holds_where_nothing_else_is_said(
        self, failing_server: MockServer
    ) -> None:
        assert end_of(failing_server) == "failed"

    @pytest.mark.parametrize(("stronger", "weaker"), list(itertools.combinations(WAYS, 2)))
    def test_of_two_the_stronger_decides(
        self, failing_server: MockServer, stronger: str, weaker: str
    ) -> None:
        said = (
            {stronger: "aborted"}
            if weaker == "server"
            else {stronger: "aborted", weaker: "canceled"}
        )
        assert end_of(failing_server, **said) == "aborted"

    def test_each_one_taken_away_leaves_the_next_in_force(self, failing_server: MockServer) -> None:
        said = {"header": "aborted", "prompt": "canceled", "token": "succeeded", "put": "aborted"}
        for way in ("header", "prompt", "token", "put"):
            assert end_of(failing_server, **said) == ENDS[said[way]]
            del said[way]
        assert end_of(failing_server) == "failed"

    @pytest.mark.parametrize(
        "given",
        [
            "aborted",
            {"name": "aborted"},
            {"lifecycle": [{"status": "aborted"}]},
            CATALOGUE.named("aborted"),
        ],
        ids=["name", "name in JSON", "JSON", "Scenario"],
    )
    def test_a_server_and_a_tenant_take_a_name_a_value_or_a_scenario(
        self, given: str | Scenario
    ) -> None:
        with MockServer(scenario=given) as server:
            assert end_of(server) == "aborted"
            tenant = server.tenant()
            tenant.use("failed")
            tenant.use(given)
            with playing(tenant) as player:
                assert statuses(player.life(2))[-1] == "aborted"

    @pytest.mark.slow
    @pytest.mark.parametrize("given", ["name", "file"])
    def test_the_command_takes_a_name_or_a_file(self, given: str, tmp_path: Path) -> None:
        file = tmp_path / "mine.yaml"
        file.write_text("name: mine\nlifecycle: [{status: aborted}]\n")
        ready = tmp_path / "ready.json"
        command = [
            sys.executable,
            "-m",
            "mockserver",
            "serve",
            "--port",
            "0",
            "--ready-file",
            str(ready),
        ]
        word = "aborted" if given == "name" else str(file)
        with subprocess.Popen(
            [*command, "--scenario", word], stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline().startswith("mockserver listening on ")
                with playing(Tenant(json.loads(ready.read_text())["url"], "t")) as player:
                    assert statuses(player.life(1))[-1] == "aborted"
                    assert player.tenant.scenario()["name"] == (
                        "aborted" if given == "name" else "mine"
                    )
            finally:
                process.terminate()

    def test_a_token_that_names_a_scenario_is_a_tenant_of_its_own(self, server: MockServer) -> None:
        with playing(server.tenant("own+nsfw")) as named, playing(server.tenant("own")) as plain:
            assert statuses(named.life(2))[-1] == "failed"
            assert statuses(plain.life(2))[-1] == "succeeded"
            assert len(named.tenant.predictions()) == len(plain.tenant.predictions()) == 1

    @pytest.mark.parametrize("ending", ["+nothing", "+", "+nsfw+more", "-nsfw", "+NSFW"])
    def test_a_token_ending_that_names_no_scenario_is_just_part_of_the_token(
        self, server: MockServer, ending: str
    ) -> None:
        with playing(server.tenant(f"plain{ending}")) as player:
            assert statuses(player.life(2)) == ["starting", "processing", "succeeded"]
            assert player.tenant.scenario()["name"] == "succeeded"
            assert len(player.tenant.predictions()) == 1

    def test_a_token_that_is_a_scenarios_name_without_a_plus_is_just_a_token(
        self, server: MockServer
    ) -> None:
        with playing(server.tenant("nsfw")) as player:
            assert statuses(player.life(2))[-1] == "succeeded"

    def test_only_the_last_ending_of_a_token_counts(self, server: MockServer) -> None:
        with playing(server.tenant("both+stuck+aborted")) as player:
            assert statuses(player.life(1))[-1] == "aborted"


WRONG = [
    ("header", "nfsw"),
    ("header", ""),
    ("header", "NSFW"),
    ("prompt", "nfsw"),
    ("prompt", ""),
    ("prompt", " nsfw"),
]


def names_all(said: str) -> bool:
    return all(scenario.name in said for scenario in CATALOGUE)


class TestWrongNames:
    @pytest.mark.parametrize(("way", "name"), WRONG)
    def test_in_a_call_they_are_refused_with_the_right_ones_and_nothing_is_created(
        self, player: Player, way: str, name: str
    ) -> None:
        prompt = f"[mock:{name}]" if way == "prompt" else "a lighthouse"
        refused = player.create(
            prompt, headers={"X-Mock-Scenario": name} if way == "header" else None
        )
        assert refused.status_code == 400
        assert names_all(refused.json()["detail"])
        assert json.dumps(name) in refused.json()["detail"]
        assert player.tenant.predictions() == []
        (exchange,) = player.tenant.requests()
        assert exchange["response"]["status"] == 400

    def test_the_nearest_right_one_is_offered(self, player: Player) -> None:
        assert "did you mean nsfw?" in player.create("[mock:nfsw]").json()["detail"]

    def test_a_read_refuses_them_too(self, player: Player) -> None:
        first = player.create().json()
        refused = player.client.get(f"{LIST}/{first['id']}", headers={"X-Mock-Scenario": "nfsw"})
        assert refused.status_code == 400
        assert names_all(refused.json()["detail"])
        assert player.tenant.predictions()[0]["status"] == "starting"

    def test_a_setting_of_the_tenant_is_refused_and_the_old_one_stays(self, player: Player) -> None:
        player.tenant.use("aborted")
        for wrong in ("nfsw", {"name": "nfsw"}):
            with pytest.raises(AdminError) as refusal:
                player.tenant.use(wrong)
            assert names_all(str(refusal.value))
        assert statuses(player.life(1))[-1] == "aborted"

    def test_a_server_does_not_start_with_one(self) -> None:
        with pytest.raises(ScenarioError) as refusal:
            MockServer(scenario="nfsw")
        assert names_all(str(refusal.value))

    @pytest.mark.slow
    def test_the_command_ends_with_2_and_one_line(self) -> None:
        command = [sys.executable, "-m", "mockserver", "serve", "--port", "0", "--scenario", "nfsw"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert names_all(ended.stderr)
        assert ended.stderr.count("\n") == 1

    def test_they_are_refused_in_the_dialect_that_the_tenant_hears_otherwise(
        self, player: Player
    ) -> None:
        player.tenant.use({"errors": "new-api"})
        refused = player.create(headers={"X-Mock-Scenario": "nfsw"})
        assert names_all(refused.json()["error"]["message"])

    def test_a_prompt_that_only_begins_to_name_one_costs_no_time(self, player: Player) -> None:
        assert player.create("[mock:" * 200_000).status_code == 200

    def test_a_very_long_one_in_a_prompt_is_no_silent_default(self, player: Player) -> None:
        assert player.create(f"[mock:{'nsfw' * 30}]").status_code == 400


class TestPredictionsKeepTheirScenario:
    @pytest.mark.parametrize("way", ["header", "prompt"])
    def test_one_that_its_request_chose_shapes_every_later_read(
        self, player: Player, way: str
    ) -> None:
        headers = {"X-Mock-Scenario": "variety"} if way == "header" else None
        created = player.create("[mock:variety]" if way == "prompt" else "p", headers=headers)
        assert created.status_code == 201
        player.tenant.use("failed")
        chosen = player.looks(created.json(), 2)
        assert statuses(chosen) == ["processing", "succeeded"]
        assert [prediction["queue_position"] for prediction in chosen] == [3, 3]
        assert "queue_position" not in player.life(0)[0]

    def test_the_faults_of_the_tenant_s_scenario_do_not_reach_it(self, player: Player) -> None:
        chosen = player.create("[mock:succeeded]").json()
        usual = player.create().json()
        player.tenant.use({"faults": {"getPrediction": [{"status": 502, "times": "always"}]}})
        assert [player.get(prediction).status_code for prediction in (chosen, usual)] == [200, 502]

    def test_a_read_that_chooses_for_itself_meets_its_own_faults_but_changes_no_life(
        self, player: Player
    ) -> None:
        first = player.create("[mock:failed]").json()
        assert player.get(first, headers={"X-Mock-Scenario": "outage"}).status_code == 503
        assert (
            player.get(first, headers={"X-Mock-Scenario": "aborted"}).json()["status"]
            == "processing"
        )
        assert statuses(player.looks(first, 1)) == ["failed"]

    def test_a_tenants_new_scenario_changes_no_life_that_has_begun(self, player: Player) -> None:
        before = player.create().json()
        player.tenant.use("aborted")
        after = player.create().json()
        assert [statuses(player.looks(each, 2))[-1] for each in (before, after)] == [
            "succeeded",
            "aborted",
        ]


class TestFaultLists:
    @pytest.mark.parametrize("way", ["header", "prompt"])
    def test_chosen_per_call_they_start_again_after_a_normal_create(
        self, player: Player, way: str
    ) -> None:
        headers = {"X-Mock-Scenario": "rate-limited"} if way == "header" else None
        prompt = "[mock:rate-limited]" if way == "prompt" else "p"
        met = [player.create(prompt, headers=headers).status_code for _ in range(6)]
        assert met == [429, 200, 429, 200, 429, 200]

    @pytest.mark.parametrize("way", ["put", "token"])
    def test_those_of_the_tenant_do_not(self, server: MockServer, way: str) -> None:
        tenant = server.tenant("once+rate-limited" if way == "token" else None)
        if way == "put":
            tenant.use("rate-limited")
        with playing(tenant) as player:
            assert [player.create().status_code for _ in range(5)] == [429, 200, 200, 200, 200]

    def test_those_of_the_server_do_not_and_each_tenant_meets_them_once(self) -> None:
        with MockServer(scenario="rate-limited") as server:
            for _ in range(2):
                with playing(server.tenant()) as player:
                    assert [player.create().status_code for _ in range(4)] == [429, 200, 200, 200]

    def test_set_anew_they_start_again(self, player: Player) -> None:
        for _ in range(2):
            player.tenant.use("rate-limited")
            assert [player.create().status_code for _ in range(3)] == [429, 200, 200]

    def test_those_of_a_call_and_those_of_the_tenant_are_counted_apart(
        self, player: Player
    ) -> None:
        player.tenant.use("rate-limited")
        chosen = {"X-Mock-Scenario": "rate-limited"}
        met = [
            player.create(headers=headers).status_code for headers in (chosen, None, chosen, None)
        ]
        assert met == [429, 429, 200, 200]

    def test_each_prediction_that_chose_them_meets_the_whole_list_of_its_reads(
        self, player: Player
    ) -> None:
        for _ in range(2):
            player.create("[mock:flaky]")
            created = player.create("[mock:flaky]").json()
            assert [player.get(created).status_code for _ in range(3)] == [200, 502, 200]


class TestChances:
    """Faults and lifecycles of which chance decides: the same on every run with the same seed and token."""

    HALF: ClassVar = {"sometimes": [{"chance": 0.5, "lifecycle": [{"status": "failed"}]}]}

    def ends(
        self, server: MockServer, token: str, scenario: dict[str, Any], times: int = 40
    ) -> list[Any]:
        tenant = server.tenant(token)
        tenant.reset()
        tenant.use(scenario)
        with playing(tenant) as player:
            return [
                response.json()["status"] if response.status_code == 200 else response.status_code
                for response in (player.create() for _ in range(times))
            ]

    def test_a_share_of_predictions_has_another_life(self, server: MockServer) -> None:
        ends = self.ends(server, "share", self.HALF)
        assert 10 <= ends.count("failed") <= 30
        assert set(ends) == {"failed", "starting"}
        assert self.ends(server, "share", self.HALF) == ends, "a run repeats"
        assert self.ends(server, "another", self.HALF) != ends

    def test_shares_add_up(self, server: MockServer) -> None:
        lives = [
            {"chance": 0.5, "lifecycle": [{"status": status}]} for status in ("failed", "succeeded")
        ]
        assert set(self.ends(server, "all", {"sometimes": lives})) == {"failed", "succeeded"}
        with pytest.raises(AdminError, match="/sometimes: their chances add up to more than 1"):
            server.tenant().use({"sometimes": [*lives, *lives]})
        with pytest.raises(AdminError, match="/sometimes/0/lifecycle/0/status"):
            server.tenant().use({"sometimes": [{"chance": 0.5, "lifecycle": [{"status": "done"}]}]})

    def test_a_fault_meets_a_share_of_exchanges(self, server: MockServer) -> None:
        scenario = {
            "faults": {"createPrediction": [{"status": 502, "chance": 0.3, "times": "always"}]}
        }
        met = self.ends(server, "faults", scenario)
        assert 4 <= met.count(502) <= 22
        assert self.ends(server, "faults", scenario) == met
        assert (
            self.ends(
                server,
                "none",
                {"faults": {"createPrediction": [{"status": 502, "chance": 1e-9}]}},
                3,
            )
            == ["starting"] * 3
        )
