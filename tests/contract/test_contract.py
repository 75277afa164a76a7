"""Reading a contract: what drives the server, and what is said of one that cannot."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockserver.backend.backend import Options
from mockserver.contract.contract import Contract
from mockserver.contract.loader import shipped_contract
from mockserver.contract.operation import ROLES
from mockserver.contract.yaml import read_yaml
from mockserver.errors import ContractError
from mockserver.http.handlers.roles import HANDLERS
from mockserver.scenarios.catalogue import Catalogue
from mockserver.server.app import App
from tests.helpers.documents import CONTRACT, KONTEXT, ULTRA
from tests.helpers.pages import ROOT

SOURCES = {"documented", "implied", "replicate"}
Change = Callable[[dict[str, Any]], object]


def changed(change: Change, tmp_path: Path) -> Contract:
    """The shipped contract with a change, loaded from a file."""
    document = deepcopy(CONTRACT.document)
    change(document)
    file = tmp_path / "contract.json"
    file.write_text(json.dumps(document))
    return Contract.load(file)


def test_every_operation_is_explained_in_sentences() -> None:
    for operation in CONTRACT.operations:
        described = operation.document.get("description", "").strip()
        assert described.endswith("."), operation.operation_id
        assert described != operation.document["summary"], operation.operation_id


def test_the_shipped_contract_is_valid_openapi() -> None:
    from openapi_spec_validator import validate  # it takes long to import

    validate(CONTRACT.document)


def test_every_operation_response_parameter_and_schema_says_what_it_rests_on() -> None:
    document, components = CONTRACT.document, CONTRACT.document["components"]
    nodes = [
        *components["schemas"].values(),
        *components["responses"].values(),
        *components["parameters"].values(),
    ]
    for item in document["paths"].values():
        for method, operation in item.items():
            if method != "parameters":
                nodes += [operation, *map(CONTRACT.resolve, operation["responses"].values())]
                nodes += map(CONTRACT.resolve, operation.get("parameters", []))
    assert len(nodes) > 50
    for node in nodes:
        assert node["x-source"] in SOURCES, node


def objects_without_a_word_on_their_properties(node: Any, place: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        declared = node.get("type") == "object" or node.get("type") == ["object", "null"]
        if declared and not node.keys() & {"properties", "additionalProperties"}:
            yield place
        for name, part in node.items():
            if name not in ("if", "example", "examples", "value"):
                yield from objects_without_a_word_on_their_properties(part, f"{place}/{name}")
    elif isinstance(node, list):
        for number, part in enumerate(node):
            yield from objects_without_a_word_on_their_properties(part, f"{place}/{number}")


@pytest.mark.parametrize(
    "document",
    [
        CONTRACT.document,
        read_yaml(shipped_contract("admin.yaml").read_bytes()),
        Catalogue(CONTRACT).schema,
    ],
    ids=["openapi.yaml", "admin.yaml", "scenario.schema.yaml"],
)
def test_every_object_says_which_properties_it_may_have(document: Any) -> None:
    # Generators of TypeScript make of a bare `type: object` one that has no properties at all.
    assert list(objects_without_a_word_on_their_properties(document)) == []


def test_a_file_is_read_anew_only_when_it_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "contract.json"
    file.write_bytes(CONTRACT.source)
    first = Contract.load(file)
    assert Contract.load(file) is first
    file.write_bytes(CONTRACT.source.replace(b"flux-kontext-max", b"flux-kontext-pro"))
    assert Contract.load(file).models.keys() != first.models.keys()


def test_every_role_stands_in_the_row_of_its_extension() -> None:
    row = re.search(
        r"^\| `x-mock-role` \|.*$", (ROOT / "contracts" / "README.md").read_text(), re.M
    )
    assert row is not None
    assert set(re.findall(r"`([a-z-]+)`", row[0])) - {"x-mock-role"} == set(ROLES)


def test_roles_models_and_defaults_come_from_the_file() -> None:
    assert {operation.operation_id: operation.role for operation in CONTRACT.operations} == {
        "createFlux11ProUltraPrediction": "create",
        "createFluxKontextMaxPrediction": "create",
        "createPredictionByVersion": "create",
        "getPrediction": "get",
        "cancelPrediction": "cancel",
        "listPredictions": "list",
        "streamPrediction": "stream",
        "uploadFile": "upload",
        "listFiles": "list-files",
        "getFile": "get-file",
        "deleteFile": "delete-file",
        "downloadFile": "download",
        "getModel": "model",
        "listModelVersions": "list-versions",
        "getModelVersion": "version",
        "getWebhookSecret": "webhook-secret",
        "viewPrediction": "view",
        "getOutputFile": "deliver",
        "headOutputFile": "deliver",
    }
    ultra, kontext = CONTRACT.models.values()
    assert (ultra.path, kontext.path) == (ULTRA, KONTEXT)
    assert ultra.model == "black-forest-labs/flux-1.1-pro-ultra"
    assert kontext.defaults["aspect_ratio"] == "match_input_image"
    assert kontext.success == 200


def test_every_role_is_one_record_and_one_function() -> None:
    assert HANDLERS.keys() - {None} == set(ROLES)
    assert len(set(HANDLERS.values())) == len(ROLES) + 1


def test_there_is_a_whole_prediction_for_every_status_and_each_is_allowed() -> None:
    reader = CONTRACT.by_id["getPrediction"]
    assert list(CONTRACT.templates) == CONTRACT.statuses
    for template in CONTRACT.templates.values():
        assert reader.check_response(200, "application/json", template) == []


@pytest.mark.parametrize(
    ("status", "change", "said"),
    [
        ("starting", {"output": "https://example.com/a.jpg"}, "/output"),
        ("starting", {"completed_at": "2025-07-12T07:27:58.177641162Z"}, "/completed_at"),
        ("processing", {"error": "no"}, "/error"),
        ("succeeded", {"output": None}, "/output"),
        ("failed", {"error": 1}, "/error"),
        ("failed", {"output": "https://example.com/a.jpg"}, "/output"),
        ("canceled", {"output": "https://example.com/a.jpg"}, "/output"),
        ("aborted", {"started_at": "2025-07-12T07:27:58.177641162Z"}, "/started_at"),
        ("succeeded", {"status": "successful"}, "/status"),
        ("succeeded", {"id": "x"}, "/id"),
    ],
)
def test_a_predictions_shape_depends_on_its_status(
    status: str, change: dict[str, Any], said: str
) -> None:
    wrong = CONTRACT.by_id["getPrediction"].check_response(
        200, "application/json", {**CONTRACT.templates[status], **change}
    )
    assert said in {violation.pointer for violation in wrong}


def test_an_answer_of_another_status_or_type_is_not_allowed() -> None:
    reader = CONTRACT.by_id["getPrediction"]
    (status,) = reader.check_response(418, "application/json", {})
    assert (status.description, status.sent) == ("getPrediction has no response 418", "418")
    (media_type,) = reader.check_response(200, "text/plain", "")
    assert (
        media_type.description == "getPrediction answers 200 with application/json, not text/plain"
    )
    assert (media_type.pointer, media_type.sent, media_type.allowed) == (
        "Content-Type:",
        "text/plain",
        "application/json",
    )


@pytest.mark.parametrize(
    ("given", "pointer", "kind", "description", "allowed"),
    [
        ({}, "/input/prompt", "required", "prompt is required", "a value for prompt"),
        (
            {"prompt": 1},
            "/input/prompt",
            "invalid_type",
            "Invalid type. Expected: string, given: integer",
            "type string",
        ),
        (
            {"seed": 1.5},
            "/input/seed",
            "invalid_type",
            "Invalid type. Expected: integer, given: number",
            "type integer",
        ),
        (
            {"raw": None},
            "/input/raw",
            "invalid_type",
            "Invalid type. Expected: boolean, given: null",
            "type boolean",
        ),
        (
            {"output_format": "gif"},
            "/input/output_format",
            "enum",
            'output_format must be one of the following: "jpg", "png"',
            '"jpg", "png"',
        ),
        (
            {"safety_tolerance": 0},
            "/input/safety_tolerance",
            "number_gte",
            "Must be greater than or equal to 1",
            "greater than or equal to 1",
        ),
        (
            {"image_prompt_strength": 1.5},
            "/input/image_prompt_strength",
            "number_lte",
            "Must be less than or equal to 1",
            "less than or equal to 1",
        ),
        (
            {"asect_ratio": "1:1"},
            "/input/asect_ratio",
            "additional_property_not_allowed",
            "Additional property asect_ratio is not allowed",
            "aspect_ratio, perhaps",
        ),
        (
            {"a/b~c": 1},
            "/input/a~1b~0c",
            "additional_property_not_allowed",
            None,
            "no such property",
        ),
    ],
)
def test_a_violation_says_what_where_and_what_would_be_right(
    given: dict[str, Any], pointer: str, kind: str, description: str | None, allowed: str
) -> None:
    body = {"input": {"prompt": "p", **given} if given else {}}
    (fault,) = CONTRACT.by_id["createFlux11ProUltraPrediction"].check_body("application/json", body)
    assert (fault.pointer, fault.kind, fault.allowed) == (pointer, kind, allowed)
    assert description is None or fault.description == description
    assert fault.fatal is (kind != "additional_property_not_allowed")


def test_what_was_sent_is_shown_shortened() -> None:
    body = {"input": {"prompt": "p", "output_format": "x" * 10_000}}
    (fault,) = CONTRACT.by_id["createFlux11ProUltraPrediction"].check_body("application/json", body)
    assert len(fault.sent) < 120
    assert "10002 characters" in fault.sent


def test_examples_of_errors_may_have_the_former_names_of_dialects(tmp_path: Path) -> None:
    def rename(document: dict[str, Any]) -> None:
        text = json.dumps(document["components"]["responses"])
        for now, before in (("replicate", "upstream"), ("new-api", "gateway")):
            text = text.replace(f'"{now}":', f'"{before}":')
            text = text.replace(f'"{now}-missing":', f'"{before}-missing":')
        document["components"]["responses"] = json.loads(text)

    former = changed(rename, tmp_path)
    dialects: list[Any] = ["replicate", "new-api"]
    for reason in (None, "missing"):
        for dialect in dialects:
            template = CONTRACT.error_template(None, 401, dialect, reason)
            assert former.error_template(None, 401, dialect, reason) == template


@pytest.mark.parametrize("dialect", ["replicate", "new-api"])
def test_every_error_of_the_contract_has_an_example_in_each_dialect(dialect: Any) -> None:
    for operation in CONTRACT.operations:
        for status in operation.responses:
            if status >= 400 and operation.method != "HEAD":
                media_type, body = CONTRACT.error_template(operation, status, dialect)
                assert operation.check_response(status, media_type, body) == []
                assert ("error" in body) is (dialect == "new-api")


@pytest.mark.parametrize(
    ("method", "path", "nearest"),
    [
        ("POST", KONTEXT.replace("max", "mux"), "createFluxKontextMaxPrediction"),
        ("GET", "/replicate/v1/prediction/w44zs9cet5rmc0cqzp49gpkhf8", "getPrediction"),
        ("DELETE", "/replicate/v1/predictions/w44zs9cet5rmc0cqzp49gpkhf8", "getPrediction"),
        ("POST", "/replicate/v1/predictions/abc/cancl", "cancelPrediction"),
    ],
)
def test_the_nearest_operation_is_found(method: str, path: str, nearest: str) -> None:
    found = CONTRACT.nearest(method, path)
    assert found is not None
    assert found.operation_id == nearest


def test_urls_in_predictions_lead_to_operations() -> None:
    assert CONTRACT.url_rules["get"].path == "/replicate/v1/predictions/{prediction_id}"
    assert CONTRACT.url_rules["web"].documented == "https://replicate.com/p/{prediction_id}"


def post(document: dict[str, Any]) -> dict[str, Any]:
    return document["paths"][ULTRA]["post"]  # type: ignore[no-any-return]


def rename_path(document: dict[str, Any]) -> None:
    document["paths"]["/odd"] = document["paths"].pop(ULTRA)


def forget_status(document: dict[str, Any]) -> None:
    reader = document["paths"]["/replicate/v1/predictions/{prediction_id}"]["get"]
    del reader["responses"]["200"]["content"]["application/json"]["examples"]["aborted"]


CHANGES: list[tuple[Change, str]] = [
    (lambda d: d.update(openapi="3.0.3"), "at /openapi: an OpenAPI 3.1 document is needed"),
    (lambda d: d.update(paths={}), "at /paths: {} has less than 1 property"),
    (lambda d: post(d).pop("operationId"), '/post: "operationId" is a required property'),
    (lambda d: post(d).pop("responses"), '/post: "responses" is a required property'),
    (
        lambda d: post(d).update(operationId="getPrediction"),
        "operationId 'getPrediction' is used more than once",
    ),
    (
        lambda d: post(d).update(requestBody={"$ref": "#/components/nowhere"}),
        "'#/components/nowhere' leads nowhere",
    ),
    (
        lambda d: post(d).update(requestBody={"content": {}}),
        "needs an `input` object with properties",
    ),
    (lambda d: d["components"]["schemas"]["Status"].update(type="strung"), "not a usable schema"),
    (
        lambda d: post(d).update({"x-mock-logs": {"processing": "{time}"}}),
        "only {seed} and {seconds} can be filled in",
    ),
    (
        lambda d: post(d).update({"x-mock-logs": {"processing": "{seed:>9}"}}),
        "{seed} is filled in as it is",
    ),
    (
        lambda d: d["components"]["schemas"].update(
            Prediction={"$ref": "#/components/schemas/Prediction"}
        ),
        "leads back to itself",
    ),
    (
        lambda d: d["x-mock-picture"].pop("sizes") and post(d).pop("x-mock-picture"),
        "says nothing of sizes",
    ),
    (
        lambda d: (
            post(d).pop("x-mock-role")
            and post(d).update(responses={"200": {"description": "d", "content": {"a/b": {}}}})
        ),
        "an example",
    ),
    (lambda d: post(d).update({"x-mock-role": "crate"}), "x-mock-role 'crate' is not one of"),
    (rename_path, "ends in /models/{owner}/{name}/predictions"),
    (forget_status, "needs an example of status aborted"),
    (
        lambda d: d["paths"].update({"/x/{y}": {"get": post(d)}}),
        "path parameter 'y' is not described",
    ),
]


@pytest.mark.parametrize(("change", "said"), CHANGES, ids=[said[:40] for _, said in CHANGES])
def test_a_contract_that_cannot_drive_a_server_is_told_in_one_line(
    change: Change, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ContractError) as refusal:
        changed(change, tmp_path)
    assert said in str(refusal.value)
    assert str(tmp_path / "contract.json") in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_statuses_may_be_written_as_numbers_and_examples_hold_dates(tmp_path: Path) -> None:
    file = tmp_path / "contract.json"
    file.write_text(
        "openapi: 3.1.0\ninfo: {title: t, version: 2025-01-01}\npaths: {/a: {get: {operationId: a, responses: {200: "
        "{description: d, content: {application/json: {example: {day: 2025-01-01}}}}}}}}"
    )
    operation = Contract.load(file).by_id["a"]
    assert operation.success == 200
    assert Contract.load(file).example(operation) == (
        200,
        "application/json",
        {"day": "2025-01-01"},
    )


def test_a_third_model_needs_nothing_but_a_path_item(tmp_path: Path) -> None:
    def add(document: dict[str, Any]) -> None:
        item = deepcopy(document["paths"][ULTRA])
        item["post"]["operationId"] = "createOther"
        document["paths"][ULTRA.replace("flux-1.1-pro-ultra", "flux-other")] = item

    other = changed(add, tmp_path).by_id["createOther"]
    assert (other.model, other.family) == ("black-forest-labs/flux-other", "createPrediction")
    assert other.defaults["aspect_ratio"] == "1:1"
    assert [fault.pointer for fault in other.check_body("application/json", {"input": {}})] == [
        "/input/prompt"
    ]


def test_a_schema_is_compiled_once_for_all_that_refer_to_it() -> None:
    first, second = Contract.load().models.values()
    shared = [
        status for status in first.responses if "$ref" in first.document["responses"][str(status)]
    ]
    assert shared
    for status in shared:
        assert first.document["responses"][str(status)] == second.document["responses"][str(status)]
        assert first.responses[status] == second.responses[status]
    assert first.responses[first.success] != second.responses[second.success]


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of everything in a document."""
    if path:
        yield path
    for key, part in (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    ):
        yield from places(part, (*path, key))


PLACES = list(places(CONTRACT.document))
ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    "",
    "x",
    [],
    {},
    [None],
    {"$ref": "#"},
    {"$ref": []},
    {"$ref": "#/info"},
    {"$ref": "other.yaml"},
    {"x": 1},
]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(PLACES), st.sampled_from([*ODD, ...])), min_size=1, max_size=2
    )
)
def test_whatever_is_wrong_with_a_contract_is_told_in_one_line(
    changes: list[tuple[tuple[Any, ...], Any]],
) -> None:
    document = deepcopy(CONTRACT.document)
    for place, value in changes:
        node: Any = document
        with contextlib.suppress(LookupError, TypeError):  # a change before may have taken it away
            for part in place[:-1]:
                node = node[part]
            if value is ...:
                del node[place[-1]]
            else:
                node[place[-1]] = value
    said = "contract contract.json: "
    try:
        contract = Contract(document, b"", "contract.json")
        App(contract, Catalogue(contract), Options())
    except ContractError as reason:
        said = str(reason)
    assert "\n" not in said
    assert said.startswith("contract contract.json")
