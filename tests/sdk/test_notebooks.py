"""Notebooks run in a session, and made of one."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from kernelgate.sdk import errors

pytestmark = [pytest.mark.sandbox, pytest.mark.python]


def notebook(*sources):
    return new_notebook(cells=[new_markdown_cell("# title"), *(new_code_cell(source) for source in sources)])


def outputs(filled):
    return [[dict(output) for output in cell.outputs] for cell in filled.cells if cell.cell_type == "code"]


def test_a_notebook_comes_back_filled_in(live, tmp_path):
    given = notebook("import sys\nprint('a')\nprint('b')\nprint('e', file=sys.stderr)", "", "x = 6 * 7\nx")
    file = tmp_path / "n.ipynb"
    nbformat.write(given, file)
    filled = live.notebooks.run(file)
    nbformat.validate(filled)
    assert outputs(filled) == [
        [{"output_type": "stream", "name": "stdout", "text": "a\nb\n"}, {"output_type": "stream", "name": "stderr", "text": "e\n"}],
        [],
        [{"output_type": "execute_result", "data": {"text/plain": "42"}, "metadata": {}, "execution_count": 2}],
    ]
    assert [cell.execution_count for cell in filled.cells if cell.cell_type == "code"] == [1, None, 2]
    assert all(cell.outputs == [] for cell in nbformat.read(file, 4).cells if cell.cell_type == "code")


def test_pictures_updates_and_cleared_output_end_as_a_notebook_shows_them(live):
    filled = live.notebooks.run(
        notebook(
            "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
            "from IPython.display import clear_output, display\nhandle = display('0 %', display_id=True)",
            "handle.update('100 %')",
            "print('gone')\nclear_output(wait=True)\nprint('kept')",
            "import time\nfor n in range(3):\n    print(f'\\r{n}', end='', flush=True)",
        )
    )
    figure, display, update, cleared, carriage = outputs(filled)
    assert figure[0]["data"]["image/png"].startswith("iVBOR")
    assert display[0]["data"]["text/plain"] == "'100 %'"
    assert update == []
    assert cleared == [{"output_type": "stream", "name": "stdout", "text": "kept\n"}]
    assert carriage == [{"output_type": "stream", "name": "stdout", "text": "2"}]


def test_it_stops_at_the_first_error_unless_told_otherwise(live):
    given = notebook("1 / 0", "2")
    stopped = live.notebooks.run(given)
    assert outputs(stopped)[0][-1]["ename"] == "ZeroDivisionError"
    assert outputs(stopped)[1] == []
    assert outputs(live.notebooks.run(given, allow_errors=True))[1] != []
    given.cells[1].metadata["tags"] = ["raises-exception"]
    assert outputs(live.notebooks.run(given))[1] != []


def test_each_cell_is_told_while_it_runs(live):
    told = []
    live.notebooks.run(
        notebook("import time\nfor n in range(3):\n    print(n)\n    time.sleep(0.3)", "1 / 0"),
        on_cell=lambda state: told.append((state.index, state.number, state.total, state.state, len(state.cell.outputs))),
    )
    first = [one for one in told if one[0] == 1]
    assert first[0] == (1, 1, 2, "running", 0)
    assert (1, 1, 2, "running", 1) in first[1:-1]
    assert first[-1] == (1, 1, 2, "done", 1)
    assert told[-1] == (2, 2, 2, "done", 1)


def test_a_cell_has_its_time(live):
    filled = live.notebooks.run(notebook("import time\ntime.sleep(60)", "1"), timeout_s=0.5)
    assert outputs(filled)[0][-1]["output_type"] == "error"
    assert outputs(filled)[1] == []


def test_it_runs_where_it_is_told_to(live):
    context = live.contexts.create("python")
    live.notebooks.run(notebook("x = 1"), context=context)
    assert live.code.run("x", context=context).result == "1"
    assert live.code.run("x").success is False


@pytest.mark.bash
def test_the_notebook_says_its_language(live):
    given = notebook("echo $((6 * 7))")
    given.metadata["kernelspec"] = {"name": "bash", "display_name": "Bash"}
    assert outputs(live.notebooks.run(given))[0][0]["text"] == "42\n"


def test_what_is_no_notebook_is_refused(live):
    with pytest.raises(errors.InvalidUse):
        live.notebooks.run({"cells": 3})


@pytest.mark.bash
def test_a_session_is_exported_as_a_notebook_that_runs_again(live, client):
    live.code.run("print('a')\n6 * 7")
    live.code.run("echo $((2 * 3))", "bash")
    live.code.run("1 / 0")
    exported = live.notebooks.export()
    nbformat.validate(exported)
    assert [cell.source for cell in exported.cells] == ["print('a')\n6 * 7", "echo $((2 * 3))", "1 / 0"]
    assert [[output["output_type"] for output in cell] for cell in outputs(exported)] == [
        ["stream", "execute_result"],
        ["stream"],
        ["error"],
    ]
    assert exported.metadata.kernelspec.name == "python"
    assert [cell.source for cell in live.notebooks.export(context="bash").cells] == ["echo $((2 * 3))"]
    with pytest.raises(errors.ContextNotFound):
        live.notebooks.export(context="r")
    with client.sessions.create() as again:
        assert outputs(again.notebooks.run(exported)) == outputs(exported)
