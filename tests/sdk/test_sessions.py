"""Sessions, contexts and executions as things of their own."""

import uuid
from datetime import UTC, datetime
from itertools import islice

import pytest

from kernelgate.sdk import Client, errors

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def test_a_session_is_made_found_changed_and_deleted(client):
    mark = uuid.uuid4().hex
    session = client.sessions.create(labels={"mark": mark}, env={"GREETING": "hi"}, idle_timeout_s=300, lifetime_s=None)
    try:
        assert (session.info.state, session.labels, session.info.idle_timeout_s) == ("running", {"mark": mark}, 300)
        assert session.info.env_names == ["GREETING"]
        assert session.info.cwd == "/workspace"
        assert session.info.created_at <= datetime.now(UTC)
        assert session.code.run("import os\nos.environ['GREETING']").result == "'hi'"

        assert [one.id for one in client.sessions.list(labels={"mark": mark})] == [session.id]
        assert client.sessions.list(labels={"mark": "other"}) == []
        assert client.sessions.get(session.id).id == session.id

        session.update(labels={"mark": mark, "more": "1"}, idle_timeout_s=None)
        assert session.labels == {"mark": mark, "more": "1"}
        assert session.info.idle_timeout_s is None
        before = session.info.last_activity_at
        assert session.keep_alive().last_activity_at >= before
        assert session.refresh().state == "running"
    finally:
        session.delete()
    session.delete()
    with pytest.raises((errors.SessionNotFound, errors.SessionClosed)):
        session.code.run("1")
    with pytest.raises(errors.SessionNotFound):
        client.sessions.delete("no-such-session")


def test_a_session_ends_with_its_block_and_its_error_is_the_blocks(client):
    with pytest.raises(RuntimeError, match="mine"), client.sessions.create() as session:
        raise RuntimeError("mine")
    with pytest.raises((errors.SessionNotFound, errors.SessionClosed)):
        session.code.run("1")


def test_pages_make_up_the_whole(client):
    mark = uuid.uuid4().hex
    made = [client.sessions.create(labels={"mark": mark}) for _ in range(3)]
    try:
        page = client.sessions.page(labels={"mark": mark}, limit=2)
        assert len(page.sessions) == 2
        rest = client.sessions.page(labels={"mark": mark}, limit=2, page_token=page.next_page_token)
        assert {one.id for one in (*page.sessions, *rest.sessions)} == {one.id for one in made}
        assert rest.next_page_token is None
        assert {one.id for one in client.sessions.iterate(labels={"mark": mark}, state="running")} == {one.id for one in made}
    finally:
        for session in made:
            session.delete()


def test_another_tokens_session_is_not_there(server, live):
    with Client(server.url, server.new_token("someone else")) as other, pytest.raises(errors.SessionNotFound):
        other.sessions.get(live.id)


def test_contexts_have_variables_of_their_own(live):
    one = live.contexts.create("python", name="one", cwd="/tmp", env={"WHO": "one"})
    live.code.run("x = 'default'")
    live.code.run("x = 'one'", context=one)
    assert live.code.run("x").result == "'default'"
    assert live.code.run("x", context=one.id).result == "'one'"
    assert live.code.run("import os\nos.getcwd(), os.environ['WHO']", context=one).result == "('/tmp', 'one')"
    assert (one.name, one.language, one.info.is_default) == ("one", "python", False)
    contexts = {context.id: context for context in live.contexts.list()}
    assert contexts.keys() >= {"python", one.id}
    assert contexts["python"].info.is_default

    assert one.refresh().execution_count == 3
    assert one.restart().generation > 0
    assert live.code.run("x", context=one).error.name == "NameError"
    one.delete()
    with pytest.raises(errors.ContextNotFound):
        live.contexts.get(one.id)


def test_a_kernel_completes_inspects_and_knows_what_is_complete(live):
    live.code.run("number_of_things = 3")
    completion = live.contexts.complete("python", "number_of_")
    assert completion.matches == ["number_of_things"]
    assert (completion.cursor_start, completion.cursor_end) == (0, 10)
    assert live.contexts.complete("python", "number_of_ + 1", 10).matches == ["number_of_things"]
    inspection = live.contexts.inspect("python", "number_of_things")
    assert inspection.found
    assert "int" in inspection.text
    context = live.contexts.get("python")
    assert context.complete("number_of_").matches == ["number_of_things"]
    assert context.inspect("no_such_name_at_all").found is False
    assert context.is_complete("def f():") == ("incomplete", "    ")
    assert context.is_complete("1 + 1")[0] == "complete"


def test_an_interrupt_of_one_context_leaves_the_others(live):
    one = live.contexts.create("python")
    sleeping = live.executions.start("import time\ntime.sleep(60)", context=one)
    other = live.executions.start("import time\ntime.sleep(1)\n'done'")
    for event in live.executions.events(sleeping.id):
        if event.type == "started":
            assert one.interrupt() == [sleeping.id]
    assert live.executions.get(sleeping.id).status == "interrupted"
    assert live.executions.attach(other.id).result == "'done'"


def test_an_execution_is_found_by_its_id(live):
    started = live.executions.start("print('a')\nimport time\ntime.sleep(0.5)\n'v'", execution_id="mine")
    assert (started.id, started.success) == ("mine", None)
    heard = []
    result = live.executions.attach("mine", on_stdout=heard.append)
    assert heard == ["a\n"]
    assert (result.state, result.result) == ("done", "'v'")
    assert live.executions.get("mine").result == "'v'"
    assert live.executions.attach("mine", after=result.last_seq, on_stdout=heard.append).result == "'v'"
    assert heard == ["a\n"]
    assert [event.type for event in live.executions.events("mine")] == ["queued", "started", "stdout", "result", "end"]
    with pytest.raises(errors.ExecutionNotFound):
        live.executions.get("other")
    with pytest.raises(errors.ExecutionNotFound):
        live.executions.attach("other")


def test_the_history_is_newest_first_and_in_pages(live):
    for name in ("one", "two", "three"):
        live.code.run("1", execution_id=name)
    page = live.executions.list(limit=2)
    assert [one.id for one in page.executions] == ["three", "two"]
    assert [one.id for one in live.executions.list(page_token=page.next_page_token).executions] == ["one"]


def test_a_waiting_execution_sees_its_place_and_can_be_cancelled(live):
    first = live.executions.start("import time\ntime.sleep(60)")
    assert any(event.type == "started" for event in islice(live.executions.events(first.id), 2))
    second = live.executions.start("'never'")
    third = live.executions.start("'after'")
    assert (second.queue_position, third.queue_position) == (1, 2)
    live.executions.cancel(second.id)
    assert live.executions.attach(second.id).status == "cancelled"
    live.executions.cancel(first.id)
    assert live.executions.attach(first.id).success is False
    assert live.executions.attach(third.id).result == "'after'"


def test_an_answer_that_nobody_asked_for_is_refused(live):
    done = live.code.run("1")
    with pytest.raises(errors.Conflict):
        live.executions.send_input(done.id, "x")


def test_the_events_of_a_session_are_those_of_all_its_executions(live):
    first, second = live.code.run("print('a')"), live.code.run("print('b')")
    seen = []
    for event in live.events():
        # A text may come in more than one piece.
        if event.execution_id and seen[-1:] != [(event.execution_id, event.type)]:
            seen.append((event.execution_id, event.type))
        if (event.execution_id, event.type) == (second.id, "end"):
            break
    kinds = ["queued", "started", "stdout", "end"]
    assert seen == [(first.id, kind) for kind in kinds] + [(second.id, kind) for kind in kinds]


def test_the_shape_of_other_services_sdks(client):
    made = client.create(image_id="code_latest", labels={"a": "b"})
    assert made.success
    assert client.get(made.session.session_id).session.labels == {"a": "b"}
    client.delete(made.session)
    with pytest.raises(errors.InvalidUse):
        client.create(image_id="windows_latest")


def test_languages_and_health(client):
    languages = {language.name: language for language in client.languages()}
    assert languages["python"].is_ready
    assert "py" in languages["python"].aliases
    assert all(language.is_ready or language.install for language in languages.values())
    assert client.health()["status"] == "ok"
