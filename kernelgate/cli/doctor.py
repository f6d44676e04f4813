"""`kernelgate doctor`: does it work? A real cell in every installed language, and what the server says of itself."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from kernelgate.cli import _server
from kernelgate.cli._parser import UsageError
from kernelgate.cli._terminal import duration
from kernelgate.sdk.errors import KernelgateError

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

    from kernelgate.sdk import Client, Language

# Each prints something that only running it can give.
_CELLS = {
    "python": "print(6 * 7)",
    "javascript": "console.log(6 * 7)",
    "typescript": "const n: number = 6 * 7; console.log(n)",
    "r": "cat(6 * 7)",
    "java": "System.out.println(6 * 7);",
    "bash": "echo $((6 * 7))",
}
_EXPECTED = "42"
# A JVM on a busy machine takes its time to start.
_CELL_S = 120.0


def main(options: argparse.Namespace) -> int:
    """Tries everything; 1 if an installed language fails."""
    from rich.console import Console  # noqa: PLC0415  (slow to load)

    console = Console(width=None if sys.stdout.isatty() else 500, quiet=options.json, highlight=False)
    with _server.client(options, embed=True) as client:
        health = client.health()
        console.print(f"server     {client.url}", _summary(health), markup=False)
        languages = client.languages()
        wanted = options.language
        if wanted:
            known = {name.lower(): one for one in languages for name in (one.name, *one.aliases)}
            unknown = [name for name in wanted if name.lower() not in known]
            if unknown:
                message = f"there is no language {unknown[0]!r}; there are {', '.join(one.name for one in languages)}"
                raise UsageError(message)
            languages = list({known[name.lower()].name: known[name.lower()] for name in wanted}.values())
        reports = [_examine(client, language, console, is_wanted=bool(wanted)) for language in languages]
    if options.json:
        json.dump({"health": health, "languages": reports}, sys.stdout, ensure_ascii=False, indent=2)
        sys.stdout.write("\n")
    return 0 if all(report["ok"] is not False for report in reports) else 1


def _summary(health: dict[str, Any]) -> str:
    """What /health says, one fact a line."""
    lines: list[str] = []
    for name, value in health.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {inner}" for key, inner in value.items())
        elif isinstance(value, list):
            value = ", ".join(str(one) for one in value) or "none"
        lines.append(f"\n  {name:<9}{value}")
    return "".join(lines)


def _examine(client: Client, language: Language, console: Console, *, is_wanted: bool) -> dict[str, Any]:
    report: dict[str, Any] = {"name": language.name, "version": language.version, "ok": None, "elapsed_s": None, "message": ""}
    name = f"{language.name:<11}"
    if not language.is_ready:
        report["message"] = f"not installed: {', '.join(language.missing)}"
        report["install"] = language.install
        # Not having it is only wrong where it was asked for.
        report["ok"] = False if is_wanted else None
        console.print(f"{name}[yellow]not installed[/]", end="")
        console.print(f" (missing: {', '.join(language.missing) or 'its kernel'}); get it with: {language.install}", markup=False)
        return report
    begun_at = time.monotonic()
    # A language that kernelgate was taught later has no cell here; that it starts is something.
    cell = _CELLS.get(language.name)
    with console.status(f"{language.name} ..."):
        message = _try(client, language.name, cell)
    report["elapsed_s"] = time.monotonic() - begun_at
    report["ok"], report["message"] = not message, message
    took = duration(report["elapsed_s"])
    if message:
        console.print(f"{name}[red]fails[/]      ", end="")
        console.print(message, markup=False)
    else:
        console.print(f"{name}[green]works[/]       {language.version or ''} (new session and first cell: {took})")
    return report


def _try(client: Client, language: str, cell: str | None) -> str:
    """What is wrong; empty if nothing is."""
    try:
        with client.sessions.create(labels={"made-by": "kernelgate-doctor"}) as session:
            result = session.code.run(cell or "", language, _CELL_S)
    except KernelgateError as error:
        return str(error)
    if not result.success:
        return result.error_message
    if cell is not None and result.stdout.strip() != _EXPECTED:
        return f"the cell printed {result.stdout!r} in place of {_EXPECTED!r}"
    return ""
