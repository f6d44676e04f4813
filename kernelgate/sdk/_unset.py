"""The mark of an argument that was not given, where None means something else."""

from __future__ import annotations

from enum import Enum


class Unset(Enum):
    """Its one value says "leave this as it is"."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset.UNSET
