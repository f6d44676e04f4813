"""The JavaScript kernel, and TypeScript on it, against docs/kernels.md, point by point."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kernel_client import Kernel, hears_a_namesake, is_gone

pytestmark = pytest.mark.javascript

DATA = "application/vnd.kernelgate.data+json"


@pytest.fixture(scope="module")
def js() -> Iterator[Kernel]:
    kernel = Kernel("javascript")
    yield kernel
    kernel.close()


@pytest.fixture
def fresh_js() -> Iterator[Kernel]:
    kernel = Kernel("javascript", "tcp")
    yield kernel
    kernel.close()


@pytest.fixture(scope="module")
def ts() -> Iterator[Kernel]:
    kernel = Kernel("typescript")
    yield kernel
    kernel.close()


def text(kernel: Kernel, code: str) -> str | None:
    cell = kernel.run(code)
    assert cell.error is None
    return cell.result["text/plain"] if cell.result else None


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("6*7", "42"),
        ('"a"', "'a'"),
        ("null", "null"),
        ("", None),
        ("// nothing", None),
        ("undefined", None),
        ("let r1 = 1", None),
        ("r1 = 2", None),
        ("if (true) { 5 }", None),
        ("await 5", "5"),
        ("const r2 = await Promise.resolve(2)\nawait null\nr2", "2"),
        ("Promise.resolve(7)", "7"),
        ("let s = 1\nawait 0\n;[s].length", "1"),
        ("for (var i = 0; i < 3; i++); i", "3"),
        ("const {a: [b = 5], ...rest} = {a: [], c: 1};\n[b, rest]", "[ 5, { c: 1 } ]"),
        ("const crypto = require('crypto'); globalThis.crypto === crypto", "false"),
        (
            "import fs, {readFileSync as read} from 'node:fs'; import * as p from 'path'; typeof fs.stat + typeof read + p.sep",
            "'functionfunction/'",
        ),
        ("const {join} = await import('path'); join('a', 'b')", "'a/b'"),
        ("export const e = 3; e", "3"),
        ("(async () => { for await (const x of [1]) return `${await x}`; })()", "'1'"),
        ("'x'.repeat(20000).length + ''", "'20000'"),
    ],
)
def test_the_last_expression_is_the_result(js: Kernel, code: str, result: str | None) -> None:
    assert text(js, code) == result


def test_names_are_declared_again_in_any_kind(js: Kernel) -> None:
    kinds = [
        "let again = 1",
        "const again = 1",
        "var again = 1",
        "class again {}",
        "function again() {}",
        "import again from 'fs'",
        "let again = await 1",
    ]
    for code in [*kinds, *reversed(kinds)]:
        assert js.run(code).error is None, code
    js.run("const fixed = 1; function assign() { fixed = 2 }")
    assert js.run("assign()").error == ("TypeError", "Assignment to constant variable.")
    assert js.run("fixed = 3").error == ("TypeError", "Assignment to constant variable.")
    assert text(js, "let fixed\nfixed === undefined") == "true"


def test_modules_of_the_working_directory(js: Kernel) -> None:
    Path(js.directory, "own.mjs").write_text("export default 'd'; export const n = 'n'; export const here = import.meta.url")
    Path(js.directory, "own.cjs").write_text("exports.c = __filename")
    package = Path(js.directory, "node_modules", "only-esm")
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"name": "only-esm", "type": "module", "exports": {"import": "./i.js"}}')
    (package / "i.js").write_text("export const esm = 1")
    assert text(js, "import d, {n} from './own.mjs'; import {esm} from 'only-esm'; d + n + esm") == "'dn1'"
    assert text(js, "require('./own.cjs').c.endsWith('own.cjs')") == "true"
    assert js.run("import {nope} from './own.mjs'").error == (
        "SyntaxError",
        "The requested module './own.mjs' does not provide an export named 'nope'",
    )
    assert js.run("import 'not-there'").error


def test_mime_types(js: Kernel) -> None:
    table = js.run("[{a: 1, b: 'x'}, {a: NaN, c: new Date(0)}]").result
    assert table
    assert table[DATA] == {"a": [1, None], "b": ["x", None], "c": [None, "1970-01-01T00:00:00.000Z"]}
    assert "<td>x</td>" in table["text/html"]
    assert js.run("({a: [1, null]})").result == {"text/plain": "{ a: [ 1, null ] }", "application/json": {"a": [1, None]}}
    assert set(js.run("({f() {}})").result or {}) == {"text/plain"}
    assert "image/png" in (js.run("Buffer.from('89504e470d0a1a0a00', 'hex')").result or {})
    assert "application/geo+json" in (js.run("({type: 'Point', coordinates: [1, 2]})").result or {})
    assert (js.run("({_toHtml() { return '<i>' }})").result or {})["text/html"] == "<i>"


def test_displays_in_order(js: Kernel) -> None:
    cell = js.run("$$.html('<b>'); console.log('x'); $$.svg('<svg/>'); $$.png(Buffer.from('abc')); $$.mime({'text/latex': 'l'}); 5")
    assert cell.displays == [{"text/html": "<b>"}, {"image/svg+xml": "<svg/>"}, {"image/png": "YWJj"}, {"text/latex": "l"}]
    assert cell.order == ["display_data", "stdout", "display_data", "display_data", "display_data", "execute_result"]
    assert text(js, "$$.async(); setTimeout(() => $$.sendResult(9), 5); 1") == "9"
    assert js.run("$$.sendError(new RangeError('r'))").error == ("RangeError", "r")
    assert js.run("const shown = $$.display('id'); shown.text('1'); shown.text('2')").displays == [{"text/plain": "1"}]


def test_streams_are_apart_and_in_order(js: Kernel) -> None:
    cell = js.run("for (let i = 0; i < 3; i++) { console.log('o' + i); console.error('e' + i) } console.table([{k: 1}])")
    assert cell.order[:6] == ["stdout", "stderr"] * 3
    assert "│ k │" in cell.stdout
    cell = js.run(
        "console.log('a'); require('fs').writeSync(1, 'raw\\n'); require('child_process').execSync('echo child; echo bad >&2', {stdio: 'inherit'});"
        "await new Promise((done) => require('child_process').spawn('echo', ['spawned'], {stdio: 'inherit'}).on('exit', done)); console.log('z')"
    )
    assert (cell.stdout, cell.stderr) == ("a\nraw\nchild\nspawned\nz\n", "bad\n")
    assert js.run("process.stdout.write('語😀'.repeat(3)); 0").stdout == "語😀" * 3


@pytest.mark.slow
def test_ten_megabytes_arrive_whole(js: Kernel) -> None:
    cell = js.run("for (let i = 0; i < 100000; i++) console.log(String(i).padStart(99, 'é')); process.stdout.write('y'.repeat(5e6)); 0")
    assert cell.stdout == "".join(f"{i}".rjust(99, "é") + "\n" for i in range(100_000)) + "y" * 5_000_000


@pytest.mark.parametrize(
    ("code", "error", "traceback"),
    [
        ("function f() {\n  throw new TypeError('t')\n}\nf()", ("TypeError", "t"), "    at f (cell-N:2:9)\n    at cell-N:4:1"),
        ("class Mine extends Error {}; throw new Mine('m')", ("Mine", "m"), "    at cell-N:1:36"),
        (
            "const g = async () => { await 0; null.x }; await g()",
            ("TypeError", "Cannot read properties of null (reading 'x')"),
            "    at async cell-N:1:44",
        ),
        ("throw 5", ("number", "5"), "Uncaught 5"),
        ("unheard", ("ReferenceError", "unheard is not defined"), "unheard\n^"),
        ("let ok = 1;\nfoo(]", ("SyntaxError", "Unexpected token ']' (2:5)"), "foo(]\n    ^"),
        ("await foo(;", ("SyntaxError", "Unexpected token ';' (1:11)"), "await foo(;\n          ^"),
    ],
)
def test_errors_are_the_users(js: Kernel, code: str, error: tuple[str, str], traceback: str) -> None:
    cell = js.run(code)
    assert cell.error == error
    shown = "\n".join(cell.reply["traceback"])
    assert traceback.replace("-N", f"-{cell.reply['execution_count']}") in shown
    assert not any(word in shown for word in ("engine.js", "node:internal", "$$kernelgate", "node:vm"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "wait",
    [
        "while (true) {}",
        "while (true) { await null }",
        "await new Promise(() => {})",
        "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)",
        "require('child_process').execSync('sleep 60; echo')",
        "for (;;) { await new Promise((r) => setTimeout(r, 1)); ticks++ }",
        "for (;;) { await require('fs').promises.stat('/'); ticks++ }",
        "setInterval(() => ticks++, 1); await new Promise(() => {})",
        "await new Promise((r) => setTimeout(r, 1)); for (;;);",
        "setTimeout(() => { for (;;); }); await new Promise(() => {})",
        "const again = () => process.nextTick(again); again(); await new Promise(() => {})",
        "for (;;) { try { await Promise.reject(1) } catch {} }",
    ],
)
def test_interrupts_keep_the_state(js: Kernel, wait: str) -> None:
    js.run("var ticks = 0, state = 'kept'")
    cell = js.run(f"process.env.LEFT = 'x'; console.log('go')\n{wait}", interrupt_at="go", env={"LEFT": "1"})
    assert cell.error
    assert cell.error[0] == "KeyboardInterrupt"
    assert cell.interrupted_s < 1
    before = text(js, "ticks")
    assert (
        text(js, "await new Promise((r) => setTimeout(r, 50)); console.log('on'); `${state} ${process.env.LEFT} ${ticks}`")
        == f"'kept undefined {before}'"
    )
    children = Path(f"/proc/{js.pid}/task/{js.pid}/children")
    assert not children.exists() or children.read_text() == ""


def test_environment_of_one_execution(js: Kernel) -> None:
    js.run("process.env.KEPT = 'own'")
    shown = "require('child_process').execSync('printf %s \"$ONE,$KEPT\"').toString()"
    assert text(js, f"process.env.ONE + {shown}") == "'undefined,own'"
    cell = js.run(f"process.env.ONE + {shown}", env={"ONE": 'q"\\n', "KEPT": "other"})
    assert cell.result == {"text/plain": "'q\"\\\\nq\"\\\\n,other'"}
    js.run("process.env.KEPT = 'changed'; throw 1", env={"KEPT": "tmp"})
    assert text(js, "[process.env.ONE, process.env.KEPT].join()") == "',own'"


def test_input(js: Kernel) -> None:
    cell = js.run("prompt('name? ') + await $$.input({prompt: 'word', password: true})", answers=["bob", "secret"])
    assert cell.result == {"text/plain": "'bobsecret'"}
    assert cell.prompts == [("name? ", False), ("word", True)]
    readline = "const lines = require('readline/promises').createInterface({input: process.stdin, output: process.stdout}); const line = await lines.question('q? '); lines.close(); line"
    cell = js.run(readline, answers=["l"])
    assert (cell.stdout, cell.result) == ("q? ", {"text/plain": "'l'"})
    for code in ("prompt('no')", "await $$.input({prompt: 'no'})", readline):
        cell = js.run(code)
        assert cell.error == ("InputError", "this execution does not allow input (allow_stdin is false)"), code
        assert cell.took_s < 1


def test_late_output_belongs_to_its_cell(js: Kernel) -> None:
    first = js.send(
        "globalThis.late = new Promise((r) => setTimeout(() => { console.log('late'); r() }, 60)); setTimeout(() => { throw new TypeError('boom') }, 90); 0"
    )
    js.reply(first)
    cell = js.run("await late; console.log('mine')")
    assert cell.stdout == "mine\n"
    # Read again from the other cell's side: nothing of it is lost.
    second = js.send("setTimeout(() => console.log('later'), 30)")
    seen = [js.next_stream() for _ in range(2)]
    assert ("stderr", first) in [(s["name"], s["parent"]) for s in seen]
    assert ("later\n", second) in [(s["text"], s["parent"]) for s in seen]
    js.reply(second)


def test_complete_inspect_is_complete(js: Kernel) -> None:
    js.run("let counter = {apples: 1}")
    assert js.ask("complete_request", code="x = counter.ap", cursor_pos=14)["matches"] == ["apples"]
    assert "counter" in js.ask("complete_request", code="cou", cursor_pos=3)["matches"]
    assert js.ask("complete_request", code="'😀'.padS", cursor_pos=8)["cursor_start"] == 4
    assert "child_process" in js.ask("complete_request", code="require('chi", cursor_pos=12)["matches"]
    assert "largest" in js.ask("inspect_request", code="Math.max(", cursor_pos=9, detail_level=0)["data"]["text/plain"]
    assert not js.ask("inspect_request", code="nothing_here", cursor_pos=4, detail_level=0)["found"]
    for code, status in {
        "1+1": "complete",
        "await f(": "incomplete",
        "if (x) {": "incomplete",
        "`a": "incomplete",
        "let = = 1": "invalid",
    }.items():
        assert js.ask("is_complete_request", code=code)["status"] == status, code


def test_kernel_info_is_answered_while_a_cell_runs(js: Kernel) -> None:
    waiting = js.send("await new Promise((r) => setTimeout(r, 100))")
    assert js.ask("kernel_info_request")["language_info"]["name"] == "javascript"
    assert js.reply(waiting)["status"] == "ok"


@pytest.mark.slow
def test_exit_is_the_end_and_takes_children_along(fresh_js: Kernel) -> None:
    child = fresh_js.run("require('child_process').spawn('sleep', ['60']).pid").result
    assert child
    cell = fresh_js.run("process.on('exit', () => console.log('bye')); process.exit(3)")
    assert (cell.is_dead, cell.stdout) == (True, "bye\n")
    assert fresh_js.wait_status() == 3
    assert is_gone(int(child["text/plain"]))


@pytest.mark.slow
def test_abort_is_seen(fresh_js: Kernel) -> None:
    assert fresh_js.run("process.abort()").is_dead
    assert fresh_js.wait_status() == -signal.SIGABRT


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGTERM", "shutdown_request"])
def test_a_busy_kernel_can_be_ended(fresh_js: Kernel, how: str) -> None:
    child = fresh_js.run("require('child_process').spawn('sleep', ['60']).pid").result
    assert child
    fresh_js.send("for (;;);")
    if how == "SIGTERM":
        fresh_js.manager.signal_kernel(signal.SIGTERM)
    else:
        fresh_js.client.control_channel.send(fresh_js.client.session.msg("shutdown_request", {"restart": False}))
    assert fresh_js.wait_status() != 0
    assert is_gone(int(child["text/plain"]))


@pytest.mark.typescript
@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("interface P { n: string }", None),
        ("enum E { A = 6, B }; const n: number = E.A; n * 7", "42"),
        ("enum E { Z }; E", "{ '0': 'Z', Z: 0 }"),
        ("class Pt { constructor(public x: number, private y = 2) {} sum(): number { return this.x + this.y } }\nnew Pt(1).sum()", "3"),
        ("function id<T>(x: T): T { return x }\nid<string>('q')", "'q'"),
        ("namespace N { export const v = 5 }; N.v", "5"),
        ("const u = await Promise.resolve(3) as any; u!.toFixed(1)", "'3.0'"),
        ("import fs, {type Stats} from 'fs'; typeof fs.stat", "'function'"),
        (
            "const marked: string[] = []; const mark = (t: any, k?: string) => { marked.push(k ?? t.name) }; @mark class D { @mark m(a: number) {} }\nmarked",
            "[ 'm', 'D' ]",
        ),
    ],
)
def test_typescript(ts: Kernel, code: str, result: str | None) -> None:
    assert text(ts, code) == result


@pytest.mark.typescript
def test_typescript_errors_and_files(ts: Kernel) -> None:
    cell = ts.run("interface Gone {\n  a: number\n}\nconst v: number =   (undefined as any).x")
    assert cell.error
    assert cell.reply["traceback"][1] == "const v: number =   (undefined as any).x"
    assert ":4:" in cell.reply["traceback"][0] + ":"
    assert ts.run("let 日: string = '😀'; let z: = 5").error == ("SyntaxError", "Unexpected token (1:30)")
    assert ts.ask("is_complete_request", code="function f(a: number) {")["status"] == "incomplete"
    Path(ts.directory, "lib.ts").write_text("export enum C { R, G }\nexport const twice = (x: number): number => x * 2;\n")
    assert text(ts, "import {twice, C} from './lib'; twice(C.G)") == "2"


def test_a_host_that_follows_one_that_was_killed_is_heard(js: Kernel) -> None:
    assert hears_a_namesake(js.client)
