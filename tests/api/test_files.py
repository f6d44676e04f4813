"""Files of a session: what comes out of them, what is refused, and that nothing of it happens outside of the session."""

import base64
import hashlib
import io
import json
import os
import socket
import tarfile
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.support.channel import Channel

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

MiB = 1024 * 1024


@pytest.fixture
def files(api, own):
    """A session of the test's own, by way of its files."""
    return Files(api, own)


@pytest.fixture(scope="module")
def shared(server, session):
    with server.api() as api:
        yield Files(api, session)


class Files:
    def __init__(self, api, session):
        self.api, self.session = api, session
        self.base = f"/v1/sessions/{session}/files"

    def __getattr__(self, name):
        def call(**body):
            return self.api.call("POST", f"{self.base}/{name}", status=body.pop("status", None), json=body)

        return call

    def get(self, where="", /, status=None, **query):
        return self.api.call("GET", self.base + where, status, params=query)

    def refused(self, method, path, status, **options):
        return self.api.call(method, self.base + path, status, **options)["error"]["code"]

    def put(self, path, content=b"", status=None, **query):
        return self.api.call("PUT", f"{self.base}/content", status, params={"path": path, **query}, content=content)

    def bytes(self, path, **headers):
        response = self.api.http.get(f"{self.base}/content", params={"path": path}, headers=headers)
        assert response.status_code in (200, 206), response.text
        return response.content

    def delete(self, path, status=None, **query):
        return self.api.call("DELETE", self.base, status, params={"path": path, **query})

    def names(self, path=".", **query):
        return [entry["path"].removeprefix("/workspace/") for entry in self.get(path=path, **query)["entries"]]

    def run(self, code):
        result = self.api.run(self.session, code)
        assert result["success"], result
        return result["text"]


# -- reading and writing --


def test_what_is_written_is_read(files):
    data = bytes(range(256)) * 1000
    written = files.put("a/b/c.bin", data, 201)
    assert (written["path"], written["size"], written["type"], written["mode"], written["created"]) == (
        "/workspace/a/b/c.bin",
        len(data),
        "file",
        "0644",
        True,
    )
    assert files.bytes("a/b/c.bin") == files.bytes("/workspace/a/b/c.bin") == data
    assert files.run("open('a/b/c.bin', 'rb').read() == bytes(range(256)) * 1000") == "True"
    assert files.put("a/b/c.bin", b"", 200)["created"] is False
    assert files.bytes("a/b/c.bin") == b""
    files.run("import os; os.chmod('a/b/c.bin', 0o755)")
    assert files.put("a/b/c.bin", b"#!", 200)["mode"] == "0755"
    assert files.put("private", b"", permissions="600")["mode"] == "0600"
    assert files.names(depth=3) == ["a", "a/b", "a/b/c.bin", "private"]  # and no temporary file


def test_append_and_create(files):
    assert files.put("log", b"one\n", 201, mode="append")["size"] == 4
    assert files.put("log", b"two\n", 200, mode="append")["size"] == 8
    assert files.bytes("log") == b"one\ntwo\n"
    assert files.refused("PUT", "/content", 409, params={"path": "log", "mode": "create"}, content=b"x") == "file_exists"
    assert files.refused("PUT", "/content", 400, params={"path": "log", "mode": "other"}, content=b"x") == "invalid_request"
    assert files.put("new", b"x", 201, mode="create")["created"] is True
    assert files.refused("PUT", "/content", 404, params={"path": "no/such", "parents": "false"}, content=b"x") == "file_not_found"
    assert files.bytes("log") == b"one\ntwo\n"


def test_ranges(files):
    files.put("ten", b"0123456789")

    def ranged(value, **headers):
        response = files.api.http.get(f"{files.base}/content", params={"path": "ten"}, headers={"Range": value, **headers})
        return response.status_code, response.content, response.headers.get("Content-Range")

    assert ranged("bytes=2-4") == (206, b"234", "bytes 2-4/10")
    assert ranged("bytes=7-") == (206, b"789", "bytes 7-9/10")
    assert ranged("bytes=-3") == (206, b"789", "bytes 7-9/10")
    assert ranged("bytes=-30") == (206, b"0123456789", "bytes 0-9/10")
    assert ranged("bytes=8-80") == (206, b"89", "bytes 8-9/10")
    for whole in ("bytes=4-2", "lines=1-2", "bytes=0-1,4-5", "bytes=-"):
        assert ranged(whole) == (200, b"0123456789", None)
    status, body, where = ranged("bytes=10-")
    assert (status, where, json.loads(body)["error"]["code"]) == (416, "bytes */10", "range_not_satisfiable")
    head = files.api.http.head(f"{files.base}/content", params={"path": "ten"})
    assert (head.status_code, head.headers["Content-Length"], head.headers["Accept-Ranges"], head.content) == (200, "10", "bytes", b"")
    assert ranged("bytes=0-0", **{"If-Range": head.headers["ETag"]})[0] == 206
    files.put("ten", b"abcdefghij")
    assert ranged("bytes=0-0", **{"If-Range": head.headers["ETag"]}) == (200, b"abcdefghij", None)


def test_text_and_several_files(files):
    files.put("latin", "größe".encode("latin-1"))
    files.put("utf", "größe\r\n\u2028\0".encode())
    assert files.get("/text", path="utf")["content"] == "größe\r\n\u2028\0"
    assert files.get("/text", path="latin", encoding="latin-1")["content"] == "größe"
    assert files.get("/text", path="latin", errors="replace")["content"] == "gr\ufffd\ufffde"
    assert files.refused("GET", "/text", 400, params={"path": "latin"}) == "not_text"
    for encoding in ("nope", "rot13", "base64", "\0"):
        assert files.refused("GET", "/text", 400, params={"path": "utf", "encoding": encoding}) in ("invalid_request", "not_text")
    utf, latin, none = files.read(paths=["utf", "latin", "none"])["files"]
    assert (utf["content"], utf["encoding"], utf["error"]) == ("größe\r\n\u2028\0", "utf-8", None)
    assert (base64.b64decode(latin["content"]), latin["encoding"]) == ("größe".encode("latin-1"), "base64")
    assert (none["content"], none["error"]["code"]) == (None, "file_not_found")
    files.run("open('large', 'wb').truncate(20_000_000)")
    assert files.refused("GET", "/text", 413, params={"path": "large"}) == "file_too_large"
    assert [one["error"] and one["error"]["code"] for one in files.read(paths=["utf", "large", "latin"])["files"]] == [
        None,
        "file_too_large",
        None,
    ]


@pytest.mark.parametrize(
    "name", ["grün/ß 漢字 🎉", "new\nline", " spaces ", "quote'\"\\", "-rf", "%41", "a?b#c&d=e", "tab\there", "\x01\x7f"]
)
def test_names(files, name):
    files.put(name, name.encode())
    assert files.bytes(name) == name.encode()
    assert files.get("/stat", path=name)["name"] == name.split("/")[-1]
    assert name in files.names(depth=2)
    assert files.run(f"open({name!r}).read() == {name!r}") == "True"
    assert [one["path"] for one in files.search(content=name.split("\n")[0])["matches"]] == [f"/workspace/{name}"]
    assert files.delete(name) == {"deleted": True}


def test_a_name_that_is_no_text_is_shown(files):
    files.run("open(b'\\xff\\xfe', 'w').close()")
    (entry,) = files.get()["entries"]
    assert (entry["name"], base64.b64decode(entry["name_b64"])) == ("\ufffd\ufffd", b"\xff\xfe")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("a\0b", 400, "invalid_path"),
        ("x" * 300, 400, "invalid_path"),
        ("x/" * 3000, 400, "invalid_path"),
        ("", 400, "invalid_path"),
        ("loop", 400, "invalid_path"),
        ("none", 404, "file_not_found"),
        ("file/below", 409, "not_a_directory"),
        ("directory", 409, "is_a_directory"),
        ("closed", 403, "permission_denied"),
        ("/etc/shadow", 404, "file_not_found"),
        ("/run/session/journal", 403, "permission_denied"),
        ("/proc/1/environ", 404, "file_not_found"),
        ("pipe", 400, "not_a_file"),
        ("/dev/zero", 400, "not_a_file"),
    ],
)
def test_what_cannot_be_read(shared, path, status, code):
    shared.run("""
import os
if not os.path.exists('file'):
    os.symlink('loop', 'loop'); os.mkfifo('pipe'); os.mkdir('directory'); open('file', 'w').close(); open('closed', 'w').close(); os.chmod('closed', 0)
""")
    assert shared.refused("GET", "/content", status, params={"path": path}) == code


def test_what_cannot_be_written(files):
    files.run("import os; os.mkdir('d'); os.mkfifo('pipe'); open('ro', 'w').close(); os.chmod('ro', 0o444); os.mkdir('closed', 0o555)")
    for path, status, code in (
        ("d", 409, "is_a_directory"), ("d/", 409, "is_a_directory"), ("pipe", 400, "not_a_file"), ("ro", 403, "permission_denied"), ("ro/x", 409, "not_a_directory"),
        ("closed/x", 403, "permission_denied"), ("/etc/x", 403, "permission_denied"), ("/usr/bin/python3", 403, "permission_denied"), ("/proc/self/mem", 403, "permission_denied"),
    ):  # fmt: skip
        assert files.refused("PUT", "/content", status, params={"path": path}, content=b"x" * 100_000) == code, path
    for method, path in (("GET", "/content"), ("PUT", "/content"), ("GET", "/stat"), ("DELETE", "")):
        assert files.refused(method, path, 400) == "invalid_request"
    files.run("import os; os.chmod('closed', 0o755)")


# -- directories --


def test_stat_and_list(files):
    files.put("d/one", b"1")
    files.put("d/sub/two", b"22")
    files.run("import os; os.symlink('one', 'd/link'); os.utime('d/one', (1e9, 1e9))")
    listed = files.get(path="d")
    assert listed["path"] == "/workspace/d"
    assert [(one["name"], one["type"]) for one in listed["entries"]] == [("link", "symlink"), ("one", "file"), ("sub", "directory")]
    link, one, _ = listed["entries"]
    assert (link["target"], one["size"], one["modified_at"]) == ("one", 1, "2001-09-09T01:46:40.000Z")
    assert files.names(depth=2, path="d") == ["d/link", "d/one", "d/sub", "d/sub/two"]
    assert files.get("/stat", path="d/link")["type"] == "file"
    assert files.get("/stat", path="d/link", follow="false")["type"] == "symlink"
    assert files.refused("GET", "", 409, params={"path": "d/one"}) == "not_a_directory"
    assert files.refused("GET", "", 404, params={"path": "none"}) == "file_not_found"
    for query in ({"depth": "0"}, {"depth": "x"}, {"limit": "10001"}, {"page_token": "~"}, {"page_token": "x"}):
        assert files.refused("GET", "", 400, params=query) == "invalid_request"


def test_ten_thousand_entries(files):
    files.run("""
import os
for n in range(10_000):
    os.makedirs(f'many/{n % 10}', exist_ok=True); open(f'many/{n % 10}/{n:05}', 'w').close()
""")
    whole = files.get(path="many", depth=2, limit=10_000)
    assert (len(whole["entries"]), bool(whole["next_page_token"])) == (10_000, True)
    found, token, pages = [], "", 0
    while token is not None:
        page = files.get(path="many", depth=2, limit=3000, page_token=token)
        found += [one["path"] for one in page["entries"]]
        token, pages = page["next_page_token"], pages + 1
    assert (len(found), len(set(found)), pages) == (10_010, 10_010, 4)
    assert found[:10_000] == [one["path"] for one in whole["entries"]]


def test_make_move_copy_delete(files):
    assert files.mkdir(path="a/b")["path"] == "/workspace/a/b"
    assert files.mkdir(path="a/b")["type"] == "directory"
    assert files.mkdir(path="a/b", parents=False, exist_ok=False, status=409)["error"]["code"] == "file_exists"
    assert files.mkdir(path="x/y", parents=False, status=404)["error"]["code"] == "file_not_found"
    files.put("a/file", b"1")
    assert files.mkdir(path="a/file", status=409)["error"]["code"] == "file_exists"
    assert files.move(source="a/file", destination="new/place/file")["path"] == "/workspace/new/place/file"
    files.put("other", b"2")
    for do in (files.move, files.copy):
        assert do(source="other", destination="new/place/file", status=409)["error"]["code"] == "file_exists"
        assert do(source="none", destination="z", status=404)["error"]["code"] == "file_not_found"
        assert do(source="new", destination="new/place/below", status=400)["error"]["code"] == "invalid_path"
    assert files.copy(source="other", destination="new/place/file", overwrite=True)["size"] == 1
    files.run("import os; os.symlink('/etc/passwd', 'new/link'); os.mkfifo('new/pipe'); os.chmod('new/place/file', 0o750)")
    files.copy(source="new", destination="copy")
    assert files.names("copy", depth=3) == ["copy/link", "copy/place", "copy/place/file"]
    assert (files.get("/stat", path="copy/place/file")["mode"], files.get("/stat", path="copy/link", follow="false")["target"]) == (
        "0750",
        "/etc/passwd",
    )
    files.move(source="copy", destination="/tmp/moved")  # to another file system
    assert files.run("import os; (os.path.exists('copy'), sorted(os.listdir('/tmp/moved')))") == "(False, ['link', 'place'])"
    assert files.refused("DELETE", "", 409, params={"path": "new"}) == "directory_not_empty"
    assert files.delete("new/link") == {"deleted": True}
    assert files.delete("new", recursive="true") == {"deleted": True}
    assert files.delete("new", missing_ok="true") == {"deleted": False}
    assert files.refused("DELETE", "", 404, params={"path": "new"}) == "file_not_found"
    for top in (".", "/workspace", "/", "a/.."):
        assert files.refused("DELETE", "", 400, params={"path": top, "recursive": "true"}) == "invalid_path"
    assert files.names() == ["a", "other"]


def test_edit(files):
    files.put("f.py", b"one\r\ntwo\nthree\ntwo")
    edits = [{"old_text": "one", "new_text": "1"}, {"old_text": "three\n", "new_text": ""}]
    dry = files.edit(path="f.py", edits=edits, dry_run=True)
    assert (dry["changed"], dry["dry_run"]) == (True, True)
    assert dry["diff"] == "--- a/f.py\n+++ b/f.py\n@@ -1,4 +1,3 @@\n-one\r\n+1\r\n two\n-three\n two\n\\ No newline at end of file\n"
    assert files.bytes("f.py") == b"one\r\ntwo\nthree\ntwo"
    assert files.edit(path="f.py", edits=edits)["diff"] == dry["diff"]
    assert files.bytes("f.py") == b"1\r\ntwo\ntwo"
    for edit, code in (({"old_text": "none", "new_text": ""}, "edit_not_found"), ({"old_text": "two", "new_text": "2"}, "edit_ambiguous")):
        assert files.edit(path="f.py", edits=[{"old_text": "1", "new_text": "0"}, edit], status=409)["error"]["code"] == code
        assert files.bytes("f.py") == b"1\r\ntwo\ntwo"  # all of it or nothing
    assert files.edit(path="f.py", edits=[{"old_text": "two", "new_text": "2", "all": True}])["changed"]
    assert files.bytes("f.py") == b"1\r\n2\n2"
    files.put("binary", b"\xff")
    assert files.edit(path="binary", edits=edits, status=400)["error"]["code"] == "not_text"
    assert files.edit(path="f.py", edits=[], status=400)["error"]["code"] == "invalid_request"


def test_search(files):
    for path in ("main.py", "lib/util.py", "lib/deep/more.py", "lib/data.json", "node_modules/x/index.py", "Readme.MD"):
        files.put(path, f"first\n# needle in {path}\n".encode())
    files.put("lib/binary.py", b"needle\0")

    def found(**body):
        return [one["path"].removeprefix("/workspace/") for one in files.search(**body)["matches"]]

    assert found(pattern="*.py", exclude=["node_modules"]) == ["lib/binary.py", "lib/deep/more.py", "lib/util.py", "main.py"]
    assert found(pattern="lib/*.py") == ["lib/binary.py", "lib/util.py"]
    assert found(pattern="**/*.{py,json}", path="lib") == ["lib/binary.py", "lib/data.json", "lib/deep/more.py", "lib/util.py"]
    assert found(pattern="[!m]*.py", exclude=["node_modules/**", "**/deep/**"]) == ["lib/binary.py", "lib/util.py"]
    assert found(pattern="readme.md") == []
    assert found(pattern="readme.md", ignore_case=True) == ["Readme.MD"]
    assert found(pattern="*.py", content="needle in lib/") == ["lib/deep/more.py", "lib/util.py"]
    (match,) = files.search(content=r"ne+dle.*json$", regex=True)["matches"]
    assert match["lines"] == [{"line": 2, "column": 3, "text": "# needle in lib/data.json"}]
    limited = files.search(pattern="*.py", limit=2)
    assert (len(limited["matches"]), limited["truncated"]) == (2, True)
    for body in ({"content": "(", "regex": True}, {"pattern": ""}, {"limit": 0}, {"nope": 1}):
        assert files.search(**body, status=400)["error"]["code"] == "invalid_request"
    assert files.search(path="none", status=404)["error"]["code"] == "file_not_found"


# -- sizes --


def rss(pid):
    return int((Path(f"/proc/{pid}/statm").read_text().split())[1]) * os.sysconf("SC_PAGE_SIZE")


def hosts(server):
    """The processes of session hosts: those that run under the second user of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid >= 200_000 and entry.stat().st_uid % 2 == 1:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


class Watched(threading.Thread):
    """The most that processes had in memory, beyond what they had at first."""

    def __init__(self, pids):
        super().__init__()
        self.first = {pid: rss(pid) for pid in pids}
        self.most = dict.fromkeys(self.first, 0)
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(0.02):
            for pid, before in self.first.items():
                try:
                    self.most[pid] = max(self.most[pid], rss(pid) - before)
                except OSError:
                    self.most[pid] = 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()


def transfer(files, size, seconds=None):
    """Up and down again: the time of each, and whether it is the same."""
    block = os.urandom(MiB)
    sent, came = hashlib.blake2b(), hashlib.blake2b()

    def body():
        for n in range(size // MiB):
            piece = n.to_bytes(8, "big") + block[8:]
            sent.update(piece)
            yield piece

    started = time.monotonic()
    files.put("large", body(), 201)
    up = time.monotonic() - started
    with files.api.http.stream("GET", f"{files.base}/content", params={"path": "large"}) as response:
        assert (response.status_code, response.headers["Content-Length"]) == (200, str(size))
        for piece in response.iter_raw():
            came.update(piece)
    assert sent.digest() == came.digest()
    return up, time.monotonic() - started - up


def test_a_large_file_goes_up_and_down_in_constant_memory(server, files):
    size = int(os.environ.get("TEST_FILE_MIB", "192")) * MiB
    files.put("small", b"small")
    slowest = 0.0
    with Watched([server.pid, *hosts(server)]) as watched, server.api() as other:
        mover = threading.Thread(target=lambda: times.extend(transfer(files, size)))
        times = []
        mover.start()
        while mover.is_alive():
            started = time.monotonic()
            other.call("GET", f"{files.base}/stat", params={"path": "small"})
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.05)
        mover.join()
    assert len(times) == 2, "the transfer failed"
    most = max(watched.most.values()) / MiB
    print(
        f"{size // MiB} MiB: up {times[0]:.2f} s, down {times[1]:.2f} s; gateway and hosts grew by {most:.1f} MiB at the most; a small call took {1000 * slowest:.0f} ms at the most"
    )
    assert most < 24
    assert slowest < 3


def test_an_upload_may_be_larger_than_other_bodies(tight_api):
    session = tight_api.create()
    base = f"/v1/sessions/{session}/files"
    assert (
        tight_api.call("PUT", f"{base}/content", 201, params={"path": "f"}, content=b"x" * 3_000_000)["size"] == 3_000_000
    )  # above server.max_body_bytes
    # Its own limit holds whether or not its size is said before.
    for content in (b"x" * 4_000_001, iter([b"x" * 1_000_001] * 4)):
        refused = tight_api.call("PUT", f"{base}/content", 413, params={"path": "more"}, content=content)
        assert "sessions.max_upload_bytes" in refused["error"]["message"]
    assert [one["name"] for one in tight_api.call("GET", base)["entries"]] == ["f"]
    tight_api.delete(session)


def test_who_sends_nothing_more_is_let_go(tight, tight_api):
    """`server.write_timeout_s` is 1 s there: as many uploads as there may be stall, and hold nothing for longer."""
    # The first may be let go before the last has begun, so that there is no moment at which all are sure to be held.
    session = tight_api.create()
    base = f"/v1/sessions/{session}/files"
    stalled = [half_a_request(tight, base, f"f{number}", 200_000) for number in range(24)]
    for connection in stalled:
        connection.settimeout(60)
        assert connection.recv(1) == b""  # the server has hung up
        connection.close()
    tight_api.until(lambda: tight_api.http.put(f"{base}/content", params={"path": "one-more"}, content=b"x").is_success)
    assert [one["name"] for one in tight_api.call("GET", base)["entries"]] == ["one-more"]
    tight_api.delete(session)


def test_hard_links(files):
    """Two names of one file: what is written whole gets a file of its own, what is appended to as well, and the other name keeps what it had."""
    files.put("one", b"old")
    files.run("import os; os.link('one', 'two'); os.link('one', 'three')")
    assert [(one["name"], one["type"], one["size"]) for one in files.get(path=".")["entries"]] == [
        ("one", "file", 3), ("three", "file", 3), ("two", "file", 3),
    ]  # fmt: skip
    files.put("one", b"new")
    assert (files.bytes("one"), files.bytes("two")) == (b"new", b"old")
    files.delete("two")
    assert files.bytes("three") == b"old"
    # A name for a file of the machine, which the session may read and not write, cannot be made.
    assert files.run("try: os.link('/etc/passwd', 'mine'); made = True\nexcept OSError: made = False\nmade") == "False"


def test_a_full_disk(files):
    """/tmp is a tmpfs of 1 GiB; all but a little of it is taken first."""
    files.run("import os; f = open('/tmp/filler', 'wb'); os.posix_fallocate(f.fileno(), 0, (1024 - 4) << 20); f.close()")
    assert files.refused("PUT", "/content", 507, params={"path": "/tmp/more"}, content=os.urandom(16 * MiB)) == "no_space"
    assert files.run("import os; os.listdir('/tmp').count('more'), [n for n in os.listdir('/tmp') if n.startswith('.more')]") == "(0, [])"
    files.put("/tmp/log", b"kept\n")
    assert files.refused("PUT", "/content", 507, params={"path": "/tmp/log", "mode": "append"}, content=os.urandom(16 * MiB)) == "no_space"
    assert files.bytes("/tmp/log") == b"kept\n"
    files.delete("/tmp/filler")
    assert files.put("/tmp/more", os.urandom(5 * MiB))["size"] == 5 * MiB


# -- those who leave, and those who interfere --


def half_a_request(server, base, path, size):
    """An upload of which only a part is sent: the connection."""
    host, port = server.url.removeprefix("http://").split(":")
    sock = socket.create_connection((host, int(port)))
    head = (
        f"PUT {base}/content?path={path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {server.token}\r\nContent-Length: {size}\r\n\r\n"
    )
    sock.sendall(head.encode() + b"x" * (size // 2))
    return sock


def test_who_leaves_in_the_middle_leaves_nothing(server, files):
    files.put("kept", b"old")
    files.put("log", b"old")
    for path in ("new", "kept", "log&mode=append"):
        half_a_request(server, files.base, path, 8 * MiB).close()
    # An upload that adds to a file is taken back when its end does not come; until then what came is in it.
    untouched = ["kept", "log"], 3, 3
    files.api.until(lambda: (files.names(), files.get("/stat", path="log")["size"], files.get("/stat", path="kept")["size"]) == untouched)
    # The workers of those who left are gone too.
    files.run("""
import os
def owner(pid):
    try:
        return os.stat(f'/proc/{pid}').st_uid
    except OSError:
        return None
""")
    files.api.until(lambda: files.run("sum(owner(name) == os.getuid() for name in os.listdir('/proc') if name.isdigit()) <= 6") == "True")
    assert files.names() == ["kept", "log"]
    assert files.bytes("log") == files.bytes("kept") == b"old"


WORKERS = """
import os, signal
def workers():
    found = []
    for name in os.listdir('/proc'):
        if name.isdigit() and int(name) != os.getpid():
            try:
                if os.stat(f'/proc/{name}').st_uid == os.getuid() and os.readlink(f'/proc/{name}/fd/3').startswith('socket:'):
                    found.append(int(name))
            except OSError:
                pass
    return found
"""


def test_workers_that_are_killed_are_replaced(server, files):
    files.run(WORKERS)
    files.put("f", b"1")
    for _ in range(5):
        assert int(files.run("mine = workers(); [os.kill(pid, signal.SIGKILL) for pid in mine]; len(mine)")) >= 1
        assert files.bytes("f") == b"1"
    upload = half_a_request(server, files.base, "half", 4 * MiB)
    files.api.until(lambda: files.run("[os.kill(pid, signal.SIGKILL) for pid in workers()]; len(workers())"))
    upload.sendall(b"x" * (2 * MiB))
    answer = upload.recv(65536).decode()
    upload.close()
    assert answer.startswith("HTTP/1.1 409")
    assert "files_interrupted" in answer
    assert files.names() == ["f"]


def test_links_lead_nowhere_else(server, files):
    files.run("""
import os
os.symlink('/etc/passwd', 'passwd'); os.symlink('/', 'root'); os.symlink('../../../../../../..', 'up'); os.symlink('/proc/1/root', 'init')
""")
    passwd = files.bytes("passwd").decode()
    assert "/workspace" in passwd  # the session's own
    assert passwd != Path("/etc/passwd").read_text()
    assert (
        files.bytes("root/etc/passwd")
        == files.bytes("up/etc/passwd")
        == files.bytes("../../../../../../etc/passwd")
        == files.bytes("passwd")
    )
    assert files.refused("GET", "/content", 404, params={"path": "init/etc/passwd"}) == "file_not_found"  # /proc has no process of others
    secret = str(server.data_dir / "token")
    for path in (secret, f"root{secret}", f"../../..{secret}", f"/proc/self/root{secret}", f"/proc/self/cwd/../{secret}"):
        assert files.refused("GET", "/content", 404, params={"path": path}) == "file_not_found"
    for method, path, options in (
        ("PUT", "/content", {"params": {"path": "passwd"}, "content": b"x"}),
        ("DELETE", "", {"params": {"path": "root/etc/passwd"}}),
        ("POST", "/move", {"json": {"source": "root/etc/hostname", "destination": "mine"}}),
    ):
        assert files.api.call(method, files.base + path, 403, **options)["error"]["code"] == "permission_denied"
    # Deleting a link deletes the link.
    files.put("kept/file", b"1")
    files.run("os.symlink('/workspace/kept', 'to'); os.mkdir('d'); os.symlink('/workspace/kept', 'd/to')")
    files.delete("to", recursive="true")
    files.delete("d", recursive="true")
    assert files.bytes("kept/file") == b"1"


def test_a_path_that_changes_while_it_is_used(files):
    """A directory that is a link to somewhere else every other moment: what is read is one of the two, both of the session."""
    files.put("a/f", b"a")
    files.put("b/f", b"b")
    files.run("import os; os.symlink('a', 'x')")
    execution = files.api.start(
        files.session,
        "import os, time\nend = time.time() + 2\nwhile time.time() < end:\n    os.symlink('a', 'n'); os.rename('n', 'x'); os.symlink('/etc', 'n'); os.rename('n', 'x'); os.symlink('b', 'n'); os.rename('n', 'x')",
    )
    seen = set()
    while files.api.call("GET", f"/v1/sessions/{files.session}/executions/{execution}")["state"] != "done":
        response = files.api.http.get(f"{files.base}/content", params={"path": "x/f"})
        seen.add(response.content if response.status_code == 200 else response.json()["error"]["code"])
        files.api.http.put(f"{files.base}/content", params={"path": "x/g", "parents": "false"}, content=b"g")
    assert seen <= {b"a", b"b", "file_not_found"}
    assert files.names(depth=2)[-1] == "x"


def test_another_callers_files(server, files):
    files.put("f", b"1")
    with server.api(server.new_token("files")) as other:
        for method, path in (("GET", "/content"), ("PUT", "/content"), ("GET", ""), ("DELETE", ""), ("GET", "/watch"), ("PUT", "/archive")):
            assert other.call(method, files.base + path, 404, params={"path": "f"})["error"]["code"] == "session_not_found"


def test_files_of_a_session_that_has_ended(api):
    session = api.create()
    api.delete(session)
    assert api.call("GET", f"/v1/sessions/{session}/files", 404)["error"]["code"] == "session_not_found"


# -- watching --


class Watch(threading.Thread):
    def __init__(self, files, **query):
        super().__init__(daemon=True)
        self.files, self.query = files, query
        self.events = []
        self.ready = threading.Event()
        self.start()
        assert self.ready.wait(10)

    def run(self):
        with httpx.stream(
            "GET",
            f"{str(self.files.api.http.base_url).rstrip('/')}{self.files.base}/watch",
            params=self.query,
            headers=dict(self.files.api.http.headers),
            timeout=30,
        ) as response:
            for line in response.iter_lines():
                event = json.loads(line)
                if event["type"] == "watching":
                    self.ready.set()
                elif event["type"] != "keepalive":
                    self.events.append(event)
                    if event["path"].endswith("/stop"):
                        return

    def end(self):
        self.files.put(f"{self.query.get('path', '.')}/stop")
        self.join(20)
        assert not self.is_alive()
        return [event for event in self.events if not event["path"].endswith("/stop")]


def test_a_watch_misses_none_of_a_thousand_quick_changes(files):
    files.mkdir(path="w")
    watch = Watch(files, path="w")
    files.run("for n in range(1000): open(f'w/{n}', 'w').close()")
    events = watch.end()
    created = [event["path"] for event in events if event["type"] == "create"]
    assert created == [f"/workspace/w/{n}" for n in range(1000)] or any(event["type"] == "overflow" for event in events)
    assert [event["seq"] for event in events] == sorted({event["seq"] for event in events})


def test_what_a_watch_tells(files):
    files.mkdir(path="w/sub")
    watch = Watch(files, path="w", recursive="true")
    flat = Watch(files, path="w")
    files.run("""
import os
with open('w/a', 'w') as file: file.write('1')
os.rename('w/a', 'w/sub/b'); os.remove('w/sub/b'); os.makedirs('w/new/deep'); open('w/new/deep/c', 'w').close(); os.rename('w/new', 'w/newer'); open('w/newer/deep/d', 'w').close()
open('out', 'w').close(); os.rename('out', 'w/in'); os.rename('w/in', 'out')
""")
    files.api.until(lambda: any(event["type"] == "delete" and event["path"] == "/workspace/w/in" for event in watch.events))
    told = [(event["type"], event["path"].removeprefix("/workspace/w/"), event["path_type"], event["source"]) for event in watch.end()]
    assert told[0] == ("create", "a", "file", None)
    for expected in (
        ("modify", "a", "file", None), ("move", "sub/b", "file", "/workspace/w/a"), ("delete", "sub/b", "file", None), ("create", "new", "directory", None),
        ("move", "newer", "directory", "/workspace/w/new"), ("create", "in", "file", None), ("delete", "in", "file", None),
    ):  # fmt: skip
        assert expected in told, expected
    assert {event["path"].count("/") for event in flat.end()} == {3}


def test_who_follows_a_watch_has_the_tree(files):
    """Directories that are made, filled, moved and filled again faster than they can be watched."""
    files.mkdir(path="w/into")
    watch = Watch(files, path="w", recursive="true")
    files.run("""
import os, shutil
for n in range(150):
    os.makedirs(f'w/a{n}/deep'); open(f'w/a{n}/deep/c', 'w').close()
    os.rename(f'w/a{n}', f'w/b{n}'); open(f'w/b{n}/deep/d', 'w').close(); os.mkdir(f'w/c{n}')
    os.rename(f'w/b{n}', f'w/into/{n}'); open(f'w/into/{n}/deep/e', 'w').close(); open(f'w/c{n}/f', 'w').close()
    if n % 3 == 0: shutil.rmtree(f'w/into/{n}')
""")
    tree = {"/workspace/w/into"}
    for event in watch.end():
        path, source = event["path"], event["source"]
        if event["type"] == "create":
            tree.add(path)
        elif event["type"] == "delete":
            tree = {one for one in tree if one != path and not one.startswith(path + "/")}
        elif event["type"] == "move":
            tree = {path + one.removeprefix(source) if one == source or one.startswith(source + "/") else one for one in tree} | {path}
        assert event["type"] != "overflow"
    found = files.run(
        "import os; print([os.path.join('/workspace', at, name) for at, below, names in os.walk('w') for name in below + names])"
    )
    assert tree == set(eval(found)) - {"/workspace/w/stop"}


def test_a_watch_that_says_that_it_missed_something(files):
    """Its worker is stopped for a moment by the session's code: the system's queue runs over."""
    files.mkdir(path="w")
    files.run(WORKERS)
    watch = Watch(files, path="w")
    files.run("""
mine = workers()
for pid in mine: os.kill(pid, signal.SIGSTOP)
for n in range(10_000): open(f'w/{n}', 'w').close(); os.remove(f'w/{n}')
for pid in mine: os.kill(pid, signal.SIGCONT)
""")
    events = watch.end()
    assert [event["type"] for event in events].count("overflow") == 1


def test_watching_over_sse_and_the_channel(server, files):
    with files.api.http.stream("GET", f"{files.base}/watch", headers={"Accept": "text/event-stream"}) as response:
        lines = response.iter_lines()
        assert [next(lines), next(lines)] == ["id: 1", "event: watching"]
        files.put("seen", b"")
        assert any(line.startswith("data:") and "seen" in line for line in lines)
    with Channel(server, files.session) as channel:
        assert channel.fails("1", "watch", path="none")["code"] == "file_not_found"
        assert channel.fails("1", "watch", path="seen")["code"] == "not_a_directory"
        assert channel.fails("1", "watch")["code"] == "invalid_request"
        assert channel.call("2", "watch", path=".") == {}
        assert channel.answer("2")["event"]["type"] == "watching"
        files.put("other", b"")
        assert channel.event("2", "create")["path"] == "/workspace/other"
        assert channel.call("3", "detach", of="2") == {}


# -- archives --


def tar_of(mode="w:gz", **members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
    return out.getvalue()


def test_a_tree_down_and_up(files):
    files.run("""
import os
os.makedirs('t/sub/empty'); open('t/a', 'wb').write(os.urandom(3_000_000)); open('t/sub/b', 'w').write('b'); os.chmod('t/sub/b', 0o755)
os.symlink('../a', 't/sub/link'); os.mkfifo('t/pipe'); open('t/closed', 'w').close(); os.chmod('t/closed', 0)
""")
    response = files.api.http.get(f"{files.base}/archive", params={"path": "t"})
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/gzip")
    assert "filename*=UTF-8''t.tar.gz" in response.headers["Content-Disposition"]
    with tarfile.open(fileobj=io.BytesIO(response.content)) as tar:
        assert sorted(tar.getnames()) == ["a", "sub", "sub/b", "sub/empty", "sub/link"]
        assert {(member.uid, member.uname) for member in tar} == {(0, "")}
    done = files.api.call("PUT", f"{files.base}/archive", 201, params={"path": "u/v"}, content=response.content)
    assert (done["path"], done["entries"], done["bytes"]) == ("/workspace/u/v", 5, 3_000_001)
    assert (
        files.run("import filecmp; filecmp.cmp('t/a', 'u/v/a', False), os.readlink('u/v/sub/link'), oct(os.stat('u/v/sub/b').st_mode)")
        == "(True, '../a', '0o100755')"
    )
    one = files.api.http.get(f"{files.base}/archive", params={"path": "t/sub/b"}).content
    with tarfile.open(fileobj=io.BytesIO(one)) as tar:
        assert tar.getnames() == ["b"]
    assert files.refused("GET", "/archive", 404, params={"path": "none"}) == "file_not_found"
    for mode in ("w", "w:bz2", "w:xz"):
        files.api.call("PUT", f"{files.base}/archive", 201, params={"path": "other"}, content=tar_of(mode, f=b"1"))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"nothing of the kind" * 1000, tar_of(**{"../out": b"1"}), tar_of(**{"link": "/etc", "link/x": b"1"}), tar_of(**{"link": "../..", "link/x": b"1"}),
        tar_of(f=b"1" * 100_000)[:50],
    ],
    ids=["empty", "noise", "above", "link", "relative-link", "cut"],
)  # fmt: skip
def test_archives_that_are_refused(files, body):
    assert files.refused("PUT", "/archive", 400, params={"path": "in/side"}, content=body) == "invalid_archive"
    assert files.run("import os; [n for n in ('out', 'in/out', 'x', 'in/x') if os.path.lexists(n)]") == "[]"
