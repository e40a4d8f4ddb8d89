"""Charts as inline SVG: lines with bands, points by category, scatters, bars. Numbers in, markup out.

Colours are the page's: every method has a class `m0`, `m1`, ... that its style sheet gives a colour in light and dark,
and a marker of its own, so that nothing is told by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]
"""x and y, in the units of the axes."""
Band = tuple[float, float, float]
"""x, lower and upper end of y."""

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 48, 18, 12, 46
"""Margins around the plotted area, for ticks and labels."""
HUES = 8
"""Colours of the style sheet; methods beyond are dashed."""


@dataclass(frozen=True)
class Axis:
    """What one direction of a chart shows."""

    label: str
    """With its unit."""
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    """Values and how they are written."""
    log: bool = False

    def share(self, value: float) -> float:
        """Place of a value between the ends, in [0, 1]; values beyond are at the ends."""
        low, high, place = self.low, self.high, value
        if self.log:
            low, high, place = math.log(low), math.log(high), math.log(max(value, self.low))
        return min(max((place - low) / ((high - low) or 1.0), 0.0), 1.0)


@dataclass(frozen=True)
class Series:
    """What a chart shows of one method."""

    method: str
    points: Sequence[Point]
    band: Sequence[Band] = ()
    """95 % interval around the points; empty = unknown."""
    names: Sequence[str] = field(default_factory=tuple)
    """Of the points, for tooltips."""


Places = Mapping[str, int]
"""Place of each method in the order that colours are given in."""


def linear_axis(label: str, high: float, *, low: float = 0.0, count: int = 5) -> Axis:
    """An axis that ends at a round value beyond `high`, with about `count` ticks."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if span / (factor * power) <= count + 1e-9)
    ends = low + step * math.ceil(span / step - 1e-9)
    number = round((ends - low) / step)
    digits = max(0, -math.floor(math.log10(step) + 1e-9) + (1 if step / power == 2.5 else 0))
    ticks = [(low + index * step, f"{low + index * step:,.{digits}f}") for index in range(number + 1)]
    return Axis(label, low, ends, ticks)


def log_axis(label: str, values: Sequence[float], ticks: Sequence[tuple[float, str]] | None = None) -> Axis:
    """A logarithmic axis over positive values, ticks at 1, 2, 5 times powers of ten if none are given."""
    low, high = min(values), max(values)
    if ticks is None:
        steps = [factor * 10.0**power for power in range(-3, 8) for factor in (1, 2, 5)]
        low = max(step for step in steps if step <= low)
        high = min(step for step in steps if step >= high)
        ticks = [(step, f"{step:,g}") for step in steps if low <= step <= high]
    return Axis(label, low, high if high > low else 2 * low, ticks, log=True)


def line_chart(title: str, series: Sequence[Series], x: Axis, y: Axis, places: Places) -> str:
    """Lines over a continuous axis, with bands where they are known.

    Args:
        title: what is seen.
        series: one for each method; the first is drawn above.
        x: horizontal.
        y: vertical.
        places: colours of the methods.

    Returns:
        a figure.
    """
    parts = []
    for one in reversed(series):
        place = _placed(x, y)
        band = [place(at, high) for at, _, high in one.band] + [place(at, low) for at, low, _ in reversed(one.band)]
        drawn = f'<polygon class="band" points="{_path(band)}"/>' if band else ""
        points = [place(*point) for point in one.points if math.isfinite(point[1])]
        drawn += f'<polyline class="line" points="{_path(points)}"/>' if len(points) > 1 else ""
        if len(points) <= 16:
            shown = [point for point in one.points if math.isfinite(point[1])]
            drawn += "".join(
                _marker(at, places[one.method], f"{one.method}: {value:.3f} at {_tick(x, start)}")
                for at, (start, value) in zip(points, shown, strict=True)
            )
        parts.append(_group(one.method, places, drawn))
    return _figure(title, _frame(x, y) + "".join(parts), [one.method for one in series], places)


def category_chart(
    title: str, series: Sequence[Series], names: Sequence[str], y: Axis, x_label: str, places: Places
) -> str:
    """Points with whiskers over named places, methods side by side.

    Args:
        title: what is seen.
        series: points with x = 0, 1, ... by name.
        names: of the places.
        y: vertical.
        x_label: what the places are.
        places: colours of the methods.

    Returns:
        a figure.
    """
    step = max(1, math.ceil(len(names) / 8))
    letters = 62 // math.ceil(len(names) / step)
    ticks = [(index, _short(names[index], letters)) for index in range(0, len(names), step)]
    x = Axis(x_label, -0.5, len(names) - 0.5, ticks)
    place = _placed(x, y)
    parts = []
    spread = 0.55 / max(len(series), 1)
    for index, one in enumerate(series):
        shift = spread * (index - (len(series) - 1) / 2)
        drawn = ""
        drawn += "".join(_whisker(place, (at + shift, low, high)) for at, low, high in one.band)
        for at, value in one.points:
            if math.isfinite(value):
                text = f"{one.method}, {names[int(at)]}: {value:.3f}"
                drawn += _marker(place(at + shift, value), places[one.method], text, size=4.4)
        parts.append(_group(one.method, places, drawn))
    return _figure(title, _frame(x, y, vertical=False) + "".join(parts), [one.method for one in series], places)


def scatter_chart(
    title: str, series: Sequence[Series], x: Axis, y: Axis, places: Places, *, diagonal: bool = False
) -> str:
    """A point for each pair (or method); above the diagonal, where there is one, y is larger.

    Args:
        title: what is seen.
        series: of the methods; the first is drawn above.
        x: horizontal.
        y: vertical.
        places: colours of the methods.
        diagonal: whether to draw where both are equal.

    Returns:
        a figure.
    """
    place = _placed(x, y)
    parts = []
    if diagonal:
        end = min(x.high, y.high)
        (x0, y0), (x1, y1) = place(0, 0), place(end, end)
        parts.append(f'<line class="diagonal" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>')
    for one in reversed(series):
        few = len(one.points) <= 16
        names = one.names or [""] * len(one.points)
        drawn = "".join(
            _marker(place(*point), places[one.method], f"{one.method} {name}".strip(), size=5 if few else 2.6)
            for point, name in zip(one.points, names, strict=True)
        )
        drawn += "".join(_whisker(place, band) for band in one.band)
        parts.append(_group(one.method, places, drawn, dense=not few))
    return _figure(title, _frame(x, y) + "".join(parts), [one.method for one in series], places)


def bar_chart(
    title: str, values: Mapping[str, tuple[float, tuple[float, float] | None]], x: Axis, places: Places, digits: int = 0
) -> str:
    """Horizontal bars with whiskers, one for each method.

    Args:
        title: what is seen.
        values: value and spread by method; NaN = none.
        x: horizontal.
        places: colours of the methods.
        digits: decimals of the values.

    Returns:
        a figure.
    """
    height = TOP + BOTTOM + 34 * len(values)
    left, right = 116, 64
    span = WIDTH - left - right
    parts = [_vertical_lines(x, left, span, height)]
    for index, (method, (value, spread)) in enumerate(values.items()):
        y = TOP + 34 * index + 17
        label = f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{escape(_short(method, 14))}</text>'
        if not math.isfinite(value):
            parts.append(f'{label}<text class="muted" x="{left + 4}" y="{y + 4}">not measured</text>')
            continue
        end = left + span * x.share(value)
        drawn = f'<rect class="bar" x="{left}" y="{y - 8}" width="{max(end - left, 1):.1f}" height="16" rx="2"/>'
        if spread:
            low, high = (left + span * x.share(edge) for edge in spread)
            drawn += f'<line class="over" x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}"/>'
            end = max(end, high)
        number = f'<text x="{end + 6:.1f}" y="{y + 4}">{value:,.{digits}f}</text>'
        parts.append(label + _group(method, places, drawn) + number)
    axis = f'<text class="label" x="{left + span / 2}" y="{height - 8}" text-anchor="middle">{escape(x.label)}</text>'
    return _figure(title, "".join(parts) + axis, [], places, height=height)


@dataclass(frozen=True)
class ForestRow:
    """A headline number of every method."""

    name: str
    metric: str
    values: Mapping[str, tuple[float, tuple[float, float] | None]]
    """Value and 95 % interval by method."""


def forest_chart(title: str, rows: Sequence[ForestRow], places: Places, x_label: str) -> str:
    """Every headline number with its interval on one scale, a row for each section.

    Args:
        title: what is seen.
        rows: from top to bottom.
        places: colours of the methods.
        x_label: of the common axis.

    Returns:
        a figure, drawn once for wide and once for narrow screens; the style sheet shows one of them.
    """
    pairs = [pair for row in rows for pair in row.values.values()]
    values = [end for value, spread in pairs for end in (value, *(spread or ()))]
    x = linear_axis(x_label, max([0.1, *(value for value in values if math.isfinite(value))]), count=5)
    methods = list(dict.fromkeys(method for row in rows for method in row.values))
    name = escape(title)
    drawn = _forest(name, rows, x, places, narrow=False) + _forest(name, rows, x, places, narrow=True)
    return (
        f'<figure class="chart wide"><figcaption>{name}</figcaption><div class="plot">{drawn}</div>'
        f"{legend(methods, places)}</figure>"
    )


def _forest(title: str, rows: Sequence[ForestRow], x: Axis, places: Places, *, narrow: bool) -> str:
    """Names stand beside the rows, or above them where the screen is narrow."""
    width, left, above, right = (380, 12, 34, 14) if narrow else (920, 250, 0, 20)
    span = width - left - right
    tops = [float(TOP)]
    for row in rows:
        tops.append(tops[-1] + above + 18 + 11 * len(row.values))
    height = tops[-1] + BOTTOM
    parts = [_vertical_lines(x, left, span, height)]
    for row, top, bottom in zip(rows, tops[:-1], tops[1:], strict=True):
        middle = top + 18 if narrow else (top + bottom) / 2 - 3
        parts.append(f'<line class="grid" x1="0" y1="{bottom}" x2="{width - right}" y2="{bottom}"/>')
        parts.append(f'<text class="strong" x="0" y="{middle}">{escape(_short(row.name, 36))}</text>')
        parts.append(f'<text x="0" y="{middle + 16}">{escape(_short(row.metric, 40))}</text>')
        for index, (method, (value, spread)) in enumerate(row.values.items()):
            if not math.isfinite(value):
                continue
            y = top + above + 14.5 + 11 * index
            drawn, text = "", f"{method}: {value:.3f}"
            if spread:
                low, high = (left + span * x.share(edge) for edge in spread)
                drawn = f'<line class="whisker" x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}"/>'
                text += f" [{spread[0]:.3f}, {spread[1]:.3f}]"
            drawn += _marker((left + span * x.share(value), y), places[method], text, size=4.5)
            parts.append(_group(method, places, drawn))
    parts.append(
        f'<text class="label" x="{left + span / 2}" y="{height - 8}" text-anchor="middle">{escape(x.label)}</text>'
    )
    kind = "narrow" if narrow else "broad"
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height:g}" role="img" aria-label="{title}"><title>{title}</title>'
        f"{''.join(parts)}</svg>"
    )


def legend(methods: Sequence[str], places: Places, *, buttons: bool = False) -> str:
    """Names with their colours and markers; as buttons, a click dims the other methods."""
    items = []
    for method in methods:
        line = '<line class="line" x1="0" y1="6" x2="22" y2="6"/>'
        name = key(method, places, line + _marker((11, 6), places[method], "")) + escape(method)
        if buttons:
            name = f'<button type="button" data-focus="m{places[method]}" aria-pressed="false">{name}</button>'
        items.append(f"<li>{name}</li>")
    return f'<ul class="legend">{"".join(items)}</ul>'


def key(method: str, places: Places, drawn: str) -> str:
    """A method's sign beside its name."""
    group = f'<g class="{classes(method, places)}">{drawn}</g>'
    return f'<svg class="key" viewBox="0 0 22 12" aria-hidden="true">{group}</svg>'


def classes(method: str, places: Places) -> str:
    """Classes of what is drawn of a method: who it is, its colour, and dashes where colours begin again."""
    place = places[method]
    return f"s m{place} h{place % HUES}{' dashed' if place >= HUES else ''}"


def _group(method: str, places: Places, drawn: str, *, dense: bool = False) -> str:
    return f'<g class="{classes(method, places)}{" dense" if dense else ""}">{drawn}</g>'


def _placed(x: Axis, y: Axis) -> Callable[[float, float], Point]:
    def place(at: float, value: float) -> Point:
        return LEFT + (WIDTH - LEFT - RIGHT) * x.share(at), HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y.share(value)

    return place


def _whisker(place: Callable[[float, float], Point], band: Band) -> str:
    (x0, y0), (_, y1) = place(band[0], band[1]), place(band[0], band[2])
    return f'<line class="whisker" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x0:.1f}" y2="{y1:.1f}"/>'


def _path(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _marker(place: Point, index: int, text: str, *, size: float = 3.6) -> str:
    """A method's own shape: circle, square, diamond, triangles."""
    x, y = place
    title = f"<title>{escape(text)}</title>" if text else ""
    shape = index % 5
    if shape == 0:
        return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}">{title}</circle>'
    corners = {
        1: [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        2: [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
        3: [(0, -1.2), (1.15, 0.9), (-1.15, 0.9)],
        4: [(0, 1.2), (1.15, -0.9), (-1.15, -0.9)],
    }[shape]
    outline = _path([(x + size * u, y + size * v) for u, v in corners])
    return f'<polygon class="mark" points="{outline}">{title}</polygon>'


def _frame(x: Axis, y: Axis, *, vertical: bool = True) -> str:
    """Grid, ticks and labels."""
    place = _placed(x, y)
    bottom = HEIGHT - BOTTOM
    parts = []
    for value, text in y.ticks:
        _, level = place(x.low, value)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{level:.1f}" x2="{WIDTH - RIGHT}" y2="{level:.1f}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{level + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    for value, text in x.ticks:
        at, _ = place(value, y.low)
        end = TOP if vertical else bottom + 4
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="{bottom}" x2="{at:.1f}" y2="{end}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 17}" text-anchor="middle">{escape(text)}</text>')
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + bottom) / 2
    parts.append(f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}"/>')
    parts.append(f'<text class="label" x="{middle_x}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x.label)}</text>')
    turned = f'transform="rotate(-90 12 {middle_y})"'
    parts.append(f'<text class="label" x="12" y="{middle_y}" text-anchor="middle" {turned}>{escape(y.label)}</text>')
    return "".join(parts)


def _vertical_lines(x: Axis, left: float, span: float, height: float) -> str:
    parts = []
    for value, text in x.ticks:
        at = left + span * x.share(value)
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{height - BOTTOM}"/>')
        parts.append(f'<text x="{at:.1f}" y="{height - BOTTOM + 17}" text-anchor="middle">{escape(text)}</text>')
    return "".join(parts)


def _figure(
    title: str,
    drawn: str,
    methods: Sequence[str],
    places: Places,
    *,
    height: float = HEIGHT,
) -> str:
    name = escape(title)
    keys = legend(methods, places) if methods else ""
    return (
        f'<figure class="chart"><figcaption>{name}</figcaption>'
        f'<div class="plot"><svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{name}">'
        f"<title>{name}</title>{drawn}</svg></div>{keys}</figure>"
    )


def _tick(axis: Axis, value: float) -> str:
    return next((text for tick, text in axis.ticks if tick == value), f"{value:g}")


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(most - 1, 1)] + "…"
