"""The notebooks in notebooks/: each runs from its first cell to its last, and shows what its file shows."""

import base64
from pathlib import Path

import nbformat
import pytest

pytestmark = [pytest.mark.sandbox]

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
LANGUAGES = ["bash", "java", "javascript", "python", "r", "typescript"]


def kinds(notebook):
    """What each cell shows, without what may differ from run to run."""
    return [
        [(one.output_type, sorted(one.get("data", {})) or one.get("name") or one.get("ename")) for one in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def pictures(notebook):
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                yield base64.b64decode(data["image/png"])
            elif "image/svg+xml" in data:
                yield data["image/svg+xml"].encode()


def test_there_is_one_for_each_language():
    assert sorted(file.stem for file in FOLDER.glob("*.ipynb")) == LANGUAGES


@pytest.mark.parametrize("language", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in LANGUAGES])
def test_it_runs_and_shows_what_its_file_shows(live, language):
    file = FOLDER / f"{language}.ipynb"
    kept = nbformat.read(file, 4)
    nbformat.validate(kept)
    assert kept.metadata.kernelspec.name == language
    filled = live.notebooks.run(file)
    nbformat.validate(filled)
    assert not any(kind == "error" for cell in kinds(filled) for kind, _ in cell)
    assert kinds(filled) == kinds(kept)
    drawn = list(pictures(filled))
    assert drawn
    assert all(picture.startswith((b"\x89PNG\r\n", b"<svg")) and len(picture) > 300 for picture in drawn)
    assert len(list(pictures(kept))) == len(drawn)
