import io
import re

import pytest
from PIL import Image

from kernelgate.cli import _sixel


def dots_of(sequence):
    """Draws a sixel sequence as a terminal would: rows of colours."""
    body = re.fullmatch(r'\x1bPq"1;1;(\d+);(\d+)(.*)\x1b\\', sequence, re.DOTALL)
    assert body is not None
    width, height = int(body[1]), int(body[2])
    palette, rows = {}, [[None] * width for _ in range(height)]
    top = column = colour = 0
    for token in re.finditer(r"#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)(.)|([$-])|(.)", body[3]):
        if token[1]:
            colour = int(token[1])
            if token[2]:
                palette[colour] = (int(token[2]), int(token[3]), int(token[4]))
        elif token[7]:
            column, top = 0, top + 6 * (token[7] == "-")
        else:
            count, bits = (int(token[5]), ord(token[6]) - 63) if token[5] else (1, ord(token[8]) - 63)
            for _ in range(count):
                for row in range(6):
                    if bits >> row & 1:
                        rows[top + row][column] = palette[colour]
                column += 1  # noqa: SIM113  (goes on through the runs of a row)
    return rows


def test_dots_come_out_where_they_were():
    dots = bytes([0, 1, 2, 1, 1, 1, 1, 1] * 9)
    palette = [255, 0, 0, 0, 255, 0, 0, 0, 51]
    drawn = dots_of(_sixel.from_dots(dots, 8, 9, palette))
    colours = {0: (100, 0, 0), 1: (0, 100, 0), 2: (0, 0, 20)}
    assert drawn == [[colours[dot] for dot in dots[:8]]] * 9


def test_a_picture_is_encoded_whole_and_on_white():
    image = Image.new("RGBA", (30, 20), (0, 0, 255, 255))
    image.paste((0, 0, 0, 0), (0, 0, 10, 20))
    file = io.BytesIO()
    image.save(file, "PNG")
    drawn = dots_of(_sixel.encode(file.getvalue()))
    assert (len(drawn), len(drawn[0])) == (20, 30)
    assert drawn[5][3] == (100, 100, 100)
    assert drawn[19][29] == (0, 0, 100)


def test_a_wide_picture_is_made_to_fit():
    file = io.BytesIO()
    Image.new("RGB", (4000, 40)).save(file, "PNG")
    drawn = dots_of(_sixel.encode(file.getvalue()))
    assert (len(drawn), len(drawn[0])) == (10, 1000)


@pytest.mark.parametrize(
    ("answer", "has"),
    [
        (b"\x1b[?62;4;6;22c", True),
        (b"\x1b[?1;2;4c", True),
        (b"\x1b[?62;22c", False),
        (b"\x1b[?4c", False),
        (b"\x1b[?64;1;2c", False),
        (b"", False),
        (b"\x1b[?62;4", False),
    ],
)
def test_a_terminal_says_whether_it_has_sixel(answer, has):
    # The first number is the terminal's class, and 4 there is a VT132.
    assert _sixel._has_sixel(answer) is has


def test_without_a_terminal_there_is_none_to_ask():
    assert _sixel.is_supported() is False
