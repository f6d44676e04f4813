from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import stat
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelgate.errors import NoSpace
from kernelgate.sessions.registry import Registry, RegistryCorrupt, Row, Token, open_registry


@pytest.fixture
def registry(tmp_path):
    made = Registry(tmp_path / "registry.sqlite")
    yield made
    made.close()


def row(number, **fields):
    base = Row(f"s{number}", "t1", "running", number, 100 + number, 5, 1000.0 + number, 1000.0, True)
    return replace(base, **fields)


def test_the_file_is_private_and_lives_on(tmp_path):
    path = tmp_path / "registry.sqlite"
    first = Registry(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token, secret = first.create_token("a")
    saved = row(1, labels={"k": "ü"}, idle_timeout_s=None, lifetime_s=5.5, reason="why", ended_at=7.0)
    first.save(saved)
    first.close()
    second = Registry(path)
    assert second.token(secret) == token
    assert second.get("s1") == saved
    second.close()


def test_two_open_it_at_once(tmp_path):
    # The command line makes tokens while the server runs.
    first, second = Registry(tmp_path / "r"), Registry(tmp_path / "r")
    _, secret = second.create_token("from the command line")
    assert first.token(secret) is not None
    second.revoke_token("from the command line")
    assert first.token(secret) is None
    first.close()
    second.close()


def test_tokens(registry, tmp_path):
    token, secret = registry.create_token("one")
    other, _ = registry.create_token("two")
    assert secret.startswith("kg_")
    assert registry.tokens() == [token, other]
    for wrong in ("", "kg_", secret[:-1], secret + "x", secret.upper(), "\ud800", "' OR 1=1 --"):
        assert registry.token(wrong) is None
    assert registry.revoke_token(token.id) is True
    assert registry.revoke_token(token.id) is False
    assert registry.token(secret) is None
    assert registry.tokens() == [other]
    assert registry.revoke_token("two") is True
    registry._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert secret.encode() not in (tmp_path / "registry.sqlite").read_bytes()


def test_listing_pages_labels_and_states(registry):
    for number in range(6):
        registry.save(
            row(
                number,
                labels={"even": str(number % 2 == 0), "n": str(number)},
                state="closed" if number == 5 else "running",
                created_at=1000.0,
            )
        )
    registry.save(row(9, token_id="t2"))

    def names(**options):
        return [one.id for one in registry.page("t1", **{"labels": {}, "state": None, "after": None, "limit": 100, **options})]

    assert names() == [f"s{number}" for number in range(6)]
    assert names(labels={"even": "True"}) == ["s0", "s2", "s4"]
    assert names(labels={"even": "True", "n": "2"}) == ["s2"]
    assert names(labels={"even": "true"}) == []
    assert names(state="closed") == ["s5"]
    # Made in the same moment: the id decides, and no page shows one twice.
    assert names(limit=2) == ["s0", "s1"]
    assert names(limit=2, after=(1000.0, "s1")) == ["s2", "s3"]
    assert names(after=(1000.0, "s5")) == []
    assert [one.id for one in registry.page("t2", labels={}, state=None, after=None, limit=10)] == ["s9"]


@given(
    st.dictionaries(
        st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=10),
        st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10),
        min_size=1,
        max_size=4,
    )
)
def test_any_label_is_found_again(tmp_path_factory, labels):
    registry = Registry(tmp_path_factory.mktemp("registry") / "r")
    registry.save(row(1, labels=labels))
    registry.save(row(2))
    for name, value in labels.items():
        assert [one.id for one in registry.page("t1", labels={name: value}, state=None, after=None, limit=10)] == ["s1"]
        assert registry.page("t1", labels={name: value + "x"}, state=None, after=None, limit=10) == []
    registry.close()


def test_slots_of_users_are_never_shared_by_the_living(registry):
    taken = []
    for number in range(5):
        slot = registry.free_slot()
        taken.append(slot)
        registry.save(row(number, slot=slot, state=("starting", "ready", "running", "running", "running")[number]))
    assert taken == [1, 2, 3, 4, 5]
    registry.save(replace(registry.get("s1"), state="closed"))
    registry.delete("s3")
    assert registry.free_slot() == 2
    registry.save(row(7, slot=2))
    assert registry.free_slot() == 4


def test_ended_before_and_touch(registry):
    registry.save(row(1))
    registry.save(row(2, state="closed", ended_at=50.0))
    registry.save(row(3, state="lost", ended_at=60.0))
    assert [one.id for one in registry.ended_before(55.0)] == ["s2"]
    registry.touch("s1", 2000.0)
    assert registry.get("s1").last_activity_at == 2000.0
    assert registry.get("nothing") is None
    assert [one.id for one in registry.by_state("closed", "lost")] == ["s2", "s3"]


def test_the_ceilings_of_a_token(tmp_path):
    registry = open_registry(tmp_path / "registry.sqlite")
    made, secret = registry.create_token("one", {"memory_bytes": 1 << 30, "cpu": 0.5}, network=True)
    other, _ = registry.create_token("two")
    registry.close()
    for name in ("registry.sqlite", "registry.sqlite-wal", "registry.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    registry = open_registry(tmp_path / "registry.sqlite")  # from the records beside it
    assert registry.token(secret) == made
    assert registry.token_of(made.id) == made
    assert registry.tokens() == [made, other]
    assert registry.token_of("nobody") is None
    registry.close()


def test_a_registry_of_before_tokens_had_ceilings(tmp_path):
    digest = hashlib.sha256(b"kg_old").digest()
    with contextlib.closing(sqlite3.connect(tmp_path / "registry.sqlite", isolation_level=None)) as old:
        old.execute(
            "CREATE TABLE tokens (id TEXT PRIMARY KEY, name TEXT NOT NULL, hash BLOB NOT NULL UNIQUE, created_at REAL NOT NULL, revoked_at REAL)"
        )
        old.execute("INSERT INTO tokens VALUES ('t1', 'a', ?, 1.0, NULL)", (digest,))
    (tmp_path / "tokens.json").write_text(json.dumps([["t2", "b", hashlib.sha256(b"kg_recorded").hexdigest(), 2.0, None]]))
    registry = open_registry(tmp_path / "registry.sqlite")
    assert registry.tokens() == [Token("t1", "a", 1.0), Token("t2", "b", 2.0)]
    assert registry.token("kg_recorded") == Token("t2", "b", 2.0)
    assert registry.create_token("c", {"cpu": 1.0})[0].ceilings == {"cpu": 1}
    registry.close()


def _fill(directory):
    """A registry with a session of each state that has a directory, and a token."""
    registry = open_registry(directory / "registry.sqlite")
    _, secret = registry.create_token("a")
    revoked, _ = registry.create_token("b")
    registry.revoke_token(revoked.id)
    rows = [
        row(1, labels={"k": "ü"}),
        row(2, state="ready", token_id=None),
        row(3, state="closed", reason="idle", ended_at=5.0),
        row(4, state="starting", token_id=None),
    ]
    for one in rows:
        (directory / "sessions" / one.id).mkdir(parents=True)
        registry.save(one)
    registry.lose("s1", "why", 9.0)
    registry.lose("s3", "not any more", 9.0)
    registry.save(row(5))
    registry.delete("s5")
    registry.close()
    return rows, secret


@pytest.mark.parametrize("harm", ["garbage", "cut", "pages", "gone", "empty", "old"])
def test_a_destroyed_one_is_made_again(tmp_path, harm):
    path = tmp_path / "registry.sqlite"
    old = Registry(path)
    old.save(row(3, state="running"))
    old.save(row(1, state="starting"))
    old.close()
    first = path.read_bytes()
    path.unlink()
    rows, secret = _fill(tmp_path)
    size = path.stat().st_size
    match harm:
        case "garbage":
            path.write_bytes(b"no database " * 1000)
        case "cut":
            path.write_bytes(path.read_bytes()[: size // 2 + 100])
        case "pages":
            path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (size - 4096))
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "old":  # its log, in which the last changes were, is lost
            path.write_bytes(first)
    if harm not in ("gone", "empty", "old"):
        with pytest.raises(RegistryCorrupt):
            Registry(path)
    registry = open_registry(path)
    assert registry.token(secret).name == "a"
    assert [token.name for token in registry.tokens()] == ["a"]
    # One that was being made had no caller yet; the keeper takes away what it left.
    assert registry.ids() == {"s1", "s2", "s3"}
    lost = registry.get("s1")
    assert (lost.state, lost.reason, lost.ended_at, lost.labels) == ("lost", "why", 9.0, {"k": "ü"})
    for one in rows[1:3]:
        assert replace(registry.get(one.id), last_activity_at=one.last_activity_at) == one
    assert registry.get("s2").last_activity_at > 1_000_000  # nobody was idle because the registry was gone
    assert len(list(tmp_path.glob("registry.sqlite.damaged-*"))) == (harm not in ("gone", "empty", "old"))
    registry.close()


def test_a_record_that_cannot_be_read_is_left_out(tmp_path, caplog):
    _fill(tmp_path)
    (tmp_path / "registry.sqlite").unlink()
    (tmp_path / "sessions" / "s1" / "session.json").write_text('{"id": "s1"')
    (tmp_path / "sessions" / "s2" / "session.json").write_text('{"id": "s2", "what": 1}')
    registry = open_registry(tmp_path / "registry.sqlite")
    assert registry.ids() == {"s3"}
    assert caplog.text.count("cannot be read") == 2
    registry.close()


def test_no_room(registry):
    registry.save(row(1))
    (pages,) = registry._db.execute("PRAGMA page_count").fetchone()
    registry._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(NoSpace, match="no room"):
        registry.save(row(2, labels={"long": "x" * 50_000}))
    assert registry.get("s1") is not None
