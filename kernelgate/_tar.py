"""`tarfile` with its filters, without which what is extracted may lie anywhere. Python has them since 3.11.4; the one of Debian 12 is older."""

from __future__ import annotations

import tarfile

if not hasattr(tarfile, "data_filter"):
    from backports import tarfile  # type: ignore[import-untyped, no-redef]

__all__ = ["tarfile"]
