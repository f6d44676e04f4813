from __future__ import annotations

import errno
import os

import pytest

from kernelgate.link import framelog
from kernelgate.link.framelog import FrameLog
from kernelgate.link.journal import Journal


def journal(path):
    return Journal(path), lambda log: log.append(None, "kernel", {"event": "ready"}), lambda log: [event["seq"] for event in log.all()]


def frame_log(path):
    def numbers(log):
        return [record.seq for record in framelog.decode(log.read(0, log.size))]

    return FrameLog(path, limit_bytes=1 << 20), lambda log: log.append("one", b"x" * 100), numbers


@pytest.mark.parametrize("opened", [journal, frame_log])
def test_a_half_that_cannot_be_taken_back_at_once_is_later(tmp_path, monkeypatch, opened):
    log, append, numbers = opened(tmp_path / "log")
    append(log)
    log.flush()
    write, truncate = os.write, os.ftruncate
    room = iter([10])

    def full(fd, data):
        for size in room:
            return write(fd, bytes(data[:size]))
        raise OSError(errno.ENOSPC, "full")

    def fail(*_):
        raise OSError(errno.EIO, "broken")

    append(log)
    monkeypatch.setattr(os, "write", full)
    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(OSError, match="full"):
        log.flush()
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="broken"):
        log.flush()
    monkeypatch.setattr(os, "ftruncate", truncate)
    assert log.flush() is True
    log.close()
    again, _, _ = opened(tmp_path / "log")
    assert numbers(again) == [1, 2]
    again.close()
