"""One self-contained page that shows what the demo found: a curve over turns, drawings, a table."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from lfnet.reports.benchmark.metric_words import turns, widest
from lfnet.reports.benchmark.page import method_places, packed
from lfnet.reports.benchmark.plots import turn_chart
from lfnet.reports.drawing import RIGHT_WITHIN, jpeg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import UInt8
    from numpy import ndarray as Array

    from lfnet.evaluation.results import Results, Section


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


def turn_table(section: Section) -> tuple[list[str], list[list[str]]]:
    """Keypoints, matches and matching score of every method at every turn, and their means.

    Args:
        section: `sweep` of the stereo pair.

    Returns:
        header, and rows of as many cells.
    """
    columns = {"keypoints": "keypoints", "matches": "matches", str(widest(section, "matching_score")): "score"}
    methods, turned = section.methods(), turns(section)
    header = ["turn", *(f"{method} {word}" for method in methods for word in columns.values())]
    rows = []
    for label, variants in [*((f"{degrees}°", [name]) for name, degrees in turned.items()), ("mean", list(turned))]:
        parts = [section.only(method=method, variants=variants) for method in methods]
        values = [(part.mean(column), 3 if "@" in column else 0) for part in parts for column in columns]
        rows.append([label, *(f"{value:.{digits}f}" for value, digits in values)])
    return header, rows


def demo_page(results: Results, drawings: Sequence[Drawing]) -> str:
    """The page, pictures embedded.

    Args:
        results: with a section `sweep` of the stereo pair.
        drawings: matches to show.

    Returns:
        HTML.
    """
    section = results.section("sweep")
    places = method_places(results)
    header, rows = turn_table(section)
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    known = {name: escape(value) for name, value in results.environment.items()}
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>LF-Net demo</title>
<link rel="icon" href="data:,">
<style>
{packed("page.css")}</style>
</head>
<body>
<main>
<header>
<h1>Two photographs of a motorcycle, matched</h1>
<p>A real stereo pair with measured disparity (Middlebury 2014, bundled with scikit-image). The second
photograph is also turned in the plane. Each method may use {section.budgets()[0]} keypoints.</p>
</header>
<section>
<h2>Matching score as the second photograph turns</h2>
<div class="charts">{turn_chart(section, places)}</div>
<p class="note">Of the keypoints of one photograph that the other sees, the share whose nearest descriptor
lies within {RIGHT_WITHIN:g} px of the true place; both directions averaged.</p>
</section>
<section>
<h2>Mutual nearest neighbours</h2>
<p class="note"><span class="dot right"></span> at the true place; <span class="dot wrong"></span> elsewhere.
Matches of points whose true place is hidden or unmeasured are left out.</p>
{"".join(map(_figure, drawings))}
</section>
<section>
<h2>In numbers</h2>
<div class="card"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>
<p class="note">{known["date"]}, commit {known["commit"]}, {known["processor"]}, {known["threads_torch"]} threads,
PyTorch {known["torch"]}, OpenCV {known["opencv"]}.</p>
</section>
</main>
</body>
</html>
"""


def _figure(drawing: Drawing) -> str:
    height, width = drawing.image.shape[:2]
    turned = f"second photograph turned by {drawing.degrees}°" if drawing.degrees else "as taken"
    right = f"{drawing.right} of {drawing.known} matches within {RIGHT_WITHIN:g} px"
    text = escape(f"{drawing.method}, {turned}: {right}")
    source = base64.b64encode(jpeg(drawing.image, 85)).decode("ascii")
    return (
        f'<figure><img alt="{text}" width="{width}" height="{height}" src="data:image/jpeg;base64,{source}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
