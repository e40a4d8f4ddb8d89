"""One self-contained page that shows what the demo found: a curve over turns, drawings, a table."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from PIL import Image

from lfnet.reports.benchmark.summary import thresholds, turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import UInt8
    from numpy import ndarray as Array

    from lfnet.evaluation.results import Results, Section

COLOURS = ("#0b7a75", "#c2571a", "#5b4b9a", "#8a8a2f")
"""Of the methods, in their order."""

STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f6f5f1; color: #1d2326; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p { max-width: 46rem; margin: .4rem 0; }
.note { color: #5d666b; font-size: .9rem; }
figure { margin: 1rem 0; }
figure img { width: 100%; height: auto; border-radius: 6px; display: block; background: #000; }
figcaption { font-size: .92rem; margin-top: .35rem; }
.card { background: #fff; border: 1px solid #e2dfd6; border-radius: 8px; padding: 1rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid #ece9e1; }
th:first-child, td:first-child { text-align: left; }
thead th { vertical-align: bottom; font-weight: 600; }
tr:last-child td { font-weight: 600; border-bottom: 0; }
svg { width: 100%; height: auto; display: block; }
svg text { font: 13px system-ui, sans-serif; fill: #1d2326; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .35em; }
.right { background: #3cc850; } .wrong { background: #e13c32; }
"""


@dataclass(frozen=True)
class Drawing:
    """Matches of one method, drawn."""

    method: str
    degrees: int
    """That the second picture is turned by, clockwise."""
    image: UInt8[Array, "H W 3"]
    """RGB."""
    right: int
    """Matches at their true place."""
    known: int
    """Matches whose true place is known."""


def demo_page(results: Results, drawings: Sequence[Drawing]) -> str:
    """The page, pictures embedded.

    Args:
        results: with a section `sweep` of the stereo pair.
        drawings: matches to show.

    Returns:
        HTML.
    """
    section = results.section("sweep")
    threshold = max(thresholds(section, "matching_score"))
    metric = f"matching_score@{threshold:g}"
    environment = results.environment
    figures = "\n".join(_figure(drawing, threshold) for drawing in drawings)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>LF-Net demo</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>Two photographs of a motorcycle, matched</h1>
<p>A real stereo pair with measured disparity (Middlebury 2014, bundled with scikit-image). The second
photograph is also turned in the plane. Each method may use {section.budgets()[0]} keypoints.</p>
<h2>Matching score as the second photograph turns</h2>
<div class="card">{_curve(section, metric)}</div>
<p class="note">Of the keypoints of one photograph that the other sees, the share whose nearest descriptor
lies within {threshold:g} px of the true place; both directions averaged.</p>
<h2>Mutual nearest neighbours</h2>
<p><span class="key right"></span>at the true place &nbsp; <span class="key wrong"></span>elsewhere.
Matches of points whose true place is hidden or unmeasured are left out.</p>
{figures}
<h2>In numbers</h2>
<div class="card">{_table(section, metric)}</div>
<p class="note">{escape(environment["date"])}, commit {escape(environment["commit"])},
{escape(environment["processor"])}, {escape(environment["threads_torch"])} threads, PyTorch
{escape(environment["torch"])}, OpenCV {escape(environment["opencv"])}.</p>
</main>
</body>
</html>
"""


def _figure(drawing: Drawing, threshold: float) -> str:
    height, width = drawing.image.shape[:2]
    turned = f"second photograph turned by {drawing.degrees}°" if drawing.degrees else "as taken"
    text = f"{drawing.method}, {turned}: {drawing.right} of {drawing.known} matches within {threshold:g} px"
    return (
        f'<figure><img alt="{escape(text)}" width="{width}" height="{height}" '
        f'src="data:image/jpeg;base64,{_jpeg(drawing.image)}"><figcaption>{escape(text)}</figcaption></figure>'
    )


def _jpeg(image: Array) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _table(section: Section, metric: str) -> str:
    methods = section.methods()
    columns = ("keypoints", "matches", metric)
    names = {"keypoints": "keypoints", "matches": "matches", metric: "score"}
    head = "".join(
        f'<th scope="col">{escape(method)}<br>{names[column]}</th>' for method in methods for column in columns
    )
    turned = turns(section)
    body = [_row(f"{degrees}°", _means(section, [name], columns)) for name, degrees in turned.items()]
    body.append(_row("mean", _means(section, list(turned), columns)))
    header = f'<thead><tr><th scope="col">turn</th>{head}</tr></thead>'
    return f"<table>{header}<tbody>{''.join(body)}</tbody></table>"


def _means(section: Section, variants: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """Each metric of each method over some turns."""
    return [
        _shown(section.only(method=method, variants=variants).mean(metric), "@" in metric)
        for method in section.methods()
        for metric in metrics
    ]


def _row(first: str, values: Sequence[str]) -> str:
    return f"<tr><td>{first}</td>{''.join(f'<td>{value}</td>' for value in values)}</tr>"


def _shown(value: float, is_score: bool) -> str:
    return f"{value:.3f}" if is_score else f"{value:.0f}"


def _curve(section: Section, metric: str) -> str:
    turned = turns(section)
    curves = {
        method: [
            (degrees, section.only(method=method, variants=[name]).mean(metric)) for name, degrees in turned.items()
        ]
        for method in section.methods()
    }
    highest = max([0.1, *(value for curve in curves.values() for _, value in curve)])
    axes = _Axes(max(turned.values()) or 1, min(10, math.ceil(highest * 10)) / 10)
    parts = [axes.grid_line(tick / 10) for tick in range(round(axes.ceiling * 10) + 1)]
    parts += [axes.turn_label(degrees) for degrees in turned.values()]
    label_heights: dict[str, float] = {}
    lowest = -math.inf
    for end, method in sorted((axes.place(*curve[-1])[1], method) for method, curve in curves.items()):
        lowest = max(end, lowest + 17)
        label_heights[method] = lowest
    for index, (method, curve) in enumerate(curves.items()):
        parts.append(axes.curve(method, curve, COLOURS[index % len(COLOURS)], label_heights[method]))
    return (
        f'<svg viewBox="0 0 {axes.width} {axes.height}" role="img" '
        f'aria-label="Matching score over turns">{"".join(parts)}</svg>'
    )


@dataclass(frozen=True)
class _Axes:
    """Maps degrees and scores to places in the drawing, and draws there."""

    last: float
    ceiling: float
    width: int = 960
    height: int = 320

    def place(self, degrees: float, value: float) -> tuple[float, float]:
        x = 46 + (self.width - 176) * degrees / self.last
        return x, self.height - 36 - (self.height - 50) * value / self.ceiling

    def grid_line(self, value: float) -> str:
        (x0, y), (x1, _) = self.place(0, value), self.place(self.last, value)
        return (
            f'<line x1="{x0:.1f}" y1="{y:.1f}" x2="{x1:.1f}" y2="{y:.1f}" stroke="#e2dfd6"/>'
            f'<text x="{x0 - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:.1f}</text>'
        )

    def turn_label(self, degrees: int) -> str:
        x, y = self.place(degrees, 0)
        return f'<text x="{x:.1f}" y="{y + 20:.1f}" text-anchor="middle">{degrees}°</text>'

    def curve(self, method: str, values: Sequence[tuple[int, float]], colour: str, label_y: float) -> str:
        points = [self.place(*value) for value in values]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points)
        label = f'<text x="{points[-1][0] + 10:.1f}" y="{label_y + 4:.1f}" style="fill:{colour};font-weight:600">'
        path = f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.5"/>'
        return f"{path}{dots}{label}{escape(method)}</text>"
