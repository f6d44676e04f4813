"""The Bash kernel: one long-lived interactive Bash behind the front of `kernelgate.kernels.front`.

Theory of operation: `bash -i` reads one-line commands from a pipe. For each cell it is told to source a
memory file that holds the code, with the session's own descriptors 0, 1 and 2, and then to report: exit
status, the place of the last failure, whether `set -e` was on. Its own 1 and 2 are /dev/null, so that
prompts, job notices and tracing of our own commands are seen by nobody.

Interactive, because an interactive Bash returns to its prompt, state kept, where a script would end:
after SIGINT, after `set -u` met an unset variable, after `${x:?}`. Sourced, because a sourced file is
not echoed, says no `[1] 4711` for a background job, and has its own line numbers.

`set -e` would end even an interactive Bash. The ERR trap runs before that happens and under the same
conditions: it switches -e off, has the shell interrupt itself, and -e is on again in the next cell.
"""

from __future__ import annotations

import contextlib
import csv
import html
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from typing import Any, NoReturn

from kernelgate.kernels import front
from kernelgate.kernels.front import FD_CODE, FD_COMMANDS, FD_CONTROL, FD_STDERR, FD_STDIN, FD_STDOUT, readable

MAX_TABLE_ROWS = 10_000
CHECK_TIMEOUT_S = 5.0
MAX_ACKS = 16
FORK_S = 0.1
"""Longest wait of an interrupt for a process that Bash has just forked to become what it is to run."""

SETUP = r"""
set +o history; unset HISTFILE; shopt -s checkwinsize
__kg_frame() {
  local LC_ALL=C __kg_s __kg_n=$1; shift
  for __kg_s; do __kg_n+=" ${#__kg_s}"; done
  local IFS=
  builtin printf '%s;%s' "$__kg_n" "$*" >&@CONTROL
}
__kg_error() {
  local IFS=' '
  case ${FUNCNAME[1]-} in
    ''|read|display*|__kg_*) ;;
    *) # A failure passes through all functions that it makes fail: the innermost says most.
      if [[ ${__kg_where[0]-} != "$1" || ${__kg_where[1]-} != "$3" || ${#FUNCNAME[@]} -ge ${__kg_where[5]-0} ]]; then
        __kg_where=("$1" "$3" "$2" "${FUNCNAME[*]:1}" "${BASH_LINENO[*]:1}" "${#FUNCNAME[@]}")
      fi ;;
  esac
  case $- in *e*) ;; *) return ;; esac
  [[ $BASHPID == "$$" ]] || return
  builtin set +e
  __kg_errexit=$1
  builtin kill -INT "$$"
  :  # Bash looks at the signal between commands, and no longer once the trap is over.
}
__kg_end() {
  local __kg_e=
  case $- in *e*) builtin set +e; __kg_e=e ;; esac
  [[ -n ${__kg_errexit-} ]] && __kg_e=e
  case $- in *u*) __kg_e+=u ;; esac
  __kg_frame done "$1" "$2" "${__kg_errexit-}" "$__kg_e" "${__kg_where[0]-}" "${__kg_where[1]-}" \
    "${__kg_where[2]-}" "${__kg_where[3]-}" "${__kg_where[4]-}"
  __kg_where=() __kg_errexit=
}
__kg_status() { return "$1"; }
__kg_query() {
  local __kg_text
  __kg_text=$( trap - ERR; set +eux; "$@" 2>/dev/null </dev/null )
  __kg_frame answer "$__kg_text"
}
__kg_names() {
  case $1 in
    variable) compgen -A variable -- "$2" ;;
    directory) compgen -A directory -S / -- "$2" ;;
    command) compgen -A command -- "$2" ;;&
    command|file) compgen -A directory -S / -- "$2"; compgen -A file -- "$2" | while IFS= builtin read -r f; do [[ -d $f ]] || builtin printf '%s\n' "$f"; done ;;
  esac | head -n 1000
}
__kg_about() {
  if [[ $1 == '$'* ]]; then declare -p "${1#?}"; return; fi
  local kind; kind=$(builtin type -t -- "$1")
  [[ $1 == read && $(declare -f read) == *'__kg_frame prompt'* ]] && kind=builtin
  case $kind in
    '') declare -p "$1" ;;
    builtin|keyword) builtin help -- "$1" ;;
    file) builtin type -a -- "$1"; MANPAGER=cat MANWIDTH=100 man -- "$1" | col -b | head -n 120 ;;
    *) builtin type -a -- "$1" ;;
  esac
}
read() {
  if [[ /dev/fd/0 -ef /dev/fd/@STDIN ]]; then
    local __kg_o __kg_p= __kg_h= __kg_f=0 OPTIND=1 OPTARG
    while builtin getopts :a:d:ei:n:N:p:rst:u: __kg_o; do
      case $__kg_o in p) __kg_p=$OPTARG ;; s) __kg_h=1 ;; u) __kg_f=$OPTARG ;; t) [[ $OPTARG == 0 ]] && __kg_f=t ;; esac
    done
    unset -v OPTIND OPTARG __kg_o
    [[ $__kg_f == 0 ]] && __kg_frame prompt "$__kg_p" "$__kg_h"
    unset -v __kg_f __kg_p __kg_h
  fi
  builtin read "$@"
}
__kg_show() {
  local __kg_file=${2--} __kg_made= __kg_error=
  if (( $# > 2 )); then builtin printf '%s: one file, or standard input\n' "${FUNCNAME[1]}" >&2; return 2; fi
  if [[ $__kg_file == - ]]; then
    __kg_made=$(mktemp) && cat > "$__kg_made" || return
    __kg_file=$__kg_made
  elif [[ ! -r $__kg_file || -d $__kg_file ]]; then
    builtin printf '%s: %s: cannot be read\n' "${FUNCNAME[1]}" "$__kg_file" >&2; return 1
  fi
  [[ $__kg_file == /* ]] || __kg_file=$PWD/$__kg_file
  # The file may be gone or changed a moment later: wait until it was read.
  local __kg_ack; __kg_ack=$(mktemp -u) && mkfifo -m 600 "$__kg_ack" || return
  __kg_frame show "$1" "$__kg_file" "$__kg_ack"
  IFS= builtin read -r -d '' __kg_error < "$__kg_ack"
  rm -f -- "$__kg_ack" ${__kg_made:+"$__kg_made"}
  [[ -z $__kg_error ]] && return
  builtin printf '%s: %s\n' "${FUNCNAME[1]}" "$__kg_error" >&2; return 1
}
display() { __kg_show '' "$@"; }
display_text() { __kg_show text/plain "$@"; }
display_html() { __kg_show text/html "$@"; }
display_markdown() { __kg_show text/markdown "$@"; }
display_latex() { __kg_show text/latex "$@"; }
display_json() { __kg_show application/json "$@"; }
display_javascript() { __kg_show application/javascript "$@"; }
display_svg() { __kg_show image/svg+xml "$@"; }
display_png() { __kg_show image/png "$@"; }
display_jpeg() { __kg_show image/jpeg "$@"; }
display_pdf() { __kg_show application/pdf "$@"; }
display_table() { __kg_show text/csv "$@"; }
trap '__kg_error $? $LINENO "$BASH_COMMAND"' ERR
set -E
__kg_where=() __kg_errexit=
__kg_frame ready "${BASH_VERSION}"
"""

MIME_BY_SUFFIX = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
    ".html": "text/html",
    ".htm": "text/html",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".tex": "text/latex",
    ".json": "application/json",
    ".geojson": "application/geo+json",
    ".vl.json": "application/vnd.vegalite.v5+json",
    ".js": "application/javascript",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
}
MIME_BY_START = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"%PDF-": "application/pdf",
}

PLAIN_COMMAND = re.compile(r"[A-Za-z0-9_./:,@%+=-]+(?: [A-Za-z0-9_./:,@%+=-]+)*\n?")
RESERVED = frozenset(
    {
        "if",
        "then",
        "else",
        "elif",
        "fi",
        "case",
        "esac",
        "for",
        "select",
        "while",
        "until",
        "do",
        "done",
        "in",
        "function",
        "time",
        "coproc",
    }
)


def caught_signals(pid: int) -> str:
    """The signals that the process has handlers for, as a mask in hexadecimal; empty if it is gone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next((line for line in file if line.startswith("SigCgt:")), "")
    return ""


def quoted(text: str) -> str:
    """The text as one word on one line."""
    out = []
    for char in text:
        if char in "\\'":
            out.append("\\" + char)
        elif char == "\n":
            out.append("\\n")
        elif ord(char) < 32 or ord(char) == 127:
            out.append(f"\\{ord(char):03o}")
        else:
            out.append(char)
    return "$'" + "".join(out) + "'"


def check(code: str) -> tuple[str, list[str]]:
    """Parse without running: `complete`, `incomplete` or `invalid`, and what Bash says about it."""
    if PLAIN_COMMAND.fullmatch(code) and code.split(None, 1)[0] not in RESERVED:
        return "complete", []
    said = b""
    # With extglob more parses, and other things: the shell's own setting is not known here.
    for options in ([], ["-O", "extglob"]):
        done = subprocess.run(
            ["bash", "--norc", "-n", *options],
            input=code.encode("utf-8", "replace") + b"\n",
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=CHECK_TIMEOUT_S,
            env={"LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", os.defpath)},
        )
        said = said or done.stderr
        if done.returncode == 0:
            unfinished = code.rstrip(" ").endswith("\\\n") or code.endswith("\\")
            return ("incomplete" if unfinished or b"here-document" in done.stderr else "complete"), []
    lines = [line.removeprefix("bash: ") for line in said.decode("utf-8", "replace").splitlines() if line]
    unfinished = any("unexpected end of file" in line or "unexpected EOF" in line for line in lines)
    return ("incomplete" if unfinished else "invalid"), lines


def table(text: str, dialect: str) -> dict[str, Any]:
    """A bundle for comma- or tab-separated text whose first row names the columns."""
    rows = list(csv.reader(io.StringIO(text), dialect))
    if not rows:
        return {"text/plain": text}
    names, body = rows[0], [row for row in rows[1:] if row]

    def scalar(cell: str) -> str | int | float | None:
        if cell == "":
            return None
        # A number is one that would be written the same way: 007 and 1e999 stay text.
        if re.fullmatch(r"-?(0|[1-9]\d{0,14})", cell):
            return int(cell)
        if re.fullmatch(r"-?(0|[1-9]\d*)\.\d+", cell):
            return float(cell)
        return cell

    cut = body[:MAX_TABLE_ROWS]
    data = {name: [scalar(row[at]) if at < len(row) else None for row in cut] for at, name in enumerate(names)}
    shown = body[:60]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    lines = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n" for row in shown)
    more = f"<p>{len(body)} rows, {len(shown)} shown</p>" if len(body) > len(shown) else ""
    return {
        "text/plain": "\n".join(text.splitlines()[:61]),
        "text/html": f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}</tbody>\n</table>{more}",
        "application/vnd.kernelgate.data+json": data,
    }


def bundle(mime: str, path: str) -> dict[str, Any]:
    """The MIME bundle of a file; raises OSError or ValueError."""
    with open(path, "rb") as file:
        data = file.read()
    if not mime:
        name = os.path.basename(path).lower()
        known = [kind for suffix, kind in MIME_BY_SUFFIX.items() if name.endswith(suffix)]
        known += [kind for start, kind in MIME_BY_START.items() if data.startswith(start)]
        # The longest suffix is the most exact one: .vl.json is more than .json.
        known.sort(key=lambda kind: kind != "application/vnd.vegalite.v5+json")
        mime = known[0] if known else "text/plain"
    if mime in ("text/csv", "text/tab-separated-values"):
        return table(data.decode("utf-8", "replace").lstrip("\ufeff"), "excel" if mime == "text/csv" else "excel-tab")
    value = front.bundle_value(mime, data)
    if mime in ("application/json", "text/markdown", "text/latex", "text/plain"):
        text = data.decode("utf-8", "replace")
    else:
        text = f"<{mime}: {os.path.basename(path)}>" if not os.path.basename(path).startswith("tmp.") else f"<{mime}>"
    return {"text/plain": text, mime: value}


class BashKernel(front.Front):
    implementation = "kernelgate-bash"

    def __init__(self, connection_file: str) -> None:
        super().__init__(connection_file)
        self.language_info = {
            "name": "bash",
            "version": "",
            "mimetype": "text/x-sh",
            "file_extension": ".sh",
            "codemirror_mode": "shell",
            "pygments_lexer": "bash",
        }
        self.acks: deque[int] = deque()
        self.sequence = 0
        self.errexit = False
        self.restore = ""
        self.on_answered: Any = None
        self.code = ""
        self.status = 0
        self.nounset = False

    def argv(self) -> list[str]:
        return ["bash", "--norc", "--noprofile", "--noediting", "+m", "+H", "-i"]

    def environment(self) -> dict[str, str]:
        env = dict(os.environ)
        env.pop("HISTFILE", None)
        env.setdefault("TERM", "dumb")
        # Written to a pipe that is shown to somebody: a pager would wait for a key.
        env.setdefault("PAGER", "cat")
        return env

    def standard_fds(self, child: dict[int, int], null: int) -> dict[int, int]:
        return {0: child[FD_COMMANDS], 1: null, 2: null}

    def greet(self) -> None:
        setup = SETUP.replace("@CONTROL", str(FD_CONTROL)).replace("@STDIN", str(FD_STDIN))
        os.pwrite(self.code_file, setup.encode(), 0)
        self.command(b". /dev/fd/%d\n" % FD_CODE)

    # -- cells -----------------------------------------------------------------------------------

    def execute(self, code: str, env: dict[str, str], silent: bool) -> None:
        del silent
        state, said = check(code)
        if said:
            self.finish_execute(("SyntaxError", said[0].partition(": ")[2] or said[0], self.syntax_traceback(code, said)))
            return
        if all(not line.strip() or line.lstrip().startswith("#") for line in code.splitlines()):
            self.finish_execute(None)
            return
        self.sequence += 1
        self.code = code
        before, after = [], []
        for at, (name, value) in enumerate(sorted(env.items())):
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                continue
            keep = f"__kg_keep{at}"
            before.append(f"{keep}=${{{name}[@]@A}}; unset -v {name}; export {name}={quoted(value)}")
            after.append(f'unset -v {name}; eval "${keep}"; unset -v {keep}')
        self.restore = "; ".join(after)
        if self.errexit:
            before.append("set -e")
        os.ftruncate(self.code_file, 0)
        os.pwrite(self.code_file, self.sourced(code, state).encode("utf-8", "replace"), 0)
        source = f". /dev/fd/{FD_CODE} <&{FD_STDIN} >&{FD_STDOUT} 2>&{FD_STDERR}"
        if self.status and not self.errexit:
            # `echo $?` shows what the cell before ended with.
            source = f"__kg_status {self.status}; {source}"
        lines = [source, f"__kg_end {self.sequence} $?"]
        if before:
            # `set -u` is no reason for an unset variable of ours to end anything.
            guarded = "; ".join(before)
            lines.insert(0, f"case $- in *u*) set +u; {guarded}; set -u ;; *) {guarded} ;; esac")
        self.command(("\n".join(lines) + "\n").encode("utf-8", "replace"))

    def sourced(self, code: str, state: str) -> str:
        """The cell as one compound command: what abandons a command abandons the cell.

        Else a cell would go on after an unset variable under `set -u`. But an alias works, and extglob
        parses, only from the next command on: cells with those stay many commands.
        """
        many = re.search(r"\b(?:alias|shopt)\b|\bposix\b", code) and not (
            self.errexit or self.nounset or re.search(r"\bset\s+-\w*[eu]|\berrexit\b|\bnounset\b", code)
        )
        if many or state != "complete":
            return code
        return "{ " + code + "\n}\n"

    @staticmethod
    def syntax_traceback(code: str, said: list[str]) -> list[str]:
        lines = code.splitlines()
        out = list(said)
        if (match := re.match(r"line (\d+):", said[0])) and 0 < int(match[1]) <= len(lines) and len(said) == 1:
            out.append("    " + lines[int(match[1]) - 1].strip())
        return out

    def signal_child(self, age_s: float) -> None:
        # Bash goes on when a child ends without a SIGINT, or by one that Bash has not seen itself: it must have its own
        # before `cat` in `sleep 60 | cat` meets its end of file, and `cat` must be there to die of one.
        self.await_forks()
        self.signal_interpreter()
        self.signal_started(age_s)
        # What Bash has yet to take is such a report already, and a cell that minds no signal would let them fill the pipe.
        if age_s > 0 and not readable(self.commands):
            # An earlier SIGINT may have hit the report instead of the cell.
            self.command(b"__kg_end %d 130\n" % self.sequence)

    def await_forks(self) -> None:
        """Wait until no fork of Bash has Bash's own handlers any more: it would swallow a SIGINT."""
        until = time.monotonic() + FORK_S
        handlers = caught_signals(self.child)
        while time.monotonic() < until:
            if all(caught_signals(pid) != handlers for pid in self.started()):
                break
            time.sleep(0.0005)

    def on_frame(self, kind: str, fields: list[bytes]) -> None:
        texts = [field.decode("utf-8", "replace") for field in fields]
        if kind == "ready":
            self.language_info = {**self.language_info, "version": texts[0].partition("(")[0]}
            self.banner = f"GNU bash {texts[0]}"
            self.ready = True
        elif kind == "done" and self.executing and texts[0] == str(self.sequence):
            if self.restore:
                self.command(f"{{ {self.restore}; }} 2>/dev/null\n".encode())
                self.restore = ""
            self.errexit, self.nounset = "e" in texts[3], "u" in texts[3]
            self.status = int(texts[2] or texts[1])
            self.finish_execute(self.failure(self.status, texts[4:]))
        elif kind == "show":
            self.show(*texts)
        elif kind == "prompt" and self.executing and self.allow_stdin and not self.asking:
            self.ask(texts[0], password=bool(texts[1]))
        elif kind == "answer" and self.on_answered:
            answered, self.on_answered = self.on_answered, None
            answered(texts[0])

    def failure(self, status: int, where: list[str]) -> tuple[str, str, list[str]] | None:
        """The error of a cell that ended with this status; `where` is the last failure Bash noticed."""
        if self.interrupted_at is not None:
            return "KeyboardInterrupt", "", ["KeyboardInterrupt: the execution was interrupted"]
        if status == 0:
            return None
        value = f"exit status {status}"
        if status > 128:
            with contextlib.suppress(ValueError):
                value += f" (killed by {signal.Signals(status - 128).name})"
        traceback = self.stack(where) if where[0] == str(status) else []
        return "CommandFailed", value, [*traceback, f"CommandFailed: {value}"]

    def stack(self, where: list[str]) -> list[str]:
        """Outermost first, a line for the place and one for the command; below `source` all is ours."""
        _, command, line, names, callers = where
        out: list[str] = []
        for name, number in zip(names.split(), [line, *callers.split()], strict=False):
            if name == "source":
                cell = self.code.splitlines()
                text = cell[int(number) - 1].strip() if 0 < int(number) <= len(cell) else command
                return [f"line {number}", f"    {text}", *out]
            out = [f"line {number}, in {name}", *([f"    {command}"] if not out else []), *out]
        return out

    def show(self, mime: str, path: str, ack: str) -> None:
        """Publish a file; the function that asked reads the error from its FIFO, nothing if it went well."""
        said = ""
        try:
            data = bundle(mime, path)
        except (OSError, ValueError) as exc:
            said = str(exc)
        else:
            self.display(data)
        try:
            # Reading and writing, as the other end may not be open yet, or never be.
            fd = os.open(ack, os.O_RDWR | os.O_NONBLOCK)
        except OSError:
            return
        os.write(fd, said.encode("utf-8", "replace")[:4000] + b"\0")
        # Closed later: what is in a FIFO is lost with its last descriptor, and the reader may not be there yet.
        self.acks.append(fd)
        if len(self.acks) > MAX_ACKS:
            os.close(self.acks.popleft())

    # -- questions -------------------------------------------------------------------------------

    def query(self, words: list[str], answered: Any) -> None:
        self.on_answered = answered
        self.command((" ".join(["__kg_query", *map(quoted, words)]) + "\n").encode("utf-8", "replace"))

    def on_complete(self, content: dict[str, Any]) -> None:
        code, cursor = str(content.get("code", "")), int(content.get("cursor_pos", 0))
        head = code[:cursor]
        match = re.search(r"""(?:\\.|[^\s"'`;&|<>()=:$\\{}])*$""", head)
        word = match[0] if match else ""
        start = cursor - len(word)
        rest = head[:start]
        if rest.endswith(("$", "${")):
            kind = "variable"
        elif re.search(r"(?:^|[;&|(`\n{]|\b(?:then|do|else|sudo|exec|command|type)\s)\s*$", rest):
            kind = "command"
        elif re.search(r"\b(?:cd|pushd|rmdir)\s+$", rest):
            kind = "directory"
        elif re.search(r"\b(?:unset|export|declare|local|readonly)\s+(?:-\w+\s+)*$", rest):
            kind = "variable"
        else:
            kind = "file"

        def answered(text: str) -> None:
            names = sorted(set(text.splitlines()))
            if kind in ("file", "directory"):
                names = [re.sub(r"([\s\"'`;&|<>()$\\*?\[\]{}!#])", r"\\\1", name) for name in names]
            self.finish(
                {
                    "status": "ok",
                    "matches": names,
                    "cursor_start": start,
                    "cursor_end": cursor,
                    "metadata": {},
                }
            )

        self.query(["__kg_names", kind, re.sub(r"\\(.)", r"\1", word)], answered)

    def on_inspect(self, content: dict[str, Any]) -> None:
        code, cursor = str(content.get("code", "")), int(content.get("cursor_pos", 0))
        name = ""
        for match in re.finditer(r"\$?[\w./:+\[-]+", code.replace("${", " $")):
            if match.start() <= cursor <= match.end():
                name = match[0]
                break

        def answered(text: str) -> None:
            found = bool(text.strip())
            self.finish(
                {
                    "status": "ok",
                    "found": found,
                    "metadata": {},
                    "data": {"text/plain": text.rstrip("\n")} if found else {},
                }
            )

        if name:
            self.query(["__kg_about", name], answered)
        else:
            answered("")

    def on_is_complete(self, content: dict[str, Any]) -> None:
        state, _ = check(str(content.get("code", "")))
        self.finish({"status": state, **({"indent": "  "} if state == "incomplete" else {})})


def run(connection_file: str) -> NoReturn:
    """Become the kernel described by the connection file; never returns."""
    front.serve(BashKernel, connection_file)


if __name__ == "__main__":
    run(sys.argv[sys.argv.index("-f") + 1])
