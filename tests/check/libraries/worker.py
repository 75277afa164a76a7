"""Legal clients on libraries that people use, as workers: python worker.py LIBRARY."""

import asyncio
import json
import sys
import time
from typing import Any

import aiohttp
import backoff
import requests
import tenacity
import urllib3
from requests.adapters import HTTPAdapter

RUNNING = ("starting", "processing")
TRANSIENT = (500, 502, 503, 504)
PAUSE = 0.02  # seconds between polls


class Trouble(Exception):
    """A failure that may pass."""


def result(prediction: dict[str, Any]) -> str:
    """The picture's URL."""
    if prediction["status"] != "succeeded" or not prediction["output"]:
        raise RuntimeError(f"the prediction {prediction['status']}")
    return str(prediction["output"])


def poll(prediction: dict[str, Any], read: Any) -> str:
    """The picture's URL, once the prediction has ended."""
    while prediction["status"] in RUNNING:
        time.sleep(PAUSE)
        prediction = read(prediction["id"])
    return result(prediction)


def with_urllib3(call: dict[str, Any]) -> str:
    """Its Retry, as it comes: GETs are repeated, and Retry-After is waited out."""
    retry = urllib3.Retry(total=3, backoff_factor=0.02, status_forcelist=[429, *TRANSIENT])
    with urllib3.PoolManager(retries=retry, timeout=5) as http:
        headers = {"Authorization": f"Bearer {call['token']}"}

        def api(method: str, path: str, **more: Any) -> Any:
            response = http.request(method, f"{call['base_url']}/v1{path}", headers=headers, **more)
            if response.status >= 300:
                raise RuntimeError(f"status {response.status}")
            return response.json()

        created = api("POST", f"/models/{call['model']}/predictions", json={"input": call["input"]})
        return poll(created, lambda identifier: api("GET", f"/predictions/{identifier}"))


def with_requests(call: dict[str, Any]) -> str:
    """A session with an adapter that repeats GETs."""
    retry = urllib3.Retry(
        total=4, backoff_factor=0.01, status_forcelist=TRANSIENT, allowed_methods=["GET"]
    )
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=retry))
        session.headers["Authorization"] = f"Bearer {call['token']}"

        def api(method: str, path: str, **more: Any) -> Any:
            response = session.request(method, f"{call['base_url']}/v1{path}", timeout=5, **more)
            response.raise_for_status()
            return response.json()

        created = api("POST", f"/models/{call['model']}/predictions", json={"input": call["input"]})
        return poll(created, lambda identifier: api("GET", f"/predictions/{identifier}"))


def with_aiohttp(call: dict[str, Any]) -> str:
    """Asynchronous, one that raises at the first trouble."""

    async def run() -> str:
        headers, timeout = (
            {"Authorization": f"Bearer {call['token']}"},
            aiohttp.ClientTimeout(total=8),
        )
        async with aiohttp.ClientSession(
            headers=headers, timeout=timeout, raise_for_status=True
        ) as session:
            models, body = (
                f"{call['base_url']}/v1/models/{call['model']}/predictions",
                {"input": call["input"]},
            )
            async with session.post(models, json=body) as response:
                prediction = await response.json()
            while prediction["status"] in RUNNING:
                await asyncio.sleep(PAUSE)
                async with session.get(
                    f"{call['base_url']}/v1/predictions/{prediction['id']}"
                ) as response:
                    prediction = await response.json()
        return result(prediction)

    return asyncio.run(run())


def once(call: dict[str, Any], method: str, path: str, **more: Any) -> Any:
    """One request. What may pass is a Trouble, if nobody said how long to wait."""
    headers = {"Authorization": f"Bearer {call['token']}"}
    try:
        response = requests.request(
            method, f"{call['base_url']}/v1{path}", headers=headers, timeout=5, **more
        )
    except requests.ConnectionError as reason:
        raise Trouble(str(reason)) from reason
    if response.status_code in TRANSIENT and "Retry-After" not in response.headers:
        raise Trouble(f"status {response.status_code}")
    response.raise_for_status()
    return response.json()


def with_tenacity(call: dict[str, Any]) -> str:
    """Polls are repeated by tenacity, creates are not."""
    created = once(
        call, "POST", f"/models/{call['model']}/predictions", json={"input": call["input"]}
    )

    @tenacity.retry(
        stop=tenacity.stop_after_attempt(4),
        wait=tenacity.wait_exponential_jitter(0.01, 0.1),
        retry=tenacity.retry_if_exception_type(Trouble),
    )
    def read(identifier: str) -> Any:
        return once(call, "GET", f"/predictions/{identifier}")

    return poll(created, read)


def with_backoff(call: dict[str, Any]) -> str:
    """Polls are repeated by backoff, creates are not."""
    created = once(
        call, "POST", f"/models/{call['model']}/predictions", json={"input": call["input"]}
    )

    @backoff.on_exception(backoff.expo, Trouble, max_tries=4, factor=0.01)
    def read(identifier: str) -> Any:
        return once(call, "GET", f"/predictions/{identifier}")

    return poll(created, read)


LIBRARIES = {
    "urllib3": with_urllib3,
    "requests": with_requests,
    "aiohttp": with_aiohttp,
    "tenacity": with_tenacity,
    "backoff": with_backoff,
}


def main() -> None:
    """Take a line for each call."""
    make = LIBRARIES[sys.argv[1]]
    for line in sys.stdin:
        try:
            reply = {"output": make(json.loads(line))}
        except Exception as reason:
            reply = {"error": f"{type(reason).__name__}: {reason}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
