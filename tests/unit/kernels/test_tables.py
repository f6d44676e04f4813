"""Tables as columns of JSON scalars, and which lists and dicts count as JSON."""

from __future__ import annotations

import datetime
import decimal
import json
from typing import Any

import pytest

from kernelgate.kernels import tables

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")

NAN = float("nan")


def columns(obj: Any) -> dict[str, list[Any]]:
    found = tables.extract(obj)
    assert found is not None
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def test_every_kind_of_column() -> None:
    frame = pd.DataFrame(
        {
            "int": [1, 2],
            "float": [1.5, NAN],
            "inf": [float("inf"), 2],
            "bool": [True, False],
            "text": ["x", None],
            "time": pd.to_datetime(["2024-01-02 03:04:05", None]),
            "zone": pd.to_datetime(["2024-01-02", None]).tz_localize("Europe/Berlin"),
            "span": pd.to_timedelta(["1 day", None]),
            "period": pd.PeriodIndex(["2024-01", None], freq="M"),
            "category": pd.Categorical(["a", None]),
            "nullable": pd.array([1, None], dtype="Int64"),
            "object": [decimal.Decimal("1.5"), {"a": 1}],
            "date": [datetime.date(2024, 1, 2), datetime.time(3, 4)],
            "numpy": pd.Series([np.float32(0.5), np.datetime64("2024-01-02")], dtype=object),
        }
    )
    assert columns(frame) == {
        "int": [1, 2],
        "float": [1.5, None],
        "inf": [None, 2.0],
        "bool": [True, False],
        "text": ["x", None],
        "time": ["2024-01-02T03:04:05", None],
        "zone": ["2024-01-02T00:00:00+01:00", None],
        "span": ["P1DT0H0M0S", None],
        "period": ["2024-01", None],
        "category": ["a", None],
        "nullable": [1, None],
        "object": [1.5, "{'a': 1}"],
        "date": ["2024-01-02", "03:04:00"],
        "numpy": [0.5, "2024-01-02"],
    }


def test_names_are_text_and_none_is_lost() -> None:
    frame = pd.DataFrame([[1, 2, 3, 4]], columns=["a", "a", 1, pd.Timestamp("2024-01-02")])
    assert columns(frame) == {"a": [1], "a.1": [2], "1": [3], "2024-01-02T00:00:00": [4]}
    frame = pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("x", 1)]))
    assert columns(frame) == {"x, 1": [1]}


def test_series() -> None:
    assert columns(pd.Series([1, 2], name="s")) == {"s": [1, 2]}
    assert columns(pd.Series([1])) == {"0": [1]}


def test_empty() -> None:
    assert columns(pd.DataFrame()) == {}
    assert columns(pd.DataFrame({"a": []})) == {"a": []}


def test_at_most_ten_thousand_rows_and_fewer_of_wide_ones() -> None:
    assert len(columns(pd.DataFrame({"a": range(10_001)}))["a"]) == 10_000
    assert len(columns(pd.DataFrame({"a": range(10_000)}))["a"]) == 10_000
    wide = columns(pd.DataFrame(np.zeros((2000, 1000))))
    assert sum(len(values) for values in wide.values()) == tables.MAX_CELLS


def test_values_that_break_are_named() -> None:
    class Broken:
        def __str__(self) -> str:
            raise ValueError

    assert columns(pd.DataFrame({"a": [Broken()]})) == {"a": ["<Broken: ValueError>"]}


@pytest.mark.parametrize("obj", [None, 1, "x", [1], {"a": [1]}, object()])
def test_everything_else_is_no_table(obj: Any) -> None:
    assert tables.extract(obj) is None


def test_polars() -> None:
    polars = pytest.importorskip("polars")
    assert columns(polars.DataFrame({"a": [1, None], "d": [datetime.date(2024, 1, 2)] * 2})) == {"a": [1, None], "d": ["2024-01-02"] * 2}
    assert columns(polars.Series("s", [1.0, NAN])) == {"s": [1.0, None]}


@pytest.mark.parametrize("obj", [[], {}, [1, 2.5, "x", None, True, [{"a": []}]], {"a": {"b": [1]}}])
def test_plain_json_is_given_back(obj: Any) -> None:
    assert tables.plain_json(obj) is obj


@pytest.mark.parametrize(
    "obj",
    [
        1,
        "x",
        (1,),
        [NAN],
        [float("inf")],
        {1: 2},
        [(1,)],
        [object()],
        {"a": {1}},
        [b"x"],
        ["x" * 1024 * 1024],
        list(range(1_000_000)),
        type("List", (list,), {})(),
    ],
)
def test_other_values_are_not_plain_json(obj: Any) -> None:
    assert tables.plain_json(obj) is None


def test_what_contains_itself_or_is_too_deep_is_not_plain_json() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert tables.plain_json(loop) is None
    deep: list[Any] = []
    for _ in range(tables.MAX_DEPTH + 1):
        deep = [deep]
    assert tables.plain_json(deep) is None
