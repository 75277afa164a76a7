"""The contract, read once: operations with their validators, defaults, examples and answers."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, zip_longest
from pathlib import Path
from string import Formatter
from typing import Any
from urllib.parse import quote

import jsonschema_rs
import msgspec
import yaml

from mockserver.errors import ContractError, Dialect
from mockserver.violations import MAX_VIOLATIONS, Violation, pointer_to, violation_of, violations_of

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
PICTURE_KEYS = frozenset({"prompt", "ratio", "format", "seed", "images", "default_format", "sizes"})
FILE_ROLES = ("upload", "list-files", "get-file", "delete-file", "download")
ROLES = ("create", "get", "cancel", "list", "stream", "deliver", "view", "model", "webhook-secret", *FILE_ROLES)
FAMILIES = {
    "create": "createPrediction",
    "get": "getPrediction",
    "cancel": "cancelPrediction",
    "list": "listPredictions",
}

_URN = "urn:contract"
_MODEL_PATH = re.compile(r"/models/([^/{}]+/[^/{}]+)/predictions$")


def default_contract_path() -> Path:
    """The contract that ships: inside an installed package, or beside it in a source tree."""
    here = Path(__file__).parent
    packaged = here / "openapi.yaml"
    return packaged if packaged.exists() else here.parent / "contracts" / "openapi.yaml"


@dataclass(frozen=True, slots=True)
class UrlRule:
    """Where a URL in a prediction leads: a path of the double, and what the documents show there."""

    path: str
    documented: str | None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A path, query or header parameter; `key` is what it goes by in a request."""

    name: str
    key: str
    where: str
    required: bool
    convert: Callable[[str], Any]
    validator: jsonschema_rs.Validator
    field: str

    def check(self, text: str | None) -> list[Violation]:
        """What is wrong with the parameter as sent; None stands for one that was not."""
        pointer = {"query": f"?{self.name}", "path": f"{{{self.name}}}"}.get(self.where, f"{self.name}:")
        if text is None:
            if not self.required:
                return []
            said = f"{self.name} is required"
            return [Violation(pointer, "required", self.field, said, "nothing", f"a value for {self.name}")]
        value = self.convert(text)
        if self.validator.is_valid(value):
            return []
        return [violation_of(error, pointer, self.field) for error in self.validator.iter_errors(value)]


@dataclass(frozen=True)
class Operation:
    """One method and path of the contract.

    `responses` holds, by status and media type, the validator of the body (None where the contract sets no
    schema). `optional` are the names of the parameters, as bytes, if all are headers that may be left out; else it
    is None. `model`, `input`, `defaults`, `picture` and `logs` are set where the role is `create`; so are `known`, the
    names of the inputs, and `images`, of those that carry pictures.
    """

    operation_id: str
    method: str
    path: str
    role: str | None
    document: Mapping[str, Any]
    parameters: tuple[Parameter, ...]
    body: Mapping[str, jsonschema_rs.Validator] | None
    body_required: bool
    responses: Mapping[int, Mapping[str, jsonschema_rs.Validator | None]]
    public: bool
    max_body: int
    optional: frozenset[bytes] | None = None
    images: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    model: str | None = None
    input: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    picture: Mapping[str, Any] = field(default_factory=dict)
    logs: Mapping[str, str] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The name that scenarios know the operation by: every model's create is a `createPrediction`."""
        return FAMILIES.get(self.role or "", self.operation_id)

    @cached_property
    def success(self) -> int:
        """The status that the contract lists first for success."""
        return next(status for status in self.responses if 200 <= status < 300)

    @cached_property
    def has_body(self) -> bool:
        """Whether its success is answered with a body, sent in one piece."""
        return self.role != "stream" and self.method != "HEAD" and bool(self.responses[self.success])

    def ends_like(self, path: str) -> bool:
        """Whether a path is the operation's own but for a prefix that was forgotten."""
        pieces = self.path.split("/")[1:]
        patterns = ["[^/]+" if "{" in piece else re.escape(piece) for piece in pieces]
        return any(
            "{" not in pieces[skipped] and re.fullmatch("/" + "/".join(patterns[skipped:]), path)
            for skipped in range(1, len(pieces))
        )

    def check_body(self, media_type: str, value: object, *, vast: bool = False) -> list[Violation]:
        """Everything that the contract does not allow in a request's decoded body; one thing, if the body is vast."""
        assert self.body is not None
        validator = self.body[media_type]
        if validator.is_valid(value):
            return []
        if vast:
            try:
                validator.validate(value)
            except jsonschema_rs.ValidationError as error:
                return [msgspec.structs.replace(fault, fatal=True) for fault in violations_of(error, self.input)][:1]
        found = (fault for error in validator.iter_errors(value) for fault in violations_of(error, self.input))
        return _most_telling(found)

    def check_response(self, status: int, media_type: str, value: object) -> str | None:
        """What the contract has against an answer, as a sentence; None if nothing."""
        content = self.responses.get(status)
        if content is None:
            return f"{self.operation_id} has no answer {status}"
        if not content:
            return None
        if media_type not in content:
            media_type = media_type.partition(";")[0]
            if media_type not in content:
                return f"{self.operation_id} answers {status} with {', '.join(content)}, not {media_type}"
        validator = content[media_type]
        if validator is None or validator.is_valid(value):
            return None
        first = next(iter(validator.iter_errors(value)))
        return f"{self.operation_id} {status} at {pointer_to(first.instance_path) or '/'}: {first.message}"


class Contract:
    """The contract as a server needs it. Raises ContractError where it cannot drive one."""

    def __init__(self, document: dict[str, Any], source: bytes, name: str) -> None:
        self.document = document
        self.source = source
        self.name = name
        self._check_outline()
        self._validators_at: dict[str, jsonschema_rs.Validator] = {}
        self.max_body: int = document.get("x-mock-max-body", 16 * 1024 * 1024)
        try:
            self._registry = jsonschema_rs.Registry([(_URN, document)], draft=jsonschema_rs.Draft202012)
        except Exception as reason:
            raise self._error("", f"its schemas cannot be read: {str(reason).splitlines()[0]}") from reason
        self.operations = tuple(self._operations())
        self.by_id = {operation.operation_id: operation for operation in self.operations}
        if len(self.by_id) < len(self.operations):
            ids = [operation.operation_id for operation in self.operations]
            twice = next(name for name in ids if ids.count(name) > 1)
            raise self._error("/paths", f"operationId {twice!r} is used more than once")
        self._check_roles()

    @classmethod
    def load(cls, path: Path | None = None) -> Contract:
        """Read a YAML or JSON file; the shipped contract if no path is given."""
        path = path or default_contract_path()
        try:
            source = path.read_bytes()
            document = read_yaml(source)
        except OSError as reason:
            raise ContractError(f"contract {path}: {reason.strerror}") from reason
        except yaml.YAMLError as reason:
            raise ContractError(f"contract {path}: not YAML: {' '.join(str(reason).split())}") from reason
        try:
            return cls(document, source, str(path))
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as reason:
            said = f"{type(reason).__name__}: {str(reason).splitlines()[0] if str(reason) else 'no more is known'}"
            raise ContractError(f"contract {path}: not what OpenAPI 3.1 and the x-mock-* allow ({said})") from reason

    @cached_property
    def as_json(self) -> bytes:
        """The contract as JSON, as served at /openapi.json."""
        return msgspec.json.encode(self.document)

    @property
    def paths(self) -> dict[str, list[Operation]]:
        """The operations of each path; paths without parameters first, so that they are matched first."""
        grouped: dict[str, list[Operation]] = {}
        for operation in self.operations:
            grouped.setdefault(operation.path, []).append(operation)
        return dict(sorted(grouped.items(), key=lambda item: item[0].count("{")))

    def of_role(self, role: str) -> list[Operation]:
        """The operations with a role."""
        return [operation for operation in self.operations if operation.role == role]

    @cached_property
    def reader(self) -> Operation | None:
        """The operation that reads a prediction; None where the contract has no predictions."""
        return next(iter(self.of_role("get")), None)

    @cached_property
    def prediction_schema(self) -> dict[str, Any]:
        """The schema of a prediction as read, with the references of its properties followed."""
        schema = dict(self.resolve(self._reading().get("schema", {})))
        properties = schema.get("properties", {})
        schema["properties"] = {name: self.resolve(part) for name, part in properties.items()}
        return schema

    @cached_property
    def templates(self) -> dict[str, dict[str, Any]]:
        """A whole prediction for each status: the examples of the operation that reads one."""
        examples = [self.resolve(example)["value"] for example in self._reading().get("examples", {}).values()]
        return {example["status"]: example for example in examples}

    @cached_property
    def statuses(self) -> list[str]:
        """The statuses of a prediction."""
        found: list[str] = self.prediction_schema["properties"].get("status", {}).get("enum", [])
        return found

    @cached_property
    def url_rules(self) -> dict[str, UrlRule]:
        """The rule of each URL in a prediction's `urls`, and of its `output`."""
        properties = self.prediction_schema["properties"]
        urls = {name: self.resolve(node) for name, node in properties.get("urls", {}).get("properties", {}).items()}
        nodes = {**urls, "output": properties.get("output", {})}
        return {name: self._url_rule(node["x-mock-url"]) for name, node in nodes.items() if "x-mock-url" in node}

    def _url_rule(self, rule: Mapping[str, Any]) -> UrlRule:
        if "operation" in rule and rule["operation"] not in self.by_id:
            raise self._error("", f"x-mock-url names the operation {rule['operation']!r}, which is not there")
        path = self.by_id[rule["operation"]].path if "operation" in rule else rule["path"]
        return UrlRule(path, rule.get("documented"))

    def _reading(self) -> Mapping[str, Any]:
        if self.reader is None:
            return {}
        return _json_media(self.resolve(self.reader.document["responses"][str(self.reader.success)]))

    def error_template(self, operation: Operation | None, status: int, dialect: Dialect) -> tuple[str, dict[str, Any]]:
        """Media type and body with which the contract shows an error, in a dialect of the API."""
        for response in self._error_responses(operation, status):
            for media_type, media in response.get("content", {}).items():
                example = media.get("examples", {}).get(dialect)
                if example is not None:
                    return media_type, self.resolve(example)["value"]
        if dialect == "gateway":
            return "application/json", {"error": {"message": "Error", "type": "new_api_error", "code": ""}}
        return "application/json", {"detail": "Error", "status": status}

    def _error_responses(self, operation: Operation | None, status: int) -> Iterator[Mapping[str, Any]]:
        # An unmatched path has no operation: it is answered as any other operation would.
        candidates = ([operation] if operation else []) + list(self.operations)
        for candidate in candidates:
            response = candidate.document["responses"].get(str(status))
            if response is not None:
                yield self.resolve(response)

    def nearest(self, method: str, path: str) -> Operation:
        """The operation whose method and path look most like those given."""
        asked = path[:300].split("/")

        def likeness(operation: Operation) -> float:
            parts = operation.path.split("/")
            filled = [
                there if "{" in part and there else part
                for part, there in zip_longest(parts, asked[: len(parts)], fillvalue="")
            ]
            same = difflib.SequenceMatcher(None, path[:300], "/".join(filled)).ratio()
            return same + operation.ends_like(path[:300]) + (0.05 if operation.method == method else 0)

        return max(self.operations, key=likeness)

    def resolve(self, node: Any) -> Any:
        """Follow `$ref` within the file. Keywords beside a reference are laid over what it refers to."""
        seen = set()
        while isinstance(node, Mapping) and "$ref" in node:
            if node["$ref"] in seen:
                raise self._error("", f"$ref {node['$ref']!r} leads back to itself")
            seen.add(node["$ref"])
            beside = {key: value for key, value in node.items() if key != "$ref"}
            node = {**self._lookup(node["$ref"]), **beside}
        return node

    def _lookup(self, reference: str) -> Any:
        target: Any = self.document
        for part in reference.removeprefix("#/").split("/"):
            part = part.replace("~1", "/").replace("~0", "~")
            if not reference.startswith("#/") or not isinstance(target, Mapping) or part not in target:
                raise self._error("", f"$ref {reference!r} leads nowhere in this file")
            target = target[part]
        return target

    def validator(self, *place: str) -> jsonschema_rs.Validator:
        """A compiled validator of the schema at a place in the file; one for all that refer to the same."""
        pointer, node = pointer_to(place), self.document
        for part in place:
            node = node[int(part)] if isinstance(node, list) else node[part]
        seen = set()
        while isinstance(node, Mapping) and node.keys() == {"$ref"} and pointer not in seen:
            seen.add(pointer)
            pointer = str(node["$ref"]).removeprefix("#")
            node = self._lookup(str(node["$ref"]))
        if pointer not in self._validators_at:
            self._validators_at[pointer] = self._compiled(pointer)
        return self._validators_at[pointer]

    def _compiled(self, pointer: str) -> jsonschema_rs.Validator:
        try:
            return jsonschema_rs.validator_for(
                {"$ref": f"{_URN}#{quote(pointer, safe='/~')}"},
                registry=self._registry,
                validate_formats=True,
            )
        except Exception as reason:
            said = str(reason).splitlines()[0]
            raise self._error(pointer, f"not a usable schema: {said}") from reason

    def _operations(self) -> Iterator[Operation]:
        for path, item in self.document["paths"].items():
            for method in METHODS:
                if method in item:
                    yield self._operation(path, method, item)

    def _operation(self, path: str, method: str, item: Mapping[str, Any]) -> Operation:
        place = ("paths", path, method)
        node = item[method]
        if not isinstance(node, Mapping) or not node.get("operationId"):
            raise self._error(pointer_to(place), "the operation needs an operationId")
        if not node.get("responses"):
            raise self._error(pointer_to(place), "the operation needs responses")
        role = node.get("x-mock-role")
        request = self.resolve(node.get("requestBody")) if "requestBody" in node else None
        parameters = tuple(self._parameters(path, method, item))
        free = all(parameter.where == "header" and not parameter.required for parameter in parameters)
        return Operation(
            operation_id=node["operationId"],
            method=method.upper(),
            path=path,
            role=role,
            document=node,
            parameters=parameters,
            optional=frozenset(parameter.key.encode() for parameter in parameters) if free else None,
            body=self._validators(*place, "requestBody") if request else None,
            body_required=bool(request and request.get("required")),
            responses={
                int(status): self._validators(*place, "responses", status)
                for status in node["responses"]
                if status.isdigit()
            },
            public=node.get("security") == [],
            max_body=node.get("x-mock-max-body", self.max_body),
            **(self._creation(path, place, request) if role == "create" else {}),
        )

    def _validators(self, *place: str) -> dict[str, Any]:
        """Media type to validator, for the request body or response at a place."""
        node, place = self._follow(place)
        content: Mapping[str, Any] = node.get("content", {})
        return {
            media_type.lower(): self.validator(*place, "content", media_type, "schema")
            if "json" in media_type and "schema" in media
            else None
            for media_type, media in content.items()
        }

    def _follow(self, place: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
        node: Any = self.document
        for part in place:
            node = node[part]
        if "$ref" in node:
            return self._follow(_parts(node["$ref"]))
        return node, place

    def _parameters(self, path: str, method: str, item: Mapping[str, Any]) -> Iterator[Parameter]:
        found: dict[tuple[str, str], Parameter] = {}
        for owner in (("paths", path), ("paths", path, method)):
            nodes = (item if len(owner) == 2 else item[method]).get("parameters", [])
            for number in range(len(nodes)):
                node, place = self._follow_item((*owner, "parameters"), number, nodes)
                if node["in"] in ("path", "query", "header") and "schema" in node:
                    found[node["in"], node["name"]] = self._parameter(node, place)
        missing = set(re.findall(r"{([^}]+)}", path)) - {name for where, name in found if where == "path"}
        if missing:
            raise self._error(pointer_to(("paths", path)), f"path parameter {min(missing)!r} is not described")
        return iter(found.values())

    def _follow_item(self, place: tuple[str, ...], number: int, nodes: Sequence[Any]) -> tuple[Any, tuple[str, ...]]:
        if "$ref" in nodes[number]:
            return self._follow(_parts(nodes[number]["$ref"]))
        return nodes[number], (*place, str(number))

    def _parameter(self, node: Mapping[str, Any], place: Sequence[str]) -> Parameter:
        kind = self.resolve(node["schema"]).get("type", "string")
        return Parameter(
            name=node["name"],
            key=node["name"].lower() if node["in"] == "header" else node["name"],
            where=node["in"],
            required=bool(node.get("required")),
            convert=_CONVERT.get(kind, str) if isinstance(kind, str) else str,
            validator=self.validator(*place, "schema"),
            field=node["name"],
        )

    def _creation(self, path: str, place: tuple[str, ...], request: Mapping[str, Any] | None) -> dict[str, Any]:
        model = _MODEL_PATH.search(path)
        if not model:
            raise self._error(
                pointer_to(place), "a path with x-mock-role create ends in /models/{owner}/{name}/predictions"
            )
        schema = self.resolve(_json_media(request or {}).get("schema", {}))
        properties = self.resolve(self.resolve(schema.get("properties", {})).get("input", {})).get("properties")
        if not properties:
            raise self._error(pointer_to(place), "its request body needs an `input` object with properties")
        resolved = {name: self.resolve(node) for name, node in properties.items()}
        operation = self._lookup_place(place)
        picture = self._picture(place, operation)
        return {
            "model": model.group(1),
            "input": resolved,
            "known": frozenset(resolved),
            "images": frozenset(picture["images"]),
            "defaults": {name: node["default"] for name, node in resolved.items() if "default" in node},
            "picture": picture,
            "logs": self._logs(place, operation.get("x-mock-logs", {})),
        }

    def _picture(self, place: tuple[str, ...], operation: Mapping[str, Any]) -> Mapping[str, Any]:
        picture = {**self.document.get("x-mock-picture", {}), **operation.get("x-mock-picture", {})}
        if missing := PICTURE_KEYS - picture.keys():
            where = pointer_to((*place, "x-mock-picture"))
            raise self._error(where, f"says nothing of {', '.join(sorted(missing))}; nor does the file's own")
        return {**picture, "sizes": tuple((width, height) for width, height in picture["sizes"])}

    def _logs(self, place: tuple[str, ...], logs: Mapping[str, str]) -> Mapping[str, str]:
        for status, text in logs.items():
            try:
                text.format(seed="1", seconds=1.5)
            except (LookupError, ValueError) as reason:
                where = pointer_to((*place, "x-mock-logs", status))
                raise self._error(where, f"only {{seed}} and {{seconds}} can be filled in ({reason})") from reason
            if any(name == "seed" and (spec or kind) for _, name, spec, kind in Formatter().parse(text)):
                raise self._error(pointer_to((*place, "x-mock-logs", status)), "{seed} is filled in as it is")
        return logs

    def _lookup_place(self, place: Sequence[str]) -> Any:
        return self._lookup("#" + pointer_to(place))

    def _check_outline(self) -> None:
        if not isinstance(self.document, Mapping) or not str(self.document.get("openapi", "")).startswith("3.1"):
            raise self._error("/openapi", "an OpenAPI 3.1 document is needed")
        if not isinstance(self.document.get("paths"), Mapping) or not self.document["paths"]:
            raise self._error("/paths", "at least one path is needed")
        for path, item in self.document["paths"].items():
            if not path.startswith("/") or not isinstance(item, Mapping):
                raise self._error(pointer_to(("paths", path)), "a path begins with / and holds operations")

    def _check_roles(self) -> None:
        for operation in self.operations:
            place = pointer_to(("paths", operation.path, operation.method.lower()))
            if operation.role not in (None, *ROLES):
                raise self._error(place, f"x-mock-role {operation.role!r} is not one of {', '.join(ROLES)}")
            if operation.role is None and self.example(operation) is None:
                raise self._error(place, "an operation without x-mock-role needs an example to answer with")
            if operation.role is not None and not any(200 <= status < 300 for status in operation.responses):
                raise self._error(place, "an operation with x-mock-role needs an answer of 2xx")
        if self.of_role("create"):
            self._check_reader()

    def _check_reader(self) -> None:
        readers = self.of_role("get")
        if len(readers) != 1:
            raise self._error("/paths", f"{len(readers)} operations have x-mock-role get; one is needed")
        missing = [status for status in self.statuses if status not in self.templates]
        if missing:
            place = pointer_to(("paths", readers[0].path, "get"))
            raise self._error(place, f"its 200 needs an example of status {', '.join(missing)}")
        if "output" not in self.url_rules:
            raise self._error("", "the prediction's `output` needs an x-mock-url")

    def example(self, operation: Operation) -> tuple[int, str, Any] | None:
        """Status, media type and value of an operation's first example of success."""
        for status, response in operation.document["responses"].items():
            if not str(status).startswith("2"):
                continue
            response = self.resolve(response)
            if not response.get("content"):
                return int(status), "", None
            for media_type, media in response["content"].items():
                if "example" in media:
                    return int(status), media_type, media["example"]
                for example in media.get("examples", {}).values():
                    return int(status), media_type, self.resolve(example)["value"]
        return None

    def _error(self, pointer: str, reason: str) -> ContractError:
        where = f" at {pointer}" if pointer else ""
        return ContractError(f"contract {self.name}{where}: {reason}")


def _most_telling(found: Iterator[Violation]) -> list[Violation]:
    """As many as are told of one request, and one that is fatal among them, if any is."""
    told = list(islice(found, MAX_VIOLATIONS))
    if len(told) == MAX_VIOLATIONS and not any(violation.fatal for violation in told):
        told += islice((violation for violation in found if violation.fatal), 1)
    return told


def read_yaml(source: bytes) -> Any:
    """YAML, or JSON, as JSON values. Raises yaml.YAMLError."""
    try:
        return _as_json(yaml.load(source, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # noqa: S506
    except ValueError as reason:  # such as the 99th of a month
        raise yaml.YAMLError(str(reason)) from reason
    except RecursionError as reason:
        raise yaml.YAMLError("it is nested too deeply, or in itself") from reason


def _as_json(value: object) -> object:
    """What YAML read, as JSON has it: its keys are text, even `null`, and its dates are too."""
    if isinstance(value, dict):
        return {"null" if key is None else str(key): _as_json(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_as_json(part) for part in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _parts(reference: str) -> tuple[str, ...]:
    parts = reference.removeprefix("#/").split("/")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def _json_media(node: Mapping[str, Any]) -> Mapping[str, Any]:
    media: Mapping[str, Any] = node.get("content", {}).get("application/json", {})
    return media


def _number(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    def converted(text: str) -> Any:
        try:
            return convert(text)
        except ValueError:
            return text

    return converted


_CONVERT: dict[str, Callable[[str], Any]] = {
    "integer": _number(int),
    "number": _number(float),
    "boolean": lambda text: {"true": True, "false": False}.get(text, text),
}
