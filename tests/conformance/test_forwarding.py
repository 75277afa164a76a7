"""`mockserver proxy` towards the gateway: HTTP/2 where the gateway has it, and an end to waiting."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from mockserver.conformance import forwarding
from mockserver.server.tls import Authority
from tests.helpers.proxies import Raw, asking, proxying

pytestmark = pytest.mark.slow

h2 = pytest.importorskip("h2.connection")
LIST: dict[str, object] = {"previous": None, "next": None, "results": []}


@contextmanager
def speaking_http2(authority: Authority, asked: list[dict[str, str]]) -> Iterator[str]:
    """A gateway that speaks nothing but HTTP/2, and answers one connection's requests with an empty list."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.server_file)
    context.set_alpn_protocols(["h2"])

    def serve() -> None:
        raw, _ = listener.accept()
        with context.wrap_socket(raw, server_side=True) as connection:
            speaker = h2.H2Connection(
                h2.H2Configuration(client_side=False, header_encoding="utf-8")
            )
            speaker.initiate_connection()
            connection.sendall(speaker.data_to_send())
            while data := connection.recv(65_536):
                for event in speaker.receive_data(data):
                    if type(event).__name__ == "RequestReceived":
                        asked.append(dict(event.headers))
                    if type(event).__name__ == "StreamEnded":
                        headers = [(":status", "200"), ("content-type", "application/json")]
                        speaker.send_headers(event.stream_id, headers)
                        speaker.send_data(
                            event.stream_id, json.dumps(LIST).encode(), end_stream=True
                        )
                connection.sendall(speaker.data_to_send())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(20)


def test_a_gateway_is_spoken_to_by_http_2_where_it_has_that() -> None:
    asked: list[dict[str, str]] = []
    with (
        closing(Authority("127.0.0.1")) as authority,
        speaking_http2(authority, asked) as url,
        proxying(url, gateway_ca=Path(authority.file)) as tenant,
        asking(tenant) as client,
    ):
        answers = [client.get("/replicate/v1/predictions") for _ in range(2)]
        assert [(answer.http_version, answer.json()) for answer in answers] == [
            ("HTTP/1.1", LIST)
        ] * 2
        assert tenant.verdict()["departures"] == []
    assert [each[":path"] for each in asked] == ["/replicate/v1/predictions"] * 2, (
        "on one connection"
    )
    assert asked[0]["authorization"] == f"Bearer {tenant.token}"


def test_a_gateway_that_does_not_answer_in_time_is_a_504_and_no_departure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forwarding, "PATIENCE", 0.05)
    over = threading.Event()

    def wait(handler: BaseHTTPRequestHandler) -> None:
        over.wait(20)

    with Raw(wait) as gateway, proxying(gateway.url) as tenant, asking(tenant) as client:
        answer = client.get("/replicate/v1/predictions")
        over.set()
        assert (answer.status_code, answer.json()["status"]) == (504, 504)
        assert "no answer from 127.0.0.1 in time" in answer.json()["detail"]
        assert tenant.verdict()["departures"] == []
