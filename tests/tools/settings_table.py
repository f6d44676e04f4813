"""Writes the table of docs/settings.md from kernelgate/settings.py: `python tests/tools/settings_table.py` (with --check: only says whether it is current)."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from kernelgate import settings  # noqa: E402

DOCUMENT = ROOT / "docs" / "settings.md"
START, END = "<!-- table -->\n", "<!-- end of table -->\n"


def meanings() -> dict[str, str]:
    """What stands below each field, by class and name."""
    found = {}
    for node in ast.parse((ROOT / "kernelgate" / "settings.py").read_text()).body:
        if isinstance(node, ast.ClassDef):
            for field, text in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(text, ast.Expr)
                    and isinstance(text.value, ast.Constant)
                ):
                    found[f"{node.name}.{field.target.id}"] = str(text.value.value)
    return found


def _default(key: str, value: Any) -> str:
    if key == "python.executable":
        return "kernelgate's own"
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return "`" + ",".join(value) + "`" if value else "empty"
    return f"`{value}`" if value != "" else "see there"


def table() -> str:
    texts, defaults = meanings(), settings.Settings()
    rows = ["| setting | default | means |", "|---|---|---|"]
    names = settings.keys()
    for key in names:
        section, _, name = key.rpartition(".")
        holder: msgspec.Struct = getattr(defaults, section) if section else defaults
        rows.append(f"| `{key}` | {_default(key, getattr(holder, name))} | {texts[f'{type(holder).__name__}.{name}']} |")
    return "\n".join(rows) + "\n"


def current(document: str) -> str:
    """The document with the table as it should be."""
    before, _, rest = document.partition(START)
    return before + START + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    text = DOCUMENT.read_text()
    wanted = current(text)
    if "--check" in sys.argv:
        sys.exit(text != wanted)
    DOCUMENT.write_text(wanted)
