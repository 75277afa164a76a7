"""A webhook receiver, right or with a bug, for the checks of receivers."""

import hmac
import http.server
import json
import threading
import time
import urllib.request
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import Any

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class WebhookReceiver:
    """Listens on a free port of loopback, for the time of a `with` block."""

    def __init__(self, bug: str = "") -> None:
        receiver = self
        self.bug = bug
        self.seen: set[str] = set()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(receiver.take(dict(self.headers), body))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?tenant=1"

    def __enter__(self) -> "WebhookReceiver":
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """The status with which a webhook is answered."""
        identifier, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if self.bug == "refuses":
            return 500
        if self.bug == "verifies nothing":
            return 204
        if self.bug != "ignores the time" and abs(time.time() - float(stamp)) > 300:
            return 400
        if self.bug == "verifies what it parsed":
            body = json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False).encode()
        if self.bug == "decodes as ASCII":
            body = body.decode("ascii", "replace").encode()
        signed = (
            body if self.bug == "signs the body alone" else f"{identifier}.{stamp}.".encode() + body
        )
        key = b64decode(SECRET.removeprefix("whsec_"))
        right = "v1," + b64encode(hmac.new(key, signed, sha256).digest()).decode()
        given = headers.get("webhook-signature", "")
        if self.bug == "one signature only":
            given = given.split(" ")[0]
        if self.bug == "looks at the key's id only":
            return 200 if given.startswith("v1,") else 401
        if not any(hmac.compare_digest(right, one) for one in given.split(" ")):
            return 401
        if self.bug == "stumbles over duplicates" and identifier in self.seen:
            return 500
        self.seen.add(identifier)
        output = json.loads(body).get("output")
        if self.bug == "stores the picture" and output:  # which is right
            urllib.request.urlopen(output, timeout=5).close()
        return 200
