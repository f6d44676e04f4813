import pytest

from kernelgate.cli.repl import wants_another_line


@pytest.mark.parametrize(
    ("status", "before", "after", "another"),
    [
        ("complete", "1 + 1", "", False),
        ("incomplete", "def f():", "", True),
        ("incomplete", "def f():\n    pass\n", "", True),
        # Two empty lines in a row: the kernel is wrong, or its error is wanted.
        ("incomplete", "(1 +\n\n", "", False),
        ("invalid", "1 +* 2", "", False),
        # A kernel without an opinion.
        ("unknown", "one line", "", False),
        ("unknown", "two\nlines", "", True),
        ("unknown", "two\nlines\n", "", False),
        # The cursor is in the middle of the text.
        ("complete", "a = 1", "\nb = 2", True),
        ("complete", "a = 1", "  \n", False),
    ],
)
def test_enter_runs_a_cell_or_breaks_the_line(status, before, after, another):
    assert wants_another_line(status, before, after) is another
