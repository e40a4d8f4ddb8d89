"""The demo: a real stereo pair, its second picture turned, matched by several methods and drawn."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lfnet.errors import UserError
from lfnet.evaluation.data.stereo import stereo_dataset
from lfnet.evaluation.data.truth import TransformedTruth
from lfnet.evaluation.data.views import Variant, transform_image
from lfnet.evaluation.protocols.matching import measure_sweep
from lfnet.evaluation.results import Results, describe_environment, write_results
from lfnet.evaluation.suite import about_methods
from lfnet.features import Matches
from lfnet.files.atomic import make_folder, write_bytes
from lfnet.progress import Say
from lfnet.reports.demo_page import Drawing, demo_page
from lfnet.reports.drawing import draw_matches, judged

if TYPE_CHECKING:

    from lfnet.evaluation.data.pairs import Dataset
    from lfnet.evaluation.feature_source import FeatureSource
    from lfnet.evaluation.methods.extractors import Method
    from lfnet.evaluation.protocols.matching import SweepSettings

@dataclass(frozen=True)
class DemoFiles:
    """What the demo found, and where it wrote it."""

    results: Results
    pictures: list[Path]
    page: Path
    json: Path


def run_demo(
    output: Path,
    source: FeatureSource,
    settings: SweepSettings,
    progress: Say,
    *,
    drawn_turn: int = 120,
    command: str = "",
) -> DemoFiles:
    """Measure methods on the bundled stereo pair, draw their matches and write a page.

    Args:
        output: folder to write to; made if it does not exist.
        source: features of the methods, ours first.
        settings: turns and the budget of keypoints.
        progress: called with what is being measured.
        drawn_turn: degrees that the second picture of the turned drawing is turned by.
        command: what was typed, for the results file.

    Returns:
        the results and the files.

    Raises:
        ModuleNotFoundError: if scikit-image is not installed.
        ValueError: no method has features of the pictures.
    """
    dataset = stereo_dataset()
    section = measure_sweep(dataset, source, settings, progress)
    if not section.rows:
        raise UserError(section.skipped[0] if section.skipped else "nothing could be measured")
    make_folder(output)
    results = Results([section], describe_environment(), about_methods(source), command)
    drawings, pictures = [], []
    for method in source.methods:
        for degrees in dict.fromkeys((0, drawn_turn)):
            drawing = draw_pair(dataset, method, Variant(degrees=degrees), source, settings.budget)
            path = output / f"matches-{method.name}-{degrees:03d}.png"
            content = io.BytesIO()
            Image.fromarray(drawing.image).save(content, "PNG")
            write_bytes(path, content.getvalue())
            pictures.append(path)
            drawings.append(drawing)
    page = output / "index.html"
    write_bytes(page, demo_page(results, drawings).encode())
    write_results(output / "results.json", results)
    return DemoFiles(results, pictures, page, output / "results.json")


def draw_pair(dataset: Dataset, method: Method, variant: Variant, source: FeatureSource, budget: int) -> Drawing:
    """Mutual matches of one method on the pair, right ones green, wrong ones red.

    Matches of points whose true place is unknown or hidden are neither, and left out.

    Args:
        dataset: of the one pair.
        method: whose matches.
        variant: what is done to the second picture.
        source: features of the method.
        budget: keypoints of a picture, K.

    Returns:
        the picture and its counts.
    """
    pair = dataset.pairs[0]
    assert pair.truth is not None
    left = source.features(method, dataset, pair.picture_a, budget=budget)
    right = source.features(method, dataset, pair.picture_b, variant, budget=budget)
    turn = source.transform(method, dataset, pair.picture_b, variant, budget=budget)
    truth = TransformedTruth(pair.truth, np.eye(3), turn)
    known, correct = judged(truth, left, right, source.neighbours(left, right).mutual())
    matches = Matches(known, np.ones(len(known), np.float32))
    turned = transform_image(source.picture(dataset, pair.picture_b), variant).image
    picture = draw_matches(source.picture(dataset, pair.picture_a), turned, left, right, matches, correct)
    return Drawing(method.name, variant.degrees, picture, int(correct.sum()), len(known))
