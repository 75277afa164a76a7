"""Gateways that depart from the contract in one way each: a double whose requests or answers are changed on the way."""

import http.client
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from PIL import Image

from mockserver.contract.contract import Contract

CONTRACT = Contract.load()
PATHS = {
    role: [
        (operation.method, re.compile(re.sub(r"{[^}]*}", "[^/]+", operation.path) + "$"))
        for operation in CONTRACT.of_role(role)
    ]
    for role in ("create", "get", "cancel", "list", "model", "deliver")
}


class Asked:
    """A request on its way to the double. `sent` is its JSON, as far as it has any."""

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.method, self.path, self.headers, self.body = method, path, headers, body
        self.role = next(
            (
                role
                for role, known in PATHS.items()
                for verb, form in known
                if verb == method and form.match(path)
            ),
            "",
        )
        self.known_path = next(
            (role for role, known in PATHS.items() for _, form in known if form.match(path)), ""
        )
        try:
            self.sent: Any = json.loads(body) if body else None
        except ValueError:
            self.sent = None

    @property
    def token(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")


class Answer:
    """An answer on its way back. `value` is its JSON, as far as it has any: changing it changes the body."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body
        self.json = "json" in headers.get("content-type", "")
        self.value: Any = json.loads(body) if self.json and body else None

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    def replace(self, body: bytes) -> None:
        self.body, self.json = body, False

    def finished(self) -> bytes:
        return (
            json.dumps(self.value).encode() if self.json and self.value is not None else self.body
        )


Change = Callable[[Asked, Answer, dict[str, Any]], None]


class Departing(ThreadingHTTPServer):
    """A gateway in front of a double. `prepare` changes requests, `change` answers; both may keep things in `memory`."""

    daemon_threads = True

    def __init__(
        self, double: str, change: Change | None, prepare: Callable[[Asked], None] | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.double, self.change, self.prepare = double, change, prepare
        self.memory: dict[str, Any] = {}
        self.asked: list[Asked] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = (
        64 * 1024
    )  # head and body in one packet: the second of two would wait for an acknowledgement
    server: Departing

    def handle_one(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        asked = Asked(self.command, urlsplit(self.path).path, headers, body)
        self.server.asked.append(asked)
        if self.server.prepare is not None:
            self.server.prepare(asked)
        answer = self._of_double(asked)
        if self.server.change is not None:
            self.server.change(asked, answer, self.server.memory)
        if answer.status == 0:
            self.close_connection = True
            return
        content = answer.finished()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name not in ("content-length", "date", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    do_GET = do_POST = do_DELETE = do_HEAD = handle_one

    def _of_double(self, asked: Asked) -> Answer:
        connection = http.client.HTTPConnection(urlsplit(self.server.double).netloc, timeout=30)
        try:
            sent = {
                name: value
                for name, value in asked.headers.items()
                if name not in ("content-length", "connection")
            }
            connection.request(asked.method, asked.path, asked.body or None, sent)
            response = connection.getresponse()
            return Answer(
                response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
            )
        finally:
            connection.close()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def standing(gateway: Departing) -> Iterator[Departing]:
    thread = threading.Thread(target=gateway.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield gateway
    finally:
        gateway.shutdown()
        thread.join()
        gateway.server_close()


class Planted(NamedTuple):
    """A departure: its rule, and how a double is made to show it."""

    name: str
    rule: str
    change: Change | None = None
    prepare: Callable[[Asked], None] | None = None
    warning: bool = False


PLANTED: list[Planted] = []


def planted(rule: str, name: str, *, warning: bool = False) -> Callable[[Change], Change]:
    def register(change: Change) -> Change:
        PLANTED.append(Planted(name, rule, change, None, warning))
        return change

    return register


def of_prediction(role: str, status: str | None, change: Callable[[dict[str, Any]], Any]) -> Change:
    """A change of the predictions that an operation tells of, in one status or in all."""

    def applied(asked: Asked, answer: Answer, memory: dict[str, Any]) -> None:
        told = answer.value if answer.good and asked.role == role else None
        if told is not None and status in (None, told["status"]):
            change(told)

    return applied


def of_answer(role: str, change: Callable[[Answer], Any], *, good: bool = True) -> Change:
    def applied(asked: Asked, answer: Answer, memory: dict[str, Any]) -> None:
        if role in (asked.role, "any") and answer.good == good:
            change(answer)

    return applied


def plant(rule: str, name: str, change: Change, *, warning: bool = False) -> None:
    PLANTED.append(Planted(name, rule, change, None, warning))


def put(**values: Any) -> Callable[[Any], None]:
    def apply(answer: Any) -> None:
        for name, value in values.items():
            setattr(answer, name, value)

    return apply


def header(name: str, value: str) -> Callable[[Answer], None]:
    return lambda answer: answer.headers.update({name: value})


# MC701: a status that is not listed.
plant("MC701", "creates with 206", of_answer("create", put(status=206)))
plant("MC701", "reads with 203", of_answer("get", put(status=203)))
plant("MC701", "cancels with 202", of_answer("cancel", put(status=202)))
plant("MC701", "lists with 206", of_answer("list", put(status=206)))
plant("MC701", "tells of models with 203", of_answer("model", put(status=203)))
plant("MC701", "refuses creates with 418", of_answer("create", put(status=418), good=False))
plant("MC701", "does not find ids with 410", of_answer("get", put(status=410), good=False))


@planted("MC701", "redirects reads to another origin")
def _(asked: Asked, answer: Answer, memory: dict[str, Any]) -> None:
    if asked.role == "get" and answer.good:
        answer.status, answer.headers["location"] = 307, "http://127.0.0.1:9/stolen"


# MC702: a body that does not fit.
plant(
    "MC702",
    "creates without created_at",
    of_prediction("create", None, lambda told: told.pop("created_at")),
)
plant(
    "MC702", "reads without version", of_prediction("get", None, lambda told: told.pop("version"))
)
plant("MC702", "reads without urls", of_prediction("get", None, lambda told: told.pop("urls")))
plant(
    "MC702",
    "data_removed is a word",
    of_prediction("get", None, lambda told: told.update(data_removed="no")),
)
plant(
    "MC702",
    "created_at is no date",
    of_prediction("create", None, lambda told: told.update(created_at="today")),
)
plant(
    "MC702",
    "output is a list",
    of_prediction("get", "succeeded", lambda told: told.update(output=[told["output"]])),
)
plant(
    "MC702",
    "predict_time is text",
    of_prediction("get", "succeeded", lambda told: told["metrics"].update(predict_time="3 s")),
)
plant(
    "MC702",
    "logs are a list",
    of_prediction("get", "processing", lambda told: told.update(logs=["one"])),
)
plant(
    "MC702",
    "urls.get is no URL",
    of_prediction("create", None, lambda told: told["urls"].update(get="not a url")),
)
plant("MC702", "the list has no next", of_answer("list", lambda answer: answer.value.pop("next")))
plant(
    "MC702",
    "the list's results are an object",
    of_answer("list", lambda answer: answer.value.update(results={})),
)
plant(
    "MC702",
    "a model without its owner",
    of_answer("model", lambda answer: answer.value.pop("owner")),
)
plant("MC702", "reads are empty", of_answer("get", lambda answer: answer.replace(b"")))
plant(
    "MC702",
    "reads are cut short",
    of_answer("get", lambda answer: answer.replace(answer.finished()[:-20])),
)
plant(
    "MC702",
    "reads are nested a thousand deep",
    of_answer("get", lambda answer: answer.replace(b"[" * 1000 + b"]" * 1000)),
)
plant(
    "MC702",
    "an unknown property",
    of_prediction("create", None, lambda told: told.update(queue=3)),
    warning=True,
)
plant(
    "MC702",
    "an unknown property within metrics",
    of_prediction("get", "succeeded", lambda told: told["metrics"].update(gpu=1)),
    warning=True,
)


@planted("MC702", "throttles in no shape of an error")
def _(asked: Asked, answer: Answer, memory: dict[str, Any]) -> None:
    if asked.role == "list" and not memory.setdefault("throttled", False):
        memory["throttled"] = True
        answer.status, answer.value, answer.headers["retry-after"] = 429, {"slow": "down"}, "0"


# MC703: another media type.
plant("MC703", "creates as text/plain", of_answer("create", header("content-type", "text/plain")))
plant(
    "MC703",
    "reads as text/html",
    of_answer("get", header("content-type", "text/html; charset=utf-8")),
)
plant(
    "MC702",
    "reads in an encoding that nobody asked for",
    of_answer("get", header("content-encoding", "br")),
)
plant(
    "MC702",
    "reads that are no gzip, as is said",
    of_answer("get", header("content-encoding", "gzip")),
)
plant(
    "MC702",
    "lists with a model that is no name",
    of_answer("list", lambda answer: answer.value["results"].append({"model": []})),
)
plant(
    "MC703",
    "refuses reads as text/html",
    of_answer("get", header("content-type", "text/html"), good=False),
)
plant(
    "MC703",
    "reads without a type",
    of_answer("get", lambda answer: answer.headers.pop("content-type")),
)
plant(
    "MC703",
    "lists as octets",
    of_answer("list", header("content-type", "application/octet-stream")),
)
plant(
    "MC703",
    "refuses as text/plain",
    of_answer("create", header("content-type", "text/plain"), good=False),
)
plant(
    "MC703",
    "pictures as octets",
    of_answer("deliver", header("content-type", "application/octet-stream")),
)
plant(
    "MC703",
    "pictures as another kind of picture",
    of_answer("deliver", header("content-type", "image/gif")),
)

# MC704: the life cycle.
plant(
    "MC704",
    "an unknown status",
    of_prediction("get", "processing", lambda told: told.update(status="queued")),
)
plant(
    "MC704",
    "succeeds without output",
    of_prediction("get", "succeeded", lambda told: told.update(output=None)),
)
plant(
    "MC704",
    "an output at the start",
    of_prediction("create", None, lambda told: told.update(output="https://e.example/a.jpg")),
)
plant(
    "MC704",
    "ended before it began",
    of_prediction(
        "get", "succeeded", lambda told: told.update(completed_at="2020-01-01T00:00:00Z")
    ),
)
plant(
    "MC704",
    "started before it was created",
    of_prediction("get", "processing", lambda told: told.update(started_at="2020-01-01T00:00:00Z")),
)
plant(
    "MC704",
    "a predict_time of its own",
    of_prediction("get", "succeeded", lambda told: told["metrics"].update(predict_time=71.5)),
)
plant(
    "MC704",
    "completed at the start",
    of_prediction("create", None, lambda told: told.update(completed_at=told["created_at"])),
)


@planted("MC704", "goes back to starting")
def _(asked: Asked, answer: Answer, memory: dict[str, Any]) -> None:
    if asked.role == "create" and answer.good:
        answer.value.update(status="processing")
    elif asked.role == "get" and answer.good and answer.value["status"] == "processing":
        answer.value["status"] = "starting"
        answer.value.pop("started_at", None)


@planted("MC704", "runs on after its end")
def _(asked: Asked, answer: Answer, memory: dict[str, Any]) -> None:
    if asked.role == "get" and answer.good and answer.value["status"] == "succeeded":
        if memory.setdefault("ended", False):
            answer.value["status"] = "processing"
            for name in ("completed_at", "metrics"):
                answer.value.pop(name, None)
        memory["ended"] = True


@planted("MC704", "another output after the end")
def _(asked: Asked, answer: Answer, memory: dict[str, Any]) -> None:
    if asked.role == "get" and answer.good and answer.value["status"] == "succeeded":
        if memory.setdefault("ended", False):
            answer.value["output"] += ".other"
        memory["ended"] = True


@planted("MC704", "a cancel that does not last")
def _(asked: Asked, answer: Answer, memory: dict[str, Any]) -> None:
    if asked.role == "get" and answer.good and answer.value["status"] == "canceled":
        answer.value["status"] = "starting"
        for name in ("started_at", "completed_at", "metrics"):
            answer.value.pop(name, None)


@planted("MC704", "a cancel that cancels nothing")
def _(asked: Asked, answer: Answer, memory: dict[str, Any]) -> None:
    if asked.role in ("get", "cancel") and answer.good and answer.value["status"] == "canceled":
        answer.value["status"] = "processing"
        for name in ("completed_at", "metrics"):
            answer.value.pop(name, None)


# MC705: what is forbidden is taken.
def taking(wanted: Callable[[Asked], bool]) -> Callable[[Asked], None]:
    """Creates of some kind are made good on their way to the double."""

    def prepare(asked: Asked) -> None:
        if asked.role == "create" and wanted(asked):
            asked.body = b'{"input": {"prompt": "a lighthouse"}}'
            asked.headers["content-type"] = "application/json"

    return prepare


def given(asked: Asked) -> dict[str, Any]:
    found = asked.sent.get("input", {}) if isinstance(asked.sent, dict) else {}
    return found if isinstance(found, dict) else {}


def property_of(asked: Asked, name: str) -> dict[str, Any]:
    operation = next(each for each in CONTRACT.of_role("create") if each.path == asked.path)
    return dict(operation.input.get(name, {}))


def beyond(asked: Asked, keyword: str, wrong: Callable[[Any, Any], bool]) -> bool:
    return any(
        isinstance(value, int | float)
        and keyword in (node := property_of(asked, name))
        and wrong(value, node[keyword])
        for name, value in given(asked).items()
    )


TAKEN: dict[str, Callable[[Asked], bool]] = {
    "creates without a prompt": lambda asked: (
        isinstance(asked.sent, dict) and "prompt" not in given(asked)
    ),
    "creates with a prompt that is a number": lambda asked: isinstance(
        given(asked).get("prompt"), int
    ),
    "creates below a range": lambda asked: beyond(
        asked, "minimum", lambda value, limit: value < limit
    ),
    "creates above a range": lambda asked: beyond(
        asked, "maximum", lambda value, limit: value > limit
    ),
    "creates with an unknown choice": lambda asked: "mockserver-verify" in given(asked).values(),
    "creates from broken JSON": lambda asked: asked.sent is None,
    "creates from text/plain": lambda asked: asked.headers.get("content-type") == "text/plain",
    "creates whatever comes": lambda asked: True,
}
PLANTED += [Planted(name, "MC705", None, taking(wanted)) for name, wanted in TAKEN.items()]


def takes(role: str, value: Any) -> Change:
    def applied(asked: Asked, answer: Answer, memory: dict[str, Any]) -> None:
        if asked.known_path == role and not answer.good and asked.role in (role, ""):
            answer.status, answer.value = 200, value
            answer.json, answer.headers["content-type"] = True, "application/json"

    return applied


plant("MC705", "reads an id that nobody has", takes("get", dict(CONTRACT.templates["succeeded"])))
plant(
    "MC705", "cancels an id that nobody has", takes("cancel", dict(CONTRACT.templates["canceled"]))
)
plant("MC705", "knows a model that is not there", takes("model", {"name": "x"}))
plant(
    "MC705",
    "refuses in a shape of its own",
    of_answer("create", lambda answer: setattr(answer, "value", {"msg": "no"}), good=False),
)
plant(
    "MC705",
    "does not find ids, without a word",
    of_answer("get", lambda answer: answer.replace(b""), good=False),
)

# MC706: the echo.
plant(
    "MC706",
    "another prompt",
    of_prediction("create", None, lambda told: told["input"].update(prompt="a cat")),
)
plant("MC706", "no prompt", of_prediction("create", None, lambda told: told["input"].pop("prompt")))
plant(
    "MC706",
    "a number of its own",
    of_prediction("create", None, lambda told: told["input"].update(safety_tolerance=5)),
)
plant(
    "MC706",
    "an input left out",
    of_prediction("create", None, lambda told: told["input"].pop("output_format")),
)
plant(
    "MC706",
    "a truth value as a number",
    of_prediction("create", None, lambda told: told["input"].update(raw=0)),
)
plant(
    "MC706",
    "another model",
    of_prediction("create", None, lambda told: told.update(model="black-forest-labs/flux-dev")),
)
plant(
    "MC706", "no model at all", of_prediction("create", None, lambda told: told.update(model=None))
)
plant(
    "MC706", "reads another id", of_prediction("get", None, lambda told: told.update(id="0" * 26))
)
plant(
    "MC706",
    "reads another input",
    of_prediction("get", "succeeded", lambda told: told["input"].update(prompt="a cat")),
)


# MC707: the picture.
def picture(kind: str, size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size).save(out, kind)
    return out.getvalue()


plant("MC707", "no picture", of_answer("deliver", put(status=404)))
plant("MC707", "a picture that may not be seen", of_answer("deliver", put(status=403)))
plant(
    "MC707",
    "text for a picture",
    of_answer("deliver", lambda answer: answer.replace(b"<html>sorry</html>")),
)
plant(
    "MC707",
    "half a picture",
    of_answer("deliver", lambda answer: answer.replace(answer.body[: len(answer.body) // 2])),
)
plant(
    "MC707",
    "a square picture",
    of_answer("deliver", lambda answer: answer.replace(picture("PNG", (900, 900)))),
)
plant(
    "MC707",
    "a picture three per cent too wide",
    of_answer("deliver", lambda answer: answer.replace(picture("PNG", (1545, 1000)))),
)
plant(
    "MC707",
    "a picture nobody serves",
    of_prediction("get", "succeeded", lambda told: told.update(output="http://127.0.0.1:9/a.png")),
)
plant(
    "MC707",
    "a picture in a file",
    of_prediction("get", "succeeded", lambda told: told.update(output="file:///etc/passwd")),
)
plant(
    "MC707",
    "a picture without TLS elsewhere",
    of_prediction("get", "succeeded", lambda told: told.update(output="http://192.0.2.7/a.png")),
)


@planted("MC707", "a picture of another format")
def _(asked: Asked, answer: Answer, memory: dict[str, Any]) -> None:
    if asked.role == "deliver":
        answer.replace(picture("JPEG", (1500, 1000)))
        answer.headers["content-type"] = "image/jpeg"


@planted("MC707", "a picture behind endless redirects")
def _(asked: Asked, answer: Answer, memory: dict[str, Any]) -> None:
    if asked.role == "deliver":
        answer.status, answer.headers["location"] = 302, asked.path


# MC708: urls elsewhere.
plant(
    "MC708",
    "urls.get elsewhere",
    of_prediction("create", None, lambda told: told["urls"].update(get="https://api.example/p")),
    warning=True,
)
plant(
    "MC708",
    "urls.cancel on another port",
    of_prediction("get", None, lambda told: told["urls"].update(cancel="http://127.0.0.1:9/c")),
    warning=True,
)


# MC709: the token.
@planted("MC709", "the token in an error")
def _(asked: Asked, answer: Answer, memory: dict[str, Any]) -> None:
    if asked.role == "get" and not answer.good:
        answer.value["detail"] = f"no prediction for {asked.token}"


@planted("MC709", "the token in a prediction's logs")
def _(asked: Asked, answer: Answer, memory: dict[str, Any]) -> None:
    if asked.role == "get" and answer.good:
        answer.value["logs"] = f"authorized as {asked.token}"


@planted("MC709", "the token in a header")
def _(asked: Asked, answer: Answer, memory: dict[str, Any]) -> None:
    if asked.role == "list":
        answer.headers["x-debug"] = f"Bearer {asked.token}"


@planted("MC709", "a wrong token repeated")
def _(asked: Asked, answer: Answer, memory: dict[str, Any]) -> None:
    if asked.token.startswith("wrong-"):
        answer.value["detail"] = f"unknown token {asked.token}"


# Doubles that keep to the contract, each in another way: what they are started with.
FAITHFUL: dict[str, dict[str, Any]] = {
    "as usual": {},
    "varied": {"scenario": "variety"},
    "trouble of the network": {"scenario": "flaky"},
    "at once": {"scenario": "immediate"},
    "slow": {"scenario": "slow"},
    "every picture fails": {"scenario": "failed"},
    "every picture is refused": {"scenario": "nsfw"},
    "canceled by somebody else": {"scenario": "canceled"},
    "never started": {"scenario": "aborted"},
    "gone at once": {"scenario": "expired"},
    "a wait that is not answered": {"scenario": "silent-processing"},
    "created with 201": {"scenario": {"create_status": 201}},
    "created with 202": {"scenario": {"create_status": 202}},
    "fine timestamps": {"scenario": {"body": {"fraction": 9}}},
    "coarse timestamps": {"scenario": {"body": {"fraction": 0}}},
    "urls of the API behind it": {"urls": "documented"},
    "the other dialect of errors": {"errors": "new-api"},
    "strict": {"strict": True},
    "authorization required": {"require_auth": True},
    "a file host of its own": {"files_origin": "separate"},
    "real time": {"clock": "real", "speed": 1000.0},
    "throttled at first": {"scenario": "rate-limited"},
    "without credit": {"scenario": "out-of-credit"},
}
