"""What the end-to-end tests share: one double for each module, a fresh tenant and a client for each test; a browser."""

import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import settings

from mockserver import MockServer, Tenant
from tests.helpers.authority import one_authority
from tests.helpers.receiver import Receiver

pytest_plugins = ["pytester"]

settings.register_profile(
    "untimed", deadline=None
)  # how long an example takes is the machine's business, which may be busy
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trust a single authority, which is read faster than those of the system."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("NODE_EXTRA_CA_CERTS", raising=False)
        for name, value in one_authority(tmp_path_factory.mktemp("authority")).items():
            environment.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer() as running:
        yield running


@pytest.fixture
def tenant(server: MockServer) -> Tenant:
    return server.tenant()


@pytest.fixture
def client(tenant: Tenant) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {tenant.token}"}
    # No certificates are needed, and reading them would take longer than the test.
    with httpx.Client(base_url=tenant.url, headers=headers, verify=False) as client:
        yield client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; apt-get install chromium")
    playwright_api = pytest.importorskip("playwright.sync_api")  # imported here: few tests need it
    playwright_api.expect.set_options(timeout=30_000)  # milliseconds, for busy machines

    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS, "--disable-component-update"]
        )
        yield browser
        browser.close()
