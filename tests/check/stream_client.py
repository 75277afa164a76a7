"""A third client, built differently again: it follows the stream of events instead of polling."""

import http.client
import json
from collections.abc import Iterator
from urllib.parse import urlsplit

from mockserver.check.drive.protocol import Call

BUGS = {
    "takes a cut stream for a whole one": {"MC301"},
    "takes each chunk for an event": {"MC302"},
    "returns every output": {"MC302"},
}


def call_once(call: Call, bug: str = "") -> str | list[str] | None:
    """The output's URL, as an event of the stream tells it."""
    address = urlsplit(call.base_url)
    connection = http.client.HTTPConnection(address.netloc, timeout=5)
    try:
        headers = {"Authorization": f"Bearer {call.token}", "Content-Type": "application/json"}
        body = json.dumps({"input": dict(call.input)})
        connection.request(
            "POST", f"{address.path}/v1/models/{call.model}/predictions", body, headers
        )
        response = connection.getresponse()
        created = json.loads(response.read())
        if response.status >= 300:
            raise RuntimeError(f"status {response.status}")
        if created["status"] == "succeeded":
            return str(created["output"])
        stream = urlsplit(created["urls"]["stream"])
    finally:
        connection.close()
    return _follow(stream.netloc, stream.path, bug)


def _follow(host: str, path: str, bug: str) -> str | list[str] | None:
    connection = http.client.HTTPConnection(host, timeout=5)
    try:
        connection.request("GET", path, headers={"Accept": "text/event-stream"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}")
        events = []
        try:
            for line in _lines(response, bug):
                name, _, value = line.partition(": ")
                if name in ("event", "data"):
                    events.append((name, value))
        except http.client.IncompleteRead:
            if bug != "takes a cut stream for a whole one":
                raise
    finally:
        connection.close()
    outputs = [value for name, value in events if name == "data" and value.startswith("http")]
    if bug == "takes a cut stream for a whole one":
        return outputs[-1] if outputs else None
    if ("event", "done") not in events or ("event", "error") in events or not outputs:
        raise RuntimeError("the stream ended without a picture")
    return outputs if bug == "returns every output" and len(outputs) > 1 else outputs[-1]


def _lines(response: http.client.HTTPResponse, bug: str) -> Iterator[str]:
    if bug == "takes each chunk for an event":
        while chunk := response.read1(65536):
            yield from chunk.decode().splitlines()
    else:
        for raw in response:
            yield raw.decode().rstrip("\n")
