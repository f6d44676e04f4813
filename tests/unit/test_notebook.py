import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelgate.notebook import CellOutputs, Displays, from_events, settled
from kernelgate.protocol import text


def folded(*events, displays=None):
    cell = CellOutputs(displays)
    for kind, fields in events:
        cell.add({"type": kind, "seq": 1, **fields})
    return cell


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def test_text_of_one_stream_that_follows_itself_is_one_output():
    cell = folded(("stdout", {"text": "a"}), ("stdout", {"text": "b\n"}), ("stderr", {"text": "w"}), ("stdout", {"text": "c"}))
    assert cell.outputs == [stream("ab\n"), stream("w", "stderr"), stream("c")]


def test_the_last_expression_is_the_execute_result_and_the_rest_are_displays():
    cell = folded(
        ("started", {"execution_count": 7}),
        ("result", {"result": {"text": "fig", "png": "eA==", "metadata": {"image/png": {"width": 2}}}}),
        ("result", {"result": {"text": "42", "is_main_result": True}}),
    )
    assert cell.execution_count == 7
    assert cell.outputs == [
        {"output_type": "display_data", "data": {"text/plain": "fig", "image/png": "eA=="}, "metadata": {"image/png": {"width": 2}}},
        {"output_type": "execute_result", "data": {"text/plain": "42"}, "metadata": {}, "execution_count": 7},
    ]


def test_an_error_has_its_traceback_in_lines():
    cell = folded(
        ("error", {"error": {"name": "E", "value": "v", "traceback": "one\ntwo"}}), ("end", {"success": False, "status": "error"})
    )
    assert cell.outputs == [{"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["one", "two"]}]


def test_clearing_at_once_and_clearing_at_the_next_output():
    assert folded(("stdout", {"text": "a"}), ("clear", {"wait": False})).outputs == []
    waiting = folded(("stdout", {"text": "a"}), ("clear", {"wait": True}))
    assert waiting.outputs == [stream("a")]
    waiting.add({"type": "stdout", "text": "b"})
    assert waiting.outputs == [stream("b")]
    waiting.add({"type": "stdout", "text": "c"})
    assert waiting.outputs == [stream("bc")]


def test_an_update_changes_a_display_of_an_earlier_cell_too():
    displays = Displays()
    first = folded(("result", {"result": {"text": "0 %"}, "display_id": "bar"}), displays=displays)
    second = folded(
        ("result", {"result": {"text": "0 %"}, "display_id": "bar"}),
        ("update", {"result": {"text": "100 %"}, "display_id": "bar"}),
        ("update", {"result": {"text": "?"}, "display_id": "unknown"}),
        displays=displays,
    )
    assert first.outputs[0]["data"] == second.outputs[0]["data"] == {"text/plain": "100 %"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n", "plain\n"),
        (" 10%\r 20%\r100%\n", "100%\n"),
        ("long line\rab", "abng line"),
        ("a\r\nb\r\n", "a\nb\n"),
        ("old\r\x1b[Knew", "new"),
        ("abc\b\bX", "aXc"),
        ("\b\bx", "x"),
    ],
)
def test_carriage_returns_and_backspaces_have_their_effect(text, shown):
    assert settled(text) == shown


def test_a_progress_bar_in_pieces_leaves_its_last_state():
    events = [("stderr", {"text": f"\r{percent}%"}) for percent in range(101)]
    assert folded(*events).outputs == [stream("100%", "stderr")]


@pytest.mark.parametrize(
    ("end", "name", "value"),
    [
        ({"status": "timeout"}, "timeout", "the execution ended as timeout"),
        ({"status": "kernel_died", "death": {"message": "out of memory"}}, "kernel_died", "out of memory"),
    ],
)
def test_a_cell_that_failed_without_an_error_of_its_own_gets_one(end, name, value):
    cell = folded(("end", {"success": False, **end}))
    assert cell.outputs == [{"output_type": "error", "ename": name, "evalue": value, "traceback": [value]}]


def test_output_that_the_server_cut_says_so():
    cell = folded(("stdout", {"text": "a"}), ("truncated", {"stream": "stdout", "bytes": 7}), ("stdout", {"text": "b"}))
    assert cell.outputs == [stream("a\n[... 7 bytes cut ...]\nb")]


@given(st.lists(st.sampled_from(["a", "bc", "def", "\n", "\r", "\r\n", "\b", "\x1b[K", "\x1b[1K", "\x1b[2K"]), max_size=12).map("".join))
def test_text_settles_as_it_does_in_results(printed):
    assert settled(printed) == text.settle(printed)


def event(seq, execution_id, kind, **fields):
    return {"seq": seq, "execution_id": execution_id, "type": kind, "time": 0.0, **fields}


def test_a_history_becomes_a_notebook_in_the_order_in_which_it_was_asked_for():
    made = from_events(
        [
            event(1, None, "kernel", context_id="python", event="ready"),
            event(2, "a", "queued", context_id="python", language="python", code="print(1)"),
            event(3, "b", "queued", context_id="r", language="r", code="2"),
            event(4, "b", "started", execution_count=1),
            event(5, "b", "result", result={"text": "[1] 2", "is_main_result": True}),
            event(6, "a", "started", execution_count=1),
            event(7, "c", "queued", context_id="python", language="python", code="3"),
            event(8, "a", "stdout", text="1\n"),
            event(9, "a", "end", success=True, status="ok"),
            event(10, "d", "queued", context_id="python", language="python", code="never"),
            event(11, "d", "end", success=False, status="cancelled"),
            event(12, "c", "started", execution_count=2),
        ]
    )
    nbformat.validate(made)
    assert [(cell["source"], cell["execution_count"]) for cell in made["cells"]] == [("print(1)", 1), ("2", 1), ("3", 2)]
    assert [output["output_type"] for cell in made["cells"] for output in cell["outputs"]] == ["stream", "execute_result"]
    assert made["cells"][1]["metadata"] == {"kernelgate": {"execution_id": "b", "context_id": "r", "language": "r"}}
    assert made["metadata"]["kernelspec"]["name"] == "python"


def test_an_empty_history_is_an_empty_notebook():
    made = from_events([])
    nbformat.validate(made)
    assert made["cells"] == []
