"""What a caller sees of running code, through the SDK."""

import threading
import time

import pytest

from kernelgate.sdk import Client, Retry, Timeout, errors, events

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def test_a_result_has_what_the_code_made(live):
    result = live.code.run("import sys\nprint('out')\nprint('err', file=sys.stderr)\n6 * 7")
    assert (result.success, result.status, result.state, result.error) == (True, "ok", "done", None)
    assert (result.stdout, result.stderr, result.result) == ("out\n", "err\n", "42")
    assert (result.language, result.session_id) == ("python", live.id)
    assert result.main_result is not None
    assert result.main_result.text == "42"
    assert result.execution_count == 1
    assert 0 < result.execution_time < 30
    assert result.request_id
    assert str(result) == "out\nerr\n42"


def test_the_three_names_are_one(live):
    live.code.run("x = 1")
    assert live.code.run_code("x", "python").result == "1"
    assert live.code.execute("x", language="Python", timeout_s=10).result == "1"


def test_a_figure_is_a_picture_and_data(live, tmp_path):
    result = live.code.run("import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.title('growth')\nplt.show()")
    (item,) = result.results
    kind, picture = item.picture()
    assert kind == "png"
    assert picture.startswith(b"\x89PNG")
    assert item.chart["title"] == "growth"
    assert item.save(tmp_path / "a.png").read_bytes() == picture
    assert result._repr_mimebundle_()["image/png"] == item.png


def test_failed_code_is_a_failed_result_and_raises_only_when_asked(live):
    result = live.code.run("1 / 0")
    assert (result.success, result.status) == (False, "error")
    assert result.error.name == "ZeroDivisionError"
    assert result.error_message == "ZeroDivisionError: division by zero"
    with pytest.raises(errors.CodeRaised, match="division by zero") as caught:
        result.raise_for_error()
    assert caught.value.result is result
    assert result.request_id in str(caught.value)


def test_callbacks_hear_everything_once_and_in_order(live):
    heard = []
    result = live.code.run(
        "import sys\nfor n in range(3):\n    print(n, flush=True)\nprint('e', file=sys.stderr)\ndisplay('shown')\n1 / 0",
        on_stdout=lambda text: heard.append(("out", text)),
        on_stderr=lambda text: heard.append(("err", text)),
        on_result=lambda item: heard.append(("result", item.text)),
        on_error=lambda error: heard.append(("error", error.name)),
    )
    assert "".join(text for kind, text in heard if kind == "out") == result.stdout == "0\n1\n2\n"
    assert [one for one in heard if one[0] != "out"] == [("err", "e\n"), ("result", "'shown'"), ("error", "ZeroDivisionError")]


def test_output_is_heard_while_the_code_runs(live):
    heard = []
    live.code.run(
        "import time\nfor n in range(3):\n    print(n)\n    time.sleep(0.5)",
        on_stdout=lambda text: heard.append((time.monotonic(), text)),
    )
    first, last = heard[0][0], heard[-1][0]
    assert last - first > 0.8


def test_without_streaming_callbacks_hear_it_at_the_end(live):
    heard = []
    result = live.code.run(
        "print('a')\ndisplay(1)\n1 / 0", stream=False, on_stdout=heard.append, on_result=heard.append, on_error=heard.append
    )
    assert heard == ["a\n", *result.results, result.error]
    with pytest.raises(errors.InvalidUse):
        live.code.run("1", stream=False, on_input=lambda prompt: "")


def test_streamed_and_unstreamed_results_are_the_same(live):
    code = (
        "print('a')\nh = display('x', display_id='d')\nfrom IPython.display import update_display\nupdate_display('y', display_id='d')\n'v'"
    )
    plain = live.code.run(code)
    streamed = live.code.run(code, on_stdout=lambda text: None)

    def comparable(result):
        return {name: result.raw[name] for name in ("success", "status", "logs", "results", "error", "text")}

    assert comparable(plain) == comparable(streamed)


def test_events_come_one_by_one(live):
    kinds = []
    for event in live.code.stream("print('a')\n'v'"):
        kinds.append(event.type)
        match event:
            case events.Stdout():
                assert event.text == "a\n"
            case events.Shown():
                assert event.result.is_main_result
            case events.End():
                assert event.success
    assert kinds == ["queued", "started", "stdout", "result", "end"]


def test_questions_of_the_code_are_answered(live):
    asked = []

    def answer(prompt):
        asked.append(prompt)
        return "Ada"

    result = live.code.run("name = input('who? ')\nf'hello {name}'", on_input=answer)
    assert asked == ["who? "]
    assert result.result == "'hello Ada'"


def test_a_timeout_is_told(live):
    live.code.run("kept = 5")
    result = live.code.run("import time\ntime.sleep(60)", timeout_s=0.5)
    assert (result.status, result.timeout.action) == ("timeout", "interrupt")
    with pytest.raises(errors.CodeTimedOut):
        result.raise_for_error()
    assert live.code.run("kept").result == "5"


def test_environment_is_for_one_run(live):
    code = "import os\nos.environ.get('COLOUR')"
    assert live.code.run(code, env={"COLOUR": 'it\'s "blue"'}).result == repr('it\'s "blue"')
    assert live.code.run(code).result == ""


def test_an_unknown_language_names_those_there_are(live):
    with pytest.raises(errors.UnknownLanguage, match="python") as caught:
        live.code.run("1", "cobol")
    assert caught.value.fault == "the request"
    assert caught.value.status == 400


def test_a_language_and_a_context_at_once_are_refused(live):
    context = live.contexts.create("python")
    assert live.code.run("1", context=context).result == "1"
    with pytest.raises(errors.InvalidRequest):
        live.code.run("1", "bash", context=context)


def test_an_id_that_is_repeated_attaches_in_place_of_running_twice(live):
    first = live.code.run("n = globals().get('n', 0) + 1\nn", execution_id="once")
    again = live.code.run("n = globals().get('n', 0) + 1\nn", execution_id="once")
    assert (first.result, again.result, again.id) == ("1", "1", "once")
    with pytest.raises(errors.Conflict):
        live.code.run("other code", execution_id="once")


def test_a_run_longer_than_the_read_timeout_is_waited_for(server):
    with Client(server.url, server.token, timeout=Timeout(read_s=0.4)) as client, client.sessions.create() as session:
        assert session.code.run("import time\ntime.sleep(1.5)\n'slept'").result == "'slept'"
        heard = []
        assert session.code.run("import time\ntime.sleep(1.5)\nprint('slept')", on_stdout=heard.append).success
        assert heard == ["slept\n"]


def test_interrupt_stops_what_runs_and_keeps_variables(live):
    live.code.run("kept = 5")
    running = threading.Event()
    interrupting = threading.Thread(target=lambda: (running.wait(), live.interrupt()))
    interrupting.start()
    result = live.code.run("print('on', flush=True)\nimport time\ntime.sleep(60)", on_stdout=lambda text: running.set())
    interrupting.join()
    assert result.status == "interrupted"
    assert result.error.name == "KeyboardInterrupt"
    assert live.code.run("kept").result == "5"


def test_text_with_line_separators_arrives_whole(live):
    text = "a\u2028b\u0085c\x0bd"
    heard = []
    result = live.code.run(f"print({text!r})", on_stdout=heard.append)
    assert "".join(heard) == result.stdout == f"{text}\n"


def test_a_server_that_is_not_there_is_told_at_once_and_how_to_start_it():
    begun_at = time.monotonic()
    with (
        Client("http://127.0.0.1:9", "t", retries=Retry(for_s=30)) as client,
        pytest.raises(errors.ServerUnreachable, match="kernelgate serve"),
    ):
        client.sessions.create()
    assert time.monotonic() - begun_at < 5


def test_a_wrong_token_is_told(server):
    with Client(server.url, "wrong") as client, pytest.raises(errors.AuthenticationFailed, match="kernelgate token"):
        client.sessions.list()


def test_a_closed_client_says_so(server):
    client = Client(server.url, server.token)
    client.close()
    with pytest.raises(errors.InvalidUse, match="closed"):
        client.health()
