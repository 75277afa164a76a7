"""What the end-to-end tests share: one double for each module, a fresh tenant and a client for each test."""

from collections.abc import Iterator

import httpx
import pytest

from mockserver import MockServer, Tenant
from tests.receiver import Receiver

pytest_plugins = ["pytester"]


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer() as running:
        yield running


@pytest.fixture
def tenant(server: MockServer) -> Tenant:
    return server.tenant()


@pytest.fixture
def client(tenant: Tenant) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=tenant.url, headers={"Authorization": f"Bearer {tenant.token}"}) as client:
        yield client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()
