"""`kernelgate languages`: what there is, and how to get what there is not."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from kernelgate.cli import _server

if TYPE_CHECKING:
    import argparse


def main(options: argparse.Namespace) -> int:
    """Prints the table."""
    with _server.client(options, embed=True) as client:
        languages = client.languages()
    if options.json:
        json.dump([language.raw for language in languages], sys.stdout, ensure_ascii=False, indent=2)
        sys.stdout.write("\n")
        return 0
    from rich.console import Console  # noqa: PLC0415  (slow to load; not for --json)
    from rich.table import Table  # noqa: PLC0415

    table = Table("language", "version", "state", "missing", "install with", box=None, header_style="bold")
    for language in languages:
        state = "[green]ready[/]" if language.is_ready else f"[yellow]{language.state.replace('_', ' ')}[/]"
        names = ", ".join([language.name, *language.aliases])
        table.add_row(
            names, language.version or "", state, ", ".join(language.missing), "" if language.is_ready else language.install or ""
        )
    # A command that is wrapped cannot be copied: into a pipe, lines are as long as they need to be.
    Console(width=None if sys.stdout.isatty() else 500).print(table)
    return 0
