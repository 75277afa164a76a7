"""The contract, read once: its operations, and the examples that responses are made of."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import zip_longest
from pathlib import Path
from string import Formatter
from typing import Any
from urllib.parse import quote, unquote

import jsonschema_rs
import msgspec
import yaml

from mockserver.contract.api_error import FORMER_DIALECTS, Dialect
from mockserver.contract.loader import openapi_schema, own_schema, shipped_contract
from mockserver.contract.operation import ROLES, Operation, Parameter
from mockserver.contract.yaml import read_yaml
from mockserver.errors import ContractError
from mockserver.json_text import pointer_to, shorten

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
PICTURE_KEYS = frozenset({"prompt", "ratio", "format", "seed", "images", "default_format", "sizes"})
_URN = "urn:contract"
_MODEL_PATH = re.compile(r"/models/([^/{}]+/[^/{}]+)/predictions$")


@dataclass(frozen=True, slots=True)
class UrlRule:
    """Where a URL in a prediction leads: a path of the double, and the URL in the documents."""

    path: str
    documented: str | None


class Contract:
    """The contract as a server needs it. Raises ContractError if it cannot drive one."""

    def __init__(self, document: dict[str, Any], source: bytes, name: str) -> None:
        self.document = document
        self.source = source
        self.name = name
        self._check_document()

        self._validators_at: dict[str, jsonschema_rs.Validator] = {}
        self.max_body: int = document.get("x-mock-max-body", 16 * 1024 * 1024)
        try:
            self._registry = jsonschema_rs.Registry(
                [(_URN, document)], draft=jsonschema_rs.Draft202012
            )
        except jsonschema_rs.ReferencingError as reason:
            raise self._error("", f"its schemas cannot be read: {_first_line(reason)}") from reason

        info = document["info"]
        self.title = f"{info['title']} {info['version']}"
        self.operations = tuple(self._operations())
        self.by_id = {operation.operation_id: operation for operation in self.operations}
        if len(self.by_id) < len(self.operations):
            ids = [operation.operation_id for operation in self.operations]
            twice = next(name for name in ids if ids.count(name) > 1)
            raise self._error("/paths", f"operationId {twice!r} is used more than once")
        self._check_roles()

        # Each unmatched request needs it twice: for the response, and for the journal.
        self.nearest = lru_cache(64)(self._nearest)

    @classmethod
    def load(cls, path: Path | None = None) -> Contract:
        """Read a YAML or JSON file; the shipped contract if no path is given."""
        path = path or shipped_contract()
        try:
            source = path.read_bytes()
        except OSError as reason:
            raise ContractError(f"contract {path}: {reason.strerror}") from reason
        return _read(source, str(path))

    @cached_property
    def as_json(self) -> bytes:
        """The contract as JSON, as served at /openapi.json."""
        return msgspec.json.encode(self.document)

    @property
    def paths(self) -> dict[str, list[Operation]]:
        """The operations of each path; paths without parameters first, to be matched first."""
        grouped: dict[str, list[Operation]] = {}
        for operation in self.operations:
            grouped.setdefault(operation.path, []).append(operation)
        return dict(sorted(grouped.items(), key=lambda item: item[0].count("{")))

    def of_role(self, role: str) -> list[Operation]:
        """The operations with a role."""
        return [operation for operation in self.operations if operation.role == role]

    @cached_property
    def models(self) -> dict[str, Operation]:
        """The operations that create predictions, by model, `owner/name`."""
        return {
            operation.model: operation
            for operation in self.of_role("create")
            if operation.model is not None
        }

    @cached_property
    def versions(self) -> dict[str, Operation]:
        """The operations that create predictions, by the id of the model's version."""
        return {operation.version: operation for operation in self.models.values()}

    def model_asked(self, operation: Operation, body: object) -> Operation | None:
        """The operation of the requested model: this one, or that of `version` in the body."""
        if operation.model is not None:
            return operation
        version = body.get("version") if isinstance(body, Mapping) else None
        if not isinstance(version, str):
            return None
        model, _, identifier = version.rpartition(":")
        create = self.versions.get(identifier) or self.models.get(identifier)
        return create if create is None or model in ("", create.model) else None

    @cached_property
    def reader(self) -> Operation | None:
        """The operation that reads a prediction; None if the contract has no predictions."""
        return next(iter(self.of_role("get")), None)

    @cached_property
    def prediction_schema(self) -> dict[str, Any]:
        """The schema of a prediction as read, with the references of its properties followed."""
        schema = self._reading().get("schema")
        return {**_mapping(self.resolve(schema)), "properties": self._properties(schema)}

    @cached_property
    def templates(self) -> dict[str, dict[str, Any]]:
        """A complete prediction for each status: the examples of the operation that reads one."""
        examples = [
            dict(_mapping(_mapping(self.resolve(example)).get("value")))
            for example in self._reading().get("examples", {}).values()
        ]
        return {str(example["status"]): example for example in examples if "status" in example}

    @cached_property
    def statuses(self) -> list[str]:
        """The statuses of a prediction."""
        return [
            str(status)
            for status in self.prediction_schema["properties"].get("status", {}).get("enum", [])
        ]

    @cached_property
    def url_rules(self) -> dict[str, UrlRule]:
        """The rule of each URL in a prediction's `urls`, and of its `output`."""
        properties = self.prediction_schema["properties"]
        nodes = {**self._properties(properties.get("urls")), "output": properties.get("output", {})}
        return {
            name: self._url_rule(node["x-mock-url"])
            for name, node in nodes.items()
            if "x-mock-url" in node
        }

    def _url_rule(self, value: object) -> UrlRule:
        rule = _mapping(value)
        operation = self.by_id.get(str(rule.get("operation")))
        path = rule.get("path") if operation is None else operation.path
        if not isinstance(path, str) or ("operation" in rule and operation is None):
            raise self._error(
                "", f"x-mock-url {value!r}: it names an operation that is there, or has a `path`"
            )
        return UrlRule(path, rule.get("documented"))

    def _reading(self) -> Mapping[str, Any]:
        if self.reader is None:
            return {}
        return _json_media(
            _mapping(self.resolve(self.reader.document["responses"][str(self.reader.success)]))
        )

    def error_template(
        self, operation: Operation | None, status: int, dialect: Dialect, reason: str | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Media type and body of the contract's example of an error, in a dialect of the API.

        The example is the one called `{dialect}-{reason}`, where there is one. A contract may still
        name its examples by a dialect's former name.
        """
        names = (dialect, *(old for old, new in FORMER_DIALECTS.items() if new == dialect))
        for response in self._error_responses(operation, status):
            for name in (*(f"{name}-{reason}" for name in names), *names):
                for media_type, media in response.get("content", {}).items():
                    example = _mapping(self.resolve(media.get("examples", {}).get(name)))
                    if isinstance(example.get("value"), Mapping):
                        return media_type, example["value"]
        if dialect == "new-api":
            return "application/json", {
                "error": {"message": "Error", "type": "new_api_error", "code": ""}
            }
        return "application/json", {"detail": "Error", "status": status}

    def _error_responses(
        self, operation: Operation | None, status: int
    ) -> Iterator[Mapping[str, Any]]:
        # An unmatched path has no operation: the response is that of any other.
        candidates = ([operation] if operation else []) + list(self.operations)
        for candidate in candidates:
            if status in candidate.responses:
                yield _mapping(self.resolve(candidate.document["responses"][str(status)]))

    def explain_unknown(self, method: str, path: str) -> str:
        """The message for a request that matches no operation."""
        request, near = f"{method} {shorten(path)}", self.nearest(method, path)
        if near is None:
            return f"{request} is not part of this contract, which has what a picture needs."
        return f"The contract has no {request}; the nearest it has is {near.method} {near.path}."

    def _nearest(self, method: str, path: str) -> Operation | None:
        """The operation most like a method and path; None for what is left out on purpose."""
        if is_left_out(self.document.get("x-mock-left-out", ()), self.operations, path):
            return None
        return nearest_operation(self.operations, method, path)

    def resolve(self, node: Any) -> Any:
        """Follow `$ref` within the file. Keywords beside a reference override its target's."""
        passed = set()
        while isinstance(node, Mapping) and "$ref" in node:
            target = self._lookup(node["$ref"])  # which refuses what is not a text
            if node["$ref"] in passed:
                raise self._error("", f"$ref {node['$ref']!r} leads back to itself")
            passed.add(node["$ref"])
            beside = {key: value for key, value in node.items() if key != "$ref"}
            node = {**target, **beside} if beside and isinstance(target, Mapping) else target
        return node

    def _lookup(self, reference: object) -> Any:
        # Not by the registry, whose copies have their keys sorted: examples are sent as they are
        # written.
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise self._error("", f"$ref {reference!r} leads out of this file")
        target: Any = self.document
        for part in unquote(reference).split("/")[1:]:
            try:
                name = part.replace("~1", "/").replace("~0", "~")
                target = target[int(part)] if isinstance(target, list) else target[name]
            except (LookupError, TypeError, ValueError) as reason:
                raise self._error("", f"$ref {reference!r} leads nowhere in this file") from reason
        return target

    def _follow(self, kind: str, *place: str | int) -> tuple[Mapping[str, Any], str]:
        """The object at a place, its references followed, and the pointer to it.

        `kind` is the name of its definition in OpenAPI's own schema.
        """
        pointer = pointer_to(place)
        passed = set()
        while True:
            node = self._lookup("#" + quote(pointer, safe="/~"))
            if not isinstance(node, Mapping):
                raise self._error(pointer, "an object is needed here")
            if "$ref" not in node:
                break
            if pointer in passed:
                raise self._error("", f"$ref {node['$ref']!r} leads back to itself")
            passed.add(pointer)
            pointer = unquote(str(node["$ref"]).removeprefix("#"))
        if passed:  # else it was checked with the file as a whole
            for error in openapi_schema(kind).iter_errors(node):
                raise self._error(pointer + pointer_to(error.instance_path), error.message[:300])
        return node, pointer

    def validator(self, pointer: str) -> jsonschema_rs.Validator:
        """The compiled validator of the schema at a JSON pointer; one for all references to it."""
        passed = set()
        while pointer not in passed:
            passed.add(pointer)
            node = self._lookup("#" + quote(pointer, safe="/~"))
            if not isinstance(node, Mapping) or node.keys() != {"$ref"}:
                break
            pointer = unquote(str(node["$ref"]).removeprefix("#"))
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
        except (
            jsonschema_rs.ValidationError,
            jsonschema_rs.ReferencingError,
            ValueError,
        ) as reason:
            raise self._error(pointer, f"not a usable schema: {_first_line(reason)}") from reason

    def _operations(self) -> Iterator[Operation]:
        for path, item in self.document["paths"].items():
            for method in METHODS:
                if method in item:
                    yield self._operation(path, method, item)

    def _operation(self, path: str, method: str, item: Mapping[str, Any]) -> Operation:
        place = ("paths", path, method)
        node: Mapping[str, Any] = item[method]
        role = node.get("x-mock-role")
        request = (
            self._follow("request-body", *place, "requestBody")[0]
            if "requestBody" in node
            else None
        )
        parameters = tuple(self._parameters(path, method, item))
        free = all(
            parameter.where == "header" and not parameter.required for parameter in parameters
        )
        return Operation(
            operation_id=node["operationId"],
            method=method.upper(),
            path=path,
            role=role,
            document=node,
            parameters=parameters,
            optional=frozenset(parameter.key.encode() for parameter in parameters)
            if free
            else None,
            body=self._validators("request-body", *place, "requestBody")
            if request is not None
            else None,
            body_required=request is not None and request.get("required") is True,
            responses={
                int(status): self._validators("response", *place, "responses", status)
                for status in node["responses"]
                if status.isdecimal()
            },
            public=node.get("security") == [],
            max_body=node.get("x-mock-max-body", self.max_body),
            **(self._creation(path, place, request or {}) if role == "create" else {}),
        )

    def _validators(self, kind: str, *place: str) -> dict[str, Any]:
        """Media type to validator, for the request body or response at a place."""
        node, pointer = self._follow(kind, *place)
        content: Mapping[str, Any] = node.get("content", {})
        return {
            media_type.lower(): self.validator(
                pointer + pointer_to(("content", media_type, "schema"))
            )
            if "json" in media_type and "schema" in media
            else None
            for media_type, media in content.items()
        }

    def _parameters(self, path: str, method: str, item: Mapping[str, Any]) -> Iterator[Parameter]:
        parameters: dict[tuple[str, str], Parameter] = {}
        for place, owner in ((("paths", path), item), (("paths", path, method), item[method])):
            for number in range(len(owner.get("parameters", []))):
                node, pointer = self._follow("parameter", *place, "parameters", number)
                if node["in"] in ("path", "query", "header") and "schema" in node:
                    parameters[node["in"], node["name"]] = self._parameter(node, pointer)

        names = re.findall(r"{([^}]*)}", path)
        if wrong := [name for name in names if not name.isidentifier() or names.count(name) > 1]:
            message = f"{{{wrong[0]}}} is not a name, or stands there twice"
            raise self._error(pointer_to(("paths", path)), message)
        missing = set(names) - {name for where, name in parameters if where == "path"}
        if missing:
            raise self._error(
                pointer_to(("paths", path)), f"path parameter {min(missing)!r} is not described"
            )
        return iter(parameters.values())

    def _parameter(self, node: Mapping[str, Any], pointer: str) -> Parameter:
        kind = _mapping(self.resolve(node["schema"])).get("type", "string")
        return Parameter(
            name=node["name"],
            key=node["name"].lower() if node["in"] == "header" else node["name"],
            where=node["in"],
            required=node.get("required") is True,
            convert=_CONVERT.get(kind, str) if isinstance(kind, str) else str,
            validator=self.validator(pointer + "/schema"),
        )

    def _creation(
        self, path: str, place: tuple[str, ...], request: Mapping[str, Any]
    ) -> dict[str, Any]:
        model = _MODEL_PATH.search(path)
        body = self._properties(_json_media(request).get("schema"))
        if not model and body.keys() >= {"version", "input"}:
            return {}
        if not model:
            raise self._error(
                pointer_to(place),
                "a path with x-mock-role create ends in /models/{owner}/{name}/predictions, "
                "or its body has a `version`",
            )
        properties = self._properties(body.get("input"))
        if not properties:
            raise self._error(
                pointer_to(place), "its request body needs an `input` object with properties"
            )
        operation: Mapping[str, Any] = self.document["paths"][path][place[-1]]
        picture = self._picture(place, operation)
        return {
            "model": model.group(1),
            "input": properties,
            "known": frozenset(properties),
            "images": frozenset(picture["images"]),
            "defaults": {
                name: node["default"] for name, node in properties.items() if "default" in node
            },
            "picture": picture,
            "logs": self._logs(place, operation.get("x-mock-logs", {})),
        }

    def _properties(self, schema: object) -> dict[str, Mapping[str, Any]]:
        """The properties of an object's schema, with their references followed."""
        properties = _mapping(self.resolve(schema)).get("properties", {})
        return {name: _mapping(self.resolve(node)) for name, node in _mapping(properties).items()}

    def _picture(self, place: tuple[str, ...], operation: Mapping[str, Any]) -> Mapping[str, Any]:
        picture = {**self.document.get("x-mock-picture", {}), **operation.get("x-mock-picture", {})}
        if missing := PICTURE_KEYS - picture.keys():
            where = pointer_to((*place, "x-mock-picture"))
            raise self._error(
                where, f"says nothing of {', '.join(sorted(missing))}; nor does the file's own"
            )
        return {**picture, "sizes": tuple((width, height) for width, height in picture["sizes"])}

    def _logs(self, place: tuple[str, ...], logs: Mapping[str, str]) -> Mapping[str, str]:
        for status, text in logs.items():
            try:
                text.format(seed="1", seconds=1.5)
            except (LookupError, ValueError) as reason:
                where = pointer_to((*place, "x-mock-logs", status))
                raise self._error(
                    where, f"only {{seed}} and {{seconds}} can be filled in ({reason})"
                ) from reason
            if any(
                name == "seed" and (spec or kind) for _, name, spec, kind in Formatter().parse(text)
            ):
                raise self._error(
                    pointer_to((*place, "x-mock-logs", status)), "{seed} is filled in as it is"
                )
        return logs

    def _check_document(self) -> None:
        """Check the file against what the double needs, and against OpenAPI's own schema."""
        if not isinstance(self.document, dict) or not str(
            self.document.get("openapi", "")
        ).startswith("3.1"):
            raise self._error("/openapi", "an OpenAPI 3.1 document is needed")
        for schema in (own_schema(), openapi_schema()):
            for error in schema.iter_errors(self.document):
                raise self._error(pointer_to(error.instance_path) or "/", error.message[:300])

    def _check_roles(self) -> None:
        for operation in self.operations:
            place = pointer_to(("paths", operation.path, operation.method.lower()))
            if operation.role is not None and operation.role not in ROLES:
                raise self._error(
                    place, f"x-mock-role {operation.role!r} is not one of {', '.join(ROLES)}"
                )
            if operation.role is None and self.example(operation) is None:
                raise self._error(
                    place, "an operation without x-mock-role needs an example to answer with"
                )
            if operation.role is not None and not any(
                200 <= status < 300 for status in operation.responses
            ):
                raise self._error(place, "an operation with x-mock-role needs an answer of 2xx")
        if self.of_role("create"):
            self._check_reader()

    def _check_reader(self) -> None:
        readers = self.of_role("get")
        if len(readers) != 1:
            raise self._error(
                "/paths", f"{len(readers)} operations have x-mock-role get; one is needed"
            )
        missing = [status for status in self.statuses if status not in self.templates]
        if missing:
            place = pointer_to(("paths", readers[0].path, "get"))
            raise self._error(place, f"its 200 needs an example of status {', '.join(missing)}")
        if "output" not in self.url_rules:
            raise self._error("", "the prediction's `output` needs an x-mock-url")

    def example(self, operation: Operation) -> tuple[int, str, Any] | None:
        """Status, media type and value of an operation's first successful example."""
        for status in operation.responses:
            if not 200 <= status < 300:
                continue
            response = _mapping(self.resolve(operation.document["responses"][str(status)]))
            if not response.get("content"):
                return status, "", None
            for media_type, media in response["content"].items():
                if "example" in media:
                    return status, media_type, media["example"]
                for example in media.get("examples", {}).values():
                    return status, media_type, _mapping(self.resolve(example)).get("value")
        return None

    def _error(self, pointer: str, reason: str) -> ContractError:
        where = f" at {pointer}" if pointer else ""
        return ContractError(f"contract {self.name}{where}: {reason}")


# Reading takes 30 ms, and a suite may start a server for each test.
@lru_cache(2)
def _read(source: bytes, name: str) -> Contract:
    try:
        document = read_yaml(source)
    except yaml.YAMLError as reason:
        raise ContractError(
            f"contract {name}: not YAML: {' '.join(str(reason).split())}"
        ) from reason
    return Contract(document, source, name)


def _first_line(reason: Exception) -> str:
    return (str(reason).splitlines() or [type(reason).__name__])[0][:300]


def _mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one: a schema may also be true or false."""
    return value if isinstance(value, Mapping) else {}


def _json_media(node: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(_mapping(node.get("content")).get("application/json"))


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
MAX_COMPARED = 150  # characters of a path


def nearest_operation(operations: Sequence[Operation], method: str, path: str) -> Operation:
    """The operation whose method and path are most like a request's."""
    requested = path[:MAX_COMPARED].split("/")

    def likeness(operation: Operation) -> float:
        parts = operation.path.split("/")
        filled = [
            actual if "{" in part and actual else part
            for part, actual in zip_longest(parts, requested[: len(parts)], fillvalue="")
        ]
        same = difflib.SequenceMatcher(None, path[:MAX_COMPARED], "/".join(filled)).ratio()
        return (
            same
            + operation.ends_like(path[:MAX_COMPARED])
            + (0.05 if operation.method == method else 0)
        )

    return max(operations, key=likeness)


def is_left_out(roots: Iterable[str], operations: Sequence[Operation], path: str) -> bool:
    """Whether a path, with or without its prefix, is one of these roots.

    Or under one of them that no operation is under.
    """
    for root in roots:
        alone = not any(operation.path.startswith(root + "/") for operation in operations)
        pieces = root.split("/")[1:]
        for skipped in range(len(pieces)):
            place = "/" + "/".join(pieces[skipped:])
            if path == place or (alone and path.startswith(place + "/")):
                return True
    return False
