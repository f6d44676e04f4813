"""What every language must do, and the code that shows it: a row per behaviour, a column per language.

A column is the cells that a test runs one after the other, or a `No` with the reason why the language cannot. What is not said of a cell must not be there: no text
on a stream, no result, no error. `table.py` renders all of it into docs/languages.md; `test_languages.py` runs it.

Words in capitals stand for what the test chooses: GATE is a file that the test makes, through another kernel, when the cell may go on; MINE and THEIRS are two more.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

LANGUAGES = {"python": "Python", "javascript": "JavaScript", "typescript": "TypeScript", "r": "R", "java": "Java", "bash": "Bash"}

#: A string is compared, a pattern searched for, a function asked.
Expected = str | re.Pattern[str] | Callable[[Any], bool]

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WORDS = "ünï 日本 😀"
#: Quotes, a line break and what shells and languages would expand: values of variables must arrive as they are.
AWKWARD = 'it\'s "q" $HOME `x` \\n %s\nline 2'
BIG_LINES = 1_048_576
BIG = "".join(f"{number:09d}\n" for number in range(BIG_LINES))


@dataclass(frozen=True)
class Cell:
    """Code, and what must come of it."""

    code: str
    stdout: Expected = ""
    stderr: Expected = ""
    text: Expected | None = None
    """Of the main result."""
    main: dict[str, Any] = field(default_factory=dict)
    """More of the main result: the fields of an item."""
    shows: tuple[dict[str, Any], ...] = ()
    """What is displayed, in order."""
    error: tuple[Expected, Expected] | None = None
    """Its name and its message."""
    traceback: tuple[str, ...] = ()
    env: dict[str, str] | None = None
    more: dict[str, Any] = field(default_factory=dict)
    """What only one behaviour's test looks at."""


@dataclass(frozen=True)
class No:
    """The language cannot."""

    reason: str


@dataclass(frozen=True)
class Row:
    title: str
    columns: dict[str, tuple[Cell, ...] | No]
    notes: dict[str, str] = field(default_factory=dict)
    """What to say beside a yes."""


def both(*cells: Cell) -> dict[str, tuple[Cell, ...] | No]:
    """JavaScript is TypeScript as well."""
    return {"javascript": cells, "typescript": cells}


def is_png(value: Any) -> bool:
    return base64.b64decode(value).startswith(b"\x89PNG\r\n\x1a\n")


def png_size(width: int, height: int) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        head = base64.b64decode(value)[:24]
        return (int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")) == (width, height)

    return check


def has(*parts: str) -> Callable[[Any], bool]:
    return lambda value: all(part in value for part in parts)


#: Run first in each kernel: waiting for a file, and making one.
PRELUDE = {
    "python": "import os, time\ndef wait_for(path):\n    while not os.path.exists(path): time.sleep(0.005)\ndef touch(path): open(path, 'w').close()",
    "javascript": (
        "const fs = require('fs'), childProcess = require('child_process');\n"
        "function waitFor(path) { while (!fs.existsSync(path)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5); }\n"
        "function touch(path) { fs.writeFileSync(path, ''); }"
    ),
    "typescript": (
        "import * as fs from 'fs';\nimport * as childProcess from 'child_process';\n"
        "function waitFor(path: string): void { while (!fs.existsSync(path)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5); }\n"
        "function touch(path: string): void { fs.writeFileSync(path, ''); }"
    ),
    "r": "wait_for <- function(path) while (!file.exists(path)) Sys.sleep(0.005)\ntouch <- function(path) invisible(file.create(path))",
    "java": (
        "void waitFor(String path) { try { while (!Files.exists(Path.of(path))) Thread.sleep(5); } catch (InterruptedException e) { throw new RuntimeException(e); } }\n"
        'void touch(String path) throws IOException { Files.writeString(Path.of(path), ""); }\n'
        'String sh(String command) throws Exception { return new String(new ProcessBuilder("sh", "-c", command).start().getInputStream().readAllBytes()); }'
    ),
    "bash": 'wait_for() { until [ -e "$1" ]; do sleep 0.01; done; }\ntouch_it() { : > "$1"; }',
}

_NO_EXPRESSIONS = "Bash has no expressions: what a command prints is its stdout"
_JAVA_MINE = 'class Mine extends RuntimeException { Mine(String message) { super(message); } }\nvoid deep(int n) {\n  throw new Mine("no " + n);\n}\ndeep(5)'

ROWS: dict[str, Row] = {}

# -- what comes out --

ROWS["state"] = Row(
    "State stays from cell to cell",
    {
        "python": (Cell("x = 40\ndef f(n): return n + 2"), Cell("f(x)", text="42")),
        "javascript": (Cell("let x = 40; function f(n) { return n + 2 }"), Cell("f(x)", text="42")),
        "typescript": (Cell("let x: number = 40; function f(n: number): number { return n + 2 }"), Cell("f(x)", text="42")),
        "r": (Cell("x <- 40; f <- function(n) n + 2"), Cell("f(x)", text="[1] 42")),
        "java": (Cell("int x = 40; int f(int n) { return n + 2; }"), Cell("f(x)", text="42")),
        "bash": (Cell("x=40; f() { echo $(($1 + 2)); }"), Cell("f $x", "42\n")),
    },
)

ROWS["streams"] = Row(
    "stdout and stderr apart",
    {
        "python": (Cell("import sys; print('out'); print('err', file=sys.stderr)", "out\n", "err\n"),),
        **both(Cell("console.log('out'); console.error('err')", "out\n", "err\n")),
        "r": (Cell("cat('out\\n'); message('err')", "out\n", "err\n"),),
        "java": (Cell('System.out.println("out"); System.err.println("err");', "out\n", "err\n"),),
        "bash": (Cell("echo out; echo err >&2", "out\n", "err\n"),),
    },
)

ROWS["streamed"] = Row(
    "Output arrives while the cell runs, without a flush, in order",
    {
        "python": (Cell("import sys; sys.stdout.write('one'); sys.stderr.write('two'); wait_for('GATE'); sys.stdout.write('three')"),),
        "javascript": (
            Cell("process.stdout.write('one'); process.stderr.write('two'); waitFor('GATE'); process.stdout.write('three'); undefined"),
        ),
        "typescript": (
            Cell("process.stdout.write('one'); process.stderr.write('two'); waitFor('GATE'); process.stdout.write('three'); undefined"),
        ),
        "r": (Cell("cat('one'); cat('two', file = stderr()); wait_for('GATE'); cat('three')"),),
        "java": (Cell('System.out.print("one"); System.err.print("two"); waitFor("GATE"); System.out.print("three");'),),
        "bash": (Cell("printf one; printf two >&2; wait_for GATE; printf three"),),
    },
)

ROWS["children"] = Row(
    "Output of child processes, both streams, in order with the cell's own",
    {
        "python": (
            Cell(
                "import subprocess; print(1, end=''); subprocess.run(['sh', '-c', 'printf 2; printf x >&2']); print(3, end='')",
                "123",
                "x",
                text=None,
            ),
        ),
        **both(
            Cell(
                "process.stdout.write('1'); childProcess.spawnSync('sh', ['-c', 'printf 2; printf x >&2'], { stdio: 'inherit' }); process.stdout.write('3'); undefined",
                "123",
                "x",
            )
        ),
        "r": (Cell("cat(1); system('printf 2; printf x >&2'); cat(3)", "123", "x"),),
        "java": (
            Cell(
                'System.out.print(1); new ProcessBuilder("sh", "-c", "printf 2; printf x >&2").inheritIO().start().waitFor(); System.out.print(3);',
                "123",
                "x",
            ),
        ),
        "bash": (Cell("printf 1; sh -c 'printf 2; printf x >&2'; printf 3", "123", "x"),),
    },
)

ROWS["main"] = Row(
    "The last expression is the main result",
    {
        "python": (Cell("y = 6\ny * 7", text="42"),),
        **both(Cell("var y = 6\ny * 7", text="42")),
        "r": (Cell("y <- 6\ny * 7", text="[1] 42"),),
        "java": (Cell("int y = 6;\ny * 7", text="42"),),
        "bash": No(_NO_EXPRESSIONS),
    },
)

ROWS["statement"] = Row(
    "A statement has no result",
    {
        "python": (Cell("y = 1"), Cell("import os"), Cell("def g(): pass"), Cell("None")),
        "javascript": (Cell("let y = 1"), Cell("function g() {}"), Cell("for (;;) { break }"), Cell("undefined")),
        "typescript": (
            Cell("let y: number = 1"),
            Cell("function g(): void {}"),
            Cell("for (;;) { break }"),
            Cell("interface Nothing { n: number }"),
        ),
        "r": (Cell("y <- 1"), Cell("invisible(3)"), Cell("for (i in 1:2) i")),
        "java": (
            Cell("int y = 1;"),
            Cell("y = 2"),
            Cell("import java.util.zip.CRC32;"),
            Cell("void g() {}"),
            Cell("if (y > 0) { y = 3; }"),
        ),
        "bash": (Cell("y=1"), Cell("g() { :; }"), Cell("true")),
    },
)

_SHOWN = ({"text": "a"}, {"text": "b"})
ROWS["displays"] = Row(
    "Several displays, in order, the main result last",
    {
        "python": (Cell("display('a'); display('b'); 'c'", text="'c'", shows=({"text": "'a'"}, {"text": "'b'"})),),
        **both(Cell("$$.text('a'); $$.text('b'); 'c'", text="'c'", shows=_SHOWN)),
        "r": (Cell("'a'; 'b'; 'c'", text='[1] "c"', shows=({"text": '[1] "a"'}, {"text": '[1] "b"'})),),
        "java": (Cell('display("a"); display("b"); "c"', text="c", shows=_SHOWN),),
        "bash": (Cell("printf a | display_markdown; printf b | display_markdown", shows=({"markdown": "a"}, {"markdown": "b"})),),
    },
    {"bash": "none is the main one"},
)

# -- forms of a result --

ROWS["png"] = Row(
    "PNG",
    {
        "python": (
            Cell(
                f"import base64; from IPython.display import Image; Image(data=base64.b64decode('{PNG}'))",
                text=re.compile("Image"),
                main={"png": PNG},
            ),
        ),
        **both(Cell(f"$$.png(Buffer.from('{PNG}', 'base64'))", shows=({"png": PNG},))),
        "r": (Cell(f"display_png(base64enc::base64decode('{PNG}'))", shows=({"png": PNG},)),),
        "java": (
            Cell(f'image(Base64.getDecoder().decode("{PNG}"))', text=re.compile(""), main={"png": PNG}),
            Cell(
                "new java.awt.image.BufferedImage(4, 3, java.awt.image.BufferedImage.TYPE_INT_ARGB)",
                text=re.compile(""),
                main={"png": png_size(4, 3)},
            ),
        ),
        "bash": (Cell(f"base64 -d <<< {PNG} | display_png", shows=({"png": PNG},)),),
    },
)

_SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'
ROWS["svg"] = Row(
    "SVG",
    {
        "python": (Cell(f"from IPython.display import SVG; SVG('{_SVG}')", text=re.compile("SVG"), main={"svg": has("<svg")}),),
        **both(Cell(f"$$.svg('{_SVG}')", shows=({"svg": _SVG},))),
        "r": (Cell(f"display_svg('{_SVG}')", shows=({"svg": _SVG},)),),
        "java": (Cell('svg("<svg/>")', text=re.compile(""), main={"svg": "<svg/>"}),),
        "bash": (Cell(f"printf '{_SVG}' | display_svg", shows=({"svg": _SVG},)),),
    },
)

ROWS["html"] = Row(
    "HTML",
    {
        "python": (Cell("from IPython.display import HTML; HTML('<b>h</b>')", text=re.compile("HTML"), main={"html": "<b>h</b>"}),),
        **both(Cell("$$.html('<b>h</b>')", shows=({"html": "<b>h</b>"},))),
        "r": (Cell("display_html('<b>h</b>')", shows=({"html": "<b>h</b>"},)),),
        "java": (Cell('html("<b>h</b>")', text=re.compile(""), main={"html": "<b>h</b>"}),),
        "bash": (Cell("printf '<b>h</b>' | display_html", shows=({"html": "<b>h</b>"},)),),
    },
)

ROWS["markdown"] = Row(
    "Markdown",
    {
        "python": (Cell("from IPython.display import Markdown; Markdown('*m*')", text=re.compile("Markdown"), main={"markdown": "*m*"}),),
        **both(Cell("$$.markdown('*m*')", shows=({"markdown": "*m*"},))),
        "r": (Cell("display_markdown('*m*')", shows=({"markdown": "*m*"},)),),
        "java": (Cell('markdown("*m*")', text="*m*", main={"markdown": "*m*"}),),
        "bash": (Cell("printf '*m*' | display_markdown", shows=({"markdown": "*m*"},)),),
    },
)

ROWS["latex"] = Row(
    "LaTeX",
    {
        "python": (Cell("from IPython.display import Latex; Latex('$l$')", text=re.compile("Latex"), main={"latex": "$l$"}),),
        **both(Cell("$$.latex('$l$')", shows=({"latex": "$l$"},))),
        "r": (Cell("display_latex('$l$')", shows=({"latex": "$l$"},)),),
        "java": (Cell('latex("$l$")', text="$l$", main={"latex": "$l$"}),),
        "bash": (Cell("printf '$l$' | display_latex", shows=({"latex": "$l$"},)),),
    },
)

_JSON = {"a": [1, None, "é"]}
ROWS["json"] = Row(
    "JSON",
    {
        "python": (Cell("{'a': [1, None, 'é']}", text="{'a': [1, None, 'é']}", main={"json": _JSON}),),
        **both(Cell("({ a: [1, null, 'é'] })", text="{ a: [ 1, null, 'é' ] }", main={"json": _JSON})),
        "r": (Cell("list(a = list(1, NA, 'é'))", text=re.compile(""), main={"json": _JSON}),),
        "java": (Cell('json("{\\"a\\": [1, null, \\"é\\"]}")', text=re.compile(""), main={"json": _JSON}),),
        "bash": (Cell('display_json <<< \'{"a": [1, null, "é"]}\'', shows=({"json": _JSON},)),),
    },
)

_TABLE = {"html": has("<table", "<th", "n</th>", "&lt;b&gt;"), "text": has("n", "s", "<b>"), "data": {"n": [1, 2], "s": ["a", "<b>"]}}
ROWS["table"] = Row(
    "A table as HTML, as text and as data",
    {
        "python": (Cell("import pandas as pd; pd.DataFrame({'n': [1, 2], 's': ['a', '<b>']})", text=re.compile("<b>"), main=_TABLE),),
        **both(Cell("[{ n: 1, s: 'a' }, { n: 2, s: '<b>' }]", text=re.compile("<b>"), main=_TABLE)),
        "r": (Cell("data.frame(n = 1:2, s = c('a', '<b>'))", text=re.compile("<b>"), main=_TABLE),),
        "java": (
            Cell('record Line(int n, String s) {}\nList.of(new Line(1, "a"), new Line(2, "<b>"))', text=re.compile("<b>"), main=_TABLE),
        ),
        "bash": (Cell("printf 'n,s\\n1,a\\n2,<b>\\n' | display_table", shows=(_TABLE,)),),
    },
    {
        "python": "a pandas DataFrame",
        "javascript": "an array of objects",
        "typescript": "an array of objects",
        "r": "a data.frame",
        "java": "a list of records or maps",
        "bash": "CSV or TSV",
    },
)

ROWS["unicode"] = Row(
    "Unicode in code, names, output and results",
    {
        "python": (Cell(f"größe = '{WORDS}'; print(größe); größe", f"{WORDS}\n", text=f"'{WORDS}'"),),
        **both(Cell(f"let größe = '{WORDS}'; console.log(größe); größe", f"{WORDS}\n", text=f"'{WORDS}'")),
        "r": (Cell(f"größe <- '{WORDS}'; cat(größe, '\\n', sep = ''); größe", f"{WORDS}\n", text=f'[1] "{WORDS}"'),),
        "java": (Cell(f'String größe = "{WORDS}"; System.out.println(größe); größe', f"{WORDS}\n", text=WORDS),),
        "bash": (Cell(f"v='{WORDS}'; echo \"$v\"; echo ${{#v}}", f"{WORDS}\n{len(WORDS)}\n"),),
    },
    {"bash": "but in the names of variables, which Bash keeps to ASCII"},
)

ROWS["big"] = Row(
    "10 MB of output, whole and in order",
    {
        "python": (Cell(f"for i in range(0, {BIG_LINES}, 64): print('\\n'.join(f'{{j:09d}}' for j in range(i, i + 64)))", BIG),),
        **both(
            Cell(
                f"for (let i = 0; i < {BIG_LINES}; i += 64) console.log(Array.from({{ length: 64 }}, (_, j) => String(i + j).padStart(9, '0')).join('\\n'))",
                BIG,
            )
        ),
        "r": (Cell(f"for (i in seq(0, {BIG_LINES - 1}, 64)) cat(sprintf('%09d\\n', as.integer(i + 0:63)), sep = '')", BIG),),
        "java": (Cell(f'for (int i = 0; i < {BIG_LINES}; i++) System.out.println(String.format("%09d", i));', BIG),),
        "bash": (Cell(f"seq -f %09.0f 0 {BIG_LINES - 1}", BIG),),
    },
)

# -- errors --

ROWS["error"] = Row(
    "An error has the user's class, its message, and a traceback without frames of the kernel",
    {
        "python": (Cell("class Mine(Exception): pass\ndef deep(n):\n    raise Mine(f'no {n}')\ndeep(5)", error=("Mine", "no 5"), traceback=("deep(5)", "raise Mine", "line 3")),),
        "javascript": (Cell("class Mine extends Error {}\nfunction deep(n) {\n  throw new Mine(`no ${n}`)\n}\ndeep(5)", error=("Mine", "no 5"), traceback=("at deep (cell-", ":3:", ":5:")),),
        "typescript": (Cell("class Mine extends Error {}\nfunction deep(n: number): never {\n  throw new Mine(`no ${n}`)\n}\ndeep(5)", error=("Mine", "no 5"), traceback=("at deep (cell-", ":3:", ":5:")),),
        "r": (
            Cell(
                "deep <- function(n) {\n  stop(structure(class = c('mine', 'error', 'condition'), list(message = paste('no', n), call = sys.call())))\n}\ndeep(5)",
                error=("mine", "no 5"), traceback=("deep(5)", "line 2"),
            ),
            Cell("stop('boom')", error=("simpleError", "boom")),
        ),
        "java": (Cell(_JAVA_MINE, error=("Mine", "no 5"), traceback=("at deep (cell ", "line 3", "line 5")), Cell("1 / 0", error=("ArithmeticException", "/ by zero"))),
        "bash": (Cell("deep() {\n  return 5\n}\ndeep", error=("CommandFailed", "exit status 5"), traceback=("line 4", "deep")),),
    },
    {"r": "the condition's class", "bash": "`CommandFailed` with the exit status, Bash having no classes of errors"},
)  # fmt: skip

ROWS["syntax"] = Row(
    "A syntax error; nothing of the cell runs",
    {
        "python": (Cell("print('no')\nif", error=("SyntaxError", re.compile("invalid syntax"))),),
        "javascript": (
            Cell("console.log('no')\nlet = = 1", error=("SyntaxError", re.compile("nexpected token")), traceback=("let = = 1",)),
        ),
        "typescript": (Cell("console.log('no')\nlet a: = 1", error=("SyntaxError", re.compile("")), traceback=("let a: = 1",)),),
        "r": (Cell("cat('no')\na b", error=("ParseError", "unexpected symbol"), traceback=("2: a b",)),),
        "java": (
            Cell('System.out.println("no");\nfor (;;) {', error=("CompilationError", "line 2: reached end of file while parsing")),
            Cell(
                "int a = 1;\nint m = 1 +;", error=("CompilationError", "line 2: illegal start of expression"), traceback=("int m = 1 +;",)
            ),
        ),
        "bash": (
            Cell("echo no\nif true; then", error=("SyntaxError", "syntax error: unexpected end of file")),
            Cell("echo 'no", error=("SyntaxError", re.compile("matching `''"))),
        ),
    },
    {"java": "where brackets or quotes are left open; else what stands before the error has run, as in JShell"},
)

ROWS["empty"] = Row(
    "Empty and comment-only code",
    {
        "python": (Cell(""), Cell("  \n\t\n"), Cell("# one\n# two")),
        **both(Cell(""), Cell("  \n\t\n"), Cell("// one\n/* two */")),
        "r": (Cell(""), Cell("  \n\t\n"), Cell("# one\n# two")),
        "java": (Cell(""), Cell("  \n\t\n"), Cell("// one\n/* two */")),
        "bash": (Cell(""), Cell("  \n\t\n"), Cell("# one\n# two")),
    },
)

# -- environment --

_OWN = f"{AWKWARD}|/workspace/sub dir\n"
ROWS["context"] = Row(
    "Environment and working directory of a context",
    {
        "python": (Cell("import os; print(os.environ['KG_OWN'], os.getcwd(), sep='|')", _OWN),),
        **both(Cell("console.log(process.env.KG_OWN + '|' + process.cwd())", _OWN)),
        "r": (Cell("cat(Sys.getenv('KG_OWN'), '|', getwd(), '\\n', sep = '')", _OWN),),
        "java": (Cell('System.out.println(System.getenv("KG_OWN") + "|" + Path.of("").toAbsolutePath());', _OWN),),
        "bash": (Cell('printf \'%s|%s\\n\' "$KG_OWN" "$PWD"', _OWN),),
    },
)

_SH = 'printf \'%s|%s\' "$KG_A" "$KG_OWN"'
_ENV = {"KG_A": AWKWARD, "KG_OWN": "for once"}
_SET, _UNSET = f"{AWKWARD}|for once;{AWKWARD}|for once", f"unset|{AWKWARD};|{AWKWARD}"


def _environment(code: str, fail: str, name: str) -> tuple[Cell, ...]:
    """Printed by the code itself and by a child: changed for one execution, and then as before; also when the execution fails."""
    return (Cell(code, _SET, env=_ENV), Cell(code, _UNSET), Cell(fail, error=(name, re.compile("")), env=_ENV), Cell(code, _UNSET))


ROWS["env"] = Row(
    "Environment of one execution, seen by child processes, undone after it, also after an error",
    {
        "python": _environment(
            f"import os, subprocess; print(os.environ.get('KG_A', 'unset'), os.environ['KG_OWN'], sep='|', end=';'); x = subprocess.run({_SH!r}, shell=True)", "1 / 0", "ZeroDivisionError"
        ),
        **both(*_environment(
            f"process.stdout.write((process.env.KG_A ?? 'unset') + '|' + process.env.KG_OWN + ';'); childProcess.spawnSync('sh', ['-c', `{_SH}`], {{ stdio: 'inherit' }}); undefined",
            "throw new TypeError('x')", "TypeError",
        )),
        "r": _environment(f"cat(Sys.getenv('KG_A', 'unset'), '|', Sys.getenv('KG_OWN'), ';', sep = ''); system(r\"[{_SH}]\")", "stop('x')", "simpleError"),
        "java": _environment(
            'System.out.print(Objects.requireNonNullElse(System.getenv("KG_A"), "unset") + "|" + System.getenv("KG_OWN") + ";"); System.out.print(sh("'
            + _SH.replace('"', '\\"') + '"));', "1 / 0", "ArithmeticException",
        ),
        "bash": _environment(f"printf '%s|%s;' \"${{KG_A-unset}}\" \"$KG_OWN\"\nsh <<'X'\n{_SH}\nX", "false", "CommandFailed"),
    },
    {"java": "`System.getenv` and processes that cells start; code that asks C's own `getenv` sees what was there before"},
)  # fmt: skip

# -- input --

ROWS["stdin"] = Row(
    "Standard input, answered",
    {
        "python": (Cell("print('hello', input('Name? '))", f"hello {WORDS}\n", more={"prompt": "Name? "}),),
        **both(Cell("console.log('hello ' + prompt('Name? '))", f"hello {WORDS}\n", more={"prompt": "Name? "})),
        "r": (Cell("cat('hello', readline('Name? '), '\\n')", f"hello {WORDS} \n", more={"prompt": "Name? "}),),
        "java": (Cell('System.out.println("hello " + new Scanner(System.in).nextLine());', f"hello {WORDS}\n", more={"prompt": ""}),),
        "bash": (Cell("read -r -p 'Name? ' name; echo hello $name", f"hello {WORDS}\n", more={"prompt": "Name? "}),),
    },
)

ROWS["refused"] = Row(
    "Standard input, refused: an error at once",
    {
        "python": (Cell("input('Name? ')", error=("StdinNotImplementedError", re.compile(""))),),
        **both(Cell("prompt('Name? ')", error=("InputError", re.compile("")))),
        "r": (Cell("readline('Name? ')", error=("simpleError", re.compile(""))),),
        "java": (Cell("new Scanner(System.in).nextLine()", error=("StdinNotAllowedException", re.compile(""))),),
        "bash": (Cell("read -r name", error=("CommandFailed", "exit status 1")),),
    },
    {"bash": "the end of the file, so that `read` fails"},
)

# -- questions about code. `more`: the word that must be among the answers --

ROWS["complete"] = Row(
    "Completion",
    {
        "python": (Cell("table = {}\ntable.setdef", more={"word": "setdefault", "start": 17}),),
        **both(Cell("JSON.stringi", more={"word": "stringify", "start": 5})),
        "r": (Cell("read.cs", more={"word": "read.csv", "start": 0}),),
        "java": (Cell('"x".toUpp', more={"word": "toUpperCase(", "start": 4}),),
        "bash": (Cell("echo $HOM", more={"word": "HOME", "start": 6}),),
    },
)

ROWS["inspect"] = Row(
    "Inspection",
    {
        "python": (Cell("len", more={"text": "number of items"}),),
        **both(Cell("JSON.stringify", more={"text": "stringify"})),
        "r": (Cell("mean", more={"text": "Arithmetic Mean"}),),
        "java": (Cell("Math.max", more={"text": "int Math.max(int a, int b)"}),),
        "bash": (Cell("read", more={"text": "Read a line from the standard input"}),),
    },
)

ROWS["is_complete"] = Row(
    "Whether code is complete, incomplete or invalid",
    {
        "python": (
            Cell("1 + 1", more={"is": "complete"}),
            Cell("def f():", more={"is": "incomplete"}),
            Cell("a b", more={"is": "invalid"}),
        ),
        **both(
            Cell("1 + 1", more={"is": "complete"}),
            Cell("function f() {", more={"is": "incomplete"}),
            Cell("let = = 1", more={"is": "invalid"}),
        ),
        "r": (Cell("1 + 1", more={"is": "complete"}), Cell("f(", more={"is": "incomplete"}), Cell("a b", more={"is": "invalid"})),
        "java": (
            Cell("1 + 1", more={"is": "complete"}),
            Cell("int f() {", more={"is": "incomplete"}),
            Cell("int x = ;", more={"is": "invalid"}),
        ),
        "bash": (
            Cell("echo 1", more={"is": "complete"}),
            Cell("if true; then", more={"is": "incomplete"}),
            Cell("}", more={"is": "invalid"}),
        ),
    },
)

# -- stopping: the first cell says "go" and does not end by itself; `kept` is asked for after it --

KEEP = {
    "python": Cell("kept = 'kept'"), "javascript": Cell("let kept = 'kept'"), "typescript": Cell("let kept: string = 'kept'"), "r": Cell("kept <- 'kept'"),
    "java": Cell('String kept = "kept";'), "bash": Cell("kept=kept"),
}  # fmt: skip
KEPT = {
    "python": Cell("print(kept)", "kept\n"), **{name: Cell("console.log(kept)", "kept\n") for name in ("javascript", "typescript")}, "r": Cell("cat(kept, '\\n', sep = '')", "kept\n"),
    "java": Cell("System.out.println(kept);", "kept\n"), "bash": Cell("echo $kept", "kept\n"),
}  # fmt: skip
_STOPPED = ("KeyboardInterrupt", re.compile(""))


def _stopped(code: str) -> Cell:
    return Cell(code, re.compile("^go"), error=_STOPPED)


ROWS["interrupt_busy"] = Row(
    "Interrupt of a busy loop: it is really gone, state is kept",
    {
        "python": (_stopped("print('go')\nwhile True: pass"),),
        **both(_stopped("console.log('go'); while (true) {}"), _stopped("console.log('go'); while (true) await null")),
        "r": (_stopped("cat('go\\n'); while (TRUE) {}"),),
        "java": (_stopped('System.out.println("go"); while (true) { }'),),
        "bash": (_stopped("echo go; while :; do :; done"),),
    },
)

ROWS["interrupt_writing"] = Row(
    "Interrupt of a loop that writes a file: the file stops growing",
    {
        "python": (_stopped("print('go')\nwhile True:\n    with open('GATE', 'a') as file: file.write('x')"),),
        **both(
            _stopped("console.log('go'); while (true) { fs.appendFileSync('GATE', 'x'); }"),
            _stopped("console.log('go'); while (true) await fs.promises.appendFile('GATE', 'x')"),
        ),
        "r": (_stopped("cat('go\\n'); repeat cat('x', file = 'GATE', append = TRUE)"),),
        "java": (
            _stopped(
                'System.out.println("go"); while (true) { Files.writeString(Path.of("GATE"), "x", StandardOpenOption.CREATE, StandardOpenOption.APPEND); }'
            ),
        ),
        "bash": (_stopped("echo go; while :; do printf x >> GATE; done"),),
    },
)

ROWS["interrupt_sleep"] = Row(
    "Interrupt of a sleep",
    {
        "python": (_stopped("print('go'); time.sleep(600)"),),
        **both(_stopped("console.log('go'); await new Promise((done) => setTimeout(done, 600000))")),
        "r": (_stopped("cat('go\\n'); Sys.sleep(600)"),),
        "java": (_stopped('System.out.println("go"); Thread.sleep(600000);'),),
        "bash": (_stopped("echo go; sleep 600"),),
    },
)

ROWS["interrupt_wait"] = Row(
    "Interrupt of a wait: for a child process (which ends as well), for a lock",
    {
        "python": (
            _stopped("import subprocess; print('go'); subprocess.run(['sleep', '613'])"),
            _stopped("import threading; print('go'); threading.Event().wait()"),
        ),
        **both(
            _stopped("console.log('go'); childProcess.spawnSync('sleep', ['613'])"),
            _stopped("console.log('go'); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)"),
            _stopped("console.log('go'); await new Promise(() => {})"),
        ),
        "r": (_stopped("cat('go\\n'); system('sleep 613')"), _stopped("cat('go\\n'); system('sleep 613', intern = TRUE)")),
        "java": (
            _stopped('System.out.println("go"); new ProcessBuilder("sleep", "613").start().waitFor();'),
            _stopped('System.out.println("go"); new CountDownLatch(1).await();'),
        ),
        "bash": (_stopped("echo go; (sleep 613)"), _stopped("sleep 613 & echo go; wait")),
    },
    {"r": "children alone: R has no locks", "bash": "children alone; a background job goes on, as in a terminal"},
)

ROWS["timeout"] = Row(
    "A timeout interrupts; the next cell finds the variables",
    {
        "python": (Cell("while True: pass"),),
        **both(Cell("while (true) {}")),
        "r": (Cell("while (TRUE) {}"),),
        "java": (Cell("while (true) { }"),),
        "bash": (Cell("while :; do :; done"),),
    },
)

# -- the end of a kernel. `more`: what its death says --

ROWS["exit"] = Row(
    "A call of exit: death reported, output kept, a fresh kernel next, told so",
    {
        "python": (Cell("print('bye'); exit(3)"),),
        **both(Cell("console.log('bye'); process.exit(3)")),
        "r": (Cell("cat('bye\\n'); quit(status = 3)"),),
        "java": (Cell('System.out.println("bye"); System.exit(3);'),),
        "bash": (Cell("echo bye; exit 3"),),
    },
)

ROWS["crash"] = Row(
    "A crash: death reported with its signal, a fresh kernel next, told so",
    {
        "python": (Cell("import ctypes; ctypes.string_at(0)", more={"signal": "SIGSEGV"}),),
        **both(Cell("process.abort()", more={"signal": "SIGABRT"})),
        "r": (
            Cell(
                "dyn.load(sub('.* ', '', grep('/libc[.-]', readLines('/proc/self/maps'), value = TRUE)[1])); .C('abort')",
                more={"signal": "SIGABRT"},
            ),
        ),
        "java": (
            Cell(
                'var theUnsafe = Class.forName("sun.misc.Unsafe").getDeclaredField("theUnsafe"); theUnsafe.setAccessible(true);'
                " ((sun.misc.Unsafe) theUnsafe.get(null)).putAddress(0, 0);",
                more={"exit_code": 1},
            ),
        ),
        "bash": (Cell("ulimit -S -s 1024; f() { f; }; f", more={"signal": "SIGSEGV"}),),
    },
    {
        "python": "segmentation fault",
        "javascript": "abort",
        "typescript": "abort",
        "r": "abort in C",
        "java": "a write to address 0, of which the JVM reports on stdout and exits with status 1",
        "bash": "endless recursion",
    },
)

ROWS["late"] = Row(
    "Output after the end: attributed, marked late, not lost",
    {
        "python": (
            Cell(
                "import threading\nthreading.Thread(target=lambda: (wait_for('GATE'), print('late'))).start()\nprint('now')",
                "now\n",
                more={"own": True},
            ),
        ),
        **both(
            Cell(
                "const poll = setInterval(() => { if (fs.existsSync('GATE')) { clearInterval(poll); console.log('late'); } }, 5); console.log('now')",
                "now\n",
                more={"own": True},
            )
        ),
        "r": (Cell("system('(until [ -e GATE ]; do sleep 0.01; done; echo late) &'); cat('now\\n')", "now\n", more={"own": False}),),
        "java": (
            Cell(
                'new Thread(() -> { waitFor("GATE"); System.out.println("late"); }).start(); System.out.println("now");',
                "now\n",
                more={"own": True},
            ),
        ),
        "bash": (Cell("{ wait_for GATE; echo late; } &\necho now", "now\n", more={"own": False}),),
    },
    {"r": "of a child process; it belongs to the last cell", "bash": "of a background job; it belongs to the last cell"},
)

# -- kernels beside each other --

ROWS["apart"] = Row(
    "Two contexts of one language share no state (set in the one, looked for in the other)",
    {
        "python": (Cell("only_here = 1"), Cell("only_here", error=("NameError", re.compile("only_here")))),
        **both(Cell("var onlyHere = 1"), Cell("onlyHere", error=("ReferenceError", re.compile("onlyHere")))),
        "r": (Cell("only_here <- 1"), Cell("only_here", error=("simpleError", re.compile("only_here")))),
        "java": (Cell("int onlyHere = 1;"), Cell("onlyHere", error=("CompilationError", re.compile("onlyHere")))),
        "bash": (Cell("only_here=1"), Cell("echo ${only_here-unset}", "unset\n")),
    },
)

ROWS["at_once"] = Row(
    "Two contexts of one language run at once (each waits for the other)",
    {
        "python": (Cell("touch('/workspace/MINE'); wait_for('/workspace/THEIRS'); print('met')", "met\n"),),
        **both(Cell("touch('/workspace/MINE'); waitFor('/workspace/THEIRS'); console.log('met')", "met\n")),
        "r": (Cell("touch('/workspace/MINE'); wait_for('/workspace/THEIRS'); cat('met\\n')", "met\n"),),
        "java": (Cell('touch("/workspace/MINE"); waitFor("/workspace/THEIRS"); System.out.println("met");', "met\n"),),
        "bash": (Cell("touch_it /workspace/MINE; wait_for /workspace/THEIRS; echo met", "met\n"),),
    },
)

ROWS["handover"] = Row(
    "A file written by Python is read, one it writes is read by Python",
    {
        "python": (Cell("print(open('GATE').read(), end=''); open('MINE', 'w').write('back ' + open('GATE').read()); None", f"{WORDS}\n"),),
        **both(
            Cell(
                "const got = fs.readFileSync('GATE', 'utf8'); process.stdout.write(got); fs.writeFileSync('MINE', 'back ' + got)",
                f"{WORDS}\n",
            )
        ),
        "r": (Cell("got <- readLines('GATE'); cat(got, '\\n', sep = ''); writeLines(paste('back', got), 'MINE')", f"{WORDS}\n"),),
        "java": (
            Cell(
                'String got = Files.readString(Path.of("GATE")); System.out.print(got); Path made = Files.writeString(Path.of("MINE"), "back " + got);',
                f"{WORDS}\n",
            ),
        ),
        "bash": (Cell('got=$(cat GATE); echo "$got"; echo "back $got" > MINE', f"{WORDS}\n"),),
    },
)

ROWS["alias"] = Row(
    "Its other names, in any case",
    dict.fromkeys(LANGUAGES, ()),
)

# -- what one language has besides --

EXTRAS: dict[str, dict[str, tuple[Cell, ...]]] = {
    "python": {
        "Top-level `await`": (Cell("import asyncio\nawait asyncio.sleep(0, 'slept')", text="'slept'"),),
        "A matplotlib figure is a PNG and chart data": (
            Cell(
                "import matplotlib.pyplot as plt\nplt.plot([1, 2], [3, 4]); plt.title('T'); plt.show()",
                shows=({"png": is_png, "chart": lambda chart: (chart["type"], chart["title"], chart["elements"][0]["points"]) == ("line", "T", [[1, 3], [2, 4]])},),
            ),
        ),
        "Magics and `!command`": (Cell("!echo out; echo err >&2", "out\n", "err\n"), Cell("%%bash\necho cell", "cell\n")),
    },
    "javascript": {
        "Top-level `await`, a promise as last value resolved": (
            Cell("const six = await Promise.resolve(6)\nsix * 7", text="42"),
            Cell("(async () => 'resolved')()", text="'resolved'"),
            Cell("Promise.reject(new RangeError('no'))", error=("RangeError", "no")),
        ),
        "ESM `import` and `require`": (
            Cell("import { basename } from 'node:path'; import os, { EOL } from 'os'\nbasename('/a/b') + EOL.length + typeof os.cpus", text="'b1function'"),
            Cell("require('path').basename('/a/c')", text="'c'"),
            Cell("fs.writeFileSync('own.mjs', 'export default 5; export const seven = 7')"), Cell("import five, * as own from './own.mjs'\n[five, own.seven]", text="[ 5, 7 ]", main={"json": [5, 7]}),
        ),
        "`let`, `const` and classes declared again": (
            Cell("let again = 1; const fixed = 1; class Again { n = 1 }"),
            Cell("let again = 2; const fixed = 2; class Again { n = 2 }\n`${again} ${fixed} ${new Again().n}`", text="'2 2 2'"),
            Cell("fixed = 3", error=("TypeError", "Assignment to constant variable.")),
        ),
        "`console.table`": (Cell("console.table([{ a: 1, b: 'x' }])", has("│ (index) │ a", "│ 0       │ 1")),),
        "`$$`, IJavascript's displays": (
            Cell("$$.async(); setTimeout(() => $$.sendResult('sent'), 1)", text="'sent'"),
            Cell("$$.mime({ 'text/html': '<i>m</i>', 'text/plain': 'm' })", shows=({"html": "<i>m</i>", "text": "m"},)),
            Cell("$$html$$ = '<u>old</u>'; undefined", shows=({"html": "<u>old</u>"},)),
        ),
    },
    "typescript": {
        "Types, interfaces, generics, enums, namespaces": (
            Cell("interface Point { x: number; y?: number }\ntype Named<T> = T & { name: string }\nenum Colour { Red = 3, Green }\nnamespace Space { export const n = 7 }"),
            Cell("const p: Named<Point> = { x: 1, name: 'p' };\nfunction first<T>(all: T[]): T { return all[0]! }\n`${p.name} ${first<number>([5])} ${Colour.Green} ${Colour[3]} ${Space.n}`", text="'p 5 4 Red 7'"),
        ),
        "Classes with modifiers and parameter properties": (
            Cell("abstract class Shape { constructor(protected readonly side: number) {} abstract area(): number }\nclass Square extends Shape { override area(): number { return this.side ** 2 } }\nnew Square(3).area()", text="9"),
        ),
        "`let`, `const`, classes and enums declared again": (
            Cell("let again: number = 1; const fixed = 1 as const; class Again { n = 1 }\nenum Kind { A }"),
            Cell("let again: string = 'two'; const fixed = 2; class Again { n: number = 2 }\nenum Kind { B = 'b' }\n`${again} ${fixed} ${new Again().n} ${Kind.B}`", text="'two 2 2 b'"),
        ),
        "`.ts` files of the workspace": (
            Cell("fs.writeFileSync('/workspace/mine.ts', 'export enum Size { Small = 1, Large }\\nexport const twice = (n: number): number => 2 * n;')"),
            Cell("import { twice, Size } from '/workspace/mine'\ntwice(Size.Large)", text="4"),
        ),
        "Top-level `await` and `import`": (
            Cell("import { basename } from 'node:path';\nconst five: number = await Promise.resolve(5)\nbasename('/a/b') + five", text="'b5'"),
            Cell("(async (): Promise<string> => 'resolved')()", text="'resolved'"),
        ),
    },
    "r": {
        "Plots as PNG and SVG, with size and resolution": (
            Cell("options(repr.plot.width = 4, repr.plot.height = 3, repr.plot.res = 100)\nplot(1:3)", shows=({"png": png_size(400, 300), "svg": re.compile('width="288pt" height="216pt"')},)),
            Cell("options(repr.plot.res = 50)\nplot(1); plot(2)", shows=({"png": png_size(200, 150)}, {"png": png_size(200, 150)})),
        ),
        "ggplot2": (Cell("library(ggplot2)\nggplot(data.frame(x = 1:2, y = 3:4), aes(x, y)) + geom_point()", shows=({"png": png_size(200, 150)},)),),
        "Warnings and messages on stderr": (Cell("warning('careful'); message('told'); cat('out')", "out", re.compile(r"(?s)told.*careful|careful.*told")),),
        "Visible values are displays, the last one main; invisible ones are not": (
            Cell("1\ninvisible(2)\n(invisible(3))\nx <- 4\nif (TRUE) 5", text="[1] 5", shows=({"text": "[1] 1"}, {"text": "[1] 3"})),
        ),
        "Conditions are named": (
            Cell("stop('x')", error=("simpleError", "x")),
            Cell("rlang::abort('x', class = 'my_condition')", error=("my_condition", "x")),
            Cell("tryCatch(warning('w'), warning = function(w) class(w)[1])", text='[1] "simpleWarning"'),
        ),
    },
    "java": {
        "`display()` without a stray id": (Cell('display("hi")', shows=({"text": "hi"},)),),
        "Bare statements, classes, imports, in one cell": (
            Cell("import java.time.LocalDate;\nclass Box<T> { final T t; Box(T t) { this.t = t; } }\nvar sum = 0;\nfor (int i = 1; i <= 4; i++) sum += i;\nnew Box<>(LocalDate.of(2024, 1, sum)).t", text="2024-01-10"),
        ),
        "The compiler's diagnostics are the message, with line and caret": (
            Cell('int a = 1;\nString t = a;', error=("CompilationError", "line 2: incompatible types: int cannot be converted to java.lang.String"), traceback=("String t = a;", "^")),
        ),
        "Images": (
            Cell(
                'var picture = new java.awt.image.BufferedImage(8, 5, java.awt.image.BufferedImage.TYPE_INT_RGB);\nvar g = picture.createGraphics(); g.fillRect(1, 1, 3, 3); display(picture, "image/jpeg"); picture',
                text=re.compile(""), main={"png": png_size(8, 5)}, shows=({"jpeg": lambda value: base64.b64decode(value).startswith(b"\xff\xd8")},),
            ),
        ),
    },
    "bash": {
        "The exit status is the error, and `$?` of the next cell": (Cell("(exit 3)", error=("CommandFailed", "exit status 3")), Cell("echo $?", "3\n"), Cell("false || true")),
        "Unbalanced input is refused, it does not hang": (
            Cell("echo 'open", error=("SyntaxError", re.compile("unexpected EOF"))),
            Cell("for i in 1 2; do echo $i", error=("SyntaxError", re.compile("unexpected end of file"))),
            Cell("echo $((1 + 2", error=("SyntaxError", re.compile("unexpected"))),
            Cell("cat <<X\nno end", "no end\n", re.compile("here-document")),
        ),
        "Variables, arrays, functions and the working directory stay": (
            Cell("mkdir -p 'a b'; cd 'a b'; list=(1 'two words'); declare -A map=([k]=v); shopt -s extglob"),
            Cell("basename \"$PWD\"; echo \"${#list[@]} ${list[1]} ${map[k]} ${PWD/+(a) b/}\"; cd ..", re.compile(r"^a b\n2 two words v /")),
        ),
    },
}  # fmt: skip
