"""Where in its file the contract says something: findings and the inspector lead there."""

import pytest

from mockserver.contract.lines import line_of, line_of_violation
from tests.helpers.documents import CONTRACT

LINES = CONTRACT.source.decode().splitlines()


def test_lines_of_the_contract_are_those_of_its_file() -> None:
    line = line_of(CONTRACT, "/components/schemas/Prediction/properties/status")
    assert line is not None
    assert LINES[line - 1].strip() == "status:"
    assert line_of(CONTRACT, "/components/schemas/Status/enum/17") == line_of(
        CONTRACT, "/components/schemas/Status/enum"
    )


@pytest.mark.parametrize(
    ("operation", "pointer", "said", "under"),
    [
        (
            "createFluxKontextMaxPrediction",
            "/input/output_format",
            "output_format:",
            "FluxKontextMaxInput:",
        ),
        (
            "createFlux11ProUltraPrediction",
            "/input/output_format",
            "output_format:",
            "Flux11ProUltraInput:",
        ),
        ("createFluxKontextMaxPrediction", "/input/no_such", "input:", "FluxKontextMaxRequest:"),
        ("createFluxKontextMaxPrediction", "/webhook", "webhook:", "FluxKontextMaxRequest:"),
        ("createFluxKontextMaxPrediction", "Prefer:", "Prefer:", "parameters:"),
        ("createFluxKontextMaxPrediction", "Authorization:", "post:", "flux-kontext-max"),
        ("getPrediction", "{prediction_id}", "PredictionId:", "parameters:"),
        ("listPredictions", "?cursor", "- name: cursor", "/replicate/v1/predictions:"),
    ],
)
def test_a_violation_leads_to_the_line_that_says_what_would_be_right(
    operation: str, pointer: str, said: str, under: str
) -> None:
    line = line_of_violation(CONTRACT, CONTRACT.by_id[operation], pointer)
    assert line is not None
    assert LINES[line - 1].strip() == said
    depth = len(LINES[line - 1]) - len(LINES[line - 1].lstrip())
    above = [
        each
        for each in LINES[: line - 1]
        if each.strip() and len(each) - len(each.lstrip()) < depth
    ]
    assert any(under in each for each in above[-12:])
