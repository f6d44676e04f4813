"""Executions: what goes in, what comes out, and that one id runs once."""

from __future__ import annotations

import base64
import json
import threading

import pytest

from tests.support.stream import execute, until

pytestmark = [pytest.mark.sandbox, pytest.mark.python]

FIELDS = {
    "id", "request_id", "session_id", "context_id", "language", "state", "queue_position", "success", "status", "execution_count", "execution_time", "logs", "results", "error", "text",
    "truncated", "timeout", "death", "limit", "fresh_kernel", "artifacts", "created_at", "started_at", "ended_at", "last_seq",
}  # fmt: skip


def outs(result):
    return "".join(result["logs"]["stdout"])


# -- the result --


def test_a_result_has_every_field(api, own):
    response = api.http.post(
        f"/v1/sessions/{own}/executions",
        json={"code": "import sys; print('out'); print('err', file=sys.stderr); 6 * 7", "id": "mine:1"},
        headers={"X-Request-Id": "asked-1"},
    )
    result = response.json()
    assert response.headers["Location"] == f"/v1/sessions/{own}/executions/mine:1"
    assert response.headers["X-Request-Id"] == "asked-1"
    assert result.keys() == FIELDS
    assert (result["id"], result["request_id"], result["session_id"], result["context_id"], result["language"]) == (
        "mine:1",
        "asked-1",
        own,
        "python",
        "python",
    )
    assert (result["state"], result["status"], result["success"], result["execution_count"], result["queue_position"]) == (
        "done",
        "ok",
        True,
        1,
        None,
    )
    assert result["logs"] == {"stdout": ["out\n"], "stderr": ["err\n"]}
    assert result["results"] == [{"is_main_result": True, "text": "42"}]
    assert (result["text"], result["error"], result["truncated"], result["timeout"], result["death"], result["fresh_kernel"]) == (
        "42",
        None,
        None,
        None,
        None,
        None,
    )
    assert 0 < result["execution_time"] < 30
    assert result["created_at"] <= result["started_at"] <= result["ended_at"]
    assert api.call("GET", f"/v1/sessions/{own}/executions/mine:1") == result
    assert api.run(own, "1")["execution_count"] == 2


def test_an_error_is_data(api, session):
    result = api.run(session, "print('before')\ndef f():\n    return 1 / 0\nf()")
    assert (result["status"], result["success"]) == ("error", False)
    assert (result["error"]["name"], result["error"]["value"]) == ("ZeroDivisionError", "division by zero")
    assert "return 1 / 0" in result["error"]["traceback"]
    assert "\x1b" not in result["error"]["traceback"]
    assert "kernelgate" not in result["error"]["traceback"]
    assert (outs(result), result["text"]) == ("before\n", "before\n")
    assert api.run(session, "if")["error"]["name"] == "SyntaxError"
    assert api.run(session, "class Odd(Exception): pass\nraise Odd('no')")["error"]["name"] == "Odd"


def test_colours_of_an_error_are_kept_where_asked_for(api, session):
    code = r"raise ValueError('\x1b[31mred\x1b[0m')"
    plain, coloured = api.run(session, code), api.run(session, code, ansi=True)
    assert coloured["error"]["value"] == "\x1b[31mred\x1b[0m"
    assert "\x1b[31mred" in coloured["error"]["traceback"]
    assert plain["error"]["value"] == "red"
    assert "\x1b" not in plain["error"]["traceback"]
    # What the code itself prints is its own affair.
    assert outs(api.run(session, r"print('\x1b[31mred')")) == "\x1b[31mred\n"


@pytest.mark.parametrize("code", ["", "   \n\t\n", "# only a comment", "\n# one\n# two\n", "pass", "x = 1", "None", "1;"])
def test_what_has_no_value_has_no_result(api, session, code):
    result = api.run(session, code)
    assert (result["status"], result["results"], result["text"], result["logs"]) == ("ok", [], "", {"stdout": [], "stderr": []})


def test_an_item_per_display_and_the_last_expression(api, session):
    result = api.run(
        session,
        "from IPython.display import display, HTML, Markdown, Latex, JSON, SVG, Javascript, Math\n"
        "display(HTML('<b>h</b>')); display(Markdown('*m*')); display(Latex('$l$')); display(JSON({'j': [1, None]})); display(SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>'))\n"
        "display(Javascript('1')); display({'application/x-own': 'o', 'text/plain': 'p'}, raw=True)\n"
        "display({'image/png': 'aGk=', 'image/jpeg': 'aGk=', 'application/pdf': 'aGk='}, raw=True, metadata={'image/png': {'width': 5}})\n"
        "'last'",
    )
    items = result["results"]
    assert [item["is_main_result"] for item in items] == [False] * 8 + [True]
    assert [next(name for name in item if name not in ("is_main_result", "text", "metadata")) for item in items[:8]] == [
        "html",
        "markdown",
        "latex",
        "json",
        "svg",
        "javascript",
        "extra",
        "png",
    ]
    assert (items[0]["html"], items[1]["markdown"], items[2]["latex"], items[3]["json"], items[5]["javascript"]) == (
        "<b>h</b>",
        "*m*",
        "$l$",
        {"j": [1, None]},
        "1",
    )
    assert items[6]["extra"] == {"application/x-own": "o"}
    assert (items[7]["jpeg"], items[7]["pdf"], items[7]["metadata"]) == ("aGk=", "aGk=", {"image/png": {"width": 5}})
    assert (items[8]["text"], result["text"]) == ("'last'", "'last'")


def test_charts_tables_and_bundles_as_data(api, own):
    result = api.run(
        own,
        "import matplotlib.pyplot as plt, pandas as pd\n"
        "from IPython.display import display\n"
        "plt.plot([1, 2, 3], [4, 5, 6], label='a'); plt.title('T'); plt.xlabel('x'); plt.show()\n"
        "display({'application/vnd.vegalite.v5+json': {'mark': 'bar'}, 'text/plain': 'v'}, raw=True)\n"
        "display({'application/vnd.plotly.v1+json': {'data': [float('nan'), 1.5]}}, raw=True)\n"
        "display({'application/geo+json': {'type': 'Point'}}, raw=True)\n"
        "pd.DataFrame({'n': [1, 2], 's': ['a', None]})",
        timeout_s=110,
    )
    assert result["error"] is None
    figure, vega, plotly, geo, table = result["results"]
    assert base64.b64decode(figure["png"]).startswith(b"\x89PNG")
    assert (figure["chart"]["type"], figure["chart"]["title"], figure["chart"]["x_label"]) == ("line", "T", "x")
    assert figure["chart"]["elements"][0]["points"] == [[1, 4], [2, 5], [3, 6]]
    assert vega["extra"] == {"application/vnd.vegalite.v5+json": {"mark": "bar"}}
    assert plotly["extra"] == {"application/vnd.plotly.v1+json": {"data": [None, 1.5]}}
    assert geo["extra"] == {"application/geo+json": {"type": "Point"}}
    assert table["data"] == {"n": [1, 2], "s": ["a", None]}
    assert "<table" in table["html"]


def test_text_is_the_main_result_or_the_first_or_all_of_stdout(api, session):
    assert api.run(session, "print('a'); 1")["text"] == "1"
    assert api.run(session, "print('a'); display('first'); display('second')")["text"] == "'first'"
    assert api.run(session, "print('a'); print('b')")["text"] == "a\nb\n"


# -- outputs as a notebook would show them --


def test_carriage_returns_and_clearing(api, session):
    result = api.run(session, "for i in range(0, 101, 10): print(f'\\r{i:3}% done', end='', flush=True)\nprint('\\rready')")
    assert outs(result) == "readydone\n"
    result = api.run(
        session, "from IPython.display import clear_output\nfor i in range(3):\n    print(i); clear_output(wait=True)\nprint('end')"
    )
    assert outs(result) == "end\n"
    assert outs(api.run(session, "print('kept'); clear_output(wait=True)")) == "kept\n"
    result = api.run(session, "print('gone'); display(1); clear_output(); display(2)")
    assert (outs(result), [item["text"] for item in result["results"]]) == ("", ["2"])


def test_display_updates_reach_every_cell_that_showed_it(api, session):
    api.run(session, "handle = display('first', display_id='bar'); display('other')", id="shower")
    second = api.run(session, "display('again', display_id='bar'); handle.update('second')")
    assert [item["text"] for item in second["results"]] == ["'second'"]
    result = api.call("GET", f"/v1/sessions/{session}/executions/shower")
    assert [item["text"] for item in result["results"]] == ["'second'", "'other'"]
    third = api.run(session, "handle.update('third')")
    assert third["results"] == []
    result = api.call("GET", f"/v1/sessions/{session}/executions/shower")
    assert [item["text"] for item in result["results"]] == ["'third'", "'other'"]
    (update,) = [event for event in api.events(session, "shower") if event["type"] == "update" and event["result"]["text"] == "'third'"]
    assert (update["late"], update["display_id"]) == (True, "bar")


def test_output_of_a_thread_after_the_end_is_kept_and_marked(api, own):
    code = "import os, threading, time\ndef later():\n    while not os.path.exists('go'): time.sleep(0.01)\n    print('too late')\nthreading.Thread(target=later).start()\nprint('in time')"
    first = api.run(own, code, id="threads")
    assert (first["state"], outs(first)) == ("done", "in time\n")
    api.run(own, "open('go', 'w').close()")
    late = api.until(lambda: [event for event in api.events(own, "threads") if event.get("late")])
    assert [(event["type"], event["text"]) for event in late] == [("stdout", "too late\n")]
    assert outs(api.call("GET", f"/v1/sessions/{own}/executions/threads")) == "in time\ntoo late\n"


# -- environment --


def test_env_is_real_for_one_execution_and_undone_after(api, own):
    read = "import os, subprocess; [os.environ.get('TOKEN'), subprocess.check_output('echo -n $TOKEN', shell=True, text=True), os.environ['HOME']]"
    assert api.run(own, read, env={"TOKEN": "s3cret", "HOME": "/tmp"})["text"] == "['s3cret', 's3cret', '/tmp']"
    assert api.run(own, read)["text"] == "[None, '', '/workspace']"
    assert api.run(own, "1 / 0", env={"TOKEN": "s3cret"})["status"] == "error"
    assert api.run(own, read)["text"] == "[None, '', '/workspace']"
    # What the code itself sets stays.
    api.run(own, "os.environ['MINE'] = '1'", env={"TOKEN": "s3cret"})
    assert api.run(own, "os.environ.get('MINE'), os.environ.get('TOKEN')")["text"] == "('1', None)"
    # After an interrupt, too.
    running = api.start(own, "print('in', flush=True)\nimport time\ntime.sleep(100)", env={"TOKEN": "s3cret"})
    api.until(lambda: outs(api.call("GET", f"/v1/sessions/{own}/executions/{running}")))
    api.call("POST", f"/v1/sessions/{own}/executions/{running}/cancel")
    assert api.wait(own, running)["status"] == "cancelled"
    assert api.run(own, read)["text"] == "[None, '', '/workspace']"


def test_env_is_not_in_the_source_nor_in_the_history(api, own):
    with execute(api, own, "In[-1]", env={"TOKEN": "s3cret"}) as events:
        seen = list(events)
    assert "s3cret" not in json.dumps(seen)
    assert seen[0]["code"] == "In[-1]"
    assert next(event for event in seen if event["type"] == "result")["result"]["text"] == "'In[-1]'"
    assert (
        "s3cret"
        not in api.run(own, "import pathlib; [p.read_bytes() for p in pathlib.Path('/workspace').rglob('*') if p.is_file()]")["text"]
    )


# -- ids --


def test_repeating_an_id_attaches_and_does_not_run_again(api, own):
    first = api.run(own, "n = globals().get('n', 0) + 1; n", id="once")
    again = api.http.post(f"/v1/sessions/{own}/executions", json={"code": "n = globals().get('n', 0) + 1; n", "id": "once"})
    assert (again.status_code, again.json()) == (200, first)
    with execute(api, own, "n = globals().get('n', 0) + 1; n", id="once", language="py") as events:
        seen = list(events)
    assert (seen[0]["type"], seen[-1]["type"], seen[-1]["seq"]) == ("queued", "end", first["last_seq"])
    assert api.run(own, "n = globals().get('n', 0) + 1; n", id="once", context="python")["text"] == "1"
    assert api.run(own, "n")["text"] == "1"


def test_the_same_id_for_something_else_is_a_conflict(api, own):
    api.run(own, "1", id="taken")
    context = api.call("POST", f"/v1/sessions/{own}/contexts", 201, json={"language": "python"})["id"]
    for body in ({"code": "2"}, {"code": "1", "context": context}):
        for headers in ({}, {"Accept": "application/x-ndjson"}):
            error = api.call("POST", f"/v1/sessions/{own}/executions", 409, json={"id": "taken", **body}, headers=headers)["error"]
            assert error["code"] == "execution_conflict"
    assert (
        api.call("POST", f"/v1/sessions/{own}/executions?wait=false", 409, json={"id": "taken", "code": "2"})["error"]["code"]
        == "execution_conflict"
    )


def test_an_id_posted_many_times_at_once_runs_once(api, server, own):
    answers = []

    def post():
        with server.api() as other:
            answers.append(other.run(own, "runs = globals().get('runs', 0) + 1\nimport time; time.sleep(0.2); runs", id="crowd"))

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert all({**answer, "request_id": 0} == {**answers[0], "request_id": 0} for answer in answers)
    assert api.run(own, "runs")["text"] == "1"


@pytest.mark.parametrize("id", ["ask", "nudge", "interrupt", "stdin", "shutdown", "a:b:c", ".", "-", "x" * 128, "0"])
def test_any_id_of_the_allowed_characters_works(api, session, id):
    result = api.run(session, "print('out'); 1", id=id)
    assert (result["id"], result["status"], outs(result)) == (id, "ok", "out\n")


# -- what code may be --


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("'naïve 日本 🎈'", "'naïve 日本 🎈'"),
        ("len('''" + "x" * 3_000_000 + "''')", "3000000"),
        ("# " + "🎈" * 100_000 + "\n'after'", "'after'"),
        ("'line\u2028separator\x85'", "'line\\u2028separator\\x85'"),
        ("'a\\r\\nb'", "'a\\r\\nb'"),
        ("x = 1\r\nx + 1\r\n", "2"),
    ],
    ids=["unicode", "3MB", "wide comment", "separators", "escapes", "crlf"],
)
def test_code_of_every_kind(api, session, code, text):
    assert api.run(session, code)["text"] == text


def test_a_nul_in_code_is_the_codes_error(api, session):
    result = api.run(session, "x = 1\0")
    # A SyntaxError since Python 3.11.4, and a ValueError before.
    with pytest.raises(Exception) as caught:  # noqa: PT011
        compile("x = 1\0", "", "exec")
    assert (result["status"], result["error"]["name"]) == ("error", caught.typename)
    assert api.run(session, "2")["text"] == "2"


def test_half_surrogates_in_output_are_replaced_not_fatal(api, session):
    # Strict readers of JSON refuse them, so one would make the whole result unreadable.
    result = api.run(session, "print('a\\ud800b'); display({'text/plain': 'c\\udfffd'}, raw=True); raise ValueError('e\\ud801')")
    assert (outs(result), result["results"][0]["text"], result["error"]["value"]) == ("a?b\n", "c?d", "e?")
    json.dumps(result, ensure_ascii=False).encode()
    # Out of a descriptor come bytes, which are no text at all.
    assert outs(api.run(session, "import os; os.write(1, b'a\\xffb\\xed\\xa0\\x80'); None")).startswith("a\ufffdb")


def test_output_with_every_odd_character_comes_whole(api, session):
    result = api.run(session, "print('\\x00\\x01\\x7f\\x85\\u2028\\u2029\\ufeff\\U0001f388', end='')")
    assert outs(result) == "\x00\x01\x7f\x85\u2028\u2029\ufeff\U0001f388"


def test_numbers_that_are_not_json_become_null(api, session):
    result = api.run(session, "display({'application/json': {'a': [float('nan'), float('inf'), 1]}}, raw=True)")
    assert result["results"][0]["json"] == {"a": [None, None, 1]}


# -- lists --


def test_listing_is_newest_first_in_pages_and_without_outputs(api, own):
    made = [api.run(own, f"print({number}); {number}")["id"] for number in range(5)]
    path = f"/v1/sessions/{own}/executions"
    everything = api.call("GET", path)
    assert [one["id"] for one in everything["executions"]] == made[::-1]
    assert everything["executions"][0].keys() == FIELDS - {"logs", "results", "text", "artifacts"}
    pages, token = [], None
    while token is not None or not pages:
        page = api.call("GET", path, params={"limit": 2, **({"page_token": token} if token else {})})
        pages.append([one["id"] for one in page["executions"]])
        token = page["next_page_token"]
    assert pages == [made[:2:-1], made[2:0:-1], made[:1]]


def test_an_unknown_execution_is_404(api, session):
    for method, path, body in (("GET", "", None), ("POST", "/cancel", {}), ("POST", "/stdin", {"value": "x"})):
        error = api.call(method, f"/v1/sessions/{session}/executions/nothing{path}", 404, json=body)["error"]
        assert error["code"] == "execution_not_found"
    error = api.call("GET", f"/v1/sessions/{session}/executions/nothing", 404, headers={"Accept": "application/x-ndjson"})["error"]
    assert error["code"] == "execution_not_found"


def test_not_waiting_is_202_and_can_be_waited_for_later(api, own):
    response = api.http.post(
        f"/v1/sessions/{own}/executions?wait=false",
        json={"code": "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\n'done'"},
    )
    begun = response.json()
    assert response.status_code == 202
    assert begun["state"] in ("queued", "running")
    assert (begun["success"], begun["status"], begun["execution_time"], begun["ended_at"]) == (None, None, None, None)
    assert api.call("GET", f"/v1/sessions/{own}/executions/{begun['id']}")["state"] in ("queued", "running")
    context = api.call("POST", f"/v1/sessions/{own}/contexts", 201, json={"language": "python"})["id"]
    api.run(own, "open('go', 'w').close()", context=context)
    assert api.wait(own, begun["id"])["text"] == "'done'"


def test_the_first_events_of_a_stream_say_what_runs(api, own):
    with execute(api, own, "1", id="said", timeout_s=5) as events:
        queued, *_ = until(events, "end")
    assert {name: queued[name] for name in ("context_id", "language", "code", "position", "timeout_s", "execution_id")} == {
        "context_id": "python", "language": "python", "code": "1", "position": 0, "timeout_s": 5, "execution_id": "said",
    }  # fmt: skip


def test_the_last_values_are_there_as_ipython_users_know_them(api, own):
    assert [api.run(own, code)["text"] for code in ("20", "_ + 1", "_ + __ + 1", "Out[1], _2")] == ["20", "21", "42", "(20, 21)"]
    assert "empty" in api.run(own, "%who")["text"]
