"""The official clients, as the kit runs them."""

import shutil
from collections.abc import Callable
from pathlib import Path

from replicate.client import Client

from mockserver.check.drivers import Call, CallableDriver, Driver
from mockserver.check.processes import WorkerDriver

WORKER = Path(__file__).parent.parent / "clients" / "replicate_worker.mjs"


def pypi_replicate(call: Call) -> object:
    """One call of the PyPI client, which polls every half second if REPLICATE_POLL_INTERVAL does not say otherwise."""
    client = Client(api_token=call.token, base_url=call.base_url)
    client.poll_interval = 0.02
    try:
        return client.run(call.model, input=dict(call.input))
    finally:
        client._client.close()


def npm_replicate(*words: str) -> Driver:
    return WorkerDriver([shutil.which("node") or "node", str(WORKER), *words])


CLIENTS: dict[str, Callable[[], Driver]] = {
    "PyPI replicate": lambda: CallableDriver(pypi_replicate),
    "npm replicate": npm_replicate,
    "npm replicate, polling": lambda: npm_replicate("poll"),
}
