"""`GET /__admin/metrics`: counts that only grow, in Prometheus' text format, and nothing of a client's in them."""

import re
from collections.abc import Iterator

import httpx
import pytest

from mockserver import MockServer
from mockserver.admin.prometheus import as_text
from mockserver.backend.metrics import BUCKETS, Metrics
from mockserver.backend.store import Bounds, Store
from tests.helpers.documents import KONTEXT, ULTRA

HELD = {"tenants": 1, "predictions": 2, "bytes": 3, "evicted_tenants": 4, "evicted_predictions": 5}

# https://prometheus.io/docs/instrumenting/exposition_formats/, by its grammar.
LABEL = r'[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(
    rf"([a-zA-Z_:][\w:]*)(?:\{{({LABEL}(?:,{LABEL})*)\}})? ([+-]?(?:\d[\d.e+-]*|Inf|NaN))"
)

Samples = dict[tuple[str, tuple[str, ...]], float]


def read(text: str) -> Samples:
    """The samples of a text, by name and labels, once it is known to be in the format."""
    samples: Samples = {}
    types: dict[str, str] = {}
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types, "a family stands together, once"
            types[name] = kind
        elif line.startswith("# HELP "):
            assert len(line.split(" ", 3)) == 4
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            family = match[1]
            if family not in types:
                family = re.sub(r"_(bucket|sum|count)$", "", family)
                assert types[family] == "histogram"
            assert family == list(types)[-1], "samples stand under their family"
            assert (types[family] == "counter") == match[1].endswith("_total")
            key = match[1], tuple(re.findall(LABEL, match[2] or ""))
            assert key not in samples
            samples[key] = float(match[3])
    return samples


def test_what_is_counted_is_shown() -> None:
    metrics = Metrics()
    for seconds in (0.0001, 0.0005, 0.002, 100):
        metrics.record("get", 200, seconds)
    metrics.record("get", 0, 0.2)
    metrics.violations["get"] += 2
    metrics.faults["cut"] += 1
    samples_read = read(as_text(metrics, HELD, version="1.2", draining=True, cpu_seconds=1.5))
    operation = 'operation="get"'
    assert samples_read["mockserver_info", ('version="1.2"',)] == 1
    assert samples_read["mockserver_requests_total", (operation, 'status="200"')] == 4
    assert samples_read["mockserver_requests_total", (operation, 'status="none"')] == 1
    buckets = {
        key[1][1]: value
        for key, value in samples_read.items()
        if key[0] == "mockserver_request_seconds_bucket"
    }
    assert buckets['le="0.0005"'] == 2
    assert buckets['le="0.0025"'] == 3
    assert buckets['le="60.0"'] == 4
    assert (
        buckets['le="+Inf"'] == samples_read["mockserver_request_seconds_count", (operation,)] == 5
    )
    assert len(buckets) == len(BUCKETS) + 1
    assert samples_read["mockserver_request_seconds_sum", (operation,)] == pytest.approx(100.2026)
    assert samples_read["mockserver_violations_total", (operation,)] == 2
    assert samples_read["mockserver_faults_total", ('kind="cut"',)] == 1
    for name, value in [("tenants", 1), ("predictions", 2), ("held_bytes", 3), ("draining", 1)]:
        assert samples_read["mockserver_" + name, ()] == value
    assert samples_read["mockserver_evicted_tenants_total", ()] == 4
    assert samples_read["mockserver_evicted_predictions_total", ()] == 5
    assert samples_read["mockserver_cpu_seconds_total", ()] == 1.5


def test_a_contract_may_call_its_operations_anything() -> None:
    metrics = Metrics()
    metrics.record('a "b"\\\nc', 200, 1)
    samples_read = read(as_text(metrics, HELD, version="1", draining=False, cpu_seconds=0))
    assert ("mockserver_request_seconds_count", ('operation="a \\"b\\"\\\\\\nc"',)) in samples_read


def test_the_store_s_counts_are_those_that_are_shown() -> None:
    store = Store(0, lambda: pytest.fail("no clock is needed"), Bounds())
    assert store.counts().keys() >= HELD.keys()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with MockServer() as server, httpx.Client(base_url=server.url, verify=False) as client:
        yield client


def scrape(client: httpx.Client) -> Samples:
    response = client.get("/__admin/metrics")
    assert (response.status_code, response.headers["content-type"]) == (
        200,
        "text/plain; version=0.0.4; charset=utf-8",
    )
    return read(response.text)


def test_requests_are_counted_over_all_tenants_and_after_they_are_forgotten(
    client: httpx.Client,
) -> None:
    for token in ("secret-token-1", "secret-token-2"):
        headers = {"Authorization": f"Bearer {token}", "X-Mock-Scenario": "rate-limited"}
        body = {"input": {"prompt": "p", "more": 1}}
        assert client.post(KONTEXT, json=body, headers=headers).status_code == 429
        assert client.post(KONTEXT, json=body, headers=headers).status_code == 200
        client.get("/nowhere/" + token, headers=headers)
        client.post("/__admin/reset", headers=headers)
    samples_read = scrape(client)
    kontext = 'operation="createFluxKontextMaxPrediction"'
    assert samples_read["mockserver_requests_total", (kontext, 'status="200"')] == 2
    assert samples_read["mockserver_requests_total", (kontext, 'status="429"')] == 2
    assert samples_read["mockserver_requests_total", ('operation="none"', 'status="404"')] == 2
    assert samples_read["mockserver_violations_total", (kontext,)] == 4, (
        "of those too that a fault answered"
    )
    assert samples_read["mockserver_faults_total", ('kind="status"',)] == 2
    assert samples_read["mockserver_tenants", ()] == 3
    del samples_read["mockserver_cpu_seconds_total", ()]
    assert scrape(client).items() > samples_read.items(), "what is under /__admin is not counted"


def test_no_token_and_no_path_gets_into_a_label(client: httpx.Client) -> None:
    for number in range(50):
        headers = {"Authorization": f"Bearer secret-token-{number}"}
        client.get(f"/nowhere/{number}", headers=headers)
        client.request("PUT", ULTRA, headers=headers)
        client.get(f"/replicate/v1/predictions/{number:026}", headers=headers)
    samples_read = scrape(client)
    assert "secret" not in str(samples_read)
    requests = {labels for name, labels in samples_read if name == "mockserver_requests_total"}
    assert requests == {
        ('operation="none"', 'status="404"'),
        ('operation="none"', 'status="405"'),
        ('operation="getPrediction"', 'status="404"'),
    }
