"""The command line of the clients: its grammar, and the way from it to the module that does it."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from kernelgate import __version__
from kernelgate.sdk.errors import InvalidUse, KernelgateError

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE, FAILED = 2, 3


class UsageError(Exception):
    """The command line is wrong. The message says how to write it."""


def dispatch(arguments: Sequence[str]) -> int:
    """Does what the command line says; the exit code.

    What a user did wrong is said in a sentence; a traceback means a bug.
    """
    options = build().parse_args(arguments)
    module = import_module(f"kernelgate.cli.{options.module}")
    try:
        code: int = module.main(options)
    except UsageError as error:
        print(f"kernelgate {options.command}: {error}", file=sys.stderr)
        return USAGE
    except KernelgateError as error:
        print(explain(error), file=sys.stderr)
        return USAGE if isinstance(error, InvalidUse) else FAILED
    return code


def explain(error: KernelgateError) -> str:
    """An exception of the SDK for a person at a terminal."""
    request = f", request {error.request_id}" if error.request_id else ""
    lines = [f"kernelgate: {error.message}", f"  at fault: {error.fault} ({error.code}{request})"]
    if error.hint:
        lines.append(f"  next: {error.hint}")
    return "\n".join(lines)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        message = f"{text!r} is not NAME=VALUE"
        raise argparse.ArgumentTypeError(message)
    return name, value


def _seconds(text: str) -> float | None:
    if text.lower() == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value > 0:
        message = f"{text!r} is no time in seconds (or none)"
        raise argparse.ArgumentTypeError(message)
    return value


def build() -> argparse.ArgumentParser:
    """The grammar."""
    parser = argparse.ArgumentParser(
        prog="kernelgate",
        description="Run code in isolated sessions with live kernels.",
        epilog="serve, stop, setup and token have a --help of their own.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=28),
    )
    parser.add_argument("--version", action="version", version=f"kernelgate {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # Listed for --help; main() sends them on before they come here.
    for name, text in (
        ("serve", "run the service"),
        ("stop", "stop the service, and with --sessions everything"),
        ("setup", "install kernels"),
        ("token", "make, list and revoke tokens"),
    ):
        commands.add_parser(name, help=text, add_help=False)

    server = argparse.ArgumentParser(add_help=False)
    where = server.add_argument_group("server (found by itself where one runs on this machine)")
    where.add_argument("--url", help="its address (KERNELGATE_URL)")
    where.add_argument("--token", help="its token (KERNELGATE_TOKEN, which other users cannot read)")

    def command(name: str, module: str, help_text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help_text, description=help_text, parents=[server])
        made.set_defaults(module=module)
        return made

    _run(command("run", "run", "run code and show what it puts out"))
    _repl(command("repl", "repl", "a prompt in a live session"))
    copied = command("cp", "files", "copy files into a session and out of it")
    copied.add_argument("source", help="a path here, or SESSION:PATH")
    copied.add_argument("destination", help="SESSION:PATH, or a path here")
    copied.add_argument("-r", "--recursive", action="store_true", help="what is in a directory, into another one")
    listed = command("ls", "files", "list a directory of a session")
    listed.add_argument("where", metavar="SESSION[:PATH]", help="which session, and where in it (default: /workspace)")
    listed.add_argument("--depth", type=int, default=1, metavar="N", help="also what is so far below it (default: 1)")
    listed.add_argument("--json", action="store_true", help="as JSON")
    _exec(command("exec", "command", "run a program in a session"))
    _prompt(command("shell", "command", "a shell in a session"))
    _sessions(command("sessions", "sessions", "list, make, show and delete sessions"))
    _notebook(command("notebook", "notebook", "run notebooks, and make them of sessions"))
    languages = command("languages", "languages", "which languages there are, and how to get the others")
    languages.add_argument("--json", action="store_true", help="as JSON")
    doctor = command("doctor", "doctor", "run a real cell in each installed language")
    doctor.add_argument("-l", "--language", action="append", help="only this one; may be repeated")
    doctor.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _shared(made: argparse.ArgumentParser) -> None:
    made.add_argument("-l", "--language", help="python, javascript, typescript, r, java, bash, or an alias")
    made.add_argument("--session", metavar="ID", help="an existing session, which is kept")
    made.add_argument("--env", action="append", type=_pair, default=[], metavar="K=V", help="environment variable; may be repeated")
    made.add_argument("-o", "--output-dir", default=".", metavar="DIR", help="where pictures are saved (default: here)")
    made.add_argument("--save", action="store_true", help="save pictures even where the terminal can show them")


def _run(made: argparse.ArgumentParser) -> None:
    made.epilog = "exit codes: 0 success, 1 the code failed, 2 wrong usage, 3 kernelgate failed, 124 out of time, 130 interrupted"
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("-c", "--code", help="the code itself")
    what.add_argument("file", nargs="?", help="a file with it, or - for standard input")
    _shared(made)
    made.add_argument("--timeout", type=_seconds, default=None, metavar="S", help="stop it after so many seconds (default: none)")
    made.add_argument("--json", action="store_true", help="print the result as JSON, once it has ended")


def _repl(made: argparse.ArgumentParser) -> None:
    _shared(made)


def _where(made: argparse.ArgumentParser) -> None:
    made.add_argument("--session", metavar="ID", help="an existing session, which is kept")
    made.add_argument("--env", action="append", type=_pair, default=[], metavar="K=V", help="environment variable; may be repeated")


def _exec(made: argparse.ArgumentParser) -> None:
    made.epilog = "its exit code is the program's; 2 wrong usage, 3 kernelgate failed, 124 out of time, 130 interrupted"
    _where(made)
    made.add_argument("--cwd", metavar="DIR", help="where (default: /workspace)")
    made.add_argument("--timeout", type=_seconds, default=None, metavar="S", help="end it after so many seconds (default: none)")
    made.add_argument("words", nargs="*", metavar="COMMAND", help="one word for the shell, or a program and its arguments (behind --)")


def _prompt(made: argparse.ArgumentParser) -> None:
    _where(made)


def _sessions(made: argparse.ArgumentParser) -> None:
    made.set_defaults(action="list", label=[], state=None, json=False)
    actions = made.add_subparsers(dest="action", metavar="ACTION")
    listed = actions.add_parser("list", help="those there are (the default)")
    listed.add_argument("--label", action="append", type=_pair, default=[], metavar="K=V", help="only those with it; may be repeated")
    listed.add_argument("--state", choices=("running", "closed", "lost"), help="only those in this state")
    listed.add_argument("--json", action="store_true", help="as JSON")
    created = actions.add_parser("create", help="make one, and print its id")
    created.add_argument("--label", action="append", type=_pair, default=[], metavar="K=V", help="may be repeated")
    created.add_argument("--env", action="append", type=_pair, default=[], metavar="K=V", help="may be repeated")
    created.add_argument("--idle-timeout", type=_seconds, default=..., metavar="S", help="end it after so much idle time, or none")
    created.add_argument("--lifetime", type=_seconds, default=..., metavar="S", help="end it at this age, or none")
    created.add_argument("-l", "--language", action="append", help="have it ready; may be repeated")
    shown = actions.add_parser("show", help="all about one")
    shown.add_argument("id")
    shown.add_argument("--json", action="store_true", help="as JSON")
    deleted = actions.add_parser("delete", help="end sessions, with all that runs in them")
    deleted.add_argument("id", nargs="+")


def _notebook(made: argparse.ArgumentParser) -> None:
    actions = made.add_subparsers(dest="action", metavar="ACTION", required=True)
    run = actions.add_parser("run", help="run a notebook and fill it in")
    run.add_argument("file")
    run.add_argument("-o", "--output", metavar="OUT", help="where to write it (default: over FILE)")
    run.add_argument("-l", "--language", help="in place of the one it names")
    run.add_argument("--session", metavar="ID", help="an existing session, which is kept")
    run.add_argument("--timeout", type=_seconds, default=None, metavar="S", help="of each cell (default: none)")
    run.add_argument("--allow-errors", action="store_true", help="go on behind a cell that fails")
    export = actions.add_parser("export", help="make a notebook of what ran in a session")
    export.add_argument("id")
    export.add_argument("-o", "--output", metavar="OUT", help="where to write it (default: standard output)")
