"""Takes the screenshots of the documentation: `make pictures` (needs Chromium and Node)."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
from playwright.sync_api import Browser, expect, sync_playwright

from mockserver import MockServer, Tenant

HERE = Path(__file__).parent
PICTURES = HERE / "pictures"
MODELS = "/replicate/v1/models/black-forest-labs/"
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


def main() -> None:
    """Take all screenshots."""
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        draw_inspector(browser)
        draw_report(browser)
        browser.close()


def draw_inspector(browser: Browser) -> None:
    """Screenshots of the inspector: a test suite that met a fault and sent an invalid request."""
    with MockServer(seed=1) as server:
        tenant = server.tenant("ci-42-checkout")
        use(tenant)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto(server.url + "/__admin/")
        page.fill("#token", tenant.token)
        page.click("#who button")
        page.locator(".prediction").nth(1).click()
        page.locator("#life .track").wait_for()
        for picture in page.locator("#predictions img").all():
            expect(picture).not_to_have_js_property("naturalWidth", 0)
        page.screenshot(path=PICTURES / "inspector.png", full_page=True)
        page.locator("#only").click()
        page.locator("#show").select_option("violations")
        page.locator("#journal .row").first.click()
        page.locator("#journal mark").first.wait_for()
        page.locator("#journal").screenshot(path=PICTURES / "violation.png")


def use(tenant: Tenant) -> None:
    """Send requests as a test suite would."""
    headers = {"Authorization": f"Bearer {tenant.token}"}
    with httpx.Client(base_url=tenant.url + MODELS, headers=headers, verify=False) as client:
        for model, prompt in (
            ("flux-1.1-pro-ultra", "a lighthouse at dusk"),
            ("flux-kontext-max", "the letters in 3D"),
        ):
            made = client.post(f"{model}/predictions", json={"input": {"prompt": prompt}}).json()
            tenant.use({"name": "one-outage", "faults": {"getPrediction": [None, {"status": 502}]}})
            for _ in range(3):
                client.get(made["urls"]["get"])
        client.post(
            "flux-kontext-max/predictions", json={"input": {"prompt": 1, "output_format": "gif"}}
        )
        tenant.freeze()
        client.post(
            "flux-kontext-max/predictions", json={"input": {"prompt": "a snow-capped mountain"}}
        )


def draw_report(browser: Browser) -> None:
    """A screenshot of a report of the kit, for examples/client.mjs."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(HERE.parent / "examples" / "client.mjs", folder)
        command = [
            sys.executable,
            "-m",
            "mockserver",
            "check",
            "--max-runs",
            "60",
            "--budget",
            "300",
            "--report",
            "report.html",
        ]
        subprocess.run(
            [*command, "--", "node", "client.mjs"], cwd=folder, capture_output=True, timeout=300
        )
        page = browser.new_page(viewport={"width": 1100, "height": 760})
        page.goto(f"file://{folder}/report.html")
        page.screenshot(path=PICTURES / "report.png")


if __name__ == "__main__":
    main()
