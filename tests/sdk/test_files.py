"""`session.file_system`: what a program does with files."""

import asyncio
import os
import threading

import pytest

from kernelgate.sdk import AsyncClient, errors

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def test_every_method(live, tmp_path):
    files = live.files
    assert files.write("a/one.txt", "one\n").size == 4
    assert files.write_file("a/one.txt", b"two\n", "append").size == 8
    assert files.read("a/one.txt").content == "one\ntwo\n"
    assert files.read_file("a/one.txt", "bytes").content == b"one\ntwo\n"
    assert files.read_file("a/one.txt", offset=4, length=3).content == "two"
    assert files.edit("a/one.txt", [{"oldText": "two", "newText": "2"}], dry_run=True).diff.endswith(" one\n-two\n+2\n")
    assert files.edit_file("a/one.txt", [{"old_text": "two", "new_text": "2"}]).changed
    assert files.copy("a/one.txt", "a/copy.txt").name == "copy.txt"
    assert files.move_file("a/copy.txt", "b/moved.txt").path == "/workspace/b/moved.txt"
    assert [(one.name, one.is_directory) for one in files.list_directory()] == [("a", True), ("b", True)]
    assert [one.path for one in files.ls(".", depth=2) if one.is_file] == ["/workspace/a/one.txt", "/workspace/b/moved.txt"]
    assert [one.name for one in files.search_files(".", "moved")] == ["moved.txt"]
    assert [one.lines[0]["line"] for one in files.search(content="2", pattern="*.txt", exclude_patterns=["b"])] == [2]
    assert files.read_multiple_files(["a/one.txt", "none"]) == {"a/one.txt": "one\n2\n"}
    assert files.get_file_info("b").type == "directory"
    local = tmp_path / "local"
    local.write_bytes(os.urandom(3_000_000))
    sent, came = [], []
    assert files.upload_file(local, "up/large", on_progress=lambda *heard: sent.append(heard)).size == 3_000_000
    assert files.download_file("up/large", tmp_path / "back", on_progress=lambda *heard: came.append(heard)) == 3_000_000
    for heard in (sent, came):
        assert len(heard) > 5
        assert heard == sorted(heard)
        assert heard[-1] == (3_000_000, 3_000_000)
    assert (tmp_path / "back").read_bytes() == local.read_bytes()
    assert files.download_archive("up", tmp_path / "up.tar.gz", ["none*"]) == (tmp_path / "up.tar.gz").stat().st_size
    assert files.upload_archive(tmp_path / "up.tar.gz", "up/again") >= 1
    assert files.get_file_info("up/again/large").size == 3_000_000
    (tmp_path / "up.tar.gz").unlink()
    assert files.delete("up", recursive=True) is True
    with pytest.raises(errors.FileNotFound) as caught:
        files.download_file("up/large", tmp_path / "none")
    assert caught.value.code == "file_not_found"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "local"]
    with pytest.raises(errors.FileConflict) as caught:
        files.delete_file("a")
    assert caught.value.code == "directory_not_empty"
    with pytest.raises(errors.FilePermissionDenied):
        files.write_file("/etc/passwd", "")
    assert all(getattr(live, name) is not None for name in ("fs", "filesystem", "file_system"))


def test_watching(live):
    def write_soon():
        live.fs.write_file("seen.txt", "1")

    seen, writer = [], threading.Thread(target=write_soon)

    def heard(event):
        if event.type == "watching":
            writer.start()
        seen.append((event.type, event.path))
        return event.type != "create"

    live.fs.watch_directory(".", heard)
    writer.join()  # the file is heard of before its writer is answered
    assert seen == [("watching", "/workspace"), ("create", "/workspace/seen.txt")]


def test_the_asynchronous_form(server, tmp_path):
    async def story():
        async with AsyncClient(server.url, server.token) as client, await client.sessions.create() as session:
            (tmp_path / "local").write_bytes(b"x" * 1_000_000)
            sent = []

            async def heard(done, total):
                sent.append((done, total))

            await session.files.upload_file(tmp_path / "local", "f", on_progress=heard)
            assert sent[-1] == (1_000_000, 1_000_000)
            size = await session.files.download_file("f", tmp_path / "back")
            return size, [one.name for one in await session.files.list()], (await session.files.read_file("f", offset=999_999)).content

    assert asyncio.run(story()) == (1_000_000, ["f"], "x")
