"""The command line as a user runs it: a process of its own, against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernelgate.sdk import Client
from tests.support.server import Server

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environment(server: Server, tmp_path: Path) -> dict[str, str]:
    """The server is found by the file in its data directory, as on a user's machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KERNELGATE_")}
    root = str(Path(__file__).resolve().parents[2])
    return {
        **kept,
        "KERNELGATE_DATA_DIR": str(server.data_dir),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PYTHONPATH": root,
        "TERM": "xterm",
    }


@pytest.fixture
def kernelgate(environment: dict[str, str], tmp_path: Path) -> Command:
    def run(*arguments: str, stdin: str = "", **changes: str | None) -> subprocess.CompletedProcess[str]:
        merged = {**environment, **changes}
        return subprocess.run(
            [sys.executable, "-m", "kernelgate", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            cwd=tmp_path,
            env={name: value for name, value in merged.items() if value is not None},
        )

    return run


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, server.token) as made:
        yield made
