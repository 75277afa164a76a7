"""`urls.stream`: a prediction's life as server-sent events."""

import json
import re
import socket
from typing import Any

import httpx
import pytest
from replicate.client import Client

from mockserver import MockServer, Tenant
from tests.helpers.documents import KONTEXT, ULTRA

Event = tuple[str, str, str]


def create(client: httpx.Client, path: str = KONTEXT) -> dict[str, Any]:
    return client.post(path, json={"input": {"prompt": "p", "seed": 7}}).json()  # type: ignore[no-any-return]


def parsed(text: str) -> list[Event]:
    """Events as (name, id, data), as the WHATWG's rules read them."""
    events = []
    for block in text.split("\n\n"):
        fields: dict[str, list[str]] = {"event": [""], "id": [""], "data": []}
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            if name:
                fields.setdefault(name, []).append(value)
        if fields["data"]:
            events.append((fields["event"][-1], fields["id"][-1], "\n".join(fields["data"])))
    return events


def streamed(prediction: dict[str, Any], **headers: str) -> list[Event]:
    """What a client without a token is told: SDKs send none here."""
    response = httpx.get(prediction["urls"]["stream"], headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.text.startswith(": hi\n\n")
    return parsed(response.text)


def names(events: list[Event]) -> list[str]:
    return [name for name, _, _ in events]


@pytest.mark.parametrize(
    ("scenario", "expected", "last"),
    [
        ("succeeded", ["logs", "logs", "output", "done"], {}),
        ("failed", ["logs", "error", "done"], {"reason": "error"}),
        ("canceled", ["logs", "done"], {"reason": "canceled"}),
        ("aborted", ["done"], {"reason": "canceled"}),
    ],
)
def test_it_tells_the_whole_life_in_order_and_ends(
    client: httpx.Client, tenant: Tenant, scenario: str, expected: list[str], last: dict[str, str]
) -> None:
    tenant.use(scenario)
    prediction = create(client)
    events = streamed(prediction)
    assert names(events) == expected
    assert json.loads(events[-1][2]) == last
    done = client.get(prediction["urls"]["get"]).json()
    assert done["status"] == scenario
    if scenario == "succeeded":
        assert events[2][2] == done["output"]
        assert "".join(data for name, _, data in events if name == "logs") == done["logs"]
    if scenario == "failed":
        assert json.loads(events[1][2]) == {"detail": done["error"]}


@pytest.mark.parametrize(
    ("scenario", "expected"), [("succeeded", ["done"]), ("failed", ["error", "done"])]
)
def test_once_the_data_have_expired_logs_and_output_are_no_longer_sent(
    client: httpx.Client, tenant: Tenant, scenario: str, expected: list[str]
) -> None:
    tenant.use(scenario)
    tenant.freeze()
    prediction = create(client)
    tenant.advance(3600 - 1)
    assert "logs" in names(streamed(prediction))
    tenant.advance(60)
    assert client.get(prediction["urls"]["get"]).json()["data_removed"] is True
    assert names(streamed(prediction)) == expected


def test_a_stream_that_is_open_as_the_data_expire_still_ends(
    client: httpx.Client, tenant: Tenant
) -> None:
    tenant.use({"retention": 0})
    assert names(streamed(create(client))) == ["logs", "done"]


def test_ids_count_up_within_the_second_of_creation_and_the_last_words_have_none(
    client: httpx.Client,
) -> None:
    events = streamed(create(client))
    assert [identifier.partition(":")[2] for _, identifier, _ in events] == ["0", "1", "2", ""]


def test_a_stream_goes_on_behind_the_last_event_that_arrived(client: httpx.Client) -> None:
    prediction = create(client)
    events = streamed(prediction)
    for number, (_, identifier, _) in enumerate(events[:-1]):
        assert streamed(prediction, **{"Last-Event-ID": identifier}) == events[number + 1 :]
    assert streamed(prediction, **{"Last-Event-ID": "1:99"}) == events


def test_it_can_be_read_again_and_after_the_end(client: httpx.Client) -> None:
    prediction = create(client, ULTRA)
    assert streamed(prediction) == streamed(prediction)


@pytest.mark.parametrize(
    ("scenario", "steps"),
    [
        ("succeeded", [(0.4, ["logs"]), (3.4, []), (0.1, ["logs", "output", "done"])]),
        ("failed", [(0.4, ["logs"]), (3.4, []), (0.1, ["error", "done"])]),
        ("canceled", [(0.4, ["logs"]), (0.9, []), (0.1, ["done"])]),
        ("aborted", [(0.3, []), (0.1, ["done"])]),
    ],
)
def test_under_a_frozen_clock_each_advance_returns_when_exactly_its_events_are_sent(
    client: httpx.Client, tenant: Tenant, scenario: str, steps: list[tuple[float, list[str]]]
) -> None:
    tenant.use(scenario)
    tenant.freeze()
    url = httpx.URL(create(client)["urls"]["stream"])
    with socket.create_connection((url.host, url.port or 80), timeout=20) as raw:
        raw.sendall(f"GET {url.path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while b": hi" not in data:
            data += raw.recv(65536)
        raw.setblocking(False)
        for seconds, expected in steps:
            with pytest.raises(BlockingIOError):  # nothing has come by itself
                raw.recv(1)
            tenant.advance(seconds)
            arrived = raw.recv(65536).decode() if expected else ""
            assert re.findall(r"event: (\w+)", arrived) == expected
        raw.settimeout(20)
        assert arrived.endswith("0\r\n\r\n") or raw.recv(65536) == b"0\r\n\r\n"
        assert raw.recv(1) == b""


def test_a_cancel_ends_it(client: httpx.Client, tenant: Tenant) -> None:
    tenant.freeze()
    prediction = create(client)
    with httpx.stream("GET", prediction["urls"]["stream"]) as response:
        chunks = response.iter_text()
        assert next(chunks) == ": hi\n\n"
        client.post(prediction["urls"]["cancel"])
        assert parsed("".join(chunks)) == [("done", "", '{"reason":"canceled"}')]


def test_it_can_break_off_once_double_and_leave_out(client: httpx.Client, tenant: Tenant) -> None:
    tenant.use({"stream": {"cut_after": 2}})
    prediction = create(client)
    chunks: list[str] = []
    with (
        httpx.stream("GET", prediction["urls"]["stream"]) as response,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        chunks.extend(response.iter_text())
    events = parsed("".join(chunks))
    assert names(events) == ["logs", "logs"]
    assert names(streamed(prediction, **{"Last-Event-ID": events[-1][1]})) == ["output", "done"]
    tenant.use({"stream": {"duplicate": [0, 2], "gap": [1]}})
    assert names(streamed(create(client))) == ["logs", "logs", "output", "output", "done"]


def test_what_is_not_there_is_not_found(client: httpx.Client) -> None:
    response = client.get("/v1/files/bcwr-" + "0" * 26)
    assert response.status_code == 404


def test_a_fault_of_bodies_is_refused_for_a_stream(tenant: Tenant) -> None:
    with pytest.raises(Exception, match="has no body for `cut`"):
        tenant.use({"faults": {"streamPrediction": [{"cut": 0.5}]}})


def test_the_official_python_client_streams(server: MockServer) -> None:
    tenant = server.tenant()
    client = Client(api_token=tenant.token, base_url=tenant.base_url)
    events = list(client.stream("black-forest-labs/flux-kontext-max", input={"prompt": "p"}))
    assert [str(event.event) for event in events] == [
        "EventType.LOGS",
        "EventType.LOGS",
        "EventType.OUTPUT",
        "EventType.DONE",
    ]
    client._client.close()
    assert tenant.verdict()["ok"]


class TestCancelAfter:
    @pytest.mark.parametrize(
        ("scenario", "header", "expected"),
        [
            ("slow", "5", ["starting", "aborted"]),
            ("slow", "30s", ["starting", "aborted"]),
            ("slow", "1m", ["starting", "processing", "canceled"]),
            ("slow", "2h30m", ["starting", "processing", "succeeded"]),
            ("stuck", "1h30m45s", ["starting", "processing", "canceled"]),
            ("succeeded", "5s", ["starting", "processing", "succeeded"]),
        ],
    )
    def test_a_prediction_is_given_up_at_its_deadline(
        self, client: httpx.Client, tenant: Tenant, scenario: str, header: str, expected: list[str]
    ) -> None:
        tenant.use(scenario)
        response = client.post(
            KONTEXT, json={"input": {"prompt": "p"}}, headers={"Cancel-After": header}
        )
        received = [response.json()]
        assert received[0]["deadline"] > received[0]["created_at"]
        while received[-1]["status"] in ("starting", "processing"):
            received.append(client.get(received[0]["urls"]["get"]).json())
        assert [item["status"] for item in received] == expected

    @pytest.mark.parametrize("header", ["4", "0s", "soon", "", "-5", "1d", "5s5m"])
    def test_what_is_no_duration_or_too_short_is_refused(
        self, client: httpx.Client, header: str
    ) -> None:
        response = client.post(
            KONTEXT, json={"input": {"prompt": "p"}}, headers={"Cancel-After": header}
        )
        assert response.status_code == 422
        assert [field["pointer"] for field in response.json()["invalid_fields"]] == [
            "Cancel-After:"
        ]


def test_an_event_may_come_in_two_parts_and_a_client_be_told_when_to_reconnect(
    client: httpx.Client, tenant: Tenant
) -> None:
    whole = streamed(create(client))
    tenant.reset()
    tenant.use({"stream": {"split": True, "retry": 0.25}})
    prediction = create(client)
    with httpx.stream("GET", prediction["urls"]["stream"]) as response:
        parts = list(response.iter_raw())
    text = b"".join(parts).decode()
    assert text.startswith(": hi\n\nretry: 250\n\n")
    assert [name for name, _, _ in parsed(text)] == names(whole)
    assert sum(not part.endswith(b"\n\n") for part in parts) >= len(whole) / 2
