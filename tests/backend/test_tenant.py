"""Tenants: suites on one server never see each other, in anything."""

import json
import re
from base64 import b64decode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import Any
from zlib import crc32

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockserver import MockServer
from mockserver.scenarios.catalogue import Catalogue
from tests.helpers.documents import CONTRACT, KONTEXT, ULTRA

pytestmark = pytest.mark.slow

FILES = "/replicate/v1/files"
NAMES = ("ann", "bob+nsfw", "")
ENDINGS = {
    "succeeded": ["starting", "processing", "succeeded"],
    "immediate": ["succeeded"],
    "slow": ["starting", "processing", "succeeded"],
    "failed": ["starting", "processing", "failed"],
    "nsfw": ["starting", "processing", "failed"],
    "failed-silently": ["starting", "processing", "failed"],
    "interrupted": ["starting", "processing", "failed"],
    "model-error": ["starting", "processing", "failed"],
    "start-timeout": ["starting", "failed"],
    "cold-boot": ["starting", "processing", "succeeded"],
    "canceled": ["starting", "processing", "canceled"],
    "aborted": ["starting", "aborted"],
    "expired": ["starting", "processing", "succeeded"],
    "variety": ["starting", "processing", "succeeded"],
}

Step = tuple[str, Any]

PREDICTION = st.integers(0, 3)  # the how-manieth of the tenant's own
STEPS = st.one_of(
    st.tuples(
        st.just("create"),
        st.sampled_from([KONTEXT, ULTRA, "[mock:failed]", "[mock:flaky]", "wrong"]),
    ),
    st.tuples(st.sampled_from(["get", "cancel", "picture", "view"]), PREDICTION),
    st.tuples(st.just("list"), st.none()),
    st.tuples(
        st.just("use"), st.sampled_from(["aborted", "rate-limited", "low-credit", "variety", None])
    ),
    st.tuples(st.just("advance"), st.sampled_from([0.4, 1, 5, 4000])),
    st.tuples(st.just("clock"), st.sampled_from(["2031-01-01T00:00:00Z", "2029-01-01T00:00:00Z"])),
    st.tuples(st.just("reset"), st.none()),
    st.tuples(
        st.just("admin"),
        st.sampled_from(["verdict", "coverage", "predictions", "scenario", "clock"]),
    ),
)


class Actor:
    """One tenant's client, which takes steps and remembers what it was answered."""

    def __init__(self, server: MockServer, token: str) -> None:
        self.tenant = server.tenant(token)
        self.client = httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {token}"} if token else {}
        )
        self.ids: list[str] = []
        self.responses: list[tuple[int, str]] = []
        self.tenant.reset()
        self.freeze()

    def freeze(self) -> None:
        # Real time would differ from run to run.
        self.tenant.freeze("2030-01-01T00:00:00Z")

    def note(self, response: httpx.Response) -> httpx.Response:
        port = str(self.client.base_url.port)
        self.responses.append((response.status_code, response.text.replace(port, "PORT")))
        return response

    def take(self, step: Step) -> None:
        name, argument = step
        getattr(self, name)(argument)

    def create(self, what: str) -> None:
        path = what if what.startswith("/") else KONTEXT
        prompt: object = (
            1 if what == "wrong" else f"a lighthouse {what if what.startswith('[') else ''}"
        )
        response = self.note(self.client.post(path, json={"input": {"prompt": prompt}}))
        if "id" in response.json():
            self.ids.append(response.json()["id"])

    def identifier(self, number: int) -> str:
        return self.ids[number] if number < len(self.ids) else "0" * 26

    def get(self, number: int) -> None:
        try:
            self.note(self.client.get(f"/replicate/v1/predictions/{self.identifier(number)}"))
        except httpx.TransportError as trouble:
            self.responses.append((0, type(trouble).__name__))

    def cancel(self, number: int) -> None:
        self.note(self.client.post(f"/replicate/v1/predictions/{self.identifier(number)}/cancel"))

    def picture(self, number: int) -> None:
        self.note(self.client.head(f"/xezq/{self.identifier(number)}/output.png"))

    def view(self, number: int) -> None:
        self.note(self.client.get(f"/p/{self.identifier(number)}"))

    def list(self, _: None) -> None:
        self.note(self.client.get("/replicate/v1/predictions"))

    def use(self, scenario: str | None) -> None:
        self.tenant.use(scenario)

    def advance(self, seconds: float) -> None:
        self.responses.append((200, json.dumps(self.tenant.advance(seconds))))

    def clock(self, now: str) -> None:
        self.note(self.client.put("/__admin/clock", json={"mode": "frozen", "now": now}))

    def reset(self, _: None) -> None:
        self.tenant.reset()
        self.ids.clear()
        self.freeze()

    def admin(self, what: str) -> None:
        self.note(self.client.get(f"/__admin/{what}"))


def play(
    server: MockServer, programmes: dict[str, list[Step]], order: list[str]
) -> dict[str, list[tuple[int, str]]]:
    """Have each tenant take its steps, in the order of whose turn it is; then what each was answered."""
    with ExitStack() as stack:
        actors = {name: Actor(server, name) for name in programmes}
        for actor in actors.values():
            stack.enter_context(actor.client)
        left = {name: iter(steps) for name, steps in programmes.items()}
        for name in order:
            actors[name].take(next(left[name]))
        for actor in actors.values():
            actor.admin("verdict")
            actor.admin("predictions")
    return {name: actor.responses for name, actor in actors.items()}


@given(st.lists(st.tuples(st.sampled_from(NAMES), STEPS), min_size=4, max_size=30))
@settings(deadline=None, max_examples=12)
def test_interleaved_tenants_are_answered_as_if_each_were_alone(
    turns: list[tuple[str, Step]],
) -> None:
    programmes = {name: [step for who, step in turns if who == name] for name in NAMES}
    together = play(shared(), programmes, [who for who, _ in turns])
    for name in NAMES:
        alone = play(other(), {name: programmes[name]}, [name] * len(programmes[name]))
        assert together[name] == alone[name]


_running: dict[str, MockServer] = {}


def running(name: str) -> Callable[[], MockServer]:
    def server() -> MockServer:
        if name not in _running:
            _running[name] = MockServer().__enter__()
        return _running[name]

    return server


shared, other = running("shared"), running("other")


def teardown_module() -> None:
    for server in _running.values():
        server.__exit__()


def suite(url: str, token: str, scenario: str) -> None:
    """What one test of a client's suite does: steer, create, poll to the end, look at the journal."""
    connection = HTTPConnection(url.removeprefix("http://"))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def ask(method: str, path: str, body: object = None) -> Any:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return json.loads(connection.getresponse().read())

    ask("POST", "/__admin/reset")
    ask("PUT", "/__admin/scenario", scenario)
    seen = [ask("POST", KONTEXT, {"input": {"prompt": token}})]
    while seen[-1]["status"] in ("starting", "processing"):
        seen.append(ask("GET", f"/replicate/v1/predictions/{seen[0]['id']}"))
    assert [item["status"] for item in seen] == ENDINGS[scenario]
    assert seen[-1]["input"].get("prompt", token) == token
    listed = ask("GET", "/replicate/v1/predictions")["results"]
    assert [item["id"] for item in listed] == [seen[0]["id"]]
    recorded = ask("GET", "/__admin/requests")["requests"]
    assert len(recorded) == len(seen) + 1
    assert {item["scenario"] for item in recorded} == {scenario}
    assert ask("GET", "/__admin/verdict")["ok"]
    connection.close()


@pytest.mark.thorough
def test_fifty_tests_in_parallel_five_times_over_do_not_disturb_each_other(
    server: MockServer,
) -> None:
    names = list(ENDINGS)
    with ThreadPoolExecutor(50) as pool:
        for _ in range(5):
            runs = [
                pool.submit(suite, server.url, f"suite-{number}", names[number % len(names)])
                for number in range(50)
            ]
            for run in runs:
                run.result()


def test_every_scenario_that_answers_plainly_takes_part() -> None:
    plain = {
        scenario.name
        for scenario in Catalogue(CONTRACT)
        if not scenario.faults and not scenario.limits
    }
    assert plain - ENDINGS.keys() == {"stuck", "silent-processing"}


def a_run(server: MockServer, token: str) -> list[tuple[int, str]]:
    steps: list[Step] = [
        ("create", ULTRA),
        ("get", 0),
        ("advance", 5),
        ("get", 0),
        ("picture", 0),
        ("list", None),
    ]
    return play(server, {token: steps}, [token] * len(steps))[token]


def test_the_same_seed_tenant_and_requests_give_the_same_bytes() -> None:
    with MockServer(seed=1) as one, MockServer(seed=1) as same, MockServer(seed=2) as clone:
        first = a_run(one, "t")
        assert a_run(same, "t") == first
        assert a_run(one, "t") == first  # after a reset
        assert a_run(clone, "t") != first
        assert a_run(one, "u") != first


@pytest.mark.parametrize("token", ["", "ann", "bob+nsfw", "Größe, 12"])
def test_whatever_is_asked_without_a_token_names_the_tenants_shard(
    server: MockServer, token: str
) -> None:
    shard = f"{crc32((token or 'anonymous').encode('latin-1')) % 1000:03}"
    headers = {b"Authorization": f"Bearer {token}".encode("latin-1")} if token else {}
    with httpx.Client(base_url=server.url, headers=headers, verify=False) as client:
        seen = client.post(
            ULTRA, json={"input": {"prompt": "p"}}, headers={"X-Mock-Scenario": "immediate"}
        ).json()
        file = client.post(FILES, files={"content": ("a.txt", b"a", "text/plain")}).json()
    assert (seen["id"][:3], len(seen["id"])) == (shard, 26)
    assert b64decode(file["id"]).decode()[:3] == shard, "its id is a UUID in base64"
    for url in (*seen["urls"].values(), seen["output"]):
        assert re.search(rf"[/-]{shard}[0-9a-z]{{23}}(/|$)", url), url
