"""What a browser meets: the way to the inspector, and calls from pages of other origins."""

from collections.abc import Iterator

import httpx
import pytest

from mockserver import MockServer
from tests.helpers.documents import KONTEXT

PAGE = "http://localhost:5173"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, prefer",
}


@pytest.fixture(scope="module")
def shared() -> Iterator[MockServer]:
    """A double that pages of one other origin may call."""
    with MockServer(cors=[PAGE], files_origin="separate") as running:
        yield running


def test_a_browser_is_led_to_the_inspector(server: MockServer) -> None:
    response = httpx.get(server.url, headers={"Accept": "text/html,application/xhtml+xml"})
    assert (response.status_code, response.headers["location"]) == (307, "/__admin/")


def test_everybody_else_is_told_what_this_is(server: MockServer) -> None:
    response = httpx.get(server.url)
    assert (response.status_code, response.headers["content-type"]) == (
        200,
        "text/plain; charset=utf-8",
    )
    assert response.text.startswith("mockserver, a test double")
    assert response.text.count("\n") == 1


def test_looking_whether_it_is_there_is_no_violation_but_posting_to_it_is(
    server: MockServer,
) -> None:
    tenant = server.tenant()
    with httpx.Client(
        base_url=server.url, headers={"Authorization": f"Bearer {tenant.token}"}
    ) as client:
        client.get("/")
        client.head("/")
        assert tenant.verdict()["exchanges"] == 0
        assert client.post("/").status_code == 404
        assert not tenant.verdict()["ok"]


def test_a_preflight_is_answered_and_no_journal_has_it(shared: MockServer) -> None:
    response = httpx.options(shared.url + KONTEXT, headers=PREFLIGHT)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == PAGE
    assert "POST" in response.headers["access-control-allow-methods"]
    assert response.headers["access-control-allow-headers"] == "authorization, content-type, prefer"
    assert shared.tenant("").verdict()["exchanges"] == 0


def test_a_page_of_that_origin_reads_the_answers_and_the_picture(shared: MockServer) -> None:
    tenant = shared.tenant(scenario="immediate")
    headers = {"Authorization": f"Bearer {tenant.token}", "Origin": PAGE}
    created = httpx.post(shared.url + KONTEXT, json={"input": {"prompt": "p"}}, headers=headers)
    picture = httpx.get(created.json()["output"], headers={"Origin": PAGE})
    assert picture.url.port != shared.port
    for response in (created, picture):
        assert (response.status_code, response.headers["access-control-allow-origin"]) == (
            200,
            PAGE,
        )


def test_a_page_of_another_origin_does_not(shared: MockServer) -> None:
    assert (
        httpx.options(
            shared.url + KONTEXT, headers={**PREFLIGHT, "Origin": "https://evil.example"}
        ).status_code
        == 400
    )
    response = httpx.get(
        shared.url + "/replicate/v1/predictions", headers={"Origin": "https://evil.example"}
    )
    assert "access-control-allow-origin" not in response.headers


def test_the_admin_api_stays_closed_to_pages(shared: MockServer) -> None:
    assert httpx.get(shared.url + "/__admin/scenario", headers={"Origin": PAGE}).status_code == 403
    response = httpx.options(shared.url + "/__admin/scenario", headers=PREFLIGHT)
    assert "access-control-allow-origin" not in response.headers


def test_without_the_flag_a_preflight_is_no_request_of_the_contract(server: MockServer) -> None:
    response = httpx.options(server.url + KONTEXT, headers=PREFLIGHT)
    assert response.status_code == 405
    assert "access-control-allow-origin" not in response.headers


def test_faults_reach_a_page_too(shared: MockServer) -> None:
    tenant = shared.tenant(scenario={"faults": {"createPrediction": [{"disconnect": "reset"}]}})
    headers = {"Authorization": f"Bearer {tenant.token}", "Origin": PAGE}
    with pytest.raises(httpx.TransportError):
        httpx.post(shared.url + KONTEXT, json={"input": {"prompt": "p"}}, headers=headers)
    assert tenant.requests()[0]["fault"] == {"disconnect": "reset"}
