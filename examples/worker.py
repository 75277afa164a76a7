"""A client as a worker: `mockserver check --worker -- python worker.py` keeps it running.

It reads a line of JSON for each call, and prints a line of JSON, flushed at once, when the call has
ended.
"""

import json
import sys
import threading
import time
import urllib.request
from typing import Any


def make_picture(call: dict[str, Any]) -> str:
    """The picture's URL. Raises if anything fails, which is legal; paying twice is not."""

    def api(path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {call['token']}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{call['base_url']}/v1{path}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    prediction = api(f"/models/{call['model']}/predictions", {"input": call["input"]})
    while prediction["status"] in ("starting", "processing"):
        time.sleep(0.05)
        prediction = api(f"/predictions/{prediction['id']}")
    if prediction["status"] != "succeeded" or not prediction["output"]:
        raise RuntimeError(f"the prediction {prediction['status']}: {prediction['error']}")
    return str(prediction["output"])


def answer(line: str) -> None:
    """Make a call, and print its result with the call's id, if it has one."""
    call = json.loads(line)
    try:
        result = {"output": make_picture(call)}
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps({"id": call.get("id"), **result}) + "\n")
    sys.stdout.flush()


for line in sys.stdin:
    # A thread for each call: with --concurrent, several are made at once.
    threading.Thread(target=answer, args=(line,)).start()
