"""A client that waits for webhooks, right or with a bug: what the kit's rules for such clients are proven on."""

import hmac
import http.client
import http.server
import json
import queue
import threading
import time
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from mockserver.check.drive.protocol import Call

PATIENCE = 1.0  # seconds after which it gives up
ENDS = frozenset({"succeeded", "failed", "canceled", "aborted"})

BUGS: dict[str, set[str]] = {
    "takes a forged webhook": {"MC301", "MC302"},
    "takes a stale webhook": {"MC301"},
    "verifies the body alone": {"MC301", "MC304"},
    "takes any signature of version 1": {"MC301", "MC302"},
    "waits for ever for a lost webhook": {"MC304"},
    "takes the last webhook for the state": {"MC304"},
    "canceled by webhook returns nothing": {"MC301"},
    "does not know aborted by webhook": {"MC304"},
    "creates again when no webhook comes": {"MC201"},
    "polls on after the webhook": {"MC303"},
    "gives up without a cancel": {"MC202"},
    "token in the webhook's address": {"MC501"},
    "returns the id": {"MC302"},
}
VARIANTS = (
    "waits",
    "polls when no webhook comes",
    "asks once after the webhook",
    "takes everything, checks later",
)


class WebhookError(Exception):
    """The call failed."""


class Listener:
    """Receives webhooks for one call, for the time of a `with` block."""

    def __init__(self, client: "WebhookClient", at: str | None) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(
                    client.take({name.lower(): text for name, text in self.headers.items()}, body)
                )
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        given = urlsplit(at) if at else None
        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", (given and given.port) or 0), Handler
        )
        self._server.daemon_threads = True
        self.url = at or f"http://127.0.0.1:{self._server.server_port}/hook"

    def __enter__(self) -> "Listener":
        threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class WebhookClient:
    """One call."""

    def __init__(self, call: Call, bug: str = "", variant: str = "waits") -> None:
        self.call, self.bug, self.variant = call, bug, variant
        self.told: queue.Queue[dict[str, Any]] = queue.Queue()
        self.secret = ""

    def run(self) -> Any:
        """The picture's URL."""
        self.secret = str(self.api("GET", "/webhooks/default/secret")["key"])
        with Listener(self, self.call.webhook_url) as listener:
            where = listener.url + (f"?token={self.call.token}" if "token" in self.bug else "")
            created = self.create(where)
            ended = self.follow(created, where)
        if self.bug == "polls on after the webhook":
            for _ in range(3):
                self.api("GET", f"/predictions/{created['id']}")
        if ended["status"] == "canceled" and self.bug == "canceled by webhook returns nothing":
            return None
        if ended["status"] != "succeeded" or not ended.get("output"):
            raise WebhookError(f"the prediction {ended['status']}")
        return created["id"] if self.bug == "returns the id" else ended["output"]

    def create(self, where: str) -> dict[str, Any]:
        """The prediction, as it was created."""
        events = {} if "last" in self.bug else {"webhook_events_filter": ["completed"]}
        body = {"input": dict(self.call.input), "webhook": where, **events}
        return self.api("POST", f"/models/{self.call.model}/predictions", body)

    def follow(self, created: dict[str, Any], where: str) -> dict[str, Any]:
        """The prediction as the webhooks, or polls, tell that it has ended. Its `status` may be told at once."""
        ends = ENDS - ({"aborted"} if self.bug == "does not know aborted by webhook" else set())
        if self.bug == "takes the last webhook for the state":
            return self.last_state(ends)
        began, tries = time.monotonic(), 0
        while True:
            try:
                shown = self.told.get(timeout=0.2)
            except queue.Empty:
                if self.bug in (
                    "waits for ever for a lost webhook",
                    "does not know aborted by webhook",
                ):
                    continue
                if self.bug == "creates again when no webhook comes" and tries < 2:
                    tries += 1
                    created = self.create(where)
                    continue
                if time.monotonic() - began > PATIENCE * 0.6:
                    if self.bug != "gives up without a cancel":
                        self.api("POST", f"/predictions/{created['id']}/cancel")
                    raise WebhookError("no webhook in time") from None
                if not self.variant.startswith("polls"):
                    continue
                shown = self.api("GET", f"/predictions/{created['id']}")
            if shown["id"] == created["id"] and shown["status"] in ends:
                return (
                    self.api("GET", f"/predictions/{created['id']}")
                    if self.variant.startswith("asks")
                    else shown
                )

    def last_state(self, ends: frozenset[str]) -> dict[str, Any]:
        """The latest webhook's word, once it is one of an end."""
        state: dict[str, Any] = {"status": "starting"}
        while state["status"] not in ends:
            time.sleep(0.25)
            while not self.told.empty():
                state = self.told.get()
        return state

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """The status with which a webhook is answered."""
        genuine = self.is_genuine(headers, body)
        if genuine:
            self.told.put(json.loads(body))
        return 200 if genuine or self.variant.startswith("takes") else 401

    def is_genuine(self, headers: dict[str, str], body: bytes) -> bool:
        """Whether the gateway has sent it, just now."""
        if self.bug == "takes a forged webhook":
            return True
        identifier, stamp = headers["webhook-id"], headers["webhook-timestamp"]
        if abs(time.time() - float(stamp)) > 300 and self.bug != "takes a stale webhook":
            return False
        if self.bug == "takes any signature of version 1":
            return headers["webhook-signature"].startswith("v1,")
        signed = (
            body
            if self.bug == "verifies the body alone"
            else f"{identifier}.{stamp}.".encode() + body
        )
        key = b64decode(self.secret.removeprefix("whsec_"))
        right = "v1," + b64encode(hmac.new(key, signed, sha256).digest()).decode()
        return right in headers["webhook-signature"].split(" ")

    def api(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """One request. Whatever goes wrong is raised."""
        address = urlsplit(self.call.base_url)
        connection = http.client.HTTPConnection(address.netloc, timeout=0.5)
        headers = {"Authorization": f"Bearer {self.call.token}", "Content-Type": "application/json"}
        try:
            sent = None if body is None else json.dumps(body).encode()
            connection.request(method, f"{address.path}/v1{path}", sent, headers)
            response = connection.getresponse()
            text = response.read()
            if not 200 <= response.status < 300:
                raise WebhookError(f"{method} {path}: status {response.status}")
            value: dict[str, Any] = json.loads(text)
            return value
        finally:
            connection.close()


def call_once(call: Call, bug: str = "", variant: str = "waits") -> Any:
    """One call of the client."""
    return WebhookClient(call, bug, variant).run()
