"""`kernelgate cp` and `kernelgate ls`."""

import json
import os
import sys

import pexpect
import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def test_files_go_in_and_come_out(kernelgate, client, tmp_path):
    with client.sessions.create() as session:
        data = os.urandom(500_000)
        (tmp_path / "here.bin").write_bytes(data)
        copied = kernelgate("cp", "here.bin", f"{session.id}:in/")
        assert (copied.returncode, copied.stdout, copied.stderr) == (0, "", "")
        assert kernelgate("cp", f"{session.id}:in/here.bin", "back.bin").returncode == 0
        assert (tmp_path / "back.bin").read_bytes() == data
        session.fs.write_file("in/new\nline\x1b[2J", "1")
        listed = kernelgate("ls", f"{session.id}:in")
        assert [line.split("  ")[-1] for line in listed.stdout.splitlines()] == ["here.bin", "new\\nline\\x1b[2J"]
        assert [one["name"] for one in json.loads(kernelgate("ls", session.id, "--depth", "2", "--json").stdout)] == [
            "in",
            "here.bin",
            "new\nline\x1b[2J",
        ]
        missing = kernelgate("cp", f"{session.id}:none", "x")
        assert (missing.returncode, "file_not_found" in missing.stderr) == (3, True)
        for wrong in (("cp", "a", "b"), ("cp", "none", f"{session.id}:x"), ("cp", f"{session.id}:in/here.bin", "no/such/place")):
            assert kernelgate(*wrong).returncode == 2


def test_a_bar_on_a_terminal(environment, client, tmp_path):
    with client.sessions.create() as session:
        (tmp_path / "here.bin").write_bytes(os.urandom(3_000_000))
        for ends in (("here.bin", f"{session.id}:there.bin"), (f"{session.id}:there.bin", "back.bin")):
            shown, status = pexpect.run(
                f"{sys.executable} -m kernelgate cp {' '.join(ends)}", env=environment, cwd=str(tmp_path), timeout=60, withexitstatus=True
            )
            assert status == 0, shown
            assert b"there.bin" in shown
            assert b"3.0/3.0 MB" in shown
            assert shown.endswith(b"\x1b[2K")  # and nothing of it is left
        assert (tmp_path / "back.bin").read_bytes() == (tmp_path / "here.bin").read_bytes()


def test_a_tree(kernelgate, client, tmp_path):
    with client.sessions.create() as session:
        (tmp_path / "tree" / "sub").mkdir(parents=True)
        (tmp_path / "tree" / "sub" / "file").write_text("text")
        assert kernelgate("cp", "-r", "tree", f"{session.id}:in").returncode == 0
        session.file_system.write_file("in/more", "1")
        assert kernelgate("cp", "-r", f"{session.id}:in", "back").returncode == 0
        found = {str(one.relative_to(tmp_path / "back")): one.read_text() for one in (tmp_path / "back").rglob("*") if one.is_file()}
        assert found == {"sub/file": "text", "more": "1"}
        assert kernelgate("cp", "-r", "none", f"{session.id}:in").returncode == 2
        assert kernelgate("cp", "-r", f"{session.id}:in", "back/more").returncode == 2  # a file is there
