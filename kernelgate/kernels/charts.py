"""The data behind a matplotlib figure, as `application/vnd.kernelgate.chart+json`.

The object has the shape of E2B's charts (`type`, `title`, `elements`, and for charts with axes their
labels, units, ticks and scales), so that clients written for those can read it. It is taken from
the artists on the axes, as the e2b_charts package does; that package is not used, because it

- takes bars or boxes of equal height for horizontal ones, and a single box too;
- fails on error bars, on an axis without ticks, on more than one outlier, on NaN;
- names bars by the n-th tick label, wherever the bar stands;
- knows boxes only with `patch_artist=True`, and dates only with matplotlib's own converter;
- imports pydantic, which costs each kernel more than all the rest of this folder.

`extract` never raises, and what it returns is JSON: no NaN, no infinities, no NumPy scalars.
"""

from __future__ import annotations

import datetime
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

from IPython.core.formatters import BaseFormatter
from traitlets import ObjectName, Unicode

if TYPE_CHECKING:
    from IPython.core.formatters import DisplayFormatter

MIME_TYPE = "application/vnd.kernelgate.chart+json"

MAX_POINTS = 50_000
"""Points of one chart; the rest is left out, and `truncated` says so. A point is about 40 bytes."""

Json = dict[str, Any]

_UNIT = re.compile(r"\s\((.*?)\)|\[(.*?)\]")
_UNKNOWN = "unknown"


def extract(figure: Any) -> Json:
    """The chart object of a figure; empty for a figure without data."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _figure(figure)
    except Exception:  # noqa: BLE001 - artists are of anyone's making; the picture must still be shown
        return _chart(_UNKNOWN, None)


def _figure(figure: Any) -> Json:
    axes = [ax for ax in figure.get_axes() if ax.get_label() != "<colorbar>"]
    if not any(ax.has_data() for ax in axes):
        return {}
    if len(axes) == 1:
        return _axes(axes[0])
    return _chart("superchart", figure.get_suptitle(), [_axes(ax) for ax in axes])


def _chart(kind: str, title: str | None, elements: Sequence[Json] = (), **fields: Any) -> Json:
    return {"type": kind, "title": title or None, "elements": list(elements), **fields}


def _axes(ax: Any) -> Json:
    title = None
    try:
        title = ax.get_title()
        if ax.name == "3d":
            return _chart(_UNKNOWN, title)
        return _EXTRACTORS[_kind(ax)](ax, title)
    except Exception:  # noqa: BLE001 - see extract; the other axes of the figure are still good
        return _chart(_UNKNOWN, title)


# -- which chart -----------------------------------------------------------------------------


def _kind(ax: Any) -> str:
    """Type of the chart, from the classes of the artists that carry data."""
    from matplotlib.collections import LineCollection, PathCollection, PolyCollection
    from matplotlib.lines import Line2D
    from matplotlib.patches import PathPatch, Rectangle, Wedge
    from matplotlib.text import Text

    bars = {id(bar) for container in _bar_containers(ax) for bar in container}
    errors = _error_bar_parts(ax)
    artists = [a for a in ax._children if not isinstance(a, Text) and id(a) not in errors]
    # Bands, reference lines and spans decorate a chart, unless there is nothing else.
    data = [
        a
        for a in artists
        if not isinstance(a, LineCollection | PolyCollection)
        and not (isinstance(a, Line2D) and _is_reference_line(a))
        and not (isinstance(a, Rectangle) and id(a) not in bars)
    ]
    if not data:
        data = [a for a in artists if not isinstance(a, Rectangle)]
    if _boxes(ax) and all(isinstance(a, PathPatch | Line2D) for a in data):
        return "box_and_whisker"
    if all(isinstance(a, Line2D) for a in data):
        return "line"
    if all(isinstance(a, PathCollection) for a in data):
        return "scatter"
    if all(isinstance(a, Wedge) for a in data):
        return "pie"
    if all(id(a) in bars for a in data):
        return "bar"
    return _UNKNOWN


def _bar_containers(ax: Any) -> list[Any]:
    from matplotlib.container import BarContainer

    return [c for c in ax.containers if isinstance(c, BarContainer) and len(c)]


def _error_bar_parts(ax: Any) -> set[int]:
    """Ids of the artists that error bars are made of, without the line of the data itself."""
    from matplotlib.container import ErrorbarContainer

    parts: set[int] = set()
    for container in ax.containers:
        errorbar = container if isinstance(container, ErrorbarContainer) else getattr(container, "errorbar", None)
        if errorbar is not None:
            _line, caps, bars = errorbar.lines
            parts.update(id(artist) for artist in (*caps, *bars))
    return parts


def _error_bar_labels(ax: Any) -> dict[int, str]:
    """Labels of lines with error bars, by the line's id: they are on the container."""
    from matplotlib.container import ErrorbarContainer

    return {id(container.lines[0]): str(container.get_label()) for container in ax.containers if isinstance(container, ErrorbarContainer)}


def _is_reference_line(line: Any) -> bool:
    """Whether it is a straight line along an axis, as grids and `axhline` are."""
    x, y = line.get_xdata(), line.get_ydata()
    if len(x) != 2 or len(y) != 2:
        return False
    return bool(x[0] == x[1]) or bool(y[0] == y[1])


# -- values ----------------------------------------------------------------------------------


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _rounded(value: Any) -> float | None:
    """Without the noise of floating point arithmetic: 8 digits for numbers of the order of 1."""
    number = _number(value)
    if number is None:
        return None
    decimal = Decimal(str(number))
    with localcontext() as context:
        context.prec = max(1, 8 - decimal.adjusted())
        return float(+decimal)


def _coordinate(value: Any) -> str | float | None:
    """A value of the user's as he gave it: dates as ISO 8601 text, missing ones null."""
    if isinstance(value, str):
        return str(value)
    if hasattr(value, "to_timestamp"):  # a pandas Period
        value = value.to_timestamp()
    if isinstance(value, datetime.date):
        text = value.isoformat()
        return None if text == "NaT" else text
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.datetime64):
        text = str(value.astype("datetime64[s]"))
        return None if text == "NaT" else text
    number = _number(value)
    if number is None and not isinstance(value, float) and not _is_missing(value):
        text = str(value)
        return None if text in {"NaT", "nan", "--", "<NA>", "None"} else text
    return number


def _is_missing(value: Any) -> bool:
    try:
        return value is None or float(value) != float(value) or math.isinf(float(value))
    except (TypeError, ValueError):
        return False


def _is_date_axis(axis: Any) -> bool:
    import matplotlib.dates as mdates

    converter = _converter(axis)
    known = (mdates.DateConverter, mdates._SwitchableDateConverter)
    return isinstance(converter, known) or type(converter).__name__ in {
        "PeriodConverter",
        "DatetimeConverter",
    }


def _converter(axis: Any) -> Any:
    return axis.get_converter() if hasattr(axis, "get_converter") else axis.converter


def _date(axis: Any, position: float) -> Any:
    """The date at a position of a date axis."""
    import matplotlib.dates as mdates

    freq = getattr(axis.axes, "freq", None)
    if type(_converter(axis)).__name__ == "PeriodConverter" and freq is not None:
        pandas = sys.modules["pandas"]
        return pandas.Period(ordinal=round(position), freq=freq).to_timestamp()
    return mdates.num2date(position)


def _reader(axis: Any) -> Callable[[Any], str | float | None]:
    """What turns a value or a position of this axis into what the user plotted.

    Lines keep the user's values where matplotlib converted them, collections keep positions only.
    """
    is_date, names = _is_date_axis(axis), _categories(axis)

    def read(value: Any) -> str | float | None:
        plain = _coordinate(value)
        if not isinstance(plain, float):
            return plain
        if is_date:
            return str(_date(axis, plain).replace(tzinfo=None).isoformat())
        return names.get(plain, plain)

    return read


def _categories(axis: Any) -> dict[float, str]:
    """Names by position, of an axis that was given strings."""
    mapping = getattr(getattr(axis, "units", None), "_mapping", None) or {}
    return {float(position): str(name) for name, position in mapping.items()}


# -- axes ------------------------------------------------------------------------------------


def _label(text: str) -> tuple[str | None, str | None]:
    """An axis's label, and the unit in it: `Length (cm)` or `Length [cm]`."""
    match = _UNIT.search(text) if text else None
    return text or None, (match.group(1) or match.group(2)) if match else None


def _labels(ax: Any, *, swapped: bool = False) -> Json:
    """Labels and units; `swapped` where the categories stand on the y axis."""
    x, y = _label(ax.get_xlabel()), _label(ax.get_ylabel())
    if swapped:
        x, y = y, x
    return {"x_label": x[0], "y_label": y[0], "x_unit": x[1], "y_unit": y[1]}


def _scales(ax: Any) -> Json:
    fields: Json = {}
    for name, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
        positions = [_number(tick) for tick in axis.get_majorticklocs()]
        labels = [label.get_text() for label in axis.get_majorticklabels()]
        is_date = _is_date_axis(axis)
        fields[f"{name}_ticks"] = [None if p is None else _date(axis, p).isoformat() for p in positions] if is_date else positions
        fields[f"{name}_tick_labels"] = labels
        fields[f"{name}_scale"] = _scale(axis, positions, labels, is_date=is_date)
    return fields


def _scale(axis: Any, ticks: list[float | None], labels: list[str], *, is_date: bool) -> str:
    if is_date:
        return "datetime"
    scale = axis.get_scale()
    if scale != "linear" or not ticks:
        return str(scale)
    if all(tick == i and label != str(i) for i, (tick, label) in enumerate(zip(ticks, labels))):  # noqa: B905
        return "categorical"
    return "linear"


def _category_namer(axis: Any) -> Callable[[float], str]:
    """What to call something that stands at a position of this axis.

    The nearest tick where the user chose the ticks, since grouped bars stand beside theirs; the tick
    there where he chose how ticks are written; else the position itself.
    """
    from matplotlib.category import StrCategoryLocator
    from matplotlib.ticker import FixedLocator, ScalarFormatter

    ticks = [
        (float(tick), label.get_text())
        for tick, label in zip(axis.get_majorticklocs(), axis.get_majorticklabels())  # noqa: B905
        if label.get_text()
    ]
    chosen = isinstance(axis.get_major_locator(), FixedLocator | StrCategoryLocator)
    read = _reader(axis)
    if not chosen and (_is_date_axis(axis) or isinstance(axis.get_major_formatter(), ScalarFormatter)):
        ticks = []

    def name(position: float) -> str:
        if ticks:
            tick, label = min(ticks, key=lambda item: abs(item[0] - position))
            if chosen or math.isclose(tick, position, rel_tol=1e-9, abs_tol=1e-9):
                return label
        value = read(position)
        return f"{value:.6g}" if isinstance(value, float) else str(value)

    return name


# -- the charts ------------------------------------------------------------------------------


def _points(fields: Json, label: str, pairs: Iterable[tuple[Any, Any]], room: int) -> tuple[Json, int]:
    points: list[list[Any]] = []
    for x, y in pairs:
        if len(points) >= room:
            fields["truncated"] = True
            break
        points.append([x, y])
    return {"label": label, "points": points}, room - len(points)


def _line(ax: Any, title: str) -> Json:
    fields, elements, room = {**_labels(ax), **_scales(ax)}, [], MAX_POINTS
    errors, names = _error_bar_parts(ax), _error_bar_labels(ax)
    read_x, read_y = _reader(ax.xaxis), _reader(ax.yaxis)
    for n, line in enumerate(ax.get_lines()):
        if id(line) in errors or _is_reference_line(line):
            continue
        label = names.get(id(line)) or str(line.get_label())
        if label.startswith("_"):
            label = f"Line {label[6:] if label.startswith('_child') else n}"
        x, y = line.get_xdata(), line.get_ydata()
        pairs = ((read_x(a), read_y(b)) for a, b in zip(x, y))  # noqa: B905
        element, room = _points(fields, label, pairs, room)
        elements.append(element)
    return _chart("line", title, elements, **fields)


def _scatter(ax: Any, title: str) -> Json:
    from matplotlib.collections import PathCollection

    fields, elements, room = {**_labels(ax), **_scales(ax)}, [], MAX_POINTS
    read_x, read_y = _reader(ax.xaxis), _reader(ax.yaxis)
    for n, collection in enumerate(ax.collections):
        if not isinstance(collection, PathCollection):
            continue
        offsets: Any = collection.get_offsets()
        label = str(collection.get_label())
        if label.startswith("_"):
            label = f"Group {label[6:] if label.startswith('_child') else n}"
        pairs = ((read_x(x), read_y(y)) for x, y in offsets)
        element, room = _points(fields, label, pairs, room)
        elements.append(element)
    return _chart("scatter", title, elements, **fields)


def _bar(ax: Any, title: str) -> Json:
    elements: list[Json] = []
    swapped = False
    for n, container in enumerate(_bar_containers(ax)):
        group = str(container.get_label())
        if group.startswith("_"):
            group = f"Group {n}"
        swapped = container.orientation == "horizontal"
        name = _category_namer(ax.yaxis if swapped else ax.xaxis)
        for bar in container:
            if swapped:
                position, value = bar.get_y() + bar.get_height() / 2, bar.get_width()
            else:
                position, value = bar.get_x() + bar.get_width() / 2, bar.get_height()
            elements.append({"label": name(float(position)), "group": group, "value": _number(value)})
    return _chart("bar", title, elements, **_labels(ax, swapped=swapped))


def _pie(ax: Any, title: str) -> Json:
    from matplotlib.patches import Wedge

    elements = []
    for wedge in ax.patches:
        if isinstance(wedge, Wedge):
            angle = _rounded(Decimal(float(wedge.theta2)) - Decimal(float(wedge.theta1)))
            label = str(wedge.get_label())
            elements.append(
                {
                    "label": "" if label.startswith("_") else label,
                    "angle": None if angle is None else abs(angle),
                    "radius": _number(wedge.r),
                }
            )
    return _chart("pie", title, elements)


def _boxes(ax: Any) -> list[list[tuple[float, float]]]:
    """Corner points of the boxes of a box plot, filled (patches) or not (closed lines)."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import PathPatch

    boxes = []
    for artist in ax._children:
        if isinstance(artist, PathPatch):
            vertices: Any = artist.get_path().vertices
            boxes.append([(float(x), float(y)) for x, y in vertices])
        elif isinstance(artist, Line2D):
            points = _plain_points(artist)
            # Five corners of a rectangle, or eleven with a notch; the last closes it.
            if len(points) in {5, 11} and points[0] == points[-1] and artist.get_linestyle() == "-":
                corners = len({x for x, _ in points}), len({y for _, y in points})
                if len(points) == 11 or corners == (2, 2):
                    boxes.append(points)
    return boxes


def _plain_points(line: Any) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(orig=False), line.get_ydata(orig=False))]  # noqa: B905


def _box_and_whisker(ax: Any, title: str) -> Json:
    boxes = _boxes(ax)
    # A single triangle is a mean, as matplotlib draws it.
    lines = [points for line in ax.get_lines() if len(points := _plain_points(line)) != 1 or line.get_marker() != "^"]
    pairs = [points for points in lines if len(points) == 2]
    # A median crosses its box: along x in boxes that stand, along y in boxes that lie.
    lying = not any(_crosses(box, pair) for box in boxes for pair in pairs) and any(
        _crosses(_flip(box), _flip(pair)) for box in boxes for pair in pairs
    )
    if lying:
        boxes, lines, pairs = ([_flip(points) for points in group] for group in (boxes, lines, pairs))
    name = _category_namer(ax.yaxis if lying else ax.xaxis)
    elements = []
    for box in boxes:
        left, right = min(x for x, _ in box), max(x for x, _ in box)
        low, high = _quartiles(box)
        middle, reach = (left + right) / 2, (right - left) / 2
        whiskers = [y for pair in pairs if pair[0][0] == pair[1][0] and _close(pair[0][0], middle, reach * 0.1) for _, y in pair]
        # A cap may lie on the edge of the box; a median is longer, or at least within.
        medians = sorted(
            (pair for pair in pairs if _crosses(box, pair)),
            key=lambda pair: (-round(abs(pair[1][0] - pair[0][0]), 9), pair[0][1] in (low, high)),
        )
        outliers = [
            y
            for points in lines
            if points not in pairs and points not in boxes
            for x, y in points
            if _close(x, middle, reach) and not low <= y <= high
        ]
        elements.append(
            {
                "label": name(middle),
                "min": _rounded(min([low, *whiskers])),
                "first_quartile": _rounded(low),
                "median": _rounded(medians[0][0][1]) if medians else None,
                "third_quartile": _rounded(high),
                "max": _rounded(max([high, *whiskers])),
                "outliers": [_rounded(y) for y in outliers],
            }
        )
    return _chart("box_and_whisker", title, elements, **_labels(ax, swapped=lying))


def _quartiles(box: list[tuple[float, float]]) -> tuple[float, float]:
    """Lower and upper edge; the notch of a notched box may reach beyond them."""
    ys = [y for _, y in box]
    if len(ys) >= 11:  # as Axes.bxp draws it
        return min(ys[0], ys[5]), max(ys[0], ys[5])
    return min(ys), max(ys)


def _flip(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(y, x) for x, y in points]


def _close(a: float, b: float, within: float) -> bool:
    return abs(a - b) <= within + 1e-12


def _crosses(box: list[tuple[float, float]], pair: list[tuple[float, float]]) -> bool:
    """Whether a line runs level, inside the box, across at least a third of it."""
    (x0, y0), (x1, y1) = pair
    left, right = min(x for x, _ in box), max(x for x, _ in box)
    low, high = _quartiles(box)
    slack = 1e-9 * max(1.0, abs(left), abs(right))
    inside = left - slack <= min(x0, x1) and max(x0, x1) <= right + slack
    return y0 == y1 and inside and abs(x1 - x0) >= (right - left) / 3 and low <= y0 <= high


def _unknown(_ax: Any, title: str) -> Json:
    return _chart(_UNKNOWN, title)


_EXTRACTORS: dict[str, Callable[[Any, str], Json]] = {
    "line": _line,
    "scatter": _scatter,
    "bar": _bar,
    "pie": _pie,
    "box_and_whisker": _box_and_whisker,
    _UNKNOWN: _unknown,
}


# -- in IPython ------------------------------------------------------------------------------


class ChartFormatter(BaseFormatter):
    """Adds the chart object to whatever else a figure is shown as.

    Not registered by type as other formatters are: matplotlib_inline removes every formatter of
    `Figure` when the user chooses image formats.
    """

    format_type = Unicode(MIME_TYPE)
    print_method = ObjectName("_repr_kernelgate_chart_")

    def __init__(self, on_figure: Callable[[Any], object], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._on_figure = on_figure

    def __call__(self, obj: Any) -> Json | None:
        """The chart object of a figure; None for everything else, and for a figure without data."""
        matplotlib_figure = sys.modules.get("matplotlib.figure")
        if matplotlib_figure is None or not isinstance(obj, matplotlib_figure.Figure):
            return None
        chart = extract(obj)
        self._on_figure(obj)
        return chart or None


def register(display_formatter: DisplayFormatter, *, on_figure: Callable[[Any], object]) -> None:
    """Install the formatter; `on_figure` is told of each figure that is shown, when all is read from it."""
    formatter = ChartFormatter(on_figure, parent=display_formatter)
    display_formatter.formatters[MIME_TYPE] = formatter
