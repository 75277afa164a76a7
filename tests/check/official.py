"""The official clients, and others that people use, as the kit runs them."""

import shutil
from collections.abc import Callable
from pathlib import Path

from replicate.client import Client

from mockserver.check.drive.callables import CallableDriver
from mockserver.check.drive.processes import WorkerDriver
from mockserver.check.drive.protocol import Call, Driver

ROOT = Path(__file__).parent.parent.parent
WORKER = ROOT / "tests" / "clients" / "replicate_worker.mjs"
FOUND = ROOT / "tests" / "check" / "findings"


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


def found_in_python(name: str, environment: str = "") -> Driver:
    """A client that `make findings` installs in an environment of its own."""
    return WorkerDriver(
        [
            str(ROOT / ".venv-findings" / environment / "bin" / "python"),
            str(FOUND / "worker.py"),
            name,
        ]
    )


def found_in_node(name: str) -> Driver:
    return WorkerDriver([shutil.which("node") or "node", str(FOUND / "worker.mjs"), name])


CLIENTS: dict[str, Callable[[], Driver]] = {
    "PyPI replicate": lambda: CallableDriver(pypi_replicate),
    "npm replicate": npm_replicate,
    "npm replicate, polling": lambda: npm_replicate("poll"),
}
MORE: dict[str, Callable[[], Driver]] = {  # those that `make findings` installs
    "PyPI replicate 2": lambda: found_in_python("replicate-2", "beta"),
    "PyPI huggingface_hub": lambda: found_in_python("huggingface_hub"),
    "PyPI langchain-community": lambda: found_in_python("langchain-community"),
    "PyPI litellm": lambda: found_in_python("litellm"),
    "PyPI pipecat-replicate": lambda: found_in_python("pipecat-replicate"),
    "PyPI pipecat-replicate, with settings": lambda: found_in_python("pipecat-replicate-settings"),
    "npm @ai-sdk/replicate": lambda: found_in_node("@ai-sdk/replicate"),
    "npm replicate-stainless": lambda: found_in_node("replicate-stainless"),
    "npm replicate-mcp": lambda: found_in_node("replicate-mcp"),
    "npm @huggingface/inference": lambda: found_in_node("@huggingface/inference"),
}
