"""The table of docs/performance.md is what was measured, and nothing else."""

import json

from tests.tools import performance_table


def test_the_table_is_what_was_measured():
    text = performance_table.DOCUMENT.read_text()
    assert performance_table.current(text) == text, "run: python tests/tools/performance_table.py"


def test_each_row_says_what_it_is():
    rows = json.loads(performance_table.MEASURED.read_text())
    assert rows
    for row in rows:
        assert set(row) == {"row", "value", "unit", "target", "peer", "peer_value", "ratio"}
        assert (row["peer"] is None) == (row["ratio"] is None)
