"""`@jupyterlab/services`, JupyterLab's own library, from Node: services/client.js does it, each case of it is a test here."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Server

pytestmark = [pytest.mark.sandbox, pytest.mark.python, pytest.mark.javascript]

CLIENT = Path(__file__).parent / "services" / "client.js"
#: Made by `make test`.
MODULES = Path(__file__).parents[2] / "build" / "services" / "node_modules"
CASES = [name.strip("'") for name in re.findall(r"^  async ([\w]+|'[^']+')\(", CLIENT.read_text(), re.MULTILINE)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("services") / "data", "sessions.pool_size=1") as made:
        yield made
    assert made.leftovers() == []


@pytest.fixture(scope="module")
def results(server) -> dict[str, dict[str, Any]]:
    if not (MODULES / "@jupyterlab/services").is_dir():
        pytest.skip("@jupyterlab/services is not there: `make test` installs it, where there is npm")
    environment = {"PATH": os.environ["PATH"], "NODE_PATH": str(MODULES), "KERNELGATE_URL": server.url, "KERNELGATE_TOKEN": server.token}
    found = {}
    log = server.data_dir.parent / "client.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            ["node", CLIENT], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as client,
    ):
        assert client.stdin is not None
        assert client.stdout is not None
        for line in client.stdout:
            said = json.loads(line)
            if "ask" in said:
                server.kill()
                server.start()
                print("done", file=client.stdin, flush=True)
            else:
                found[said["case"]] = said
    assert client.returncode == 0, log.read_text()[-3000:]
    return found


@pytest.mark.parametrize("case", CASES)
def test_jupyterlabs_own_library(results, case):
    assert case in results
    assert results[case]["ok"], results[case]["error"]
