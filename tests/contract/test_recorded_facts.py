"""What Replicate was recorded to answer, fact by fact, and what the double answers beside it.

The facts are what 542 exchanges of the PyPI client's test recordings (2023-08 to 2025), 19 bodies from other public
repositories (2024-12 to 2026) and Replicate's OpenAPI document of 2026-04 show: fields, types, statuses, headers and words.
"""

import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple

import httpx
import pytest

from mockserver import MockServer, Tenant
from tests.helpers.documents import CONTRACT, KONTEXT, ULTRA
from tests.helpers.receiver import Receiver

Json = dict[str, Any]
V1 = "/replicate/v1"
LONG = [{"status": "starting", "seconds": 90}, {"status": "succeeded"}]
INPUT = {"prompt": "a lighthouse"}


class Double:
    """One tenant of the double, asked as a plain client asks."""

    def __init__(self, tenant: Tenant, client: httpx.Client) -> None:
        self.tenant, self.client = tenant, client

    def create(
        self, scenario: Any = "succeeded", path: str = KONTEXT, body: Any = None, **headers: str
    ) -> httpx.Response:
        self.tenant.use(scenario)
        return self.client.post(path, json=body or {"input": INPUT}, headers=headers)

    def wait(self, scenario: Any = "succeeded", prefer: str = "wait") -> Json:
        return self.create(scenario, Prefer=prefer).json()  # type: ignore[no-any-return]

    def end(self, scenario: Any = "succeeded") -> Json:
        return self.read(scenario, 2).json()  # type: ignore[no-any-return]

    def read(
        self, scenario: Any = "succeeded", times: int = 1, accept_encoding: str = "gzip"
    ) -> httpx.Response:
        url, headers = (
            f"{V1}/predictions/{self.create(scenario).json()['id']}",
            {"Accept-Encoding": accept_encoding},
        )
        return [self.client.get(url, headers=headers) for _ in range(times)][-1]

    def listed(self, query: str = "") -> Json:
        self.end()
        return self.client.get(f"{V1}/predictions{query}").json()  # type: ignore[no-any-return]

    def upload(self) -> Json:
        return self.client.post(f"{V1}/files", files={"content": ("a.txt", b"hello")}).json()  # type: ignore[no-any-return]

    def refused_upload(self, status: int) -> httpx.Response:
        self.tenant.use({"faults": {"uploadFile": [{"status": status}]}})
        return self.client.post(f"{V1}/files", files={"content": b"x"})

    def signed(self) -> str:
        """The URL of an upload, signed as Replicate's OpenAPI document says."""
        identifier, expiry = self.upload()["id"], "4102444800"
        key = b64decode(
            self.client.get(f"{V1}/webhooks/default/secret").json()["key"].removeprefix("whsec_")
        )
        signature = b64encode(
            hmac.new(key, f"acme {identifier} {expiry}".encode(), sha256).digest()
        ).decode()
        query = httpx.QueryParams({"owner": "acme", "expiry": expiry, "signature": signature})
        return f"{self.tenant.url}{V1}/files/{identifier}/download?{query}"

    def webhook(self, **asked: Any) -> Json:
        receiver = Receiver()
        try:
            body = {"input": INPUT, "webhook": receiver.url, **asked}
            self.create(body=body)
            told = receiver.next()
            return {name: told[name] for name in told if name.startswith("webhook")} | {
                "url": receiver.url
            }
        finally:
            receiver.close()


class Fact(NamedTuple):
    """Something recorded: in the words of a reader, how it was seen, and how the double is asked for the same."""

    said: str
    seen: str
    recorded: Any
    observed: Callable[[Double], Any]


def digits(timestamp: str) -> int:
    return len(timestamp.partition(".")[2].rstrip("Z"))


def kept(shown: Json, *names: str) -> Json:
    return {name: shown[name] for name in names if name in shown}


def details(response: httpx.Response) -> list[str]:
    return response.json()["detail"].splitlines()  # type: ignore[no-any-return]


def has_nine_digits(double: Double) -> bool:
    """Of ten predictions some end on a zero, which is not written."""
    shown = [double.end() for _ in range(10)]
    assert all(each["metrics"]["predict_time"] == pytest.approx(3.5) for each in shown)
    return max(digits(each["completed_at"]) for each in shown) == 9


BARE = {"status": "processing", "logs": ""}
TIMES = ("started_at", "completed_at", "metrics")

FACTS = [
    Fact(
        "a wait that ends in time is answered `processing`, with the output, empty logs and no times",
        "12 of 12 recordings of 2024-10, three later samples",
        (BARE, True, {}),
        lambda double: (
            kept(shown := double.wait(), *BARE),
            shown["output"] is not None,
            kept(shown, *TIMES),
        ),
    ),
    Fact(
        "a wait whose time is up is answered `starting`, without output",
        "OpenAPI; recorded",
        ({"status": "starting", "output": None}, True),
        lambda double: (
            kept(shown := double.wait({"lifecycle": LONG}), "status", "output"),
            "started_at" not in shown,
        ),
    ),
    Fact(
        "`input` echoes only what was sent",
        "0 of 58 creates have another key",
        [INPUT, INPUT, INPUT],
        lambda double: [
            double.create().json()["input"],
            double.read().json()["input"],
            double.wait()["input"],
        ],
    ),
    Fact(
        "a create by `version: owner/name`, with `input`",
        "OpenAPI; about 17 uses in public code",
        (200, "black-forest-labs/flux-1.1-pro-ultra", "hidden"),
        lambda double: (
            (
                response := double.create(
                    path=f"{V1}/predictions",
                    body={"version": "black-forest-labs/flux-1.1-pro-ultra", "input": INPUT},
                )
            ).status_code,
            response.json()["model"],
            response.json()["version"],
        ),
    ),
    Fact(
        "a version that is not known",
        "quoted in three issues",
        (422, "Invalid version or not permitted"),
        lambda double: (
            (
                response := double.create(
                    path=f"{V1}/predictions", body={"version": "a/b", "input": INPUT}
                )
            ).status_code,
            response.json()["title"],
        ),
    ),
    Fact(
        "`failed` with `error: null`, and with an empty one",
        "two reports of users",
        [None, ""],
        lambda double: [
            double.end(
                {
                    "lifecycle": [
                        {"status": "processing", "seconds": 1},
                        {"status": "failed", "error": error},
                    ]
                }
            )["error"]
            for error in (None, "")
        ],
    ),
    Fact(
        "a fault of the body as a whole has no field, and its sentence begins with itself",
        "recorded 2026-03",
        (["- version is required"], [""]),
        lambda double: (
            details(response := double.create(path=f"{V1}/predictions", body={"input": INPUT})),
            [each["field"] for each in response.json()["invalid_fields"]],
        ),
    ),
    Fact(
        "an unknown property beside `input` is refused",
        "recorded 2026-03",
        (422, ["- Additional property model is not allowed"], [""]),
        lambda double: (
            (response := double.create(body={"input": INPUT, "model": "m"})).status_code,
            details(response),
            [each["field"] for each in response.json()["invalid_fields"]],
        ),
    ),
    Fact(
        "what is missing is listed before what is wrong in single fields",
        "recorded",
        [
            "- input: prompt is required",
            "- input.seed: Invalid type. Expected: integer, given: null",
        ],
        lambda double: details(double.create(body={"input": {"seed": None}})),
    ),
    Fact(
        "`created_at` has milliseconds",
        "the documents' samples, and a sibling's",
        3,
        lambda double: digits(double.end()["created_at"]),
    ),
    Fact(
        "`started_at` and `completed_at` have nanoseconds, without zeros at the end",
        "three samples",
        True,
        has_nine_digits,
    ),
    Fact(
        "a failure that never ran has no `started_at`, no metrics and empty logs",
        "one source",
        ({"status": "failed", "logs": ""}, set()),
        lambda double: (
            kept(shown := double.end("start-timeout"), "status", "logs"),
            shown.keys() & {"started_at", "metrics"},
        ),
    ),
    Fact(
        "`source: api` on creates and reads, `metrics.total_time` at the end (later recordings; the documents have neither)",
        "all samples of 2025-11",
        (["api", "api"], True, [False, False]),
        lambda double: (
            [double.create("variety").json()["source"], (shown := double.end("variety"))["source"]],
            shown["metrics"]["total_time"] == pytest.approx(3.9, abs=0.001),
            ["source" in (plain := double.end()), "total_time" in plain["metrics"]],
        ),
    ),
    Fact(
        "a webhook's body repeats the webhook's URL",
        "two payloads",
        True,
        lambda double: (told := double.webhook())["webhook"] == told["url"] and len(told) == 2,
    ),
    Fact(
        "and the filter, if there is one",
        "two payloads",
        ["start"],
        lambda double: double.webhook(webhook_events_filter=["start"])["webhook_events_filter"],
    ),
    Fact(
        "404 is a problem document",
        "OpenAPI; three recordings",
        (404, "application/problem+json"),
        lambda double: (
            (response := double.client.get(f"{V1}/predictions/{'0' * 26}")).status_code,
            response.headers["content-type"],
        ),
    ),
    Fact(
        "a file that is not there",
        "OpenAPI; two recordings",
        (404, "application/problem+json", "File not found"),
        lambda double: (
            (response := double.client.get(f"{V1}/files/{'a' * 48}")).status_code,
            response.headers["content-type"],
            response.json()["detail"].partition(".")[0],
        ),
    ),
    Fact(
        "a file over 100 MB",
        "OpenAPI",
        ("application/problem+json", {"detail": "Files must be less than 100MB in size"}),
        lambda double: (
            (response := double.refused_upload(413)).headers["content-type"],
            response.json(),
        ),
    ),
    Fact(
        "an edge's own 404 is a line of text",
        "two recordings",
        ("text/plain", "response 404 (backend NotFound)"),
        lambda double: (
            (
                response := double.read(
                    {"faults": {"getPrediction": [{"status": 404, "page": "text"}]}}
                )
            ).headers["content-type"],
            response.text,
        ),
    ),
    Fact(
        "answers say how much of a limit is left: 599 after a create (the documents show no headers)",
        "532 of 541 answers",
        ({"ratelimit-remaining": "599", "ratelimit-reset": "1"}, {}),
        lambda double: tuple(
            {
                name: text
                for name, text in double.create(scenario).headers.items()
                if name.startswith("ratelimit-")
            }
            for scenario in (
                {"limits": {"createPrediction": {"per_minute": 600, "burst": 600}}},
                "succeeded",
            )
        ),
    ),
    Fact(
        "creates have a charset (a scenario's `charset`)",
        "recorded",
        "application/json; charset=UTF-8",
        lambda double: double.create("variety").headers["content-type"],
    ),
    Fact(
        "reads are compressed when asked (a scenario's `gzip`)",
        "362 of 362 reads",
        ("gzip", None, "processing"),
        lambda double: (
            (zipped := double.read("variety", accept_encoding="gzip, deflate")).headers.get(
                "content-encoding"
            ),
            double.read("variety", accept_encoding="identity").headers.get("content-encoding"),
            zipped.json()["status"],
        ),
    ),
    Fact(
        "a list takes created_after, created_before and source",
        "OpenAPI",
        [1, 0, 0, 1, 0],
        lambda double: [
            len(double.client.get(f"{V1}/predictions{query}").json()["results"])
            for query in (
                f"?created_before=9999-{double.end()['created_at'][5:7]}-01T00:00:00Z",
                "?created_before=2000-01-01T00:00:00Z",
                "?created_after=9999-01-01T00:00:00Z",
                "?created_after=2000-01-01T00:00:00%2B02:00",
                "?source=web",
            )
        ],
    ),
    Fact(
        "a prediction in a list has a source, and no logs",
        "OpenAPI",
        ("api", False),
        lambda double: ((item := double.listed()["results"][0])["source"], "logs" in item),
    ),
    Fact(
        "no token, where one is needed",
        "recorded",
        (
            401,
            {"title": "Unauthenticated", "status": 401},
            "You did not pass an authentication token",
        ),
        lambda double: (
            (response := anonymous(double)).status_code,
            kept(response.json(), "title", "status"),
            response.json()["detail"].partition(".")[0],
        ),
    ),
    Fact(
        "`urls.stream` and `urls.web` may be absent from a read (the documents' creates have them)",
        "older recordings; models without streaming",
        [["cancel", "get", "stream", "web"], ["cancel", "get"]],
        lambda double: [
            sorted(shown.json()["urls"])
            for shown in (
                double.create({"body": {"omit": ["urls.stream", "urls.web"]}}),
                double.read({"body": {"omit": ["urls.stream", "urls.web"]}}),
            )
        ],
    ),
    Fact(
        "`Prefer: wait=61` to `wait=99` pass, and are applied",
        "OpenAPI's pattern; 12 of 12 answers repeat it in Preference-Applied",
        [(200, "wait=61"), (200, "wait=99")],
        lambda double: [
            (
                (response := double.create(Prefer=prefer)).status_code,
                response.headers["preference-applied"],
            )
            for prefer in ("wait=61", "wait=99")
        ],
    ),
    Fact(
        "the id of a file is a UUID in base64",
        "recorded",
        True,
        lambda double: bool(
            re.fullmatch(
                r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
                b64decode(double.upload()["id"]).decode(),
            )
        ),
    ),
    Fact(
        "a signed URL downloads a file without a token",
        "OpenAPI",
        (200, b"hello"),
        lambda double: ((response := httpx.get(double.signed())).status_code, response.content),
    ),
    Fact(
        "a limit for accounts low on credit",
        "quoted in an issue and six public repositories",
        (
            429,
            "Request was throttled. Your rate limit for creating predictions is reduced to 6 requests per minute with a burst of "
            "1 requests while you have less than $5.0 in credit. Your rate limit resets in ~10s.",
            10,
        ),
        lambda double: (
            double.create("low-credit"),
            (response := double.client.post(KONTEXT, json={"input": INPUT})).status_code,
            response.json()["detail"],
            response.json()["retry_after"],
        )[1:],
    ),
    Fact(
        "a picture whose hour is over",
        "quoted by users",
        (404, "requested file not found"),
        lambda double: (
            (
                response := double.client.get(f"/xezq/{double.end('expired')['id']}/output.png")
            ).status_code,
            response.json()["detail"].partition(".")[0],
        ),
    ),
]


def anonymous(double: Double) -> httpx.Response:
    with MockServer(require_auth=True) as strict:
        return httpx.get(f"{strict.url}{V1}/predictions")


@pytest.fixture
def double(tenant: Tenant, client: httpx.Client) -> Double:
    return Double(tenant, client)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.said)
def test_the_double_answers_as_recorded(double: Double, fact: Fact) -> None:
    assert fact.observed(double) == fact.recorded, f"{fact.said} ({fact.seen})"


# Answers of these shapes were recorded; the contract must not forbid them.
PLAIN: Json = {
    "id": "5pcmjq6sfnrmc0cram79p95eg4",
    "model": "black-forest-labs/flux-kontext-max",
    "version": "hidden",
    "input": INPUT,
    "output": None,
    "data_removed": False,
    "error": None,
    "status": "starting",
    "created_at": "2025-07-29T07:21:33.309Z",
    "logs": "",
    "urls": {
        "get": "https://api.replicate.com/v1/predictions/5",
        "cancel": "https://api.replicate.com/v1/predictions/5/cancel",
    },
}
ENDED: Json = {
    **PLAIN,
    "started_at": "2025-07-29T07:21:34.355487090Z",
    "completed_at": "2025-07-29T07:21:38.6311036Z",
}
URL = "https://replicate.delivery/xezq/a/output.png"
SHAPES = {
    "an older create": PLAIN,
    "a later create": {**PLAIN, "source": "api"},
    "the end of a wait": {**PLAIN, "status": "processing", "output": URL},
    "success": {
        **ENDED,
        "status": "succeeded",
        "output": URL,
        "metrics": {"predict_time": 4.2, "total_time": 5.3},
    },
    "a failure without a reason": {
        **ENDED,
        "status": "failed",
        "error": None,
        "metrics": {"predict_time": 4.2},
    },
    "a failure with an empty one": {**ENDED, "status": "failed", "error": "", "logs": "..."},
    "a failure that never ran": {
        **PLAIN,
        "status": "failed",
        "error": "E6716",
        "completed_at": "2025-07-29T07:31:33.309Z",
    },
    "a cancel": {
        **ENDED,
        "status": "canceled",
        "logs": None,
        "metrics": {"predict_time": 0.1, "total_time": 0.2},
    },
    "created in finer time": {**PLAIN, "created_at": "2025-07-29T07:21:33.64900134Z"},
}


@pytest.mark.parametrize("shown", SHAPES.values(), ids=SHAPES)
def test_the_contract_allows_what_was_recorded(shown: Json) -> None:
    reading = CONTRACT.by_id["getPrediction"]
    assert reading.check_response(200, "application/json", shown) == []
    for path in (ULTRA, KONTEXT):
        (creating,) = CONTRACT.paths[path]
        created = {
            **shown,
            "urls": {**shown["urls"], "stream": URL, "web": URL},
        }  # the documents demand them there
        assert creating.check_response(201, "application/json; charset=UTF-8", created) == []


def test_a_listed_prediction_needs_no_logs() -> None:
    item = {name: value for name, value in ENDED.items() if name != "logs"}
    page = {
        "next": None,
        "previous": None,
        "results": [{**item, "status": "succeeded", "output": URL, "source": "api"}],
    }
    assert CONTRACT.by_id["listPredictions"].check_response(200, "application/json", page) == []


def test_what_is_said_of_removed_data_is_only_said_where_they_are_told_of() -> None:
    for operation in ("getPrediction", "cancelPrediction"):
        untold = {
            name: value
            for name, value in {**ENDED, "status": "succeeded", "output": URL}.items()
            if name != "data_removed"
        }
        faults = CONTRACT.by_id[operation].check_response(200, "application/json", untold)
        assert [fault.pointer for fault in faults] == ["/data_removed"], (
            "the property is missing, and nothing else is wrong"
        )
