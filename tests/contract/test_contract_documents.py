"""The contract says what the two documents say, or owns up in contracts/README.md.

`tests/documents/*.json` hold the documents' own statements: path, header, schemas, samples, and what their
prose adds (ranges, defaults).
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.documents import CONTRACT, DOCUMENTS

ROOT = Path(__file__).parent.parent.parent
CONSTRAINTS = (
    "enum",
    "const",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "default",
    "minLength",
    "maxLength",
)

each_document = pytest.mark.parametrize("name", DOCUMENTS)


def flat(node: Any) -> dict[str, Any]:
    """A schema with its references followed and its `allOf` laid together."""
    node = dict(CONTRACT.resolve(node))
    merged = {
        **node,
        "properties": {name: flat(part) for name, part in node.get("properties", {}).items()},
        "required": sorted(node.get("required", [])),
    }
    for part in node.get("allOf", []):
        if "if" not in part:
            merged = overlay(merged, flat(part))
    return merged


def overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two flat schemas as one that demands what either does."""
    properties = dict(below["properties"])
    for name, schema in above["properties"].items():
        properties[name] = overlay(properties[name], schema) if name in properties else schema
    required = sorted({*below["required"], *above["required"]})
    return {**below, **above, "properties": properties, "required": required}


def departures(where: str, said: dict[str, Any], ours: dict[str, Any]) -> Iterator[str]:
    """Every place where a schema of the contract says something else than the documents' schema."""
    said_type, our_type = said.get("type"), ours.get("type")
    if said_type != our_type:
        yield f"{where}.type"
    if sorted(said.get("required", [])) != ours["required"]:
        yield f"{where}.required"
    yield from (
        f"{where}.{keyword}" for keyword in CONSTRAINTS if ours.get(keyword) != said.get(keyword)
    )
    for name in said.get("properties", {}).keys() | ours["properties"].keys():
        if name not in said.get("properties", {}) or name not in ours["properties"]:
            yield f"{where}.{name}"
        else:
            yield from departures(
                f"{where}.{name}", said["properties"][name], ours["properties"][name]
            )


def with_prose(document: dict[str, Any]) -> dict[str, Any]:
    """The documents' request schema with the ranges and defaults that their prose adds."""
    schema = json.loads(json.dumps(document["request"]["schema"]))
    for name, facts in document["prose"].items():
        said = {key: value for key, value in facts.items() if key in CONSTRAINTS}
        schema["properties"]["input"]["properties"][name].update(said)
    return schema  # type: ignore[no-any-return]


def operation(document: dict[str, Any]) -> dict[str, Any]:
    return CONTRACT.document["paths"][document["path"]][document["method"].lower()]  # type: ignore[no-any-return]


def all_departures() -> set[str]:
    found = set()
    for name, document in DOCUMENTS.items():
        body = operation(document)["requestBody"]["content"][document["request"]["content_type"]]
        found |= set(departures(f"{name} request", with_prose(document), flat(body["schema"])))
        for response in document["responses"]:
            ours = flat(
                operation(document)["responses"][str(response["status"])]["content"][
                    "application/json"
                ]["schema"]
            )
            here = set(departures(f"{name} response", response["schema"], ours))
            # A schema that lacks nearly everything is one departure, not one for each thing it lacks.
            found |= {f"{name} response"} if response["schema"]["required"] == ["input"] else here
    return found


def test_every_departure_from_the_documents_is_in_the_table_and_every_row_is_one() -> None:
    table = re.findall(
        r"^\| `([^`]+ (?:request|response)[^`]*)` \|",
        (ROOT / "contracts" / "README.md").read_text(),
        re.M,
    )
    assert sorted(table) == sorted(all_departures())


def test_what_is_not_the_documents_own_is_marked_as_replicates() -> None:
    for place in all_departures():
        name, _, path = place.partition(" request.input.")
        if not path:
            continue
        field, _, keyword = path.partition(".")
        schema = flat(
            operation(DOCUMENTS[name])["requestBody"]["content"]["application/json"]["schema"]
        )
        ours = schema["properties"]["input"]["properties"][field]
        if keyword == "pattern":
            assert CONTRACT.document["components"]["schemas"]["ImageReference"]["x-replicate"] == [
                "pattern"
            ]
        elif keyword:
            assert keyword in ours["x-replicate"], place
        else:
            assert ours["x-source"] == "replicate", place


@each_document
def test_the_sample_request_and_response_are_examples_of_the_contract(name: str) -> None:
    document = DOCUMENTS[name]
    body = operation(document)["requestBody"]["content"]["application/json"]
    assert [example["value"] for example in body["examples"].values()] == document["request"][
        "examples"
    ]
    response = operation(document)["responses"]["200"]["content"]["application/json"]
    assert [example["value"] for example in response["examples"].values()] == document[
        "response_examples"
    ]


@each_document
def test_the_samples_are_what_the_contract_allows(name: str) -> None:
    document = DOCUMENTS[name]
    ours = CONTRACT.by_id[operation(document)["operationId"]]
    for sample in document["request"]["examples"]:
        assert ours.check_body("application/json", sample) == []
    for sample in document["response_examples"]:
        assert ours.check_response(200, "application/json", sample) == []


@each_document
def test_the_token_is_an_optional_bearer_header(name: str) -> None:
    (header,) = DOCUMENTS[name]["headers"]
    assert (header["name"], header["required"]) == ("Authorization", False)
    assert header["sample"].startswith("Bearer ")
    assert {} in CONTRACT.document["security"]
    assert {"bearer": []} in CONTRACT.document["security"]
    scheme = CONTRACT.document["components"]["securitySchemes"]["bearer"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")


def test_the_most_tolerant_setting_with_an_input_image_is_as_the_prose_says() -> None:
    document = DOCUMENTS["flux-kontext-max"]
    most = document["prose"]["safety_tolerance"]["maximum_with_input_image"]
    ours = CONTRACT.by_id[operation(document)["operationId"]]
    (sample,) = document["request"]["examples"]
    for tolerance in range(7):
        body = {"input": {**sample["input"], "safety_tolerance": tolerance}}
        assert (ours.check_body("application/json", body) == []) is (tolerance <= most)
        del body["input"]["input_image"]
        assert ours.check_body("application/json", body) == []


@pytest.mark.parametrize(
    "picture", DOCUMENTS["flux-kontext-max"]["prose"]["input_image"]["formats"]
)
def test_the_picture_formats_of_the_prose_are_taken(picture: str) -> None:
    ours = CONTRACT.by_id["createFluxKontextMaxPrediction"]
    body = {"input": {"prompt": "p", "input_image": f"data:image/{picture};base64,AAAA"}}
    assert ours.check_body("application/json", body) == []
    body["input"]["input_image"] = f"data:application/{picture};base64,AAAA"
    assert [fault.pointer for fault in ours.check_body("application/json", body)] == [
        "/input/input_image"
    ]
