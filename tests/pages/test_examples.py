"""The programs in examples/ work."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mockserver import Tenant
from tests.helpers.pages import DOCUMENTATION, PAGES, ROOT, blocks_of

pytestmark = pytest.mark.slow

MODULES = ROOT / "tests" / "clients" / "node_modules"
COMMANDS = {"picture.py": [sys.executable], "picture.sh": ["sh"], "picture.mjs": ["node"]}
WORKERS = ("worker.py", "worker.mjs")  # tests/check/test_preflight.py runs them


def test_every_example_is_run_here_and_on_a_page() -> None:
    assert {path.name for path in (ROOT / "examples").iterdir()} == {
        *COMMANDS,
        *WORKERS,
        "client.mjs",
    }
    assert all(f"](../examples/{name})" in DOCUMENTATION for name in WORKERS)
    # test_docs.py checks that these blocks equal the files.
    titles = {block.title for page in PAGES for block in blocks_of(page)}
    assert {f"examples/{name}" for name in (*COMMANDS, "client.mjs")} <= titles


@pytest.mark.parametrize("name", COMMANDS)
def test_it_saves_a_picture(name: str, tenant: Tenant, tmp_path: Path) -> None:
    if name.endswith(".mjs"):
        if shutil.which("node") is None or not MODULES.exists():
            pytest.skip(
                "no Node on this machine, or its packages are not installed (`make test` does it)"
            )
        (tmp_path / "node_modules").symlink_to(MODULES)
    program = shutil.copy(ROOT / "examples" / name, tmp_path)
    completed = subprocess.run(
        [*COMMANDS[name], str(program)],
        cwd=tmp_path,
        env={
            **os.environ,
            "REPLICATE_BASE_URL": tenant.base_url,
            "REPLICATE_API_TOKEN": tenant.token,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert completed.returncode == 0, completed.stderr
    (prediction,) = tenant.predictions()
    assert completed.stdout == f"saved {prediction['output']}\n"
    with Image.open(tmp_path / "picture.jpg") as picture:
        assert picture.size == (2496, 1664)
    assert tenant.verdict()["ok"]
