"""The double against its own contract: Schemathesis, with every check and in every phase.

The double is strict, since the contract forbids unknown fields; every scenario that answers is held to it.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from mockserver import MockServer

pytestmark = pytest.mark.slow

PHASES = "examples,coverage,fuzzing,stateful"


@pytest.mark.parametrize(
    ("scenario", "examples"), [("succeeded", 25), ("immediate", 10), ("failed", 10), ("aborted", 10), ("variety", 10)]
)
def test_the_double_keeps_its_contract(scenario: str, examples: int, tmp_path: Path) -> None:
    with MockServer(strict=True, scenario=scenario) as server:
        ended = subprocess.run(
            [
                *[str(Path(sys.executable).with_name("schemathesis")), "run", server.url + "/openapi.json"],
                *["--checks", "all", "--phases", PHASES, "--max-examples", str(examples)],
                *["--seed", "1", "--generation-database", "none", "--no-color"],
                *["--header", "Authorization: Bearer schemathesis"],
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=240,
        )
        report = ended.stdout + ended.stderr
        assert ended.returncode == 0, report
        for phase in PHASES.split(","):
            assert f"✅  {phase.capitalize()}" in report, report
        coverage = server.tenant("schemathesis").coverage()
        assert coverage["operations"]["never"] == []
        assert server.tenant("schemathesis").verdict()["exchanges"] > 100
