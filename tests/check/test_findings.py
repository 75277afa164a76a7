"""docs/findings.md tells the truth: each case that it shows still breaks its rule, in the official client."""

import json
import os
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mockserver.check.generate.inputs import boundary_inputs
from mockserver.check.hunt.harness import Harness, Limits
from mockserver.check.hunt.replay import with_control
from mockserver.check.model import Case
from mockserver.check.rules.registry import find_breaches
from tests.check.official import CLIENTS, FOUND, MORE, WORKER
from tests.helpers.documents import CONTRACT

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parent.parent.parent / "docs" / "findings.md").read_text()
FINDINGS = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", PAGE, re.M | re.S)]


@pytest.mark.parametrize(
    "finding", FINDINGS, ids=lambda finding: f"{finding['client']} {finding['rule']}"
)
def test_the_case_breaks_the_rule(finding: dict[str, Any]) -> None:
    if "npm" in finding["client"] and not (
        shutil.which("node") and (WORKER.parent / "node_modules").exists()
    ):
        pytest.skip(
            "no Node on this machine, or its packages are not installed (`make test` does it)"
        )
    create = next(iter(CONTRACT.models.values()))
    given = finding.get("input") or next(boundary_inputs(create))
    case = Case(model=str(create.model), input=given, scenario=finding["scenario"])
    name = finding["client"]
    if name in MORE and os.environ.get("FINDINGS") != "all":
        pytest.skip("`make findings` installs this client, and plays its cases")
    driver = {**CLIENTS, **MORE}[name]()
    try:
        with Harness(CONTRACT) as harness:
            if name in MORE:  # some take long to start
                harness.play(
                    msgspec.structs.replace(case, scenario={}), driver, Limits(deadline=60)
                )
            run = harness.play(case, driver, Limits(deadline=3))
            broken = find_breaches(
                with_control(run, lambda control: harness.play(control, driver, Limits()))
            )
    finally:
        driver.close()
    assert finding["rule"] in [found.rule for found in broken]


def test_every_rule_in_the_table_has_its_case_and_the_versions_are_those_installed() -> None:
    told = set(re.findall(r"MC\d{3}", PAGE.partition("| client |")[2].partition("\n\n")[0]))
    assert told == {finding["rule"] for finding in FINDINGS}
    packages = json.loads((WORKER.parent / "package.json").read_text())["dependencies"]
    assert f"## PyPI `replicate` {metadata.version('replicate')}\n" in PAGE
    assert f"## npm `replicate` {packages['replicate']}\n" in PAGE
    for name, version in json.loads((FOUND / "package.json").read_text())["dependencies"].items():
        assert (f"npm `ai` {version}," if name == "ai" else f"## npm `{name}` {version}\n") in PAGE
    locked = (FOUND / "requirements.txt").read_text() + (FOUND / "beta.txt").read_text()
    shown = {
        "huggingface-hub": "## PyPI `huggingface_hub` {}\n",
        "pipecat-ai": "with `pipecat-ai` {}. ",
    }
    for name in (
        "huggingface-hub",
        "langchain-community",
        "litellm",
        "pipecat-ai",
        "pipecat-replicate",
        "replicate",
    ):
        for version in re.findall(rf"^{name}==(\S+)", locked, re.M):
            assert shown.get(name, f"## PyPI `{name}` {{}}\n").format(version) in PAGE
