"""`kernelgate cp` and `kernelgate ls`."""

import json
import os

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def test_files_go_in_and_come_out(kernelgate, client, tmp_path):
    with client.sessions.create() as session:
        data = os.urandom(500_000)
        (tmp_path / "here.bin").write_bytes(data)
        assert kernelgate("cp", "here.bin", f"{session.id}:in/").returncode == 0
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
