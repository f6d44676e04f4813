"""What VS Code does with a remote Jupyter server, call by call: it cannot be run here."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.frontend import V1, Frontend, text

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def test_its_sequence_of_calls(server):
    # Is there a password to ask for? Not where these answer 200 or 404.
    for path in ("/", "/tree?"):
        assert httpx.get(server.url + path, follow_redirects=False).status_code in (200, 404)
    with httpx.Client(base_url=server.url, headers={"Authorization": f"token {server.token}"}, timeout=60) as http:
        # Is the server usable? Both are asked at once.
        with ThreadPoolExecutor(2) as pool:
            kernels, specs = pool.map(http.get, ("/api/kernels", f"/api/kernelspecs?{uuid.uuid4().int % 10**13}"))
        assert (kernels.status_code, specs.status_code) == (200, 200)
        assert isinstance(kernels.json(), list)
        name = f"notebook-jvsc-{uuid.uuid4().hex}.ipynb"
        opened = http.post(
            "/api/sessions", json={"path": f"work/{name}", "type": "notebook", "name": name, "kernel": {"name": specs.json()["default"]}}
        )
        assert opened.status_code == 201, opened.text
        session = opened.json()
        # `ws` takes a missing subprotocol for an error.
        with Frontend(server, session["kernel"]["id"]) as one:
            assert one.socket.selected_subprotocol == V1
            assert text(one.run("print('from an editor')")) == "from an editor\n"
        patched = http.patch(f"/api/sessions/{session['id']}", json={"path": "work/kept.ipynb", "name": "kept.ipynb", "type": "notebook"})
        assert patched.json()["path"] == "work/kept.ipynb"
        assert http.delete(f"/api/sessions/{session['id']}").status_code == 204
        assert http.get(f"/api/kernels/{session['kernel']['id']}").status_code == 404
