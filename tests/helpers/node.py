"""Programs in Node that use the npm clients."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mockserver import Tenant

CLIENTS = Path(__file__).parent.parent / "clients"

with_node = pytest.mark.skipif(
    shutil.which("node") is None or not (CLIENTS / "node_modules").exists(),
    reason="no Node on this machine, or its packages are not installed (`make test` does it)",
)


def node(tenant: Tenant, script: str, *arguments: str, **environment: str) -> Any:
    """What a program prints, which is told where the API is in the usual variables."""
    ended = subprocess.run(
        ["node", script, *arguments],
        cwd=CLIENTS,
        env={
            **os.environ,
            "REPLICATE_BASE_URL": tenant.base_url,
            "REPLICATE_API_TOKEN": tenant.token,
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)
