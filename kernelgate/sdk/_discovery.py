"""Where the server is, and what opens it.

Strongest first: what the caller gave, KERNELGATE_URL and KERNELGATE_TOKEN, and the private file
`server.json` that a running server keeps in its data directory.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernelgate.sdk.errors import InvalidUse, ServerNotFound

SERVER_FILE = "server.json"


@dataclass(frozen=True)
class Endpoint:
    """An address and its token. `file` is where both were read, if from a file."""

    url: str
    token: str | None
    file: Path | None = None

    def __repr__(self) -> str:
        # The token opens everything, and reprs end up in logs.
        return f"Endpoint({self.url!r}, token={'***' if self.token else None})"

    def read_again(self) -> Endpoint:
        """The endpoint as the file has it now: a restarted server may have another port."""
        if self.file is None:
            return self
        found = read(self.file)
        return found if found is not None else self


def data_dir() -> Path:
    """The data directory a server of this user keeps by default."""
    given = os.environ.get("KERNELGATE_DATA_DIR")  # noqa: TID251  (the SDK shares no settings with the server)
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/lib/kernelgate")
    return Path.home() / ".local" / "share" / "kernelgate"


def find(url: str | None = None, token: str | None = None, directory: Path | str | None = None) -> Endpoint:
    """The endpoint to talk to.

    Raises:
        ServerNotFound: no address is given, and no server has left one.
        InvalidUse: the address is not one.
    """
    url = url or os.environ.get("KERNELGATE_URL")  # noqa: TID251  (as above)
    token = token or os.environ.get("KERNELGATE_TOKEN")  # noqa: TID251  (as above)
    file = Path(directory or data_dir()) / SERVER_FILE
    left = read(file)
    if url is None:
        if left is None:
            message = f"no server is known: no address was given, and there is no {file}"
            raise ServerNotFound(message)
        return left if token is None else Endpoint(left.url, token, left.file)
    url = _checked(url)
    # The file's token is for the server that wrote the file, and is sent to no other address.
    if token is None and left is not None and left.url == url:
        return left
    return Endpoint(url, token)


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        message = f"{url!r} is not an address"
        raise InvalidUse(message, hint="write it as http://HOST:PORT")
    return url.rstrip("/")


def read(file: Path) -> Endpoint | None:
    """What a server has left in its file, None if there is none, or none yet."""
    try:
        found: Any = json.loads(file.read_bytes())
        return Endpoint(_checked(found["url"]), found.get("token"), file)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, InvalidUse):
        # Missing, not ours to read, or half written by a server that is just starting: to the
        # caller all of these mean that no server is known yet.
        return None
