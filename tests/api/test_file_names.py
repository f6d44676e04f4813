"""Files whose names are no UTF-8: told so that they can be given back, by every call."""

from __future__ import annotations

import base64
import json

import pytest

from kernelgate.sdk import Client
from tests.support.stream import stream, until

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

RAW = b"caf\xe9 \xff"


def b64(path):
    return base64.b64encode(path).decode()


def test_every_call_takes_what_a_list_tells(api, own):
    files = f"/v1/sessions/{own}/files"
    api.run(own, f"import os; os.mkdir({RAW!r}); open({RAW + b'/in' + RAW!r}, 'wb').write(b'one')")
    top, inner = api.call("GET", files, params={"depth": 2})["entries"]
    assert (top["name"], base64.b64decode(top["name_b64"]), base64.b64decode(top["path_b64"])) == (
        "caf\ufffd \ufffd",
        RAW,
        b"/workspace/" + RAW,
    )
    named = {"path_b64": inner["path_b64"]}
    assert api.call("GET", f"{files}/stat", params=named)["size"] == 3
    assert api.http.get(f"{files}/content", params=named).content == b"one"
    assert api.http.get(f"{files}/content?path=caf%e9%20%ff/incaf%e9%20%ff").content == b"one"
    assert api.call("GET", f"{files}/text?path=caf%e9%20%ff/incaf%e9%20%ff")["content"] == "one"
    assert api.call("GET", f"{files}?path=caf%e9%20%ff")["entries"] == [inner]
    assert api.http.put(f"{files}/content", params=named, content=b"one two").json()["path_b64"] == inner["path_b64"]
    edited = api.call("POST", f"{files}/edit", json={**named, "edits": [{"old_text": "two", "new_text": "three"}]})
    assert edited["changed"]
    (found,) = api.call("POST", f"{files}/search", json={"path_b64": top["path_b64"], "content": "three"})["matches"]
    assert found["path_b64"] == inner["path_b64"]
    made = api.call("POST", f"{files}/mkdir", 201, json={"path_b64": b64(b"\xfe/\xfd")})
    assert base64.b64decode(made["path_b64"]) == b"/workspace/\xfe/\xfd"
    copied = api.call("POST", f"{files}/copy", 201, json={"source_b64": inner["path_b64"], "destination": "plain"})
    assert "path_b64" not in copied
    moved = api.call("POST", f"{files}/move", json={"source": "plain", "destination_b64": b64(b"\xfe/moved")})
    assert (moved["name"], "name_b64" in moved, base64.b64decode(moved["path_b64"])) == ("moved", False, b"/workspace/\xfe/moved")
    assert api.http.get(f"{files}/archive", params={"path_b64": top["path_b64"]}).status_code == 200
    (artifact,) = api.run(own, f"open({RAW + b'/new'!r}, 'w').write('n')", artifacts=["**/new"])["artifacts"]["files"]
    assert api.http.get(artifact["href"]).content == b"n"
    assert api.call("DELETE", files, params={"path_b64": top["path_b64"], "recursive": True}) == {"deleted": True}
    assert [one["name"] for one in api.call("GET", files)["entries"]] == ["\ufffd"]


def test_a_watch_tells_them(api, own):
    with stream(api, "GET", f"/v1/sessions/{own}/files/watch?recursive=true") as events:
        until(events, "watching")
        api.run(own, f"import os; os.mkdir({RAW!r}); os.rename({RAW!r}, b'\\xfe')")
        assert base64.b64decode(until(events, "create")[-1]["path_b64"]) == b"/workspace/" + RAW
        moved = until(events, "move")[-1]
        assert (base64.b64decode(moved["path_b64"]), base64.b64decode(moved["source_b64"])) == (b"/workspace/\xfe", b"/workspace/" + RAW)


def test_given_twice_or_wrongly(api, session):
    files = f"/v1/sessions/{session}/files"
    for query in ({"path": "a", "path_b64": b64(b"a")}, {"path_b64": "no base64!"}, {}):
        assert api.call("GET", f"{files}/stat", 400, params=query)["error"]["code"] == "invalid_request"
    for body in ({"path": "a", "path_b64": b64(b"a")}, {"path_b64": "?"}, {}):
        assert "path" in api.call("POST", f"{files}/mkdir", 400, json=body)["error"]["message"]
    assert api.call("POST", f"{files}/mkdir", 400, json={"path_b64": b64(b"a\0b")})["error"]["code"] == "invalid_path"
    assert json.dumps(api.call("GET", f"{files}/stat?path=%ff", 404))


def test_by_the_sdk(server, own):
    with Client(server.url, server.token) as client:
        files = client.sessions.get(own).file_system
        assert files.write_file(RAW, "text").raw_path == b"/workspace/" + RAW
        (listed,) = files.list_directory()
        assert files.read_file(listed.raw_path).content == files.read_file("caf\udce9 \udcff").content == "text"
        assert files.move_file(listed.raw_path, "plain").raw_path == b"/workspace/plain"
        assert files.delete_file(b"plain") is True
