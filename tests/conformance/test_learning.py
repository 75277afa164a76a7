"""What is learnt from a gateway is a scenario: the double that plays it answers the same requests in the same shape."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mockserver import MockServer
from mockserver.conformance.learning import Learner
from mockserver.conformance.proxy import proxy_app
from mockserver.scenarios.catalogue import Catalogue
from mockserver.server.mock_server import AppServer
from tests.conformance.gateways import Departing, standing
from tests.helpers.command import run
from tests.helpers.documents import CONTRACT, KONTEXT, ULTRA
from tests.helpers.share import first

pytestmark = pytest.mark.slow

TOKEN, PROMPT = "a-secret-token-of-ours", "a prompt that nobody else may read"
CATALOGUE = Catalogue(CONTRACT)


@contextmanager
def learning(url: str) -> Iterator[tuple[httpx.Client, Learner]]:
    """A client of a proxy that learns."""
    app = proxy_app(url)
    learner = Learner(CONTRACT, app.gateway.origin)
    app.watch.append(learner)
    with AppServer(app) as proxy, client_of(proxy.url) as client:
        yield client, learner


@contextmanager
def client_of(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20
    ) as client:
        yield client


def types(value: Any) -> Any:
    """The shape of a JSON value: names and types."""
    if isinstance(value, dict):
        return {name: types(part) for name, part in value.items()}
    return [types(part) for part in value[:1]] if isinstance(value, list) else type(value).__name__


def shape(response: httpx.Response) -> dict[str, Any]:
    """What of an answer is to be the same: status, headers of the gateway's own, life cycle, names and types."""
    headers = {
        name: value for name, value in response.headers.items() if name.startswith("x-served")
    }
    shown: dict[str, Any] = {
        "status": response.status_code,
        "headers": headers,
        "retry": response.headers.get("retry-after"),
    }
    if "json" not in response.headers.get("content-type", ""):
        return {**shown, "size": bool(response.content)}
    value = response.json()
    if isinstance(value, dict) and "status" in value and "urls" in value:
        fraction = value["created_at"].rstrip("Z").partition(".")[2]
        urls = {name: url.startswith("https://") for name, url in value["urls"].items()}
        shown |= {
            "told": value["status"],
            "error": value.get("error"),
            "digits": len(fraction),
            "urls": urls,
        }
    return {**shown, "types": types(value)}


def played(client: httpx.Client, script: list[str]) -> list[dict[str, Any]]:
    """The shapes of the answers to a script of requests."""
    shapes, identifier = [], "0" * 26
    for step in script:
        if step in ("create", "create and wait"):
            headers = {"Prefer": "wait"} if "wait" in step else {}
            response = client.post(ULTRA, json={"input": {"prompt": PROMPT}}, headers=headers)
            if response.is_success:
                identifier = response.json()["id"]
        elif step == "forbidden":
            response = client.post(KONTEXT, json={"input": {}})
        elif step == "unknown":
            response = client.get("/replicate/v1/predictions/" + "1" * 26)
        elif step == "cancel":
            response = client.post(f"/replicate/v1/predictions/{identifier}/cancel")
        else:
            response = client.get(f"/replicate/v1/predictions/{identifier}")
        shapes.append(shape(response))
    return shapes


def drawn(dice: random.Random) -> dict[str, Any]:
    """A random scenario: a lifecycle, faults, and variety of what is sent."""
    last = dice.choice(
        [
            {"status": "succeeded"},
            {"status": "failed", "error": "E1: it broke"},
            {"status": "canceled"},
            {"status": "succeeded"},
        ]
    )
    started = {"status": "processing", "seconds": dice.choice([0.25, 2.0, 30.0])}
    scenario: dict[str, Any] = {
        "lifecycle": [{"status": "starting", "seconds": dice.choice([0.4, 5.0])}, started, last]
    }
    faults: list[Any] = [
        {"status": 429, "retry_after": 3},
        {"status": 503},
        {"status": 500, "detail": "the gateway is ill"},
        {"status": 502, "page": "html"},
        None,
    ]
    if dice.random() < 0.6:
        scenario["faults"] = {
            "getPrediction": [dice.choice(faults) for _ in range(dice.randint(1, 3))]
        }
    if dice.random() < 0.4:
        scenario.setdefault("faults", {})["createPrediction"] = [dice.choice(faults)]
    if dice.random() < 0.5:
        scenario["create_status"] = dice.choice([201, 202])
    body: dict[str, Any] = {}
    if dice.random() < 0.5:
        body["extra"] = {"queue": {"position": dice.randint(0, 9)}, "node": "gpu-7"}
    if dice.random() < 0.4:
        body["omit"] = dice.sample(["metrics", "urls.stream"], 1)
    if dice.random() < 0.4:
        body["fraction"] = dice.choice([0, 6, 9])
    if body:
        scenario["body"] = body
    if dice.random() < 0.5:
        scenario["headers"] = {"X-Served-By": f"node-{dice.randint(1, 9)}"}
    if dice.random() < 0.4:
        scenario["errors"] = "gateway"
    if dice.random() < 0.3:
        scenario["urls"] = "documented"
    return scenario


SCRIPT = [
    "forbidden",
    "create",
    "create",
    "get",
    "get",
    "get",
    "get",
    "get",
    "unknown",
    "create",
    "cancel",
    "get",
]


@pytest.mark.parametrize("seed", first(3, range(12)))
def test_what_is_learnt_is_played_again(seed: int) -> None:
    scenario = drawn(random.Random(seed))
    with MockServer(scenario=scenario, seed=1) as double, learning(double.url) as (client, learner):
        seen = played(client, SCRIPT)
    learnt = learner.scenario()
    CATALOGUE.parse(learnt)
    with MockServer(scenario=learnt, seed=2) as double, client_of(double.url) as client:
        assert played(client, SCRIPT) == seen, (scenario, learnt)


@pytest.mark.parametrize(
    "name",
    first(
        2,
        [
            "failed",
            "rate-limited",
            "succeeded",
            "immediate",
            "nsfw",
            "canceled",
            "aborted",
            "stuck",
        ],
    ),
)
def test_shipped_scenarios_are_learnt_too(name: str) -> None:
    with MockServer(scenario=name) as double, learning(double.url) as (client, learner):
        seen = played(client, SCRIPT)
    with MockServer(scenario=learner.scenario()) as double, client_of(double.url) as client:
        again = played(client, SCRIPT)
    assert [each["status"] for each in again] == [each["status"] for each in seen]
    assert [each.get("told") for each in again] == [each.get("told") for each in seen]


def test_no_secret_and_no_prompt_goes_into_it(server: MockServer, tmp_path: Path) -> None:
    def tell_all(asked: Any, answer: Any, memory: dict[str, Any]) -> None:
        answer.headers |= {"x-user": TOKEN, "x-plain": "yes"}
        if asked.role in ("create", "get") and answer.good:
            answer.value |= {"asked": PROMPT, "who": {"token": TOKEN, "plan": "pro"}}
            if answer.value["status"] == "succeeded":
                answer.value |= {
                    "status": "failed",
                    "output": None,
                    "error": f"cannot draw {PROMPT}",
                }

    with (
        standing(Departing(server.url, tell_all)) as gateway,
        learning(gateway.url) as (client, learner),
    ):
        played(client, ["create", "get", "get", "get"])
    learner.write(tmp_path / "learnt.yaml")
    told = (tmp_path / "learnt.yaml").read_text()
    assert TOKEN not in told
    assert PROMPT not in told
    scenario = CATALOGUE.read(str(tmp_path / "learnt.yaml"))
    assert scenario.body.extra["who"] == {"token": "redacted", "plan": "pro"}
    assert {name.lower(): value for name, value in scenario.headers.items()} == {
        "x-user": "redacted",
        "x-plain": "yes",
    }
    assert scenario.lifecycle[-1].error == "redacted"


def test_verify_learns_what_serve_then_plays(tmp_path: Path) -> None:
    file = tmp_path / "learnt.yaml"
    scenario = {
        "create_status": 201,
        "body": {"extra": {"source": "edge"}} if "source" not in known() else {},
    }
    with MockServer(scenario=scenario) as double:
        ended = run(
            "verify",
            double.url,
            "--spend",
            "2",
            "--poll",
            "0",
            "--learn",
            str(file),
            "--token",
            TOKEN,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert TOKEN not in file.read_text()
    learnt = CATALOGUE.read(str(file))
    assert (learnt.create_status, [step.status for step in learnt.lifecycle][-1]) == (
        201,
        "succeeded",
    )
    with MockServer(scenario=str(file)) as double, client_of(double.url) as client:
        assert client.post(ULTRA, json={"input": {"prompt": "p"}}).status_code == 201


def known() -> set[str]:
    return set(CONTRACT.prediction_schema["properties"])


def test_run_learns_through_its_proxy_and_only_there(server: MockServer, tmp_path: Path) -> None:
    file = tmp_path / "learnt.json.yaml"
    script = (
        "import json, os, urllib.request as u; "
        "u.urlopen(u.Request(os.environ['REPLICATE_BASE_URL'] + '/v1/models/black-forest-labs/flux-1.1-pro-ultra/predictions',"
        " json.dumps({'input': {'prompt': 'p'}}).encode(), {'Content-Type': 'application/json'})).read()"
    )
    import sys

    ended = run(
        "run", "--proxy", server.url, "--learn", str(file), "--", sys.executable, "-c", script
    )
    assert ended.returncode == 0, ended.stderr
    assert CATALOGUE.read(str(file)).name == "learnt"
    assert json.dumps(CATALOGUE.read(str(file)).as_json())
    assert run("run", "--learn", str(file), "--", "true").returncode == 2
