"""The wheel carries all it needs, and serves from any directory."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from mockserver.contract.contract import Contract

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--outdir",
        str(out),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (built,) = out.glob("*.whl")
    return built


def test_it_holds_the_package_its_data_and_the_contract(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("mockserver/")}
        contracts = {
            name: archive.read(f"mockserver/contract/{name}")
            for name in ("openapi.yaml", "admin.yaml")
        }
    sources = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "mockserver").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == sources | {f"mockserver/contract/{name}" for name in contracts}
    assert all(text == (ROOT / "contracts" / name).read_bytes() for name, text in contracts.items())


def test_installed_it_serves_its_own_contract_from_any_directory(
    wheel: Path, tmp_path: Path
) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = "from mockserver.contract.contract import Contract; print(Contract.load().name)"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.strip() == str(site / "mockserver" / "contract" / "openapi.yaml")


def test_in_the_source_tree_the_contract_is_the_tree_s_own() -> None:
    assert Contract.load().name == str(ROOT / "contracts" / "openapi.yaml")


def test_serving_needs_none_of_what_checking_and_testing_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = " ".join(project["dependencies"])
    assert project["optional-dependencies"]["tls"][0].startswith("trustme")
    for name in ("trustme", "hypothesis", "schemathesis", "pytest", "httpx"):
        assert name not in needed
    assert {line.split(">")[0] for line in project["optional-dependencies"]["check"]} == {
        "hypothesis"
    }


def test_whatever_the_tool_says_to_install_is_an_extra_that_there_is() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    told = {
        name
        for path in (ROOT / "mockserver").rglob("*.py")
        for name in re.findall(r"pip install 'flux-mockserver\[(\w+)\]'", path.read_text())
    }
    assert {"check", "tls", "verify", "fuzz"} <= told <= set(extras)


def test_every_dependency_is_locked_to_one_version_with_its_hash() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        entries = [line for line in lock.read_text().splitlines() if line and line[0].isalpha()]
        assert entries
        assert all("==" in line for line in entries)
        assert lock.read_text().count("--hash=sha256:") >= len(entries)
