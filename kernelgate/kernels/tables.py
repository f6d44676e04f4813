"""Tables as `application/vnd.kernelgate.data+json`, and plain values as `application/json`.

A table becomes an object from column name to list of values: JSON scalars, dates as ISO 8601,
missing values null, at most `MAX_ROWS` rows. pandas and polars are recognised if the user has
imported them, and never imported from here.
"""

from __future__ import annotations

import datetime
import decimal
import math
import sys
from typing import TYPE_CHECKING, Any

from IPython.core.formatters import BaseFormatter
from traitlets import ObjectName, Unicode

if TYPE_CHECKING:
    from IPython.core.formatters import DisplayFormatter

MIME_TYPE = "application/vnd.kernelgate.data+json"
JSON_MIME_TYPE = "application/json"

MAX_ROWS = 10_000
"""Rows of a table; docs/kernels.md promises this number."""

MAX_CELLS = 1_000_000
"""Values of a table; of a very wide one fewer rows are sent, so that a message stays below 10 MB or so."""

MAX_JSON_CHARS = 1024 * 1024
"""A list or dict whose JSON is longer is shown as text only."""

Column = list[Any]


def extract(obj: Any) -> dict[str, Column] | None:
    """Columns of a data frame or series of pandas or polars; None for everything else.

    Never raises: a column that cannot be read is given as text.
    """
    try:
        columns = _pandas(obj)
        return _polars(obj) if columns is None else columns
    except Exception:  # noqa: BLE001 - frames may hold anything; the text of it must still be shown
        return None


def _pandas(obj: Any) -> dict[str, Column] | None:
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(obj, getattr(pandas, "DataFrame", ()) or ()):
        series = getattr(pandas, "Series", None)
        if series is None or not isinstance(obj, series):
            return None
        obj = obj.to_frame("0" if obj.name is None else obj.name)
    rows = _rows(len(obj.columns))
    columns = ((_name(name), obj.iloc[:rows, i]) for i, name in enumerate(obj.columns))
    return _unique((name, [scalar(value) for value in column]) for name, column in columns)


def _polars(obj: Any) -> dict[str, Column] | None:
    polars = sys.modules.get("polars")
    if polars is None:
        return None
    if isinstance(obj, polars.Series):
        obj = obj.to_frame()
    if not isinstance(obj, polars.DataFrame):
        return None
    head = obj.head(_rows(len(obj.columns)))
    return _unique((name, [scalar(value) for value in head[name]]) for name in head.columns)


def _rows(columns: int) -> int:
    return min(MAX_ROWS, max(1, MAX_CELLS // max(1, columns)))


def _name(name: Any) -> str:
    """A column's name as text; of a column with several levels, its parts joined."""
    if isinstance(name, tuple):
        return ", ".join(str(part) for part in name)
    if isinstance(name, datetime.date):
        return name.isoformat()
    return str(name)


def _unique(columns: Any) -> dict[str, Column]:
    """Columns by name; a name that is taken gets a number, so that no column is lost."""
    found: dict[str, Column] = {}
    for name, values in columns:
        unused, n = name, 1
        while unused in found:
            unused, n = f"{name}.{n}", n + 1
        found[unused] = values
    return found


def scalar(value: Any) -> str | int | float | bool | None:
    """A value as a JSON scalar: dates and durations as ISO 8601, missing values null, the rest as text."""
    if value is None or isinstance(value, str | bool):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime.date | datetime.time):
        text = value.isoformat()
        return None if text == "NaT" else text
    return _other_scalar(value)


def _other_scalar(value: Any) -> str | int | float | bool | None:
    try:
        if hasattr(value, "dtype") and hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
            if value.dtype.kind in "mM":
                text = str(value)
                return None if text == "NaT" else text
            plain = value.item()
            if isinstance(plain, str | bool | int | float) or plain is None:
                return scalar(plain)
        if isinstance(value, decimal.Decimal):
            return float(value) if value.is_finite() else None
        if type(value).__name__ in {"NAType", "NaTType"}:
            return None
        if hasattr(value, "isoformat"):  # a pandas Timedelta
            return str(value.isoformat())
        return str(value)
    except Exception as exc:  # noqa: BLE001 - objects of the user's own classes
        return f"<{type(value).__name__}: {type(exc).__name__}>"


class _NotPlain(Exception):
    pass


def plain_json(obj: Any) -> list[Any] | dict[str, Any] | None:
    """The list or dict itself if it is JSON of at most `MAX_JSON_CHARS`; else None.

    Only what JSON gives back unchanged counts: no NaN, no keys but strings, no classes of the user's.
    """
    if type(obj) not in {list, dict}:
        return None
    try:
        _measure(obj, MAX_JSON_CHARS, 0)
    except (_NotPlain, RuntimeError):
        return None
    return obj


MAX_DEPTH = 100
"""Nesting of plain JSON: readers of it, and `json` here, recurse."""


def _measure(value: Any, room: int, depth: int) -> int:
    """What is left of the room after this value; looks at no more of it than fits."""
    kind = type(value)
    if kind is str:
        room -= len(value) + 2
    elif kind is bool or value is None:
        room -= 4
    elif kind is int:
        room -= 1 + value.bit_length() // 3
    elif kind is float:
        if not math.isfinite(value):
            raise _NotPlain
        room -= 8
    elif kind is list and depth < MAX_DEPTH:
        for item in value:
            room = _measure(item, room - 2, depth + 1)
    elif kind is dict and depth < MAX_DEPTH:
        for key, item in value.items():
            if type(key) is not str:
                raise _NotPlain
            room = _measure(item, room - len(key) - 6, depth + 1)
    else:
        raise _NotPlain
    if room < 0:
        raise _NotPlain
    return room


class TableFormatter(BaseFormatter):
    """Adds the columns to whatever else a table is shown as."""

    format_type = Unicode(MIME_TYPE)
    print_method = ObjectName("_repr_kernelgate_data_")

    def __call__(self, obj: Any) -> dict[str, Column] | None:
        """The columns of a table; None for everything else."""
        return extract(obj)


def register(display_formatter: DisplayFormatter) -> None:
    """Install the formatters for tables, lists and dicts."""
    display_formatter.formatters[MIME_TYPE] = TableFormatter(parent=display_formatter)
    json_formatter = display_formatter.formatters[JSON_MIME_TYPE]
    for kind in (list, dict):
        json_formatter.for_type(kind, plain_json)
