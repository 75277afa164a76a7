"""Files of the release before, in which a warning was called advice, can still be read; and its names are still written."""

import json
from pathlib import Path
from typing import Any

import pytest

from mockserver.check.report import files as check_files
from mockserver.check.report.findings import Finding, Report
from mockserver.conformance import verify_files
from mockserver.conformance.verify_report import VerifyReport

CHECK_FINDING: dict[str, Any] = {
    "rule": "MC404",
    "title": "polls in a hot loop",
    "severity": "advice",
    "message": "It polled 51 times in 0.10 s.",
    "rests_on": "the gateway: polls are limited to 3,000 a minute",
    "call": {"model": "m", "input": {"prompt": "a", "severity": "advice", "advice": []}},
    "scenario": {},
}
VERIFY_FINDING: dict[str, Any] = {
    "rule": "MC708",
    "title": "points urls to another host",
    "severity": "advice",
    "operation": "getPrediction",
    "pointer": "/urls/get",
    "message": "points to https://elsewhere.example",
    "contract": "/paths",
    "line": 1,
    "probe": "a life",
    "exchange": {},
}


@pytest.fixture
def old_file(tmp_path: Path) -> Any:
    def write(value: Any) -> Path:
        path = tmp_path / "old.json"
        path.write_text(json.dumps(value))
        return path

    return write


def test_a_baseline_of_check_with_advice_is_read(old_file: Any) -> None:
    old = old_file({"findings": [], "advice": [CHECK_FINDING], "runs": 3, "seed": 0})
    (finding,) = check_files.read_baseline(old)
    assert (finding.rule, finding.severity) == ("MC404", "warning")
    assert finding.call == CHECK_FINDING["call"], "what a client sent stays as it was"


def test_a_saved_finding_with_advice_is_read(old_file: Any) -> None:
    assert Finding.read(old_file(CHECK_FINDING)).severity == "warning"
    (finding,) = check_files.read_baseline(old_file(CHECK_FINDING))
    assert finding.severity == "warning"


@pytest.mark.parametrize("key", ["advice", "accepted"])
def test_a_baseline_of_verify_with_advice_is_read(old_file: Any, key: str) -> None:
    old = old_file({"url": "u", "contract": "c", "lid": 2, key: [VERIFY_FINDING]})
    (finding,) = verify_files.read_baseline(old)
    assert (finding.rule, finding.severity) == ("MC708", "warning")


def test_a_departure_is_known_by_the_old_title_of_its_probe(old_file: Any) -> None:
    old = {**VERIFY_FINDING, "rule": "MC705", "pointer": "", "probe": "an id that nobody has"}
    (finding,) = verify_files.read_baseline(
        old_file({"url": "u", "contract": "c", "findings": [old]})
    )
    assert finding.probe == "an unknown id"
    assert finding.key[-1] == "an unknown id"


def test_reports_have_the_old_keys_beside_the_new(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    finding = Finding(**{**CHECK_FINDING, "severity": "warning"})
    check_files.write(Report(warnings=[finding], client_error="why"), path)
    written = json.loads(path.read_text())
    assert [finding["rule"] for finding in written["warnings"]] == ["MC404"]
    assert written["advice"] == written["warnings"]
    assert (written["broke_down"], written["client_error"]) == ("why", "why")
    (known,) = check_files.read_baseline(path)
    assert known == finding, "and none of them twice"

    verify_files.write(VerifyReport(url="u", contract="c", spend_limit=2), path)
    written = json.loads(path.read_text())
    assert (written["warnings"], written["advice"]) == ([], [])
    assert (written["lid"], written["spend_limit"]) == (2, 2)


def test_a_report_in_python_has_its_warnings_under_the_old_name() -> None:
    report = Report(warnings=[Finding(**{**CHECK_FINDING, "severity": "warning"})])
    assert report.advice == report.warnings
