from __future__ import annotations

import os

import pytest

from kernelgate.link import framelog
from kernelgate.link.framelog import NOTE, FrameLog


def opened(tmp_path, limit_bytes=1 << 30):
    return FrameLog(tmp_path / "frames", limit_bytes=limit_bytes)


def everything(log, after=0):
    found, offset = [], log.offset_after(after)
    while offset < log.size:
        data = log.read(offset, log.size)
        found += [record for record in framelog.decode(data) if record.seq > after]
        offset += len(data)
    return found


def test_what_is_appended_is_read_from_any_number_on(tmp_path):
    log = opened(tmp_path)
    for number in range(1, 2001):
        assert log.append("one" if number % 2 else "", b"x" * (number % 300)) == number
        if number % 7 == 0:
            log.flush()
    assert log.flush()
    assert not log.flush()
    for after in (0, 1, 999, 1999, 2000):
        records = everything(log, after)
        assert [record.seq for record in records] == list(range(after + 1, 2001))
        assert all(record.client == ("one" if record.seq % 2 else "") and len(record.data) == record.seq % 300 for record in records)
    log.close()


def test_a_record_larger_than_a_step_is_read_whole(tmp_path):
    log = opened(tmp_path)
    log.append("", b"a" * 3_000_000)
    log.append("", b"b")
    log.flush()
    assert [len(record.data) for record in everything(log)] == [3_000_000, 1]
    log.close()


def test_what_was_not_flushed_is_not_read_and_a_reader_at_the_end_misses_nothing(tmp_path):
    log = opened(tmp_path)
    log.append("", b"first")
    log.flush()
    offset = log.offset_after(1)
    log.append("", b"second")
    assert offset == log.size
    log.flush()
    assert [record.data for record in framelog.decode(log.read(offset, log.size))] == [b"second"]
    log.close()


def test_a_new_host_goes_on_where_the_last_one_was(tmp_path):
    log = opened(tmp_path)
    log.append("", b"first")
    log.append("client", b"note", NOTE)
    log.flush()
    log.close()
    with (tmp_path / "frames").open("ab") as file:
        file.write(framelog.encode(framelog.Record(framelog.MESSAGE, 3, "", b"torn"))[:-2])
    log = opened(tmp_path)
    assert [record.client for record in log.notes] == ["client"]
    assert log.append("", b"third") == 3
    log.flush()
    assert [(record.seq, record.data) for record in everything(log)] == [(1, b"first"), (2, b"note"), (3, b"third")]
    log.close()


def test_beyond_its_limit_the_oldest_is_let_go_of(tmp_path):
    log = opened(tmp_path, limit_bytes=1 << 20)
    for _ in range(60):
        log.append("", b"x" * 64 * 1024)
        log.flush()
    assert log.size - log.start <= 1 << 20
    assert os.stat(tmp_path / "frames").st_blocks * 512 < 2 << 20
    assert [record.seq for record in everything(log)][-1] == 60
    log.close()
    log = opened(tmp_path, limit_bytes=1 << 20)
    records = everything(log)
    assert [record.seq for record in records] == list(range(records[0].seq, 61))
    assert records[0].seq > 1
    log.close()


def test_a_full_disk_keeps_what_was_not_written(tmp_path, monkeypatch):
    log = opened(tmp_path)
    log.append("", b"first")
    real = os.write

    def full(fd, data):
        real(fd, bytes(data)[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        log.flush()
    monkeypatch.undo()
    assert log.flush()
    assert [record.data for record in everything(log)] == [b"first"]
    log.close()


def test_nonsense_in_the_file_ends_it(tmp_path):
    (tmp_path / "frames").write_bytes(b"garbage" * 100)
    log = opened(tmp_path)
    assert log.size == 0
    log.close()
