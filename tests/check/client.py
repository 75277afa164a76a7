"""A complete client of the API, in which bugs can be planted: what the kit's rules are proven on.

Without a bug it is right, in each of its variants. A bug is a small deviation, as found in real clients.
"""

import base64
import http.client
import json
import socket
import sys
import threading
import time
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from mockserver.check.drive.protocol import Call

POLL = 0.004  # seconds
VARIANTS = (
    "plain",
    "wait",
    "no-retry",
    "confirm",
    "slow",
    "download",
    "download-unchecked",
    "list-of-one",
    "limited",
)

# Each bug, and the rules of which it breaks at least one.
BUGS: dict[str, set[str]] = {
    "typo in the path": {"MC101"},
    "forgets the prefix": {"MC101"},
    "body without content type": {"MC101"},
    "input under another name": {"MC101"},
    "drops falsy inputs": {"MC102"},
    "drops booleans that are false and zeros": {"MC102"},
    "numbers as text": {"MC101", "MC102"},
    "trims the prompt": {"MC102"},
    "truncates the prompt": {"MC102"},
    "rounds to one decimal": {"MC102"},
    "prompt as latin-1": {"MC102"},
    "always the first model": {"MC102", "MC101"},
    "Token instead of Bearer": {"MC103"},
    "no token on polls": {"MC103"},
    "creates again when the network fails": {"MC201"},
    "creates again on any 5xx": {"MC201"},
    "creates again when a poll fails": {"MC201"},
    "creates again after a cut answer": {"MC201"},
    "creates again when not found": {"MC201"},
    "never cancels": {"MC202"},
    "processing is the end": {"MC301"},
    "failed is success": {"MC301"},
    "canceled returns nothing": {"MC301"},
    "swallows broken answers": {"MC301"},
    "never polls": {"MC301"},
    "looks once": {"MC301"},
    "trusts the error, not the status": {"MC301"},
    "takes only succeeded after a wait": {"MC301"},
    "returns urls.get": {"MC302"},
    "first character of the output": {"MC302"},
    "returns a cut picture": {"MC302"},
    "does not know aborted": {"MC303", "MC304"},
    "does not know canceled": {"MC303", "MC304"},
    "does not know aborted after a wait": {"MC303", "MC304"},
    "polls on after success": {"MC303"},
    "sleeps for ever after failed": {"MC304"},
    "waits for ever for a stalled body": {"MC304"},
    "splits logs": {"MC305"},
    "reads metrics": {"MC305"},
    "reads started_at": {"MC305"},
    "refuses unknown fields": {"MC305"},
    "parses milliseconds": {"MC305"},
    "parses microseconds at most": {"MC301"},
    "demands application/json to the letter": {"MC305"},
    "needs urls.stream": {"MC305"},
    "takes 200 only": {"MC305"},
    "ignores Retry-After": {"MC401"},
    "creates again at once after a 503": {"MC401"},
    "takes a date for no time": {"MC401"},
    "trips over an unreadable Retry-After": {"MC401"},
    "ignores Retry-After on polls": {"MC401"},
    "retries polls for ever": {"MC402"},
    "retries creates for ever": {"MC402"},
    "repeats 402": {"MC403"},
    "repeats 422": {"MC403"},
    "polls on after 401": {"MC403"},
    "polls without a pause": {"MC404"},
    "no retry of polls": {"MC405"},
    "token in the query": {"MC501"},
    "token to the file host": {"MC501"},
    "token in the body": {"MC501"},
    "token in the error": {"MC501"},
    "follows urls.get": {"MC502"},
    "polls for ever on 404": {"MC402"},
    "polls for ever on broken answers": {"MC402"},
    "creates again when it has waited long enough": {"MC201"},
    "refuses a seed of 0": {"MC102"},
    # Limits and Retry-After, read in other wrong ways.
    "takes Retry-After for milliseconds": {"MC401"},
    "waits half of Retry-After": {"MC401"},
    "takes a long Retry-After for none": {"MC401"},
    "waits out a limit on creates alone": {"MC401"},
    "doubles its own pause instead": {"MC401"},
    "creates again when polls are throttled": {"MC201"},
    "takes a quota that is spent for an end": {"MC301", "MC302"},
    "stops at the last of its quota": {"MC301", "MC305"},
    "reads the delay in the header alone": {"MC401"},
    # Heads and bodies as other servers send them.
    "needs a Content-Length": {"MC305"},
    "looks headers up in lower case": {"MC305"},
    # Creates that wait, as Replicate answers them and as it may.
    "takes what a wait returns for the end": {"MC301", "MC302"},
    "creates again when the wait is over": {"MC201"},
    "knows the end of a wait by processing alone": {"MC305"},
    "gives up after the wait": {"MC202", "MC307"},
    # Predictions that only take long.
    "five polls at most": {"MC307"},
    "polls on processing only": {"MC307"},
    "fifty polls at most": {"MC307"},
    # Connections that have gone silent.
    "reads polls without a timeout": {"MC406"},
    "reads creates without a timeout": {"MC304"},
    "a timeout for connecting alone": {"MC406"},
    # Waits that each are short, in a call that is long.
    "a timeout for each read alone": {"MC304"},
    "waits for ever for its cancel": {"MC304"},
}
NEEDS = {  # bugs of one variant only
    "returns a cut picture": "download",
    "token to the file host": "download",
    "takes only succeeded after a wait": "wait",
    "does not know aborted after a wait": "wait",
    "takes what a wait returns for the end": "wait",
    "creates again when the wait is over": "wait",
    "knows the end of a wait by processing alone": "wait",
    "gives up after the wait": "wait",
}
WITHOUT_TIMEOUT = {
    "waits for ever for a stalled body",
    "reads polls without a timeout",
    "reads creates without a timeout",
    "a timeout for connecting alone",
}
LOOKS = {"five polls at most": 5, "fifty polls at most": 50}
TIMEOUT = {  # what a bug's client declares, in seconds
    "never cancels": 1.0,
    "waits for ever for a stalled body": 1.0,
    "reads creates without a timeout": 1.0,
    "a timeout for each read alone": 0.5,
    "waits for ever for its cancel": 0.5,
}
VARIANT_TIMEOUT = {"limited": 0.5}  # what a variant's client declares, in seconds


class FluxError(Exception):
    """The call failed."""


class _Again(Exception):
    """The create is to be sent once more."""


class Client:
    """One call, with the bug or in the variant that it is told."""

    def __init__(self, call: Call, bug: str = "", variant: str = "plain") -> None:
        self.call, self.bug, self.variant = call, bug, NEEDS.get(bug, variant)
        self.started = time.monotonic()
        address = urlsplit(call.base_url)
        self.root = "" if bug == "forgets the prefix" else address.path
        timeout = (
            None
            if bug in WITHOUT_TIMEOUT
            else 3
            if bug == "creates again when it has waited long enough"
            else 5
        )
        self.connection = http.client.HTTPConnection(address.netloc, timeout=timeout)
        self.limit = TIMEOUT.get(bug, VARIANT_TIMEOUT.get(self.variant, 10**6))
        self.created_id = ""

    def run(self) -> Any:
        """The output's URL, or the picture's bytes."""
        try:
            return self.result(self.follow(self.create()))
        except Exception:
            if self.created_id and self.limit < time.monotonic() - self.started:
                self.cancel()
            raise
        finally:
            self.connection.close()

    def cancel(self) -> None:
        """Stop a prediction that nobody waits for any more."""
        careless = self.bug == "waits for ever for its cancel"
        if self.variant != "limited" and not careless:
            return
        self.connection.close()
        connection = http.client.HTTPConnection(
            f"{self.connection.host}:{self.connection.port}", timeout=None if careless else 0.3
        )
        try:
            path = f"{self.root}/v1/predictions/{self.created_id}/cancel"
            connection.request("POST", path, headers={"authorization": f"Bearer {self.call.token}"})
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            pass  # it was tried, and the caller waits
        finally:
            connection.close()

    def read_in_time(self, response: http.client.HTTPResponse) -> bytes:
        """A response's body; a limit for the whole call ends the wait for it."""
        sock = self.connection.sock
        if self.variant != "limited" or sock is None:
            return response.read()
        left = max(0.0, self.limit - (time.monotonic() - self.started))
        timer = threading.Timer(left, sock.shutdown, (socket.SHUT_RDWR,))
        timer.start()
        try:
            return response.read()
        finally:
            timer.cancel()

    def create(self) -> dict[str, Any]:
        """Create a prediction; what was refused before it took effect is sent again."""
        bug, retries = self.bug, 0 if self.variant == "no-retry" else 3
        model = (
            "black-forest-labs/flux-1.1-pro-ultra"
            if bug == "always the first model"
            else self.call.model
        )
        noun = "model" if bug == "typo in the path" else "models"
        headers = {"Prefer": "wait"} if self.variant == "wait" else {}
        for attempt in range(10**6):
            try:
                status, response, head = self.request(
                    "POST", f"{self.root}/v1/{noun}/{model}/predictions", self.body(), headers
                )
                if status in (201, 202) and bug == "takes 200 only":
                    raise FluxError(f"status {status}")
                if 200 <= status < 300:
                    return self.created(self.read(response), attempt)
            except _Again:
                continue
            except (OSError, http.client.HTTPException) as reason:
                if bug == "creates again when it has waited long enough" and isinstance(
                    reason, TimeoutError
                ):
                    continue
                if bug == "creates again when the network fails" and attempt < 2:
                    continue
                raise
            except ValueError:
                if bug == "creates again after a cut answer" and attempt < 2:
                    continue
                raise
            again = status in (429, 503) and not (status == 503 and not head.get("Retry-After"))
            again = again or (bug == "creates again on any 5xx" and status >= 500)
            again = (
                again
                or (bug == "repeats 402" and status == 402)
                or (bug == "repeats 422" and status == 422)
            )
            if bug == "retries creates for ever" and status >= 429:
                again, retries = True, 10**6
            if not again or attempt >= retries:
                raise FluxError(self.said(status, response))
            if not (bug == "creates again at once after a 503" and status == 503):
                self.pause(self.wait_in(head, response), attempt, creating=True)
        raise AssertionError

    def created(self, prediction: dict[str, Any], attempt: int) -> dict[str, Any]:
        """What the create has come to; of one that was to wait, some bugs make something else."""
        self.created_id = prediction["id"]
        ended = prediction["status"] in ("succeeded", "failed", "canceled", "aborted")
        prefer_wait_timed_out = (
            self.variant == "wait" and not ended and prediction["output"] is None
        )
        if (
            self.bug == "takes what a wait returns for the end"
            and prediction["status"] == "processing"
        ):
            return {**prediction, "status": "succeeded"}
        if (
            self.bug == "creates again when the wait is over"
            and prefer_wait_timed_out
            and attempt < 2
        ):
            raise _Again
        if (
            self.bug == "knows the end of a wait by processing alone"
            and prediction["status"] == "succeeded"
        ):
            raise FluxError("processing was expected")
        if self.bug == "gives up after the wait" and prefer_wait_timed_out:
            raise FluxError("timed out")
        return prediction

    def body(self) -> bytes:
        """The request's body."""
        given, bug = dict(self.call.input), self.bug
        if bug == "refuses a seed of 0" and given.get("seed") == 0:
            raise FluxError("a seed is needed")
        if bug == "drops falsy inputs":
            given = {name: value for name, value in given.items() if value}
        if bug == "drops booleans that are false and zeros":
            given = {name: value for name, value in given.items() if value not in (False, 0)}
        if bug == "numbers as text":
            given = {
                name: str(value) if isinstance(value, float) else value
                for name, value in given.items()
            }
        if bug == "rounds to one decimal":
            given = {
                name: round(value, 1) if isinstance(value, float) else value
                for name, value in given.items()
            }
        if bug == "trims the prompt":
            given["prompt"] = given["prompt"].strip() or given["prompt"]
        if bug == "truncates the prompt":
            given["prompt"] = given["prompt"][:200]
        if bug == "prompt as latin-1":
            given["prompt"] = given["prompt"].encode("latin-1", "replace").decode("latin-1")
        name = "inputs" if bug == "input under another name" else "input"
        extra = {"auth": self.call.token} if bug == "token in the body" else {}
        return json.dumps({name: given, **extra}).encode()

    def follow(self, prediction: dict[str, Any]) -> dict[str, Any]:
        """Poll a prediction to its end."""
        ends = {"succeeded", "failed", "canceled", "aborted"}
        ends -= {"aborted"} if self.bug == "does not know aborted" else set()
        prefer_wait_timed_out = (
            self.bug == "does not know aborted after a wait" and prediction["status"] == "starting"
        )
        ends -= {"aborted"} if prefer_wait_timed_out else set()
        ends -= {"canceled"} if self.bug == "does not know canceled" else set()
        ends |= {"processing"} if self.bug == "processing is the end" else set()
        if self.bug == "never polls" and prediction["status"] not in ends:
            raise FluxError("no picture")
        if (
            self.bug == "takes only succeeded after a wait"
            and prediction["output"]
            and prediction["status"] not in ends
        ):
            raise FluxError("no picture in time")
        looks = 0
        while prediction["status"] not in ends:
            if self.bug != "polls without a pause":
                time.sleep(0.1 if self.variant == "slow" else POLL if looks < 4 else 0.03)
                looks += 1
            if self.limit < time.monotonic() - self.started:
                raise FluxError("took too long")
            prediction = self.poll(prediction)
            if self.bug in LOOKS and looks >= LOOKS[self.bug] and prediction["status"] not in ends:
                raise FluxError("no picture in time")
            if self.bug == "polls on processing only" and prediction["status"] == "starting":
                raise FluxError("unexpected status starting")
            if self.bug == "looks once" and prediction["status"] not in ends:
                raise FluxError("no picture yet")
        if self.bug == "sleeps for ever after failed" and prediction["status"] == "failed":
            while True:
                time.sleep(0.2)
        for _ in range(
            {"polls on after success": 3}.get(self.bug, 1 if self.variant == "confirm" else 0)
        ):
            prediction = self.poll(prediction)
        return prediction

    def poll(self, prediction: dict[str, Any]) -> dict[str, Any]:
        """Read a prediction; a poll that fails is repeated, for it costs nothing."""
        path = f"{self.root}/v1/predictions/{prediction['id']}"
        retries = 0 if self.variant == "no-retry" or self.bug == "no retry of polls" else 5
        for attempt in range(10**6):
            if self.variant == "limited" and self.limit < time.monotonic() - self.started:
                raise FluxError("took too long")
            try:
                status, response, head = self.request(
                    "GET", self.address_of(prediction, path), None, {}
                )
                if 200 <= status < 300:
                    return self.read(response)
            except (OSError, http.client.HTTPException, ValueError):
                if self.bug == "polls for ever on broken answers":
                    time.sleep(POLL)
                    continue
                if self.bug == "swallows broken answers":
                    return {**prediction, "status": "succeeded"}
                if attempt >= retries:
                    if self.bug == "creates again when a poll fails":
                        return self.create()
                    raise
                time.sleep(0.01)
                continue
            again = status in (429, 500, 502, 503, 504) or (
                status == 404 and self.variant == "confirm"
            )
            if self.bug == "creates again when not found" and status == 404:
                return self.create()
            if self.bug == "creates again when polls are throttled" and status == 429:
                return self.create()
            if self.bug == "takes a quota that is spent for an end" and status == 429:
                return {**prediction, "status": "succeeded"}
            if self.bug == "polls for ever on 404" and status == 404:
                time.sleep(POLL)
                continue
            if self.bug == "retries polls for ever" and status >= 500:
                time.sleep(POLL)
                continue
            if self.bug == "polls on after 401" and status == 401:
                time.sleep(POLL)
                continue
            if not again or attempt >= retries:
                if self.bug == "creates again when a poll fails":
                    return self.create()
                raise FluxError(self.said(status, response))
            self.pause(self.wait_in(head, response), attempt, creating=False)
        raise AssertionError

    def address_of(self, prediction: dict[str, Any], path: str) -> str:
        """Where to poll. Another origin needs another connection."""
        if self.bug != "follows urls.get":
            return path
        address = urlsplit(str(prediction["urls"]["get"]))
        if address.netloc != f"{self.connection.host}:{self.connection.port}":
            self.connection.close()
            self.connection = http.client.HTTPConnection(address.netloc, timeout=5)
        return address.path

    def request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        """One request, on a connection that is kept."""
        headers = {**headers, "authorization": f"Bearer {self.call.token}"}
        if self.bug == "Token instead of Bearer":
            headers["authorization"] = f"Token {self.call.token}"
        if self.bug == "no token on polls" and method == "GET":
            del headers["authorization"]
        if self.bug == "token in the query":
            path += f"?token={self.call.token}"
        if body and self.bug != "body without content type":
            headers["Content-Type"] = "application/json"
        try:
            self.connection.request(method, path, body, headers)
            response = self.connection.getresponse()
            kind = response.headers["Content-Type"]
            if self.bug == "a timeout for connecting alone":
                self.connection.sock.settimeout(None)
            if self.bug == "needs a Content-Length" and response.headers["Content-Length"] is None:
                raise FluxError("no Content-Length")
            if self.bug == "looks headers up in lower case" and not any(
                name == "content-type" for name, _ in response.headers.items()
            ):
                raise FluxError("no content-type")
            left = response.headers.get("ratelimit-remaining")
            if self.bug == "stops at the last of its quota" and left and int(left) < 600:
                raise FluxError("the quota is nearly spent")
            if (
                self.bug == "demands application/json to the letter"
                and response.status < 300
                and kind != "application/json"
            ):
                raise FluxError(f"not JSON: {kind}")
            return response.status, self.read_in_time(response), response.headers
        except http.client.IncompleteRead as reason:
            self.connection.close()
            if self.bug == "creates again after a cut answer":
                raise ValueError("cut") from reason
            raise
        except (OSError, http.client.HTTPException):
            self.connection.close()
            raise

    def read(self, response: bytes) -> dict[str, Any]:
        """A prediction."""
        value: dict[str, Any] = json.loads(response)
        if self.bug == "splits logs":
            value["logs"].splitlines()
        if self.bug == "reads metrics" and value["status"] == "succeeded":
            value["metrics"]["predict_time"] * 2
        if self.bug == "reads started_at" and value["status"] == "processing":
            value["started_at"][:10]
        if self.bug == "refuses unknown fields" and value.keys() - KNOWN:
            raise FluxError("unexpected fields")
        if self.bug == "parses microseconds at most" and len(value.get("completed_at", "")) > len(
            "2025-01-01T00:00:00.123456Z"
        ):
            raise FluxError("a time that is none")
        if self.bug == "parses milliseconds":
            time.strptime(value["created_at"][:-5], "%Y-%m-%dT%H:%M:%S")
        if self.bug == "needs urls.stream":
            value["urls"]["stream"][:10]
        return value

    def result(self, prediction: dict[str, Any]) -> Any:
        """What the call returns."""
        status, bug = prediction["status"], self.bug
        good = {"succeeded"} | ({"processing"} if bug == "processing is the end" else set())
        if bug == "canceled returns nothing" and status == "canceled":
            return None
        if bug == "failed is success" and status == "failed":
            return prediction["output"]
        if (
            bug == "trusts the error, not the status"
            and prediction["error"] is None
            and status != "aborted"
        ):
            return prediction["output"]
        if status not in good or (prediction["output"] is None and bug not in BUGS):
            raise FluxError(f"prediction {status}: {prediction.get('error')}")
        output = prediction["output"]
        if bug == "returns urls.get":
            return prediction["urls"]["get"]
        if bug == "first character of the output":
            return output[0]
        if self.variant == "list-of-one":
            return [output]
        return self.download(output) if self.variant.startswith("download") else output

    def download(self, url: str) -> bytes:
        """The picture, whole, without the token."""
        address = urlsplit(url)
        headers = (
            {"Authorization": f"Bearer {self.call.token}"}
            if self.bug == "token to the file host"
            else {}
        )
        connection = http.client.HTTPConnection(address.netloc, timeout=5)
        try:
            connection.request("GET", address.path, headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                raise FluxError(f"the picture: status {response.status}")
            try:
                data = response.read()
            except http.client.IncompleteRead as reason:
                if self.bug != "returns a cut picture":
                    raise
                return reason.partial
            if (
                self.variant == "download-unchecked"
            ):  # as long as Content-Length says: http.client has checked that
                return data
            if not data.startswith((b"\xff\xd8", b"\x89PNG")) or not data.endswith(
                (b"\xff\xd9", b"IEND\xaeB`\x82")
            ):
                raise FluxError("the picture is broken")
            return data
        finally:
            connection.close()

    def wait_in(self, head: http.client.HTTPMessage, response: bytes) -> str | None:
        """The Retry-After of a response, or else the one in its body."""
        header = head.get("Retry-After")
        if header or self.bug == "reads the delay in the header alone":
            return header
        try:
            seconds = json.loads(response).get("retry_after")
        except (ValueError, AttributeError):
            return None
        return None if seconds is None else str(seconds)

    def pause(self, retry_after: str | None, attempt: int, *, creating: bool) -> None:
        """Wait as long as the gateway asks, or a little."""
        bug = self.bug
        if bug == "waits out a limit on creates alone" and not creating:
            retry_after = None
        if bug == "doubles its own pause instead":
            retry_after = None
        if (
            retry_after
            and retry_after.isdecimal()
            and int(retry_after) > 60
            and bug == "takes a long Retry-After for none"
        ):
            retry_after = None
        if retry_after and retry_after.isdecimal() and bug == "takes Retry-After for milliseconds":
            retry_after = None
        if retry_after and retry_after.isdecimal() and bug == "waits half of Retry-After":
            time.sleep(float(retry_after) / 2)
            return
        if bug == "ignores Retry-After" or (bug == "ignores Retry-After on polls" and not creating):
            return
        if bug == "trips over an unreadable Retry-After" and retry_after:
            time.sleep(int(retry_after) if retry_after[:1] not in "MTWFS" else 2)
            return
        seconds = seconds_in(retry_after, 0.0 if bug == "takes a date for no time" else None)
        if seconds is None:
            seconds = min(0.2, 0.01 * 2**attempt)
        if seconds > min(5, self.limit):
            raise FluxError("it would take too long")
        time.sleep(seconds)

    def said(self, status: int, response: bytes) -> str:
        """The gateway's reason, whatever its shape."""
        token = f" ({self.call.token})" if self.bug == "token in the error" else ""
        return f"status {status}{token}: {response[:200].decode('utf-8', 'replace')}"


KNOWN = {
    *(
        "id",
        "model",
        "version",
        "input",
        "logs",
        "output",
        "data_removed",
        "error",
        "status",
        "source",
        "deadline",
    ),
    *("created_at", "started_at", "completed_at", "urls", "metrics", "deployment"),
}


def seconds_in(retry_after: str | None, of_a_date: float | None = None) -> float | None:
    """Seconds to wait by a Retry-After, in seconds or as a date; None if it says nothing that can be read."""
    if not retry_after:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time()) if of_a_date is None else of_a_date


def call_once(call: Call, bug: str = "", variant: str = "plain") -> Any:
    """One call of the client."""
    return Client(call, bug, variant).run()


def main() -> None:
    """The same client as a command: bug and variant are its arguments."""
    bug, variant = (*sys.argv[1:], "", "plain")[:2]
    facts = json.loads(sys.stdin.readline())
    call = Call(facts["base_url"], facts["token"], facts["model"], facts["input"])
    try:
        output = call_once(call, bug, variant or "plain")
    except Exception as reason:
        print(json.dumps({"error": f"{type(reason).__name__}: {reason}"}))
        return
    if isinstance(output, bytes):
        output = "data:image/jpeg;base64," + base64.b64encode(output).decode()
    print(json.dumps({"output": output}))


if __name__ == "__main__":
    main()
