"""The cases of jupyter_kernel_test for every kernel, as they are asked through the Jupyter door. `python tests/jupyter/conformance.py` writes them into docs/jupyter.md,
between its marks; test_conformance.py runs them, and compares the page.

A case is code, and where there is more to compare, what must come of it; or a `No` with the reason why there is none.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "jupyter.md"
_BLOCK = re.compile(r"(<!-- made: conformance -->\n).*?(<!-- end -->)", re.DOTALL)

LANGUAGES = {"python": "Python", "javascript": "JavaScript", "typescript": "TypeScript", "r": "R", "java": "Java", "bash": "Bash"}


@dataclass(frozen=True)
class No:
    reason: str


def both(case: Any) -> dict[str, Any]:
    return {"javascript": case, "typescript": case}


_NO_PAGER = No("help comes as an output")
_NO_HISTORY = No("empty: frontends keep the notebook, the service keeps the executions")

#: name -> (title, language -> case). What a case is depends on its name.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "kernel_info": (
        "`kernel_info`",
        {
            "python": ("python", ".py"), "javascript": ("javascript", ".js"), "typescript": ("typescript", ".ts"), "r": ("R", ".r"),
            "java": ("java", ".jshell"), "bash": ("bash", ".sh"),
        },
    ),
    "stdout": (
        "`execute`: stdout",
        {
            "python": "print('hello, world')", **both("console.log('hello, world')"), "r": "cat('hello, world\\n')",
            "java": 'System.out.println("hello, world");', "bash": "echo hello, world",
        },
    ),
    "stderr": (
        "`execute`: stderr",
        {
            "python": "import sys; print('oops', file=sys.stderr)", **both("console.error('oops')"), "r": "message('oops')",
            "java": 'System.err.println("oops");', "bash": "echo oops >&2",
        },
    ),
    "error": (
        "`execute`: an error",
        {
            "python": "raise ValueError('no')", **both("throw new TypeError('no')"), "r": "stop('no')",
            "java": 'throw new IllegalStateException("no");', "bash": "false",
        },
    ),
    "execute_result": (
        "`execute_result`",
        {
            "python": ("6 * 7", "42"), **both(("6 * 7", "42")), "r": ("6 * 7", "[1] 42"), "java": ("6 * 7", "42"),
            "bash": No("Bash has no expressions: what a command prints is its stdout"),
        },
    ),
    "display_data": (
        "`display_data`",
        {
            "python": "from IPython.display import HTML, display; display(HTML('<b>h</b>'))", **both("$$.html('<b>h</b>')"), "r": "display_html('<b>h</b>')",
            "java": 'display(html("<b>h</b>"));', "bash": "printf '<b>h</b>' | display_html",
        },
    ),
    "clear_output": (
        "`clear_output`",
        {
            "python": "from IPython.display import clear_output; clear_output()", **both("$$.clear()"), "r": "clear_output()",
            "java": "clearOutput(false);", "bash": No("there is no command for it"),
        },
    ),
    "complete": (
        "`complete`",
        {
            "python": ("'x'.upp", "upper"), **both(("JSON.stringi", "stringify")), "r": ("read.cs", "read.csv"), "java": ('"x".toUpp', "toUpperCase("),
            "bash": ("echo $HOM", "HOME"),
        },
    ),
    "is_complete": (
        "`is_complete`: complete, incomplete, invalid",
        {
            "python": ("1 + 1", "def f():", "a b"), **both(("1 + 1", "function f() {", "let = = 1")), "r": ("1 + 1", "f(", "a b"),
            "java": ("1 + 1", "int f() {", "int x = ;"), "bash": ("echo 1", "if true; then", "}"),
        },
    ),
    "inspect": (
        "`inspect`",
        {"python": "len", **both("JSON.stringify"), "r": "mean", "java": "Math.max", "bash": "read"},
    ),
    "pager": ("The pager's payload", dict.fromkeys(LANGUAGES, _NO_PAGER)),
    "history_range": ("`history`: a range", {**dict.fromkeys(LANGUAGES, _NO_HISTORY), "python": "6 * 7"}),
    "history_other": ("`history`: the tail, a search", {**dict.fromkeys(LANGUAGES, _NO_HISTORY), "python": "6 * 7"}),
    "iopub_welcome": ("`iopub_welcome`", dict.fromkeys(LANGUAGES, No("it is the gateway that subscribes"))),
}  # fmt: skip


def cell(case: Any) -> str:
    return f"no: {case.reason}" if isinstance(case, No) else "yes"


def table() -> str:
    lines = ["| | " + " | ".join(LANGUAGES.values()) + " |", "|---" * (len(LANGUAGES) + 1) + "|"]
    for title, cases in CASES.values():
        reasons = {cell(case) for case in cases.values()}
        shown = [cell(cases[language]) for language in LANGUAGES]
        lines.append(f"| {title} | " + " | ".join([shown[0], *[""] * 5] if len(reasons) == 1 and shown[0] != "yes" else shown) + " |")
    return "\n".join(lines) + "\n"


def made(page: str) -> str:
    """The page with its made part as it should be."""
    assert _BLOCK.search(page)
    return _BLOCK.sub(lambda match: match[1] + table() + match[2], page)


if __name__ == "__main__":
    if "--print" in sys.argv:
        print(table())
    else:
        PAGE.write_text(made(PAGE.read_text()))
