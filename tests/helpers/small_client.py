"""A right client in a few lines of Python, for tests of the ways in which one takes its calls and tells its results."""

import sys
from typing import Any

from mockserver.check.drive.protocol import Driver
from mockserver.check.hunt.harness import Harness
from mockserver.check.hunt.hunt import Hunt
from mockserver.check.hunt.plan import Plan
from mockserver.check.report.findings import Report
from tests.helpers.documents import CONTRACT

# `run` takes a line with a call, and returns the line with its result.
CLIENT = """
import json, sys, time, urllib.request

def run(line):
    call = json.loads(line)
    headers = {"Authorization": "Bearer " + call["token"], "Content-Type": "application/json"}
    def api(path, body=None):
        data = body and json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(call["base_url"] + "/v1" + path, data, headers)) as response:
            return json.load(response)
    prediction = api("/models/" + call["model"] + "/predictions", {"input": call["input"]})
    while prediction["status"] in ("starting", "processing"):
        prediction = api("/predictions/" + prediction["id"])
    return json.dumps({"output": prediction["output"]})

"""


def python(source: str) -> list[str]:
    """The command that runs a program."""
    return [sys.executable, "-c", source]


def hunt(driver: Driver, *, max_runs: int = 2, **plan: Any) -> Report:
    """What a hunt finds in a client, which is ended then."""
    try:
        with Harness(CONTRACT) as harness:
            return Hunt(harness, driver, Plan(max_runs=max_runs, **plan)).run()
    finally:
        driver.close()
