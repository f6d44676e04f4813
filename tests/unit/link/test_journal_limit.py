"""A journal beyond its limit: the oldest ended executions go, offsets and numbers stay, the disk gets its blocks back."""

import os
from itertools import pairwise

import pytest

from kernelgate.link.journal import Journal

LIMIT = 1024 * 1024


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "events.jsonl", limit_bytes=LIMIT)
    yield made
    made.close()


def run(journal: Journal, name: str, size: int = 100_000, *, end: bool = True) -> None:
    journal.append(name, "queued", {"context_id": "c"})
    journal.append(name, "stdout", {"text": "x" * size})
    if end:
        journal.append(name, "end", {"status": "ok"})
    journal.flush()


def test_the_oldest_go_and_the_newest_stay(journal, tmp_path):
    for number in range(100):
        run(journal, f"e{number}")
    assert journal.size - journal.start <= LIMIT
    assert os.stat(tmp_path / "events.jsonl").st_blocks * 512 < 2 * LIMIT
    assert "e0" in journal.dropped
    assert "e99" in journal.spans
    assert set(journal.spans).isdisjoint(journal.dropped)
    for name in journal.spans:
        assert [event["type"] for event in journal.execution(name)] == ["queued", "stdout", "end"]
    numbers = [event["seq"] for event in journal.all()]
    assert numbers[-1] == 300
    assert all(after == before + 1 for before, after in pairwise(numbers))


def test_it_is_found_again_behind_its_hole(journal, tmp_path):
    for number in range(100):
        run(journal, f"e{number}")
    again = Journal(tmp_path / "events.jsonl", limit_bytes=LIMIT)
    assert (again.start, again.size, again.last_seq, list(again.spans)) == (
        journal.start,
        journal.size,
        journal.last_seq,
        list(journal.spans),
    )
    assert again.offset_after(0) == again.start
    again.close()


def test_what_runs_is_kept_and_the_journal_says_when_it_is_full(journal):
    run(journal, "early")
    run(journal, "running", end=False)
    for number in range(30):
        run(journal, f"e{number}")
    assert journal.full
    assert [event["type"] for event in journal.execution("running")] == ["queued", "stdout"]
    journal.append("running", "end", {"status": "ok"})
    run(journal, "last")
    assert not journal.full
    assert "running" in journal.dropped


def test_a_hole_alone_is_an_empty_journal(tmp_path):
    path = tmp_path / "events.jsonl"
    with path.open("wb") as file:
        file.truncate(10_000)
    journal = Journal(path)
    assert (journal.last_seq, journal.spans) == (0, {})
    journal.append("e", "queued", {})
    journal.flush()
    assert [event["execution_id"] for event in journal.all()] == ["e"]
    journal.close()
