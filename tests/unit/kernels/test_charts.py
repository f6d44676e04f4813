"""What is read from figures: shapes as E2B's clients know them, and each fault of e2b_charts that is not repeated."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from kernelgate.kernels import charts  # noqa: E402

NAN = float("nan")
DAYS = [datetime.datetime(2024, 1, day) for day in (1, 2, 3)]  # noqa: DTZ001 - matplotlib's are naive
Draw = Callable[[Any], object]


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


def chart(draw: Draw, **subplots: Any) -> dict[str, Any]:
    """The chart of one axes that was drawn on; checked to be JSON that every reader takes."""
    fig, ax = plt.subplots(**subplots)
    draw(ax)
    return of(fig)


def of(fig: Any) -> dict[str, Any]:
    fig.canvas.draw()
    found = charts.extract(fig)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def labelled(ax: Any) -> object:
    return ax.set(title="T", xlabel="Time (s)", ylabel="Length [m]")


LABELS = {"x_label": "Time (s)", "y_label": "Length [m]", "x_unit": "s", "y_unit": "m"}
NO_LABELS = dict.fromkeys(LABELS)


def points(found: dict[str, Any]) -> list[list[Any]]:
    return [element["points"] for element in found["elements"]]


# -- lines and points --------------------------------------------------------------------------------------------------------------------


def test_line_in_full() -> None:
    def draw(ax: Any) -> None:
        ax.plot([1, 2], [3.5, 4], label="a")
        ax.plot([1, 2], [5, 6])
        ax.set_xticks([1, 2], ["one", "two"])
        ax.set_yticks([3, 6])
        labelled(ax)

    assert chart(draw) == {
        "type": "line",
        "title": "T",
        "elements": [
            {"label": "a", "points": [[1.0, 3.5], [2.0, 4.0]]},
            {"label": "Line 1", "points": [[1.0, 5.0], [2.0, 6.0]]},
        ],
        **LABELS,
        "x_ticks": [1.0, 2.0],
        "x_tick_labels": ["one", "two"],
        "x_scale": "linear",
        "y_ticks": [3.0, 6.0],
        "y_tick_labels": ["3", "6"],
        "y_scale": "linear",
    }


def test_scatter() -> None:
    found = chart(lambda ax: (ax.scatter([1, 2], [3, 4], label="A"), ax.scatter([5], [6]), labelled(ax)))
    assert (found["type"], found["title"]) == ("scatter", "T")
    assert found["elements"] == [
        {"label": "A", "points": [[1.0, 3.0], [2.0, 4.0]]},
        {"label": "Group 1", "points": [[5.0, 6.0]]},
    ]


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: ax.plot(DAYS, [1, 2, 3]),
        lambda ax: ax.scatter(DAYS, [1, 2, 3]),
        lambda ax: ax.plot(np.array(DAYS, dtype="M8[ns]"), [1, 2, 3]),
        lambda ax: ax.plot(pd.DatetimeIndex(DAYS), [1, 2, 3]),
        lambda ax: (ax.plot([19723, 19724, 19725], [1, 2, 3]), ax.xaxis_date()),
        lambda ax: pd.Series([1, 2, 3], index=pd.date_range("2024-01-01", periods=3)).plot(ax=ax),
        lambda ax: ax.errorbar(DAYS, [1, 2, 3], yerr=0.1),
    ],
)
def test_dates(draw: Draw) -> None:
    found = chart(draw)
    assert found["x_scale"] == "datetime"
    assert all(datetime.datetime.fromisoformat(tick) for tick in found["x_ticks"])
    assert [x for x, _ in points(found)[0]] == [day.isoformat() for day in DAYS]


@pytest.mark.parametrize("method", ["plot", "scatter"])
def test_categories(method: str) -> None:
    found = chart(lambda ax: getattr(ax, method)(["p", "q", "p"], [1, 2, 3]))
    assert found["x_scale"] == "categorical"
    assert points(found) == [[["p", 1.0], ["q", 2.0], ["p", 3.0]]]


@pytest.mark.parametrize("scale", ["log", "symlog", "logit", "asinh"])
def test_scales(scale: str) -> None:
    assert chart(lambda ax: (ax.plot([0.1, 0.9], [1, 2]), ax.set_xscale(scale)))["x_scale"] == scale


def test_axis_without_ticks() -> None:
    found = chart(lambda ax: (ax.plot([1, 2]), ax.set_xticks([])))
    assert (found["x_ticks"], found["x_tick_labels"], found["x_scale"]) == ([], [], "linear")


def test_missing_and_odd_values_become_null_or_plain() -> None:
    assert points(chart(lambda ax: ax.plot([1, NAN, 3], [float("inf"), 2, 3]))) == [[[1.0, None], [None, 2.0], [3.0, 3.0]]]
    assert points(chart(lambda ax: ax.plot(np.ma.masked_equal([1, 2], 2)))) == [[[0.0, 1.0], [1.0, None]]]
    assert points(chart(lambda ax: ax.scatter([1, 2], [NAN, 4])))[0][-1] == [2.0, 4.0]
    assert points(chart(lambda ax: ax.plot(pd.Series([DAYS[0], pd.NaT]), [1, 2])))[0][1][0] is None
    numbers = chart(lambda ax: ax.plot(np.array([1], dtype="f4"), np.array([2], dtype="i8")))["elements"][0]["points"][0]
    assert [type(number) for number in numbers] == [float, float]


def test_decorations_do_not_hide_the_type() -> None:
    def draw(ax: Any) -> None:
        ax.plot([1, 2], [1, 2])
        ax.fill_between([1, 2], [0, 1], [2, 3])
        ax.axhline(1.5)
        ax.axvspan(1, 1.5)
        ax.annotate("note", (1, 1))
        ax.grid(visible=True)
        ax.legend(["l"])

    found = chart(draw)
    assert found["type"] == "line"
    assert points(found) == [[[1.0, 1.0], [2.0, 2.0]]]


def test_error_bars_leave_the_line_and_its_label() -> None:
    found = chart(lambda ax: ax.errorbar([1, 2], [3, 4], yerr=0.1, xerr=0.2, capsize=3, label="E"))
    assert found["type"] == "line"
    assert found["elements"] == [{"label": "E", "points": [[1.0, 3.0], [2.0, 4.0]]}]


def test_too_many_points_are_cut_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "MAX_POINTS", 5)
    found = chart(lambda ax: (ax.plot(range(4)), ax.plot(range(4))))
    assert [len(p) for p in points(found)] == [4, 1]
    assert found["truncated"] is True
    assert "truncated" not in chart(lambda ax: ax.plot(range(5)))


# -- bars --------------------------------------------------------------------------------------------------------------------------------


def bars(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    assert found["type"] == "bar"
    return [(e["label"], e["group"], e["value"]) for e in found["elements"]]


def test_bar_in_full() -> None:
    assert chart(lambda ax: (ax.bar(["a", "b"], [1, 2], label="g"), labelled(ax))) == {
        "type": "bar",
        "title": "T",
        "elements": [{"label": "a", "group": "g", "value": 1.0}, {"label": "b", "group": "g", "value": 2.0}],
        **LABELS,
    }


def test_horizontal_bars_have_their_labels_swapped() -> None:
    found = chart(lambda ax: (ax.barh(["a", "b"], [1, 2]), labelled(ax)))
    assert bars(found) == [("a", "Group 0", 1.0), ("b", "Group 0", 2.0)]
    assert (found["x_label"], found["y_label"], found["x_unit"]) == ("Length [m]", "Time (s)", "m")


@pytest.mark.parametrize("heights", [[2, 2, 2], [0, 0, 0]])
def test_bars_of_equal_height_stand(heights: list[int]) -> None:
    found = chart(lambda ax: (ax.bar(["a", "b", "c"], heights), labelled(ax)))
    assert bars(found) == [(name, "Group 0", float(heights[0])) for name in "abc"]
    assert found["x_label"] == "Time (s)"


def test_one_bar() -> None:
    assert bars(chart(lambda ax: ax.bar(["a"], [3]))) == [("a", "Group 0", 3.0)]


@pytest.mark.parametrize("options", [{"yerr": [0.1, 0.2]}, {"yerr": 0.1, "capsize": 4}, {"yerr": 0.1, "xerr": 0.2}])
def test_bars_with_error_bars(options: dict[str, Any]) -> None:
    assert bars(chart(lambda ax: ax.bar(["a", "b"], [1, 2], **options))) == [("a", "Group 0", 1.0), ("b", "Group 0", 2.0)]


def test_stacked_and_grouped_bars() -> None:
    expected = [("a", "x", 1.0), ("b", "x", 2.0), ("a", "y", 3.0), ("b", "y", 4.0)]

    def stacked(ax: Any) -> None:
        ax.bar(["a", "b"], [1, 2], label="x")
        ax.bar(["a", "b"], [3, 4], bottom=[1, 2], label="y")

    def grouped(ax: Any) -> None:
        ax.bar(np.arange(2) - 0.2, [1, 2], 0.4, label="x")
        ax.bar(np.arange(2) + 0.2, [3, 4], 0.4, label="y")
        ax.set_xticks([0, 1], ["a", "b"])

    assert bars(chart(stacked)) == expected
    assert bars(chart(grouped)) == expected
    frame = pd.DataFrame({"x": [1, 2], "y": [3, 4]}, index=["a", "b"])
    assert bars(of(frame.plot.bar().figure)) == expected


def test_bars_at_numbers_and_dates_are_named_by_where_they_stand() -> None:
    assert [name for name, _, _ in bars(chart(lambda ax: ax.bar([1, 2, 4.5], [1, 2, 3])))] == ["1", "2", "4.5"]
    assert [name for name, _, _ in bars(chart(lambda ax: ax.bar(DAYS, [1, 2, 3])))] == [day.isoformat() for day in DAYS]
    assert [value for _, _, value in bars(chart(lambda ax: ax.hist([1, 2, 2, 3, 3, 3], bins=3)))] == [1.0, 2.0, 3.0]


def test_missing_bar() -> None:
    assert bars(chart(lambda ax: ax.bar(["a", "b"], [1, NAN])))[1] == ("b", "Group 0", None)


# -- pies and boxes ----------------------------------------------------------------------------------------------------------------------


def test_pie_in_full() -> None:
    assert chart(lambda ax: (ax.pie([1, 2, 1], labels=["a", "b", "c"], autopct="%d"), ax.set_title("T"))) == {
        "type": "pie",
        "title": "T",
        "elements": [
            {"label": "a", "angle": 90.0, "radius": 1.0},
            {"label": "b", "angle": 180.0, "radius": 1.0},
            {"label": "c", "angle": 90.0, "radius": 1.0},
        ],
    }


SAMPLES = [[1, 2, 3, 4, 20, 30], [2, 3, 4, 5, 40]]
BOXES = [
    {"label": "a", "min": 1.0, "first_quartile": 2.25, "median": 3.5, "third_quartile": 16.0, "max": 30.0, "outliers": []},
    {"label": "b", "min": 2.0, "first_quartile": 3.0, "median": 4.0, "third_quartile": 5.0, "max": 5.0, "outliers": [40.0]},
]


@pytest.mark.parametrize("filled", [True, False])
@pytest.mark.parametrize("orientation", ["vertical", "horizontal"])
@pytest.mark.parametrize("options", [{}, {"showmeans": True}, {"showcaps": False}, {"notch": True}])
def test_boxes(filled: bool, orientation: str, options: dict[str, Any]) -> None:
    def draw(ax: Any) -> None:
        ax.boxplot(SAMPLES, tick_labels=["a", "b"], patch_artist=filled, orientation=orientation, **options)
        labelled(ax)

    found = chart(draw)
    assert found["type"] == "box_and_whisker"
    assert found["elements"] == BOXES
    assert found["y_label"] == ("Length [m]" if orientation == "vertical" else "Time (s)")


def test_one_box_with_many_outliers() -> None:
    found = chart(lambda ax: ax.boxplot([1, 2, 3, 4, 5, 30, -40, 50], tick_labels=["a"], whis=0.5))
    assert sorted(found["elements"][0]["outliers"]) == [-40.0, 30.0, 50.0]
    assert found["x_label"] is None


def test_boxes_of_equal_height() -> None:
    found = chart(lambda ax: ax.boxplot([[1, 2, 3], [11, 12, 13]], patch_artist=True))
    assert [(e["min"], e["median"], e["max"]) for e in found["elements"]] == [(1.0, 2.0, 3.0), (11.0, 12.0, 13.0)]


# -- figures -----------------------------------------------------------------------------------------------------------------------------


def test_superchart() -> None:
    fig, (left, right) = plt.subplots(1, 2)
    left.plot([1, 2])
    right.bar(["a"], [1])
    assert of(fig)["title"] is None
    fig.suptitle("S")
    found = of(fig)
    assert (found["type"], found["title"], [e["type"] for e in found["elements"]]) == ("superchart", "S", ["line", "bar"])


def test_colour_bar_is_no_chart() -> None:
    fig, ax = plt.subplots()
    fig.colorbar(ax.scatter([1, 2], [3, 4], c=[1, 2]))
    assert of(fig)["type"] == "scatter"


def test_without_data() -> None:
    assert of(plt.figure()) == {}
    assert chart(lambda _: None) == {}


@pytest.mark.parametrize(
    ("draw", "options"),
    [
        (lambda ax: ax.imshow(np.eye(3)), {}),
        (lambda ax: ax.contour(np.eye(4)), {}),
        (lambda ax: ax.violinplot(SAMPLES), {}),
        (lambda ax: ax.stackplot([0, 1], [1, 2], [2, 3]), {}),
        (lambda ax: ax.hexbin([1, 2, 3], [1, 2, 3]), {}),
        (lambda ax: ax.quiver([1], [1], [1], [1]), {}),
        (lambda ax: (ax.bar([1, 2], [1, 2]), ax.plot([1, 2], [2, 1])), {}),
        (lambda ax: ax.plot([1, 2], [1, 2], [1, 2]), {"subplot_kw": {"projection": "3d"}}),
        (lambda ax: ax.plot_surface(np.eye(3), np.eye(3), np.eye(3)), {"subplot_kw": {"projection": "3d"}}),
    ],
)
def test_unknown(draw: Draw, options: dict[str, Any]) -> None:
    found = chart(lambda ax: (draw(ax), ax.set_title("T")), **options)
    assert found == {"type": "unknown", "title": "T", "elements": []}


def test_polar() -> None:
    assert points(chart(lambda ax: ax.plot([0, 1], [1, 2]), subplot_kw={"projection": "polar"})) == [[[0.0, 1.0], [1.0, 2.0]]]


def test_never_raises() -> None:
    class Broken:
        def get_axes(self) -> None:
            raise RuntimeError

    assert charts.extract(Broken()) == {"type": "unknown", "title": None, "elements": []}
    fig, (good, bad) = plt.subplots(1, 2)
    good.plot([1, 2])
    bad.plot([1, 2])
    bad.get_lines()[0].get_xdata = None
    assert [e["type"] for e in charts.extract(fig)["elements"]] == ["line", "unknown"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: (ax.plot([1, 2, 3], [1.5, 2, 9], label="a"), ax.plot([3, 2, 1]), ax.grid(visible=True), ax.axhline(2)),
        lambda ax: ax.plot(DAYS, [1, 2, 3]),
        lambda ax: (ax.plot([1, 10], [1, 100]), ax.set_yscale("log")),
        lambda ax: ax.plot(["a", "b"], [1, 2]),
        lambda ax: ax.scatter([1, 2], [3, 4], label="A"),
        lambda ax: ax.bar(["a", "b"], [1, 2]),
        lambda ax: ax.barh(["a", "b"], [1, 2]),
        lambda ax: ax.pie([1, 2, 1], labels=["a", "b", "c"]),
        lambda ax: ax.boxplot([[1, 2, 3, 4], [2, 3, 4, 9]], patch_artist=True, showfliers=False, tick_labels=["a", "b"]),
        lambda ax: ax.imshow(np.eye(2)),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_same_as_e2b_charts_where_that_is_right(draw: Draw) -> None:
    e2b_charts = pytest.importorskip("e2b_charts")
    fig, ax = plt.subplots()
    draw(ax)
    labelled(ax)
    found = of(fig)
    assert found == json.loads(json.dumps(e2b_charts.chart_figure_to_dict(fig), default=float))
