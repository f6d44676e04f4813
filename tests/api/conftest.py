"""A second server with tight limits, and the rule that no server of this suite logs an error of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelgate import languages
from tests.support.server import Api, Server


def errors_in(log: Path) -> list[str]:
    """Lines of a gateway's log that speak of its own failure."""
    lines = log.read_text().splitlines()
    return [line for line in lines if not line.startswith("{") or json.loads(line)["level"] in ("ERROR", "CRITICAL")]


@pytest.fixture(scope="session", autouse=True)
def _no_errors_logged(server: Server) -> Iterator[None]:
    yield
    assert errors_in(server.log) == []


@pytest.fixture(scope="session")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which Python is the only language that is installed."""
    prefix = tmp_path_factory.mktemp("python") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(prefix)], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (prefix / "lib" / version / "site-packages" / "ours.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    kernels = prefix / "share" / "jupyter" / "kernels"
    kernels.mkdir(parents=True)
    (kernels / "python").symlink_to(languages.source_dir() / "python")
    return prefix / "bin" / "python"


@pytest.fixture(scope="session")
def tight(tmp_path_factory: pytest.TempPathFactory, other_python: Path) -> Iterator[Server]:
    """A gateway with another Python for its sessions, and limits that a test can reach."""
    made = Server(
        tmp_path_factory.mktemp("tight") / "data",
        f"python.executable={other_python}",
        "python.preload=",
        f"sandbox.read_only_paths={sysconfig.get_paths()['purelib']}",
        "sandbox.memory_bytes=536870912",
        "sessions.pool_size=1",
        "sessions.max_sessions=6",
        "sessions.retention_s=3",
        "sessions.max_upload_bytes=4000000",
        "executions.timeout_s=30",
        "executions.max_timeout_s=40",
        "executions.ceiling_output_bytes=400000000",
        "server.max_body_bytes=1000000",
        "server.write_timeout_s=1",
        "server.keepalive_s=0.2",
        "server.allowed_hosts=kernels.example",
        "server.allowed_origins=https://app.example",
    )
    with made:
        yield made
    assert made.leftovers() == []
    assert errors_in(made.log) == []


@pytest.fixture
def tight_api(tight: Server) -> Iterator[Api]:
    with tight.api() as made:
        yield made


@pytest.fixture
def own(api: Api) -> Iterator[str]:
    """A session for one test alone."""
    made = api.create()
    yield made
    api.http.delete(f"/v1/sessions/{made}")


@pytest.fixture
def tight_session(tight_api: Api) -> Iterator[str]:
    made = tight_api.create()
    yield made
    tight_api.http.delete(f"/v1/sessions/{made}")
