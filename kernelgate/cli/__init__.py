"""The `kernelgate` command: `serve` runs the service, the rest are clients of it.

Each subcommand is a module that is imported when it is called, so that `kernelgate run` starts fast.

Exit codes, of every subcommand:

    0    done; for `run`: the code succeeded
    1    the code failed, or (`doctor`) something does not work
    2    the command line is wrong: nothing was tried
    3    kernelgate failed: no server, a refusal, a broken connection
    124  the code ran out of time (as coreutils' `timeout` has it)
    130  interrupted
    141  whoever read the output is gone
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main"]


def _serve(arguments: list[str]) -> int:
    from kernelgate.app import main as serve  # noqa: PLC0415  (the server, for those who serve)

    code: int = serve(arguments)
    return code


def _token(arguments: list[str]) -> int:
    from kernelgate.app import token_main  # noqa: PLC0415  (the server, for those who serve)

    code: int = token_main(arguments)
    return code


def _stop(arguments: list[str]) -> int:
    from kernelgate.app import stop_main  # noqa: PLC0415  (the server, for those who serve)

    code: int = stop_main(arguments)
    return code


def _setup(arguments: list[str]) -> int:
    from kernelgate.setup import main as setup  # noqa: PLC0415  (the installer, for those who install)

    code: int = setup(arguments)
    return code


# These have command lines of their own, with their own --help.
_ELSEWHERE: dict[str, Callable[[list[str]], int]] = {"serve": _serve, "setup": _setup, "stop": _stop, "token": _token}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in _ELSEWHERE:
            return _ELSEWHERE[arguments[0]](arguments[1:])
        from kernelgate.cli import _parser  # noqa: PLC0415  (not for the server)

        return _parser.dispatch(arguments)
    except BrokenPipeError:
        # The interpreter flushes stdout once more at its exit, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
