"""docs/proxy.md tells the truth: its commands run, and nothing that there is goes unmentioned."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from mockserver import MockServer
from mockserver.cli.proxy import proxy

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parent.parent.parent / "docs" / "proxy.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S)
CLIENT = """
import json, os, urllib.request
body = json.dumps({"input": {"prompt": "p"}}).encode()
url = os.environ["REPLICATE_BASE_URL"] + "/v1/models/black-forest-labs/flux-1.1-pro-ultra/predictions"
urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})).read()
"""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **more}


@pytest.mark.thorough
def test_the_commands_run(server: MockServer, tmp_path: Path) -> None:
    standing, once, replaying = BLOCKS
    learnt, ready = tmp_path / "gateway.yaml", tmp_path / "ready.json"
    more = {"MOCKSERVER_PORT": "0", "MOCKSERVER_READY_FILE": str(ready), "GATEWAY_URL": server.url}
    for command, settings in ((standing, {"MOCKSERVER_LEARN": str(learnt)}), (replaying, {})):
        script = f"exec {command}"
        with subprocess.Popen(
            ["bash", "-c", script], cwd=tmp_path, env=environment(**more, **settings)
        ) as process:
            while not ready.exists():
                assert process.poll() is None
            url = json.loads(ready.read_text())["url"]
            assert httpx.get(url + "/replicate/v1/predictions").status_code == 200
            process.terminate()
            assert process.wait(timeout=30) == 0

    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "client.py").write_text(CLIENT)
    (folder / "npm").write_text(f"#!/bin/sh\n{sys.executable} {folder / 'client.py'}\n")
    (folder / "npm").chmod(0o755)
    found = environment(GATEWAY_URL=server.url)
    found["PATH"] = f"{folder}:{found['PATH']}"
    assert (
        subprocess.run(["bash", "-e", "-c", once], cwd=tmp_path, env=found, timeout=60).returncode
        == 0
    )


def test_every_flag_is_in_the_table() -> None:
    for parameter in proxy.params[1:]:
        assert f"`{parameter.opts[0]}" in PAGE.partition("| flag |")[2]
