"""Writes the table of docs/performance.md from benchmarks/latest.json: `python tests/tools/performance_table.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "performance.md"
MEASURED = ROOT / "benchmarks" / "latest.json"
START, END = "<!-- table -->\n", "<!-- end of table -->\n"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| | kernelgate | target | beside | | ratio |", "|---|---|---|---|---|---|"]
    for row in rows:
        peer = (row["peer"], _number(row["peer_value"]), f"{_number(row['ratio'])}x") if row["peer"] else ("", "", "")
        target = row["target"] or ""
        lines.append(f"| {row['row']} | {_number(row['value'])} {row['unit']} | {target} | {peer[0]} | {peer[1]} | {peer[2]} |")
    return "\n".join(lines) + "\n"


def current(document: str) -> str:
    """The document with the table as it should be."""
    before, _, rest = document.partition(START)
    after = rest.partition(END)[2]
    return before + START + table(json.loads(MEASURED.read_text())) + END + after


if __name__ == "__main__":
    DOCUMENT.write_text(current(DOCUMENT.read_text()))
