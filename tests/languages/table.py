"""Writes what cases.py says into docs/languages.md, between its `<!-- made: ... -->` marks: `python tests/languages/table.py`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from tests.languages.cases import EXTRAS, LANGUAGES, ROWS, No, Row  # noqa: E402

PAGE = ROOT / "docs" / "languages.md"
_BLOCK = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def cell(row: Row, language: str) -> str:
    column = row.columns[language]
    if isinstance(column, No):
        return f"no: {column.reason}"
    note = row.notes.get(language)
    if row is ROWS["alias"]:
        spec = json.loads((ROOT / "kernelspecs" / language / "kernel.json").read_text())
        note = ", ".join(f"`{alias}`" for alias in spec["metadata"]["kernelgate"]["aliases"])
    return f"yes: {note}" if note else "yes"


def table() -> str:
    lines = ["| | " + " | ".join(LANGUAGES.values()) + " |", "|---" * (len(LANGUAGES) + 1) + "|"]
    lines += [f"| {row.title} | " + " | ".join(cell(row, language) for language in LANGUAGES) + " |" for row in ROWS.values()]
    return "\n".join(lines) + "\n"


def extras(language: str) -> str:
    return "".join(f"- {title}\n" for title in EXTRAS[language])


def made(page: str) -> str:
    """The page with its made parts as they should be."""
    return _BLOCK.sub(lambda match: match[1] + (table() if match[2] == "table" else extras(match[2])) + match[3], page)


if __name__ == "__main__":
    PAGE.write_text(made(PAGE.read_text()))
