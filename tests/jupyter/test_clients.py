"""Real clients, as they are: jupyter_server in front, nbclient over every notebook, papermill, jupyter_kernel_client."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from kernelgate import languages
from tests.jupyter.conftest import start
from tests.support.frontend import Frontend, kind, state, text

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
GATEWAY = "jupyter_server.gateway.managers.GatewayKernelManager"


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """Of a client: nothing of this machine's Jupyter, and no server that it has left."""
    home = str(tmp_path_factory.mktemp("home"))
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    return {"PATH": path, "HOME": home, "JUPYTER_PLATFORM_DIRS": "1", "IPYTHONDIR": home, "KERNELGATE_DATA_DIR": home}


def run(program: str, *arguments: str, env: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments], env=env, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


#: Imports once, which takes a second, and then forks for each notebook: arguments are the base URL, where results go, and notebooks.
EXECUTE = f"""
import json, os, sys, traceback
from pathlib import Path
import nbformat
from nbclient import NotebookClient
import jupyter_server.gateway.managers

base, directory, *paths = sys.argv[1:]
for path in map(Path, paths):
    if os.fork() == 0:
        try:
            os.environ["JUPYTER_GATEWAY_URL"] = f"{{base}}/k/{{path.stem}}"
            notebook = nbformat.read(path, 4)
            NotebookClient(notebook, kernel_manager_class={GATEWAY!r}, kernel_name="python3", timeout=100).execute()
            result = [[output["output_type"] for output in cell["outputs"]] for cell in notebook.cells if cell.cell_type == "code"]
        except BaseException:
            result = traceback.format_exc()
        Path(directory, path.stem).write_text(json.dumps(result))
        os._exit(0)
for _ in paths:
    os.wait()
"""


@pytest.fixture(scope="module", autouse=True)
def executing(server, environment, tmp_path_factory) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Every notebook of a language that is here, each executed by an nbclient of its own, while other tests run."""
    directory = tmp_path_factory.mktemp("executed")
    ready = languages.load()
    paths = [str(path) for path in NOTEBOOKS.glob("*.ipynb") if ready[path.stem].ready]
    command = [sys.executable, "-W", "ignore", "-c", EXECUTE, f"{server.url}/t/{server.token}", str(directory), *paths]
    with (directory / "errors").open("w") as errors:
        process = subprocess.Popen(command, env=environment, stderr=errors, start_new_session=True)
    yield process, directory
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_papermill(server, environment, tmp_path):
    cells = [
        {"id": "a", "cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "a = 1", "outputs": [], "execution_count": None},
        {"id": "b", "cell_type": "code", "metadata": {}, "source": "print(a * 6)", "outputs": [], "execution_count": None},
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "language_info": {"name": "python"}}
    (tmp_path / "in.ipynb").write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    program = f"""
import papermill, sys
done = papermill.execute_notebook(sys.argv[1], sys.argv[2], parameters={{"a": 7}}, kernel_manager_class={GATEWAY!r}, progress_bar=False)
print(repr("".join(output.text for cell in done.cells for output in cell.outputs)))
"""
    env = {**environment, "JUPYTER_GATEWAY_URL": f"{server.url}/t/{server.token}"}
    assert "'42\\n'" in run(program, str(tmp_path / "in.ipynb"), str(tmp_path / "out.ipynb"), env=env)


def test_jupyter_kernel_client(server, api, environment):
    """Its `stop` closes the socket under its own reader and then waits 10 s for it, whatever the server: it is asked to shut down here, and left."""
    program = """
import os, sys
from jupyter_kernel_client import JupyterKernelClient
client = JupyterKernelClient(server_url=sys.argv[1], token=sys.argv[2])
client.start()
print(client.execute("print(6 * 7)")["outputs"])
client.restart()
print(client.execute("1/0")["outputs"][0]["ename"])
print(client.id)
client._manager.client.shutdown()
print(client._manager.client.get_control_msg(timeout=20)["content"], flush=True)
os._exit(0)
"""
    printed, failed, kernel, reply = run(program, server.url, server.token, env=environment).splitlines()
    assert "42" in printed
    assert failed == "ZeroDivisionError"
    assert "'status': 'ok'" in reply
    api.until(lambda: api.http.get(f"/api/kernels/{kernel}").status_code == 404)


@pytest.fixture(scope="module")
def front(server, environment, tmp_path_factory) -> Iterator[SimpleNamespace]:
    """jupyter_server with `--gateway-url`: what JupyterLab talks to."""
    directory = tmp_path_factory.mktemp("front")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--port={port}", "--IdentityProvider.token=front",
        f"--gateway-url={server.url}", f"--GatewayClient.auth_token={server.token}", f"--ServerApp.root_dir={directory}",
    ]  # fmt: skip
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"{url}/api").status_code == 200:
                    break
            except httpx.TransportError:
                assert time.monotonic() < deadline, (directory / "log").read_text()
                assert process.poll() is None, (directory / "log").read_text()
                time.sleep(0.05)  # nothing tells when it listens
        with httpx.Client(base_url=url, headers={"Authorization": "token front"}, timeout=60) as http:
            yield SimpleNamespace(url=url, token="front", http=http)
    finally:
        process.terminate()
        process.wait(30)


def test_jupyter_server_in_front_rest(front, api):
    specs = front.http.get("/api/kernelspecs").json()
    assert specs["default"] == "python3"
    assert front.http.get(specs["kernelspecs"]["python3"]["resources"]["logo-64x64"]).headers["Content-Type"] == "image/png"
    opened = front.http.post("/api/sessions", json={"path": "a.ipynb", "type": "notebook", "name": "a", "kernel": {"name": "python3"}})
    assert opened.status_code == 201, opened.text
    kernel = opened.json()["kernel"]["id"]
    assert kernel in [model["id"] for model in api.call("GET", "/api/kernels")]
    assert kernel in [model["id"] for model in front.http.get("/api/kernels").json()]
    assert front.http.post(f"/api/kernels/{kernel}/interrupt").status_code == 204
    assert front.http.post(f"/api/kernels/{kernel}/restart").json()["id"] == kernel
    assert front.http.delete(f"/api/sessions/{opened.json()['id']}").status_code == 204
    assert kernel not in [model["id"] for model in api.call("GET", "/api/kernels")]


def test_jupyter_server_in_front_websocket(front, api):
    kernel = front.http.post("/api/kernels", json={"name": "python3"}).json()["id"]
    with Frontend(front, kernel, v1=False) as one:
        assert text(one.run("print('through')")) == "through\n"
        asked = one.execute("input('who? ')", allow_stdin=True)
        question = one.wait(lambda message: message["channel"] == "stdin")
        one.send("input_reply", {"value": "me", "status": "ok"}, "stdin", parent=question)
        (result,) = [message for message in one.finish(asked) if kind(message) == "iopub:execute_result"]
        assert result["content"]["data"]["text/plain"] == "'me'"
        messages = one.run("for number in range(2000): print(number, flush=True)")
        assert text(messages) == "".join(f"{number}\n" for number in range(2000))
        asked = one.execute("import time; time.sleep(60)")
        one.wait(lambda message: kind(message) == "iopub:execute_input")
        assert front.http.post(f"/api/kernels/{kernel}/interrupt").status_code == 204
        assert one.reply(asked)["content"]["ename"] == "KeyboardInterrupt"
        assert front.http.post(f"/api/kernels/{kernel}/restart").status_code == 200
        assert [m["content"]["status"] for m in one.run("1") if m["channel"] == "shell"] == ["ok"]
    assert front.http.delete(f"/api/kernels/{kernel}").status_code == 204


def test_a_widgets_state_and_messages(server, api):
    """What a slider of ipywidgets does: a comm that the kernel opens, and messages both ways."""
    made = start(api)
    code = """
from comm import create_comm
slider = create_comm(target_name="jupyter.widget", data={"state": {"value": 3}}, metadata={"version": "2.1.0"})
values = []
@slider.on_msg
def _(message):
    values.append(message["content"]["data"]["state"]["value"])
    print("moved to", values[-1])
    slider.send({"method": "update", "state": {"description": str(values[-1])}})
"""
    with Frontend(server, made) as one:
        one.run(code)
        (opened,) = [message for message in one.received if kind(message) == "iopub:comm_open"]
        assert opened["content"]["data"]["state"] == {"value": 3}
        sent = one.send("comm_msg", {"comm_id": opened["content"]["comm_id"], "data": {"method": "update", "state": {"value": 7}}})
        one.wait(lambda message: state(message) == "idle" and message["parent_header"].get("msg_id") == sent)
        assert sorted(message["header"]["msg_type"] for message in one.of(sent)) == ["comm_msg", "status", "status", "stream"]
        asked = one.send("comm_info_request", {"target_name": "jupyter.widget"})
        assert list(one.reply(asked)["content"]["comms"]) == [opened["content"]["comm_id"]]
        assert [m["content"]["data"]["text/plain"] for m in one.run("values") if kind(m) == "iopub:execute_result"] == ["[7]"]
    api.call("DELETE", f"/api/kernels/{made}", 204)


def test_subshells_run_beside_the_main_shell(server, api):
    made = start(api)
    with Frontend(server, made) as one:
        created = one.reply(one.send("create_subshell_request", {}, channel="control"))["content"]
        waits = one.execute("import threading; gate = threading.Event(); gate.wait(60)")
        one.wait(lambda message: kind(message) == "iopub:execute_input")
        beside = one.execute("gate.set(); print('beside')", subshell_id=created["subshell_id"])
        assert text(one.finish(beside)) == "beside\n"
        assert [message["content"]["status"] for message in one.finish(waits) if message["channel"] == "shell"] == ["ok"]
        listed = one.reply(one.send("list_subshell_request", {}, channel="control"))["content"]
        assert listed["subshell_id"] == [created["subshell_id"]]
    api.call("DELETE", f"/api/kernels/{made}", 204)


def test_the_debuggers_messages_are_answered(server, kernel):
    """By the kernel: ours says that it has no debugger, and answers all the same."""
    with Frontend(server, kernel) as one:
        reply = one.reply(
            one.send("debug_request", {"type": "request", "seq": 1, "command": "debugInfo", "arguments": {}}, channel="control")
        )
        assert (reply["channel"], reply["header"]["msg_type"]) == ("control", "debug_reply")


@pytest.mark.skipif(os.geteuid() != 0, reason="the sandbox is made by root here")
def test_an_interrupt_never_ends_a_kernel(server, api):
    """Over the native API a kernel that ignores an interrupt is restarted after 5 s; a notebook would lose its variables."""
    made = start(api)
    with Frontend(server, made) as one:
        one.run("kept = 1")
        asked = one.execute("import time\nfor _ in range(13):\n    try: time.sleep(0.42)\n    except KeyboardInterrupt: pass")
        one.wait(lambda message: kind(message) == "iopub:execute_input" and message["parent_header"]["msg_id"] == asked)
        by_message = one.send("interrupt_request", {}, channel="control")
        assert one.reply(by_message)["content"]["status"] == "ok"
        one.finish(asked)
        assert [m["content"]["status"] for m in one.run("kept") if m["channel"] == "shell"] == ["ok"]
    api.call("DELETE", f"/api/kernels/{made}", 204)


def test_jupyter_kernelgate_says_how_and_runs_a_client_so(server, environment, tmp_path):
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("jupyter")), "kernelgate", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    here = ("--url", server.url, "--token", server.token)
    assert f"jupyter lab --gateway-url={server.url} --GatewayClient.auth_token={server.token}" in call(*here).stdout
    program = "import os; print(os.environ['JUPYTER_GATEWAY_URL'], os.environ['JUPYTER_GATEWAY_AUTH_TOKEN'])"
    ran = call(*here, "--kernel", "r", sys.executable, "-c", program)
    assert ran.stdout.split() == [f"{server.url}/t/{server.token}/k/r", server.token]
    assert call("--url", server.url, "--token", "x", "no-such-command").returncode == 127
    assert call().returncode == 3


@pytest.mark.parametrize(
    "language", [pytest.param(path.stem, marks=getattr(pytest.mark, path.stem)) for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
)
def test_nbclient_runs_every_notebook(executing, language):
    """It opens its socket without a token and always asks for `python3`: the path has the token and says which kernel."""
    process, directory = executing
    if process.poll() is None:
        process.wait(110)
    assert (directory / language).exists(), (directory / "errors").read_text()
    outputs = json.loads((directory / language).read_text())
    assert isinstance(outputs, list), outputs
    assert any(outputs)
    assert not any("error" in kinds for kinds in outputs)


def test_what_vs_code_asks(server, api):
    """Its remote server: no password page, both lists at once, a session, and a socket that must choose v1 of the protocol."""
    for path in ("/", "/tree?"):
        assert httpx.get(server.url + path, follow_redirects=False).status_code in (200, 404)
    with httpx.Client(base_url=server.url, params={"token": server.token}, timeout=60) as http:
        assert http.get("/api/kernels").status_code == 200
        assert http.get("/api/kernelspecs").status_code == 200
        wanted = {"path": "nb-jvsc-1.ipynb", "name": "nb", "type": "notebook", "kernel": {"name": "python3", "id": None}}
        opened = http.post("/api/sessions", json=wanted).json()
        with Frontend(server, opened["kernel"]["id"], headers={"Origin": server.url}) as one:
            assert one.socket.selected_subprotocol == "v1.kernel.websocket.jupyter.org"
            assert text(one.run("print('here')")) == "here\n"
        assert http.delete(f"/api/sessions/{opened['id']}").status_code == 204
