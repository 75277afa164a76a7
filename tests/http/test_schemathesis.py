"""The double against its own contract: Schemathesis, with every check and in every phase.

The double is strict, since the contract forbids unknown fields; every scenario that answers is held to it.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from mockserver import MockServer
from tests.helpers.documents import CONTRACT

pytestmark = pytest.mark.slow

# Which versions there are, a schema does not say: an unknown one is refused though the schema allows it.
SETTINGS = """
[[operations]]
include-name = "POST /replicate/v1/predictions"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "422", "429", "5xx"]
"""
PHASES = "examples,coverage,fuzzing,stateful"
LIVES = (
    "examples,stateful"  # where only what becomes of a prediction differs, and not what is refused
)
MET = {
    PHASES: {operation.operation_id for operation in CONTRACT.operations},
    LIVES: {
        operation.operation_id
        for operation in CONTRACT.operations
        if operation.role in ("create", "list")
    },
}


@pytest.mark.parametrize(
    ("scenario", "examples", "phases"),
    [
        ("succeeded", 5, PHASES),
        *(
            pytest.param(*row, marks=pytest.mark.thorough)
            for row in (
                ("succeeded", 25, PHASES),
                ("variety", 10, PHASES),
                *((name, 10, LIVES) for name in ("immediate", "failed", "aborted")),
                *(
                    (name, 3, LIVES)
                    for name in ("failed-silently", "start-timeout", "cold-boot", "low-credit")
                ),
            )
        ),
    ],
)
def test_the_double_keeps_its_contract(
    scenario: str, examples: int, phases: str, tmp_path: Path
) -> None:
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    with MockServer(strict=True, scenario=scenario) as server:
        ended = subprocess.run(
            [
                *[
                    str(Path(sys.executable).with_name("schemathesis")),
                    "run",
                    server.url + "/openapi.json",
                ],
                *["--checks", "all", "--phases", phases, "--max-examples", str(examples)],
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
        for phase in phases.split(","):
            assert f"✅  {phase.capitalize()}" in report, report
        met = server.tenant("schemathesis").coverage()["operations"]["met"]
        assert MET[phases] <= set(met)
