from __future__ import annotations

import errno
import os
import resource
import signal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernelgate.link.journal import CHUNK_BYTES, Journal
from kernelgate.protocol import event as events


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def fill(journal, *rows):
    for execution_id, kind, fields in rows:
        journal.append(execution_id, kind, fields)
    journal.flush()


ROWS = [
    (None, "kernel", {"event": "ready"}),
    ("a", "queued", {"context_id": "c", "language": "python", "code": "x"}),
    ("b", "queued", {"context_id": "c", "language": "python", "code": "y"}),
    ("a", "started", {"execution_count": 1, "fresh_kernel": None}),
    ("a", "stdout", {"text": "hello"}),
    (
        "a",
        "end",
        {"status": "ok", "success": True, "execution_count": 1, "execution_time": 0.1, "truncated": None, "timeout": None, "death": None},
    ),
    ("b", "started", {"execution_count": 2, "fresh_kernel": None}),
    ("a", "stdout", {"text": " late", "late": True}),
]


def test_numbers_begin_at_one_and_spans_hold_an_execution(path):
    journal = Journal(path)
    assert [journal.append(*row) for row in ROWS[:2]] == [1, 2]
    assert (journal.size, list(journal.spans)) == (0, [])  # nothing is there before it is written
    assert journal.flush() is True
    assert journal.flush() is False
    assert journal.append(*ROWS[2]) == 3
    fill(journal, *ROWS[3:])
    assert (journal.last_seq, list(journal.spans)) == (8, ["a", "b"])
    assert [event["seq"] for event in journal.execution("a")] == [2, 4, 5, 6, 8]
    assert [event["type"] for event in journal.execution("b")] == ["queued", "started"]
    assert (journal.spans["a"].ended, journal.spans["b"].ended, journal.spans["a"].last_seq) == (True, False, 8)
    assert [event["seq"] for event in journal.all()] == list(range(1, 9))
    journal.close()


def test_a_successor_finds_everything(path):
    first = Journal(path)
    fill(first, *ROWS)
    first.close()
    second = Journal(path)
    assert (second.last_seq, second.size, second.spans) == (first.last_seq, first.size, first.spans)
    assert second.append("c", "queued", {}) == 9
    second.flush()
    reader = Journal(path, read_only=True)
    assert (reader.last_seq, list(reader.spans)) == (9, ["a", "b", "c"])
    second.close()
    reader.close()


def test_results_and_summaries(path):
    journal = Journal(path)
    fill(journal, *ROWS)
    result = journal.result("a")
    assert (result["text"], result["status"], result["last_seq"]) == ("hello late", "ok", 8)
    assert journal.summary("a") == {name: value for name, value in result.items() if name not in ("logs", "results", "text", "artifacts")}
    assert journal.summary("b")["state"] == "running"
    fill(journal, ("b", "end", ROWS[5][2]))
    assert (journal.summary("b")["state"], journal.summary("b")["last_seq"]) == ("done", 9)
    journal.close()


def test_a_torn_end_is_cut_off(path):
    journal = Journal(path)
    fill(journal, *ROWS)
    journal.close()
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in (1, 5, len(lines[-1]) - 1):
        path.write_bytes(whole[:-cut])
        # A reader of somebody else's file leaves it as it is.
        reader = Journal(path, read_only=True)
        assert (reader.last_seq, path.stat().st_size) == (7, len(whole) - cut)
        reader.close()
        again = Journal(path)
        assert (again.last_seq, path.stat().st_size) == (7, len(whole) - len(lines[-1]))
        fill(again, ROWS[-1])
        assert [event["seq"] for event in again.all()] == list(range(1, 9))
        again.close()


@pytest.mark.parametrize("rubbish", [b"\n", b"{}\n", b"\x00" * 50, b"nonsense\n", b'{"seq":9,"execution_id":null,"type":"end"'])
def test_rubbish_at_the_end_is_cut_off(path, rubbish):
    journal = Journal(path)
    fill(journal, *ROWS)
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole + rubbish)
    again = Journal(path)
    assert (again.last_seq, path.read_bytes()) == (8, whole)
    again.close()


def test_an_empty_file(path):
    path.touch()
    journal = Journal(path)
    assert (journal.last_seq, journal.size, journal.offset_after(0), journal.read(0, 0)) == (0, 0, 0, b"")
    journal.close()


def test_a_link_is_not_followed(path):
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(OSError):  # noqa: PT011
        Journal(path)


def test_a_full_disk_loses_nothing_and_leaves_no_half_line(path):
    journal = Journal(path)
    fill(journal, *ROWS[:3])
    before = path.read_bytes()
    # The kernel's own limit of a file's size is a disk that is full in the middle of a write.
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, limits[1]))
    try:
        for row in ROWS[3:]:
            journal.append(*row)
        with pytest.raises(OSError) as caught:  # noqa: PT011
            journal.flush()
        assert caught.value.errno == errno.EFBIG
        assert path.read_bytes() == before
        assert (journal.last_seq, journal.size) == (3, len(before))
        assert journal.append("c", "queued", {}) == 9  # numbers go on
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert journal.flush() is True
    assert [event["seq"] for event in journal.all()] == list(range(1, 10))
    journal.close()


def test_places_to_begin_reading_are_near_and_never_too_late(path):
    journal = Journal(path)
    for number in range(400):
        fill(journal, ("e", "stdout", {"text": "x" * 1000, "n": number}))
    assert journal.size > 5 * 64 * 1024
    for seq in range(401):
        offset = journal.offset_after(seq)
        first = events.seq_of(journal.read(offset, journal.size)) if offset < journal.size else 401
        assert first <= seq + 1
        # No further back than the distance of two places.
        assert seq - first <= 2 * 70
    again = Journal(path, read_only=True)
    assert [again.offset_after(seq) for seq in range(401)] == [journal.offset_after(seq) for seq in range(401)]
    journal.close()
    again.close()


def test_reading_gives_whole_lines_however_long(path):
    journal = Journal(path)
    sizes = [10, CHUNK_BYTES - 60, CHUNK_BYTES, 3 * CHUNK_BYTES, 20]
    fill(journal, *(("e", "stdout", {"text": "x" * size}) for size in sizes))
    offset, seen = 0, []
    while data := journal.read(offset, journal.size):
        assert data.endswith(b"\n")
        seen += [len(events.decode(line)["text"]) for line in data.splitlines(keepends=True)]
        offset += len(data)
    assert seen == sizes
    journal.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.text(max_size=30), st.booleans()), max_size=30), st.integers(0, 200))
def test_any_journal_cut_anywhere_is_a_prefix(path, rows, cut):
    path.unlink(missing_ok=True)
    journal = Journal(path)
    for execution_id, text, flush in rows:
        journal.append(execution_id, "stdout", {"text": text})
        if flush:
            journal.flush()
    journal.flush()
    whole = list(journal.all())
    journal.close()
    os.truncate(path, max(0, path.stat().st_size - cut))
    again = Journal(path)
    kept = list(again.all())
    assert kept == whole[: len(kept)]
    assert again.last_seq == len(kept)
    for name, span in again.spans.items():
        assert [event["seq"] for event in again.execution(name)] == [event["seq"] for event in kept if event["execution_id"] == name]
        assert span.last_seq == max(event["seq"] for event in kept if event["execution_id"] == name)
    again.close()


def test_an_event_that_could_not_be_written_can_be_taken_back(path):
    journal = Journal(path)
    fill(journal, *ROWS[:2])
    journal.append(*ROWS[2])
    journal.append(*ROWS[3])
    journal.take_back()
    assert journal.append(*ROWS[4]) == 4
    journal.flush()
    assert [(event["seq"], event["type"]) for event in journal.all()] == [(1, "kernel"), (2, "queued"), (3, "queued"), (4, "stdout")]
    journal.close()
