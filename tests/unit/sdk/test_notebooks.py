import nbformat
import pytest

from kernelgate.sdk import _notebooks, errors
from kernelgate.sdk._notebooks import CellOutputs, Displays, settled


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
        ("abc\b\bX", "aX"),
        ("\b\bx", "\b\bx"),
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


def test_what_is_folded_is_valid_for_nbformat():
    cell = nbformat.v4.new_code_cell("1")
    outputs = folded(
        ("started", {"execution_count": 1}),
        ("stdout", {"text": "a"}),
        ("result", {"result": {"text": "1", "is_main_result": True}}),
        ("error", {"error": {"name": "E", "value": "v"}}),
    )
    _notebooks.fill([(cell, outputs)])
    nbformat.validate(nbformat.v4.new_notebook(cells=[cell]))


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({}, "python"),
        ({"kernelspec": {"name": "python3", "display_name": "Python 3"}}, "python3"),
        ({"kernelspec": {"name": "ir"}}, "r"),
        ({"kernelspec": {"name": "JJava"}}, "java"),
        ({"language_info": {"name": "javascript"}}, "javascript"),
    ],
)
def test_a_notebook_says_its_language(metadata, language):
    assert _notebooks.language_of(metadata) == language


def test_a_notebook_is_read_from_a_path_or_an_object_and_left_as_it_was(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    file = tmp_path / "n.ipynb"
    nbformat.write(notebook, file)
    for given in (file, str(file), notebook, dict(notebook)):
        read = _notebooks.read(given)
        read.cells[0].source = "changed"
        assert notebook.cells[0].source == "1"
    assert _notebooks.text(notebook).endswith("}\n")


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}'])
def test_what_is_no_notebook_is_told_as_such(tmp_path, content):
    file = tmp_path / "n.ipynb"
    file.write_text(content)
    with pytest.raises(errors.InvalidUse):
        _notebooks.read(file)
    with pytest.raises(errors.InvalidUse, match="cannot be read"):
        _notebooks.read(tmp_path / "missing.ipynb")
