"""Limits on how many requests are taken: the bucket, and what clients and tenants meet of it."""

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mockserver import AdminError, MockServer, Tenant
from mockserver.backend.rate_limit import Bucket, take
from mockserver.clock import SECOND
from mockserver.scenarios.scenario import Limit
from tests.helpers.documents import KONTEXT, ULTRA

READ = "/replicate/v1/predictions"
BODY = {"input": {"prompt": "p"}}


@given(
    st.builds(Limit, per_minute=st.floats(1, 6000), burst=st.integers(1, 20)),
    st.lists(st.integers(0, 10 * SECOND), min_size=1, max_size=50),
)
def test_no_more_are_taken_than_the_burst_and_what_has_come_back(
    limit: Limit, pauses: list[int]
) -> None:
    bucket: Bucket | None = None
    now = taken = 0
    for pause in pauses:
        now += pause
        bucket, quota = take(limit, bucket, now)
        taken += quota.taken
        assert 0 <= quota.remaining < limit.burst
        assert quota.reset >= 1
    assert taken <= limit.burst + now / SECOND / 60 * limit.per_minute + 1e-6


@given(st.floats(1, 6000), st.integers(0, 10 * SECOND))
@example(per_minute=1.0, early=4_999_999_000)
def test_who_waits_as_long_as_he_is_told_is_let_through(per_minute: float, early: int) -> None:
    limit = Limit(per_minute=per_minute)
    bucket, _ = take(limit, None, 0)
    bucket, refused = take(limit, bucket, min(early, round(60 / per_minute * SECOND) - 2))
    assert not refused.taken
    _, again = take(limit, bucket, bucket.at + refused.reset * SECOND)
    assert again.taken


def test_a_bucket_may_begin_empty_and_a_clock_that_is_set_back_takes_nothing_away() -> None:
    limit = Limit(per_minute=60, burst=5, left=0)
    bucket, quota = take(limit, None, 100 * SECOND)
    assert (quota.taken, quota.remaining, quota.reset) == (False, 0, 1)
    bucket, quota = take(limit, bucket, 103 * SECOND)
    assert (quota.taken, quota.remaining) == (True, 2)
    assert take(limit, bucket, 0)[1].remaining == 1


def create(client: httpx.Client, path: str = KONTEXT) -> httpx.Response:
    return client.post(path, json=BODY)


def left(response: httpx.Response) -> tuple[str, str]:
    return response.headers["ratelimit-remaining"], response.headers["ratelimit-reset"]


def test_body_and_headers_say_the_same_and_count_down(client: httpx.Client, tenant: Tenant) -> None:
    tenant.freeze()
    tenant.use({"limits": {"createPrediction": {"per_minute": 6, "burst": 3}}})
    assert [left(create(client, path)) for path in (KONTEXT, ULTRA, KONTEXT)] == [
        ("2", "10"),
        ("1", "10"),
        ("0", "10"),
    ]
    tenant.advance(3)
    refused = create(client)
    assert (refused.status_code, refused.headers["retry-after"], refused.json()["retry_after"]) == (
        429,
        "7",
        7,
    )
    assert left(refused) == ("0", "7")
    assert refused.json()["detail"] == "Request was throttled. Your rate limit resets in ~7s."
    assert len(tenant.predictions()) == 3
    assert "ratelimit-remaining" not in client.get(READ).headers, "the limit is one of creates"
    assert tenant.requests()[3]["fault"]["status"] == 429
    assert tenant.verdict()["ok"]


def test_under_a_frozen_clock_only_an_advance_refills_it(
    client: httpx.Client, tenant: Tenant
) -> None:
    tenant.freeze()
    tenant.use("low-credit")
    assert [create(client).status_code for _ in range(3)] == [200, 429, 429]
    for step, status in [(9.9, 429), (0.1, 200), (10, 200), (600, 200), (0, 429)]:
        tenant.advance(step)
        assert create(client).status_code == status


@pytest.mark.parametrize("clock", ["autojump", "real"])
def test_otherwise_it_refills_as_real_time_passes(
    client: httpx.Client, tenant: Tenant, clock: str
) -> None:
    tenant.set_clock(clock)  # type: ignore[arg-type]
    tenant.use({"limits": {"createPrediction": {"per_minute": 1200}}})  # one each 50 ms
    assert create(client).status_code == 200
    statuses = [create(client).status_code]
    while statuses[-1] != 200:
        statuses.append(create(client).status_code)
    assert set(statuses[:-1]) <= {429}
    tenant.advance(0.05)
    assert create(client).status_code == 200, "an advance refills it in any mode"


def test_each_tenant_has_its_own_and_a_scenario_set_anew_begins_anew(server: MockServer) -> None:
    for _ in range(2):
        tenant = server.tenant(scenario="low-credit")
        with httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {tenant.token}"}
        ) as client:
            assert [create(client).status_code for _ in range(2)] == [200, 429]
            tenant.use("low-credit")
            assert create(client).status_code == 200


def test_a_request_may_choose_it_and_is_counted_with_the_others_that_do(
    client: httpx.Client,
) -> None:
    chosen = {"X-Mock-Scenario": "low-credit"}
    responses = [
        client.post(KONTEXT, json=BODY, headers=headers) for headers in (chosen, {}, chosen, {})
    ]
    assert [response.status_code for response in responses] == [200, 200, 429, 200]


def test_reads_can_be_limited_and_faults_wait_for_their_turn(
    client: httpx.Client, tenant: Tenant
) -> None:
    tenant.freeze()
    url = create(client).json()["urls"]["get"]
    tenant.use(
        {
            "limits": {"getPrediction": {"per_minute": 60}},
            "faults": {"getPrediction": [{"status": 502}]},
        }
    )
    assert [client.get(url).status_code for _ in range(2)] == [502, 429]
    tenant.advance(1)
    assert client.get(url).status_code == 200


def test_the_gateways_dialect_has_the_header_too(client: httpx.Client, tenant: Tenant) -> None:
    tenant.use({"errors": "new-api", "limits": {"*": {"per_minute": 1, "left": 0}}})
    refused = create(client)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert refused.json()["error"]["type"] == "new_api_error"


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"createPictures": {"per_minute": 1}}, "/limits/createPictures: no such operation"),
        ({"createPrediction": {"per_minute": 0}}, "/limits/createPrediction/per_minute"),
        ({"createPrediction": {"burst": 1}}, "per_minute"),
        ({"createPrediction": {"per_minute": 1, "burst": 0}}, "/limits/createPrediction/burst"),
    ],
)
def test_what_is_no_limit_is_refused(
    tenant: Tenant, limits: dict[str, object], message: str
) -> None:
    with pytest.raises(AdminError, match=message.replace("/", "/")):
        tenant.use({"limits": limits})
