"""A command's output: pieces without number have an end."""

from __future__ import annotations

from kernelgate.protocol import command


def test_pieces_have_an_end(monkeypatch):
    monkeypatch.setattr(command, "MAX_EVENTS", 20)
    output = command.Output(1000, "text")
    emits = [one for _ in range(900) for one in output.feed("stdout", b"x")]
    assert len(emits) == 20
    last = output.end()
    assert [fields.get("text", fields.get("bytes")) for _, fields in last] == [380, "x" * 500]
    assert output.truncated == {"stdout_bytes": 380, "stderr_bytes": 0}
    assert output.feed("stdout", b"late") == []
