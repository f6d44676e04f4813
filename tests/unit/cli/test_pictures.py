import base64

import pytest

from kernelgate.cli import _pictures
from kernelgate.cli._pictures import Pictures
from kernelgate.sdk import ResultItem


def encoded(content):
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-256color"}, None),
        ({}, None),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"KITTY_WINDOW_ID": "1", "TMUX": "/tmp/tmux"}, None),
        ({"KITTY_WINDOW_ID": "1", "TERM": "screen-256color"}, None),
    ],
)
def test_the_terminal_is_known_by_its_environment(environment, protocol):
    assert _pictures.protocol(environment) == protocol


def test_kitty_gets_a_png_in_pieces_that_make_it_up_again():
    png = bytes(range(256)) * 40
    sequences = _pictures.kitty(png).split("\x1b\\")[:-1]
    assert sequences[0].startswith("\x1b_Ga=T,f=100,m=1;")
    assert all(sequence.startswith("\x1b_Gm=1;") for sequence in sequences[1:-1])
    assert sequences[-1].startswith("\x1b_Gm=0;")
    pieces = [sequence.partition(";")[2] for sequence in sequences]
    assert all(len(piece) <= 4096 for piece in pieces)
    assert base64.b64decode("".join(pieces)) == png


def test_a_small_picture_is_one_piece():
    assert _pictures.kitty(b"x") == f"\x1b_Ga=T,f=100,m=0;{encoded(b'x')}\x1b\\"


def test_iterm2_gets_the_file_as_it_is():
    assert _pictures.iterm2(b"abc") == f"\x1b]1337;File=inline=1;size=3:{encoded(b'abc')}\x07"


def test_each_terminal_shows_what_it_can(tmp_path):
    png, jpeg, svg = ResultItem(png=encoded(b"p")), ResultItem(jpeg=encoded(b"j")), ResultItem(svg="<svg/>")
    kitty, iterm2 = Pictures(tmp_path, inline="kitty"), Pictures(tmp_path, inline="iterm2")
    assert kitty.inline(png)
    assert kitty.inline(jpeg) is None
    assert iterm2.inline(jpeg)
    for pictures in (kitty, iterm2, Pictures(tmp_path)):
        assert pictures.inline(svg) is None
        assert pictures.inline(ResultItem(text="t")) is None
    assert Pictures(tmp_path).inline(png) is None


def test_pictures_are_saved_under_names_that_are_free(tmp_path):
    pictures = Pictures(tmp_path / "new", "plot")
    first = pictures.save(ResultItem(png=encoded(b"1"), text="<Figure>"))
    (tmp_path / "new" / "plot-2.png").write_bytes(b"someone else's")
    third = pictures.save(ResultItem(png=encoded(b"3")))
    assert (first, third) == (tmp_path / "new" / "plot-1.png", tmp_path / "new" / "plot-3.png")
    assert (first.read_bytes(), third.read_bytes()) == (b"1", b"3")
    assert (tmp_path / "new" / "plot-2.png").read_bytes() == b"someone else's"


@pytest.mark.parametrize(
    ("item", "name"),
    [
        (ResultItem(jpeg=encoded(b"j")), "picture-1.jpg"),
        (ResultItem(svg="<svg/>"), "picture-1.svg"),
        (ResultItem(pdf=encoded(b"%PDF")), "picture-1.pdf"),
        (ResultItem(html="<b>"), "picture-1.html"),
        (ResultItem(png=encoded(b"p"), svg="<svg/>"), "picture-1.png"),
    ],
)
def test_the_suffix_is_the_kind(tmp_path, item, name):
    file = Pictures(tmp_path).save(item)
    assert file == tmp_path / name


def test_text_and_tables_are_no_pictures(tmp_path):
    assert Pictures(tmp_path).save(ResultItem(text="t", html="<table>")) is None
    assert Pictures(tmp_path).save(ResultItem(text="t")) is None
    assert list(tmp_path.iterdir()) == []
