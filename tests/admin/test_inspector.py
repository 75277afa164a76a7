"""The inspector page, in a real browser."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from mockserver import MockServer, Tenant
from mockserver.backend.backend import Backend
from mockserver.contract.lines import line_of_violation
from tests.helpers.documents import CONTRACT, KONTEXT
from tests.helpers.receiver import Receiver

pytestmark = pytest.mark.slow

OPERATION = CONTRACT.by_id["createFluxKontextMaxPrediction"]
POSTED = KONTEXT.replace("/replicate/v1/models/black-forest-labs", "…")  # as a row has it


@pytest.fixture(scope="module")
def context(browser: Any) -> Iterator[BrowserContext]:
    permissions = ["clipboard-read", "clipboard-write"]
    with browser.new_context(
        viewport={"width": 1200, "height": 900}, permissions=permissions
    ) as context:
        yield context


@pytest.fixture
def page(context: BrowserContext, tenant: Tenant) -> Iterator[Page]:
    """The page, looking at the test's tenant. Whatever the browser complains of fails the test."""
    page = context.new_page()
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on(
        "console", lambda message: trouble.append(message.text) if message.type == "error" else None
    )
    page.goto(tenant.url + "/__admin/")
    page.fill("#token", tenant.token)
    page.click("#who button")
    expect(page.locator("#live")).to_have_class("dot on")
    yield page
    assert [each for each in trouble if "422" not in each] == []
    page.close()


def create(client: httpx.Client, prompt: str = "a lighthouse", **more: Any) -> dict[str, Any]:
    return client.post(KONTEXT, json={"input": {"prompt": prompt}, **more}).json()  # type: ignore[no-any-return]


def statuses(page: Page) -> Any:
    return page.locator("#predictions strong")


def rows(page: Page) -> Any:
    return page.locator("#journal .row code")


def copied_by(page: Page, button: str) -> str:
    """What a button copies, which takes a moment; the clipboard is shared by the tests."""
    page.evaluate("navigator.clipboard.writeText('')")
    page.click(button)
    page.wait_for_function("navigator.clipboard.readText()")
    return str(page.evaluate("navigator.clipboard.readText()"))


def test_what_happens_is_shown_by_itself(page: Page, client: httpx.Client, tenant: Tenant) -> None:
    first = create(client)
    expect(statuses(page)).to_have_text(["starting"])
    for _ in range(2):
        client.get(first["urls"]["get"])
    create(client, "a tower")
    expect(statuses(page)).to_have_text(["starting", "succeeded"])
    expect(page.locator("#predictions img")).to_have_js_property("naturalWidth", 1024)
    read = "GET …/predictions/" + first["id"]
    expect(rows(page)).to_have_text([f"POST {POSTED}", read, read, f"POST {POSTED}"])
    assert len(tenant.requests()) == 4  # looking left no trace


def test_the_verdict_turns_as_soon_as_something_is_wrong(page: Page, client: httpx.Client) -> None:
    create(client)
    expect(page.locator("#verdict")).to_have_text("verdict: ok · 1 exchanges")
    client.get("/nowhere")
    expect(page.locator("#verdict")).to_have_text("verdict: failed · 2 exchanges, 1 unknown paths")


def test_a_violation_is_marked_inside_the_body(page: Page, client: httpx.Client) -> None:
    client.post(KONTEXT, json={"input": {"prompt": 1, "output_format": "gif"}})
    client.post(KONTEXT, json={"input": {"aspect_ratio": "1:1"}})
    page.locator("#journal .row").nth(1).click()
    marks = page.locator("#journal mark")
    lines = {
        name: line_of_violation(CONTRACT, OPERATION, f"/input/{name}")
        for name in ("prompt", "output_format")
    }
    expect(marks).to_have_text(
        [
            "1  ✗ Invalid type. Expected: string, given: integer; sent 1, allowed: type string; "
            f"contract, line {lines['prompt']}",
            '"gif"  ✗ output_format must be one of the following: "jpg", "png"; sent "gif", allowed: "jpg", "png"; '
            f"contract, line {lines['output_format']}",
        ]
    )
    page.locator("#journal .row").nth(0).click()
    expect(marks).to_have_text([f"✗ prompt is required; contract, line {lines['prompt']}"])


def test_what_clients_send_is_text_and_never_markup(page: Page, client: httpx.Client) -> None:
    create(
        client,
        "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>",
    )
    client.get("/<script>document.title='owned'</script>")
    expect(rows(page)).to_have_count(2)
    page.locator("#journal .row").nth(1).click()
    expect(page.locator("#predictions")).to_contain_text("<script>")
    assert page.title() == "mockserver"
    assert page.locator("#predictions img, #journal script, #journal img").count() == 0


def test_another_tenant_is_looked_at_from_the_list_and_no_token_is_in_the_url(
    page: Page, client: httpx.Client, tenant: Tenant
) -> None:
    create(client)
    other = httpx.post(
        tenant.url + KONTEXT, json={}, headers={"Authorization": "Bearer other-secret-7"}
    )
    assert other.status_code == 422
    page.locator("#tenants a", has_text="othe…").click()
    expect(page.locator("#verdict")).to_contain_text("failed")
    expect(rows(page)).to_have_text([f"POST {POSTED}"])
    assert "tenant=" in page.url
    assert "secret" not in page.url + page.content()
    page.go_back()
    expect(page.locator("#verdict")).to_contain_text("ok")


def test_a_link_leads_to_what_was_looked_at(page: Page, client: httpx.Client, browser: Any) -> None:
    made = create(client, "a lighthouse")
    client.post(KONTEXT, json={"input": {"prompt": 1}})
    page.locator(".prediction").click()
    page.select_option("#show", "violations")
    expect(page.locator("#nothing")).to_have_text("Nothing fits the filter.")
    again = browser.new_page()
    again.goto(page.url)
    expect(again.locator("#life h2")).to_have_text(made["id"])
    expect(again.locator("#show")).to_have_value("violations")
    expect(again.locator("#nothing")).to_have_text("Nothing fits the filter.")
    again.close()


def test_the_journal_is_filtered_and_searched(
    page: Page, client: httpx.Client, tenant: Tenant
) -> None:
    tenant.use({"faults": {"listPredictions": [{"status": 500}]}})
    create(client, "a lighthouse")
    client.get("/replicate/v1/predictions")
    client.get("/nowhere")
    client.post(KONTEXT, json={"input": {}})
    expect(rows(page)).to_have_count(4)
    for show, shown in (
        ("violations", POSTED),
        ("unmatched", "/nowhere"),
        ("faults", "…/predictions"),
    ):
        page.select_option("#show", show)
        expect(rows(page)).to_have_count(1)
        expect(rows(page)).to_contain_text(shown)
    page.select_option("#show", "errors")
    expect(rows(page)).to_have_count(3)
    page.select_option("#operation", "listPredictions")
    expect(rows(page)).to_have_count(1)
    page.select_option("#show", "")
    page.select_option("#operation", "")
    page.select_option("#status", "422")
    expect(rows(page)).to_have_text([f"POST {POSTED}"])
    assert "status=422" in page.url
    page.select_option("#status", "")
    page.fill("#search", "LIGHTHOUSE")
    expect(rows(page)).to_have_count(1)
    expect(page.locator("#journal-count")).to_have_text("1 of 4")


def test_a_prediction_has_its_timeline_with_all_that_concerned_it(
    page: Page, client: httpx.Client, tenant: Tenant, receiver: Receiver
) -> None:
    tenant.freeze()
    tenant.use({"faults": {"getPrediction": [{"status": 502}]}})
    made = create(client, webhook=receiver.url, webhook_events_filter=["completed"])
    tenant.advance(1)
    client.get(made["urls"]["get"])
    client.get(made["urls"]["get"])
    with client.stream("GET", made["urls"]["stream"]):  # it says at once what there is
        page.locator(".prediction").click()
    story = page.locator("#life .story li")
    expect(page.locator("#life .stage")).to_have_text(["starting", "processing", "succeeded"])
    expect(page.locator("#life .to-come")).to_have_text("succeeded")
    expect(story).to_have_count(6)
    expect(story.nth(5)).to_contain_text("GET /v1/files/bcwr-")
    expect(story.nth(3)).to_contain_text('→ 502 · fault {"status":502}')
    expect(story.nth(4)).to_contain_text("1.000 s")
    expect(story.nth(4)).to_contain_text("→ 200 processing")
    page.click("#advance-to-next")
    expect(page.locator("#life")).to_contain_text("webhook completed, attempt 1 → 200")
    expect(page.locator("#life")).to_contain_text("nothing more to come")
    expect(statuses(page)).to_have_text(["succeeded"])
    page.locator("#life .story a").nth(1).click()
    expect(page.locator('#journal [data-number="2"] .details')).to_be_visible()


def test_an_exchange_is_copied_as_curl_and_plays_again(
    page: Page, client: httpx.Client, tenant: Tenant
) -> None:
    create(client, "it's a lighthouse")
    page.locator("#journal .row").click()
    copied = copied_by(page, ".copy-curl")
    assert copied.startswith(f"curl -X POST '{tenant.url}{KONTEXT}'")
    assert "Authorization: Bearer $REPLICATE_API_TOKEN" in copied
    assert tenant.token not in copied
    assert """'{"input":{"prompt":"it'\\''s a lighthouse"}}'""" in copied


def test_a_copied_body_is_sent_as_it_was_whatever_it_begins_with(
    page: Page, client: httpx.Client, tenant: Tenant
) -> None:
    client.post(KONTEXT, content=b"@/dev/null\nmore\n", headers={"Content-Type": "text/plain"})
    page.locator("#journal .row").click()
    command = copied_by(page, ".copy-curl")
    environment = {**os.environ, "REPLICATE_API_TOKEN": tenant.token}
    subprocess.run(["bash", "-c", command], env=environment, check=True, timeout=30)
    first, second = tenant.requests()
    assert second["request"]["body"] == first["request"]["body"] == "@/dev/null\nmore\n"


def test_the_faults_that_were_met_are_copied_as_a_scenario(
    page: Page, client: httpx.Client, tenant: Tenant
) -> None:
    tenant.use({"faults": {"getPrediction": [None, {"status": 502, "times": 2}]}})
    made = create(client)
    for _ in range(4):
        client.get(made["urls"]["get"])
    expect(rows(page)).to_have_count(5)
    copied = json.loads(copied_by(page, "#copy-scenario"))
    assert copied == {
        "name": "met-before",
        "faults": {"getPrediction": [None, {"status": 502}, {"status": 502}]},
    }
    tenant.use(copied)


def test_what_is_shown_is_copied_as_an_archive(
    page: Page, client: httpx.Client, tenant: Tenant
) -> None:
    create(client)
    client.get("/nowhere")
    page.select_option("#show", "unmatched")
    expect(rows(page)).to_have_count(1)
    text = copied_by(page, "#copy-har")
    log = json.loads(text)["log"]
    assert log["version"] == "1.2"
    assert [entry["request"]["url"] for entry in log["entries"]] == [tenant.url + "/nowhere"]
    assert tenant.token not in text


def test_an_exchange_has_both_its_times(page: Page, client: httpx.Client, tenant: Tenant) -> None:
    tenant.freeze("2025-01-01T00:00:00Z")
    create(client)
    (exchange,) = tenant.requests()
    expect(page.locator("#journal .time")).to_have_text(exchange["received_at"][11:23])
    page.locator("#journal .row").click()
    expect(page.locator("#journal .details")).to_contain_text("tenant's time 2025-01-01T00:00:00")


def test_the_prediction_s_own_page_has_the_same_timeline(
    page: Page, client: httpx.Client, tenant: Tenant, receiver: Receiver
) -> None:
    tenant.freeze()
    tenant.use({"faults": {"getPrediction": [{"status": 502}]}})
    made = create(
        client,
        "<script>document.title='owned'</script>",
        webhook=receiver.url,
        webhook_events_filter=["start"],
    )
    tenant.advance(1)
    client.get(made["urls"]["get"])
    page.locator(".prediction").click()
    told = page.locator("#life .story li")
    expect(told).to_have_count(5)
    expected = told.all_inner_texts()
    page = page.context.new_page()
    page.goto(made["urls"]["web"])
    expect(page.locator(".track span")).to_have_text(["starting", "processing", "succeeded"])
    expect(page.locator(".track .to-come")).to_have_text("succeeded")
    expect(page.locator("p")).to_have_text(
        "1.000 s of its own time have passed; succeeded in 2.900 s."
    )
    shown = [text.split(None, 2) for text in page.locator("tr").all_inner_texts()]
    assert [(at, rest[:3]) for at, _, rest in shown] == [
        (at, rest[:3]) for at, _, rest in (text.split(None, 2) for text in expected)
    ]
    assert "502" in page.locator("tr.bad").inner_text()
    assert "owned" not in page.title()


def test_scenario_and_clock_are_steered_from_it(
    page: Page, client: httpx.Client, tenant: Tenant
) -> None:
    for name, value in (("scenario", "failed"), ("clock", "frozen")):
        with page.expect_response(lambda response: response.request.method == "PUT"):
            page.select_option(f"#{name}", value)
    assert tenant.call("GET", "/clock")["mode"] == "frozen"
    create(client)
    page.fill("#seconds", "100")
    page.click("#advance")
    expect(statuses(page)).to_have_text(["failed"])
    assert tenant.scenario()["name"] == "failed"
    page.fill("#seconds", "-1")
    page.click("#advance")
    expect(page.locator("#trouble")).to_contain_text("/seconds")
    create(client)
    expect(rows(page)).to_have_count(2)
    expect(page.locator("#trouble")).to_contain_text("/seconds")  # until something else is tried
    page.fill("#seconds", "1")
    page.click("#advance")
    expect(page.locator("#trouble")).to_be_hidden()


def test_a_scenario_is_checked_as_one_types(page: Page, tenant: Tenant) -> None:
    page.click("#edit")
    page.fill("#draft", '{"name": "mine", "faults": {"getPrediction": [{"status": 299}]}}')
    expect(page.locator("#draft-trouble")).to_contain_text("/faults/getPrediction/0/status")
    expect(page.locator("#apply")).to_be_disabled()
    assert tenant.scenario()["name"] == "succeeded"
    page.fill("#draft", '{"name": "mine", "faults": {"getPrediction": [{"status": 502}]}}')
    expect(page.locator("#draft-trouble")).to_have_text("This is a scenario.")
    page.click("#apply")
    expect(page.locator("#scenario")).to_have_value("mine")
    expect(page.locator("#unused")).to_contain_text('never met: getPrediction {"status":502')


def test_it_asks_before_it_forgets(page: Page, client: httpx.Client, tenant: Tenant) -> None:
    create(client)
    page.click("#reset")
    page.click("#ask button:has-text('keep')")
    expect(statuses(page)).to_have_count(1)
    assert len(tenant.predictions()) == 1
    page.click("#reset")
    page.click("#ask button.danger")
    expect(statuses(page)).to_have_count(0)
    expect(rows(page)).to_have_count(0)
    assert tenant.predictions() == []


def test_it_is_used_by_keyboard(page: Page, client: httpx.Client) -> None:
    create(client)
    client.post(KONTEXT, json={"input": {}})
    expect(rows(page)).to_have_count(2)
    page.locator("h1").click()
    for key in ("j", "j", "k"):
        page.keyboard.press(key)
    create(client)
    expect(rows(page)).to_have_count(3)  # what comes meanwhile takes nobody's place
    page.keyboard.press("Enter")
    expect(page.locator('#journal [data-number="2"] .details')).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#journal .details")).to_have_count(0)
    page.keyboard.press("v")
    expect(rows(page)).to_have_count(1)
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(scheme: str, page: Page, client: httpx.Client) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    create(client, "a prompt " * 30)
    client.post(KONTEXT, json={"input": {"prompt": "x" * 500}, "y" * 200: 1})
    page.locator(".prediction").first.click()
    page.locator("#journal .row").first.click()
    expect(page.locator("#life")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    back, ink = page.evaluate(
        "(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))"
    )
    assert (_lightness(back) < _lightness(ink)) == (scheme == "dark")


def _lightness(color: str) -> int:
    return sum(map(int, re.findall(r"\d+", color)[:3]))


@pytest.mark.thorough
def test_ten_thousand_exchanges_are_scrolled_smoothly(
    page: Page, client: httpx.Client, tenant: Tenant, server: MockServer
) -> None:
    client.get("/replicate/v1/predictions/014kj04mr0ay8pmag10pg90mg4")

    def record(backend: Backend, count: int) -> None:
        own = backend.store.tenant(tenant.token)
        last = next(iter(own.journal))
        for _ in range(count):
            backend.store.record(
                own, msgspec.structs.replace(last, number=own.journal.next_number())
            )

    for batch in range(10):  # the server remembers a thousand; the page all that it was told of
        server.call_in_loop(partial(record, count=1000 if batch else 999))
        expect(page.locator("#journal-count")).to_have_text(str(1000 * (batch + 1)))
    frame = page.evaluate(
        """async () => {
          const frames = [];
          for (let place = 0; place < 30; place++) {
            const before = performance.now();
            window.scrollTo(0, place * document.body.scrollHeight / 30);
            await new Promise(requestAnimationFrame);
            frames.push(performance.now() - before);
          }
          return frames.sort((one, other) => one - other)[15];
        }"""
    )
    assert frame < 150  # the median, in milliseconds, on a busy machine without a graphics card
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    expect(page.locator('#journal [data-number="1"]')).to_be_in_viewport()


def test_another_site_cannot_frame_it_or_run_scripts_in_it(tenant: Tenant) -> None:
    policy = httpx.get(tenant.url + "/__admin/").headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy
