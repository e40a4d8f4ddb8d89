"""The demo: a real stereo pair, its second picture turned, matched by several methods and drawn."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lfnet.evaluation.metrics import Projection, match_errors
from lfnet.evaluation.protocols import extract_from
from lfnet.evaluation.results import write_results
from lfnet.evaluation.stereo import evaluate_stereo, motorcycle
from lfnet.evaluation.truth import TransformedTruth
from lfnet.evaluation.views import Variant, transform_image
from lfnet.files import make_folder, write_bytes
from lfnet.matching import mutual_nearest_neighbours
from lfnet.reports.demo_page import Drawing, demo_page
from lfnet.reports.drawing import draw_matches

if TYPE_CHECKING:
    from numpy import ndarray as Array

    from lfnet.evaluation.baselines import Extractor
    from lfnet.evaluation.protocols import Progress, ProtocolSettings
    from lfnet.evaluation.results import Results
    from lfnet.evaluation.stereo import StereoPair

RIGHT_WITHIN = 5.0
"""Pixels from the true place within which a match is drawn as right: the matching score's threshold."""


@dataclass(frozen=True)
class DemoFiles:
    """What the demo found, and where it wrote it."""

    results: Results
    pictures: list[Path]
    page: Path
    json: Path


def run_demo(
    output: Path,
    extractors: list[Extractor],
    settings: ProtocolSettings,
    *,
    drawn_turn: int = 120,
    progress: Progress | None = None,
) -> DemoFiles:
    """Measure methods on the bundled stereo pair, draw their matches and write a page.

    Args:
        output: folder to write to; made if it does not exist.
        extractors: the methods, ours first.
        settings: how to measure.
        drawn_turn: degrees that the second picture of the turned drawing is turned by.
        progress: wraps the rows of the measurement, given their number.

    Returns:
        the results and the files.
    """
    make_folder(output)
    results = evaluate_stereo(extractors, settings, progress=progress)
    stereo = motorcycle()
    drawings, pictures = [], []
    for extractor in extractors:
        for degrees in dict.fromkeys((0, drawn_turn)):
            drawing = draw_pair(stereo, extractor, Variant(degrees=degrees), settings)
            path = output / f"matches-{extractor.name}-{degrees:03d}.png"
            content = io.BytesIO()
            Image.fromarray(drawing.image).save(content, "PNG")
            write_bytes(path, content.getvalue())
            pictures.append(path)
            drawings.append(drawing)
    page = output / "index.html"
    write_bytes(page, demo_page(results, drawings).encode())
    write_results(output / "results.json", results)
    return DemoFiles(results, pictures, page, output / "results.json")


def draw_pair(stereo: StereoPair, extractor: Extractor, variant: Variant, settings: ProtocolSettings) -> Drawing:
    """Mutual matches of one method on the pair, right ones green, wrong ones red.

    Matches of points whose true place is unknown or hidden are neither, and left out.

    Args:
        stereo: the pair.
        extractor: the method.
        variant: what is done to the second picture.
        settings: how many keypoints.

    Returns:
        the picture and its counts.
    """
    left = extract_from(extractor, transform_image(stereo.load("left"), Variant()), settings)
    view = transform_image(stereo.load("right"), variant)
    right = extract_from(extractor, view, settings)
    truth = TransformedTruth(stereo.pair().truth, np.eye(3), view.from_base)
    matches = mutual_nearest_neighbours(left, right)
    nearest = np.full(len(left), -1, np.int64)
    nearest[matches.indices[:, 0]] = matches.indices[:, 1]
    errors = match_errors(Projection(*truth.b_from_a(left.keypoints)), right.keypoints, nearest)
    of_matches = errors[matches.indices[:, 0]]
    known = ~np.isnan(of_matches)
    correct: Array = of_matches[known] <= RIGHT_WITHIN
    turned = transform_image(stereo.right, variant).image
    picture = draw_matches(stereo.left, turned, left, right, matches.select(known), correct)
    return Drawing(extractor.name, variant.degrees, picture, int(correct.sum()), int(known.sum()))
