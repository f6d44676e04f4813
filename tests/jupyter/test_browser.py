"""JupyterLab itself, with `--gateway-url`, in Chromium: browser/drive.py is the person. `make test-browser` installs what it needs; elsewhere it is skipped."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.server import Server

ROOT = Path(__file__).parents[2]
BIN = ROOT / "build" / "browser" / "bin"
DRIVE = Path(__file__).parent / "browser" / "drive.py"
#: Screenshots are kept here.
PICTURES = ROOT / "build" / "screenshots"
CHROMIUM = shutil.which("chromium")

CELLS = [
    (
        "import matplotlib.pyplot as plt, numpy as np\nx = np.linspace(0, 6, 200); kept = 41\n"
        "plt.figure(figsize=(6, 1.8)); plt.plot(x, np.sin(x)); plt.plot(x, np.cos(x)); plt.show()"
    ),
    "import ipywidgets\nslider = ipywidgets.IntSlider(value=3, max=20); slider",
    'print("the kernel has", slider.value)',
    'import time\nfor step in range(60):\n    print("step", step, end="; ", flush=True); time.sleep(0.1)',
    'print(f"still {slider.value}, and {kept} + 1 is {kept + 1}")',
    'print("and now", slider.value)',
]

pytestmark = [
    pytest.mark.skipif(
        not (ROOT / "build/browser/.ready").exists() or CHROMIUM is None, reason="`make test-browser` installs what it needs"
    ),
    pytest.mark.timeout(400),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("browser") / "data", "sessions.pool_size=1") as made:
        yield made
    assert made.leftovers() == []


@pytest.fixture
def lab(server, tmp_path) -> Iterator[str]:
    """The URL of a notebook in a JupyterLab of its own."""
    documents = tmp_path / "documents"
    documents.mkdir()
    cells = [
        {"id": f"c{number}", "cell_type": "code", "metadata": {}, "source": code, "outputs": [], "execution_count": None}
        for number, code in enumerate(CELLS)
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "language_info": {"name": "python"}}
    (documents / "demo.ipynb").write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        str(BIN / "jupyter-lab"), "--no-browser", "--allow-root", f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=front",
        f"--gateway-url={server.url}", f"--GatewayClient.auth_token={server.token}", f"--ServerApp.root_dir={documents}",
        "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    env = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path), "JUPYTER_PLATFORM_DIRS": "1", "JUPYTER_NO_CONFIG": "1"}
    settings = tmp_path / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    env["JUPYTERLAB_SETTINGS_DIR"] = str(tmp_path / "settings")
    url = f"http://127.0.0.1:{port}"
    log = tmp_path / "lab.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"{url}/api").status_code == 200:
                    break
            except httpx.TransportError:
                assert time.monotonic() < deadline, log.read_text()
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)  # nothing tells when it listens
        yield f"{url}/lab/tree/demo.ipynb?token=front"
    finally:
        process.terminate()
        process.wait(60)


def test_a_plot_a_slider_and_a_gateway_that_is_killed(server, lab, tmp_path):
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    log = tmp_path / "drive.log"
    finished = False
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [BIN / "python", DRIVE, lab, CHROMIUM, PICTURES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as driver,
    ):
        assert driver.stdin is not None
        assert driver.stdout is not None
        for line in driver.stdout:
            said = json.loads(line)
            finished = finished or said.get("ok", False)
            if said.get("ask") == "kill the gateway":
                server.kill()
            elif said.get("ask") == "start the gateway":
                server.start()
                with server.api() as api:  # JupyterLab's own server connects again after 1, 2, 4 s
                    api.until(lambda: [kernel["connections"] for kernel in api.call("GET", "/api/kernels")] == [1], within_s=60)
            else:
                continue
            print("done", file=driver.stdin, flush=True)
    assert finished, log.read_text()[-4000:] + (tmp_path / "lab.log").read_text()[-4000:]
