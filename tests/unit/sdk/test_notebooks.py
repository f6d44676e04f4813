import nbformat
import pytest

from kernelgate.notebook import CellOutputs
from kernelgate.sdk import _notebooks, errors


def folded(*events):
    cell = CellOutputs()
    for kind, fields in events:
        cell.add({"type": kind, "seq": 1, **fields})
    return cell


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
