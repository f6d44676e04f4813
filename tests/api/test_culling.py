"""Sessions that nobody uses end by themselves; never while something runs, and not while somebody looks on."""

from __future__ import annotations

import time

import pytest

from tests.support.channel import Channel
from tests.support.stream import stream

pytestmark = [pytest.mark.sandbox, pytest.mark.python, pytest.mark.slow]


def state(api, session):
    found = api.call("GET", f"/v1/sessions/{session}")
    return found["state"], found["reason"]


def closed(api, session):
    return api.until(lambda: (found := state(api, session))[0] == "closed" and found, every_s=0.1)


def test_idle_for_too_long(api):
    session = api.create(idle_timeout_s=0.5, labels={"kept": "yes"})
    api.run(session, "x = 1")
    assert closed(api, session) == ("closed", "idle for too long")
    ended = api.call("GET", f"/v1/sessions/{session}")
    assert ended["ended_at"] >= ended["last_activity_at"]
    assert (ended["labels"], ended["contexts"], ended["executing"]) == ({"kept": "yes"}, [], 0)
    assert session in {one["id"] for one in api.call("GET", "/v1/sessions?state=closed&limit=1000")["sessions"]}
    api.delete(session)


def test_its_lifetime_is_over(api):
    session = api.create(lifetime_s=1, idle_timeout_s=None)
    while state(api, session)[0] == "running":
        api.http.post(f"/v1/sessions/{session}/keepalive")  # use does not help
        time.sleep(0.05)
    assert state(api, session) == ("closed", "its lifetime was over")
    api.delete(session)


@pytest.mark.parametrize("limit", [{"idle_timeout_s": 0.5}, {"lifetime_s": 0.5, "idle_timeout_s": None}], ids=["idle", "lifetime"])
def test_never_while_it_executes(api, limit):
    session = api.create(**limit)
    # No connection is open meanwhile: the execution alone keeps it.
    begun = api.start(session, "import time; time.sleep(2.5); 'ran to its end'")
    assert (
        api.until(
            lambda: (found := api.http.get(f"/v1/sessions/{session}/executions/{begun}").json())["state"] == "done" and found, every_s=0.6
        )["text"]
        == "'ran to its end'"
    )
    assert closed(api, session)
    assert api.call("GET", f"/v1/sessions/{session}/executions/{begun}")["text"] == "'ran to its end'"
    api.delete(session)


def test_not_while_somebody_is_connected(api, server):
    session = api.create(idle_timeout_s=0.3)
    with server.api() as other, stream(other, "GET", f"/v1/sessions/{session}/events"), Channel(server, session) as channel:
        time.sleep(2)
        assert state(api, session) == ("running", None)
        assert channel.call("1", "ping") == {}
    assert closed(api, session)
    api.delete(session)


def test_keepalive_and_a_new_limit_keep_it(api):
    session = api.create(idle_timeout_s=1)
    for _ in range(8):
        time.sleep(0.25)
        api.call("POST", f"/v1/sessions/{session}/keepalive")
    assert state(api, session) == ("running", None)
    api.call("PATCH", f"/v1/sessions/{session}", json={"idle_timeout_s": 1000})
    time.sleep(2)
    assert state(api, session) == ("running", None)
    api.call("PATCH", f"/v1/sessions/{session}", json={"idle_timeout_s": 0.2})
    assert closed(api, session)
    api.delete(session)


def test_what_is_kept_is_kept_for_the_retention_alone(tight, tight_api):
    session = tight_api.create(idle_timeout_s=0.2)
    tight_api.run(session, "6 * 7", id="kept")
    closed(tight_api, session)
    assert tight_api.call("GET", f"/v1/sessions/{session}/executions/kept")["text"] == "42"
    tight_api.until(lambda: tight_api.http.get(f"/v1/sessions/{session}").status_code == 404, every_s=0.2)
    assert not (tight.data_dir / "sessions" / session).exists()
