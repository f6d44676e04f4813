"""Kernels of the Jupyter door on the shared server, and the rule that the server logs no failure of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.frontend import Frontend
from tests.support.server import Api, Server


@pytest.fixture(scope="module", autouse=True)
def _no_errors_logged(server: Server) -> Iterator[None]:
    yield
    lines = server.log.read_text().splitlines()
    assert [line for line in lines if not line.startswith("{") or json.loads(line)["level"] in ("ERROR", "CRITICAL")] == []


def start(api: Api, **body: Any) -> str:
    made: str = api.call("POST", "/api/kernels", 201, json=body)["id"]
    return made


@pytest.fixture(scope="module")
def kernel(server: Server) -> Iterator[str]:
    """One Python kernel that the tests of a module share."""
    with server.api() as api:
        made = start(api)
        yield made
        api.http.delete(f"/api/kernels/{made}")


@pytest.fixture
def own_kernel(api: Api) -> Iterator[str]:
    """A Python kernel for one test alone."""
    made = start(api)
    yield made
    api.http.delete(f"/api/kernels/{made}")


@pytest.fixture
def frontend(server: Server, kernel: str) -> Iterator[Frontend]:
    """A frontend on the shared kernel."""
    with Frontend(server, kernel) as made:
        yield made
