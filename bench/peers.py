"""Who is measured: how each is started, and what is asked of it."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
BIN = HERE / "node_modules" / ".bin"
CONTRACT = HERE.parent / "contracts" / "openapi.yaml"
CREATE = "/replicate/v1/models/black-forest-labs/flux-1.1-pro-ultra/predictions"
GET = "/replicate/v1/predictions/{id}"
BODY = json.dumps(
    {"input": {"prompt": "a majestic snow-capped mountain peak", "aspect_ratio": "3:2"}}
)


@dataclass(frozen=True)
class Peer:
    """A server, and what it does with a request."""

    name: str
    version: str
    does: str
    command: Callable[[int, Path], list[str]]
    create: str = CREATE
    get: str = GET
    body: str = BODY
    token: str = "bench"


def peers() -> list[Peer]:
    """Those that are installed, the limit first."""
    uvicorn = metadata.version("uvicorn")
    python = [sys.executable, "-m"]
    peers = [
        Peer(
            "raw ASGI",
            f"uvicorn {uvicorn}",
            "nothing: the upper limit",
            lambda port, _: [
                *[
                    *python,
                    "uvicorn",
                    "--app-dir",
                    str(HERE),
                    "--port",
                    str(port),
                    "--no-access-log",
                ],
                *["--log-level", "error", "raw:app"],
            ],
        ),
        Peer(
            "mockserver",
            metadata.version("flux-mockserver"),
            "validates; lifecycle, journal, tenants",
            lambda port, _: [*python, "mockserver", "serve", "--port", str(port), "--seed", "1"],
        ),
        Peer(
            "aimock",
            _version("@copilotkit/aimock"),
            "a fixed response on OpenAI's path; get is its health check",
            lambda port, folder: [str(BIN / "llmock"), "-p", str(port), "-f", str(_aimock(folder))],
            create="/v1/images/generations",
            get="/health",
            body=json.dumps({"prompt": "a cat", "model": "flux"}),
        ),
        Peer(
            "WireMock",
            _version("wiremock"),
            "matches a JSON path; a fixed response, journal",
            lambda port, folder: [
                *[
                    str(BIN / "wiremock"),
                    "--port",
                    str(port),
                    "--root-dir",
                    str(_wiremock(folder)),
                    "--disable-banner",
                ],
            ],
        ),
        Peer(
            "Prism",
            _version("@stoplight/prism-cli"),
            "validates; the contract's examples",
            lambda port, _: [
                str(BIN / "prism"),
                "mock",
                "-p",
                str(port),
                "-h",
                "127.0.0.1",
                str(CONTRACT),
            ],
        ),
        Peer(
            "Specmatic",
            _version("specmatic"),
            "validates; random responses",
            lambda port, _: [
                *[
                    str(BIN / "specmatic"),
                    "mock",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(port),
                    "--noConsoleLog",
                ],
                str(CONTRACT),
            ],
        ),
        Peer(
            "Mockoon",
            _version("@mockoon/cli"),
            "random responses",
            lambda port, _: [
                str(BIN / "mockoon-cli"),
                *f"start -X -p {port} -l 127.0.0.1 -d {CONTRACT}".split(),
            ],
        ),
    ]
    return [peer for peer in peers if peer.version]


def _version(package: str) -> str:
    manifest = HERE / "node_modules" / package / "package.json"
    return str(json.loads(manifest.read_text())["version"]) if manifest.exists() else ""


def _aimock(folder: Path) -> Path:
    file = folder / "fixtures.json"
    match = {"userMessage": "cat", "endpoint": "image"}
    response = {"image": {"url": "http://127.0.0.1/picture.png"}}
    file.write_text(json.dumps({"fixtures": [{"match": match, "response": response}]}))
    return file


def _wiremock(folder: Path) -> Path:
    mappings = folder / "mappings"
    mappings.mkdir(exist_ok=True)
    response = {
        "status": 200,
        "headers": {"Content-Type": "application/json"},
        "body": '{"id":"' + "x" * 790 + '"}',
    }
    create = {
        "method": "POST",
        "urlPath": CREATE,
        "bodyPatterns": [{"matchesJsonPath": "$.input.prompt"}],
    }
    get = {"method": "GET", "urlPathPattern": GET.replace("{id}", "[^/]+")}
    for name, request in (("create", create), ("get", get)):
        (mappings / f"{name}.json").write_text(
            json.dumps({"request": request, "response": response})
        )
    return folder
