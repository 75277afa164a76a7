"""Webhooks: what a receiver is told, in what order, and with what signature."""

import hmac
import json
import socket
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import Any

import httpx
import pytest
from replicate.client import Client
from replicate.webhook import Webhooks

from mockserver import MockServer, Tenant
from mockserver.backend.backend import MAX_POSTS
from mockserver.http.post import OWN_ADDRESS
from mockserver.http.webhooks import RETRIES, is_allowed, sign
from tests.helpers.documents import CONTRACT, KONTEXT
from tests.helpers.receiver import Receiver


def create(client: httpx.Client, receiver: Receiver, **more: Any) -> dict[str, Any]:
    body = {"input": {"prompt": "p"}, "webhook": receiver.url, **more}
    response = client.post(KONTEXT, json=body)
    assert response.status_code == 200, response.text
    return response.json()  # type: ignore[no-any-return]


def told(deliveries: list[tuple[dict[str, str], bytes]]) -> list[tuple[str, bool]]:
    """The status, and whether there is an output, of each prediction told of."""
    predictions = [json.loads(body) for _, body in deliveries]
    return [(prediction["status"], prediction["output"] is not None) for prediction in predictions]


SUCCESS = [("starting", False), ("processing", False), ("processing", True), ("succeeded", True)]


def test_under_autojump_a_webhook_looks_and_so_all_is_told_at_once_in_order(
    client: httpx.Client, receiver: Receiver
) -> None:
    prediction = create(client, receiver)
    assert prediction["status"] == "starting"
    seen = [receiver.next() for _ in range(4)]
    assert [(item["status"], item["output"] is not None) for item in seen] == SUCCESS
    assert {item["id"] for item in seen} == {prediction["id"]}
    assert seen[-1] == {**client.get(prediction["urls"]["get"]).json(), "webhook": receiver.url}


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("succeeded", SUCCESS),
        ("failed", [("starting", False), ("processing", False), ("failed", False)]),
        ("canceled", [("starting", False), ("processing", False), ("canceled", False)]),
        ("aborted", [("starting", False), ("aborted", False)]),
    ],
)
def test_under_a_frozen_clock_exactly_what_is_due_has_been_delivered_when_an_advance_returns(
    client: httpx.Client,
    tenant: Tenant,
    receiver: Receiver,
    scenario: str,
    expected: list[tuple[str, bool]],
) -> None:
    tenant.use(scenario)
    tenant.freeze()
    create(client, receiver)
    tenant.advance(0)
    assert told(receiver.so_far()) == expected[:1]
    tenant.advance(0.4)
    due = [
        event for event in expected[1:] if event[0] == "processing" and not event[1]
    ] or expected[1:]
    assert told(receiver.so_far()) == due
    tenant.advance(1000)
    assert told(receiver.so_far()) == expected[1 + len(due) :]
    tenant.advance(1000)
    assert receiver.so_far() == []


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["completed"], [("succeeded", True)]),
        (["start", "output"], [("starting", False), ("processing", True)]),
        (["logs"], [("processing", False)]),
        ([], []),
    ],
)
def test_only_what_is_asked_for_is_told(
    client: httpx.Client,
    tenant: Tenant,
    receiver: Receiver,
    wanted: list[str],
    expected: list[tuple[str, bool]],
) -> None:
    tenant.freeze()
    create(client, receiver, webhook_events_filter=wanted)
    tenant.advance(1000)
    assert told(receiver.so_far()) == expected


def test_each_is_signed_in_the_standard_way(client: httpx.Client, receiver: Receiver) -> None:
    secret = client.get("/replicate/v1/webhooks/default/secret").json()["key"]
    create(client, receiver)
    for _ in range(4):
        headers, body = receiver.came.get(timeout=20)
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = b64encode(
            hmac.new(b64decode(secret.removeprefix("whsec_")), signed, sha256).digest()
        ).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"


def test_the_signature_is_that_of_the_published_vector() -> None:
    signature = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_official_python_client_takes_it_for_genuine(
    tenant: Tenant, receiver: Receiver
) -> None:
    client = Client(api_token=tenant.token, base_url=tenant.base_url)
    secret = client.webhooks.default.secret()
    client.models.predictions.create(
        "black-forest-labs/flux-kontext-max", input={"prompt": "p"}, webhook=receiver.url
    )
    headers, body = receiver.came.get(timeout=20)
    Webhooks.validate(headers=headers, body=body.decode(), secret=secret)
    client._client.close()
    assert tenant.verdict()["ok"]


def test_secrets_are_each_tenants_own(server: MockServer) -> None:
    keys = set()
    for _ in range(2):
        headers = {"Authorization": f"Bearer {server.tenant().token}"}
        keys.add(
            httpx.get(server.base_url + "/v1/webhooks/default/secret", headers=headers).json()[
                "key"
            ]
        )
    assert len(keys) == 2


def test_only_the_last_is_tried_again_until_it_is_taken(
    client: httpx.Client, tenant: Tenant, receiver: Receiver
) -> None:
    receiver.responses = [500, 500, 500, 503, 404, 200]
    tenant.freeze()
    create(client, receiver)
    tenant.advance(10)
    came = receiver.so_far()
    assert told(came) == SUCCESS
    tenant.advance(1)
    tenant.advance(2)
    retries = receiver.so_far()
    assert told(retries) == [("succeeded", True)] * 2
    assert {headers["webhook-id"] for headers, _ in retries} == {came[-1][0]["webhook-id"]}
    tenant.advance(1000)
    assert receiver.so_far() == []
    attempts = [(item["event"], item["attempt"], item["status"]) for item in tenant.webhooks()]
    assert attempts[-3:] == [("completed", 1, 503), ("completed", 2, 404), ("completed", 3, 200)]
    undelivered = [item["event"] for item in tenant.verdict()["undelivered_webhooks"]]
    assert undelivered == ["start", "logs", "output"]


def test_a_receiver_that_is_not_there_is_given_up_after_about_a_minute(
    client: httpx.Client, tenant: Tenant
) -> None:
    tenant.freeze()
    body = {
        "input": {"prompt": "p"},
        "webhook": "http://127.0.0.1:1/",
        "webhook_events_filter": ["completed"],
    }
    client.post(KONTEXT, json=body)
    for _ in range(len(RETRIES) + 1):
        tenant.advance(61)
    attempts = tenant.webhooks()
    assert [item["attempt"] for item in attempts] == list(range(1, len(RETRIES) + 2))
    assert [item["final"] for item in attempts] == [False] * len(RETRIES) + [True]
    assert 55 <= sum(RETRIES) <= 65
    (undelivered,) = tenant.verdict()["undelivered_webhooks"]
    assert "refused" in undelivered["reason"]


def test_redirects_are_not_followed(
    client: httpx.Client, tenant: Tenant, receiver: Receiver
) -> None:
    receiver.responses = [307]
    tenant.freeze()
    create(client, receiver, webhook_events_filter=["start"])
    tenant.advance(1000)
    assert len(receiver.so_far()) == 1
    assert [item["status"] for item in tenant.webhooks()] == [307]


def test_faults_of_delivery(client: httpx.Client, tenant: Tenant, receiver: Receiver) -> None:
    tenant.freeze()
    secret = client.get("/replicate/v1/webhooks/default/secret").json()["key"]

    def delivered(**faults: Any) -> list[tuple[dict[str, str], bytes]]:
        tenant.use({"webhooks": faults})
        create(client, receiver)
        tenant.advance(1000)
        return receiver.so_far()

    def genuine(headers: dict[str, str], body: bytes) -> bool:
        signature = sign(secret, headers["webhook-id"], int(headers["webhook-timestamp"]), body)
        return signature == headers["webhook-signature"]

    twice = delivered(duplicate=True)
    assert told(twice) == [event for event in SUCCESS for _ in range(2)]
    assert len({headers["webhook-id"] for headers, _ in twice}) == 4
    assert told(delivered(out_of_order=True)) == SUCCESS[::-1]
    assert not any(genuine(*item) for item in delivered(signature="wrong"))
    assert delivered(lost=True) == []
    with_forged = delivered(forged=True)
    assert [genuine(*item) for item in with_forged] == [True, True, True, False, True]
    lie, truth = (json.loads(body) for _, body in with_forged[-2:])
    assert lie == {**truth, "output": lie["output"]} != truth
    stale, fresh = delivered(timestamp="stale"), delivered(late=0.01)
    assert all(genuine(*item) for item in stale + fresh)
    assert int(stale[0][0]["webhook-timestamp"]) < int(fresh[0][0]["webhook-timestamp"]) - 300


def test_what_is_told_is_what_the_contract_says(
    client: httpx.Client, tenant: Tenant, receiver: Receiver
) -> None:
    reader = CONTRACT.by_id["getPrediction"]
    for scenario in ("succeeded", "failed", "canceled", "aborted", "immediate"):
        tenant.use(scenario)
        tenant.freeze()
        create(client, receiver)
        tenant.advance(1000)
        for _, body in receiver.so_far():
            assert reader.check_response(200, "application/json", json.loads(body)) == []


def test_nothing_leaves_this_machine_unless_the_user_asked(
    client: httpx.Client, tenant: Tenant
) -> None:
    tenant.freeze()
    client.post(KONTEXT, json={"input": {"prompt": "p"}, "webhook": "https://example.com/hook"})
    tenant.advance(1000)
    assert {item["status"] for item in tenant.webhooks()} == {None}
    assert "--webhook-allow" in tenant.verdict()["undelivered_webhooks"][0]["reason"]


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://127.0.0.1:80/", True),
        ("http://127.9.9.9/", True),
        ("http://[::1]:80/", True),
        ("https://LOCALHOST/", True),
        ("https://hooks.example/", True),
        ("https://example.com/", False),
        ("http://127.0.0.1@example.com/", False),
        ("http://127.0.0.1.example.com/", False),
        ("http://10.0.0.1/", False),
        ("http://0.0.0.0/", False),
        ("http://[::", False),
        ("nonsense", False),
    ],
)
def test_only_loopback_and_named_hosts_are_called(url: str, allowed: bool) -> None:
    assert is_allowed(url, ["hooks.example"]) is allowed


@pytest.mark.parametrize(
    ("listening", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "localhost"),
        ("127.0.0.1", "127.1"),
        ("127.0.0.1", "2130706433"),
        ("127.0.0.1", "0x7f.1"),
        ("127.0.0.1", "0.0.0.0"),
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.2"),
        ("::1", "[::1]"),
    ],
)
def test_the_server_itself_is_no_receiver(listening: str, host: str) -> None:
    with MockServer(host=listening, webhook_allow=[host]) as own:
        tenant = own.tenant(clock="frozen")
        headers = {"Authorization": f"Bearer {tenant.token}"}
        webhook = f"http://{host}:{own.port}/__admin/reset"
        body = {
            "input": {"prompt": "p"},
            "webhook": webhook,
            "webhook_events_filter": ["start"],
        }
        assert httpx.post(own.url + KONTEXT, json=body, headers=headers).status_code == 200
        tenant.advance(0)
        (delivery,) = tenant.webhooks()
        assert (delivery["status"], delivery["error"]) == (None, OWN_ADDRESS)


def test_a_receiver_that_does_not_respond_delays_no_other_tenant(
    server: MockServer,
    client: httpx.Client,
    tenant: Tenant,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mockserver.http.webhooks.TIMEOUT", 60.0)
    wanted = {"webhook_events_filter": ["completed"]}
    with socket.create_server(("127.0.0.1", 0), backlog=2 * MAX_POSTS) as silent:
        headers = {"Authorization": f"Bearer {server.tenant().token}"}
        webhook = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        body = {"input": {"prompt": "p"}, "webhook": webhook, **wanted}
        with httpx.Client(base_url=server.url, headers=headers) as other:
            for _ in range(MAX_POSTS + 1):
                assert other.post(KONTEXT, json=body).status_code == 200

        prediction = create(client, receiver, **wanted)
        assert receiver.next()["id"] == prediction["id"]


def test_a_reset_ends_what_was_still_to_be_told(
    client: httpx.Client, tenant: Tenant, receiver: Receiver
) -> None:
    tenant.freeze()
    create(client, receiver)
    tenant.advance(0)
    assert len(receiver.so_far()) == 1
    tenant.reset()
    tenant.freeze()
    tenant.advance(1000)
    assert receiver.so_far() == []


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"webhook": "ftp://x/y"}, "/webhook"),
        ({"webhook_events_filter": ["end"]}, "/webhook_events_filter/0"),
    ],
)
def test_what_is_no_webhook_is_refused(
    client: httpx.Client, more: dict[str, Any], pointer: str
) -> None:
    response = client.post(KONTEXT, json={"input": {"prompt": "p"}, **more})
    assert response.status_code == 422
    assert pointer in [field["pointer"] for field in response.json()["invalid_fields"]]
