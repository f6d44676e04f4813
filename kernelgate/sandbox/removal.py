"""Removing what a session leaves, whatever its code has made of it."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path) -> None:
    """Removes a directory and all below it; nothing where it is not there. Nobody else may be at work in it. Raises OSError.

    Directories are moved up before they are emptied: neither their depth nor the length of their path is then a limit, as it is for shutil.rmtree. No link is followed.
    """
    try:
        top = os.open(path, _FLAGS)
    except FileNotFoundError:
        return
    prefix, number = f".removed-{secrets.token_hex(8)}-", 0
    try:
        _open_up(".", top)
        while names := os.listdir(top):
            for name in names:
                if _unlinked(name, top):
                    continue
                _open_up(name, top)
                below = os.open(name, _FLAGS, dir_fd=top)
                try:
                    for inner in os.listdir(below):
                        if not _unlinked(inner, below):
                            _open_up(inner, below)  # to move a directory its own `..` is written
                            number += 1
                            os.rename(inner, f"{prefix}{number}", src_dir_fd=below, dst_dir_fd=top)
                finally:
                    os.close(below)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path)


def _unlinked(name: str, directory: int) -> bool:
    """Removes what is not a directory."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        return False
    return True


def _open_up(name: str, directory: int) -> None:
    """Root needs no rights in a directory; the user of a service without isolation gives them to itself."""
    if os.geteuid() != 0:
        with contextlib.suppress(PermissionError):
            os.chmod(name, 0o700, dir_fd=directory)
