"""The inspector page, in a real browser."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from mockserver import Tenant
from tests.helpers.documents import KONTEXT

pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser: Any, tenant: Tenant) -> Iterator[Page]:
    """The page, looking at the test's tenant. Whatever the browser complains of fails the test."""
    page: Page = browser.new_page()
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
    page.goto(tenant.url + "/__admin/")
    page.fill("#token", tenant.token)
    look(page)
    yield page
    assert [each for each in trouble if "422" not in each] == []
    page.close()


def looked(page: Page) -> int:
    """How many times the page has shown the tenant."""
    return int(page.evaluate("document.body.dataset.looked || 0"))


def wait_for_look(page: Page, number: int) -> None:
    expect(page.locator("body")).to_have_attribute("data-looked", str(number))


def look(page: Page) -> None:
    expect(page.locator("body")).to_have_attribute("data-looked", re.compile("."))
    before = looked(page)
    page.click("#who button")
    wait_for_look(page, before + 1)


def create(client: httpx.Client, prompt: str) -> dict[str, Any]:
    return client.post(KONTEXT, json={"input": {"prompt": prompt}}).json()  # type: ignore[no-any-return]


def test_it_shows_the_predictions_with_their_pictures(page: Page, client: httpx.Client, tenant: Tenant) -> None:
    first = create(client, "a lighthouse")
    for _ in range(2):
        client.get(first["urls"]["get"])
    create(client, "a tower")
    look(page)
    assert page.locator("#pictures strong").all_inner_texts() == ["starting", "succeeded"]
    expect(page.locator("#pictures img")).to_have_js_property("naturalWidth", 1024)
    assert page.locator("#pictures code").last.inner_text() == first["id"]
    assert len(tenant.requests()) == 4  # looking left no trace


def test_it_shows_the_journal_and_the_verdict(page: Page, client: httpx.Client) -> None:
    client.post(KONTEXT, json={"input": {"prompt": 1}})
    client.get("/nowhere")
    look(page)
    rows = page.locator("#journal tr").all_inner_texts()
    assert len(rows) == 2
    assert "GET /nowhere" in rows[0]
    assert "/input/prompt: Invalid type. Expected: string, given: integer" in rows[1]
    assert page.locator("#verdict").inner_text().startswith("verdict: failed")


def test_what_clients_send_is_text_and_never_markup(page: Page, client: httpx.Client) -> None:
    create(client, "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>")
    client.get("/<script>document.title='owned'</script>")
    look(page)
    assert page.title() == "mockserver"
    assert page.locator("#pictures img, #journal script").count() == 0
    assert "<script>" in page.locator("#pictures").inner_text()


def test_scenario_and_clock_are_steered_from_it(page: Page, client: httpx.Client, tenant: Tenant) -> None:
    before = looked(page)
    page.select_option("#scenario", "failed")
    wait_for_look(page, before + 1)
    assert tenant.scenario()["name"] == "failed"
    page.select_option("#clock", "frozen")
    wait_for_look(page, before + 2)
    create(client, "p")
    page.fill("#seconds", "100")
    page.click("#advance")
    wait_for_look(page, before + 3)
    assert page.locator("#pictures strong").all_inner_texts() == ["failed"]
    page.click("#reset")
    wait_for_look(page, before + 4)
    assert tenant.predictions() == []


def test_a_wrong_wish_is_told_on_the_page(page: Page) -> None:
    page.fill("#seconds", "-1")
    page.click("#advance")
    expect(page.locator("#trouble")).to_contain_text("/seconds")


def test_another_site_cannot_frame_it_or_run_scripts_in_it(tenant: Tenant) -> None:
    policy = httpx.get(tenant.url + "/__admin/").headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
