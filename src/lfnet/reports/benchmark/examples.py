"""The best, the median and the worst pair of a section, drawn for every method."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lfnet.evaluation.cache import digest
from lfnet.evaluation.results import UNTOUCHED_NAME
from lfnet.evaluation.unmeasured import Unmeasured
from lfnet.features import Matches
from lfnet.files.atomic import make_folder, write_bytes
from lfnet.reports.benchmark.metric_words import champion, widest
from lfnet.reports.drawing import draw_matches, jpeg, judged

if TYPE_CHECKING:
    from jaxtyping import Bool, UInt8
    from numpy import ndarray as Array

    from lfnet.evaluation.data.pairs import Dataset, EvaluationPair
    from lfnet.evaluation.feature_source import FeatureSource
    from lfnet.evaluation.methods.extractors import Method
    from lfnet.evaluation.results import Section

MOST_LINES = 150
"""Matches drawn; of more, as many right and wrong ones as there are in proportion."""

WIDTH = 1000
"""Of a drawing with both pictures, pixels, where they are that large."""

QUALITY = 80
"""Of the JPEG files: about 100 kB each."""

INDEX = "examples.json"
FOLDER = "pictures"

Rank = Literal["best", "median", "worst"]
RANKS: tuple[Rank, ...] = ("best", "median", "worst")


@dataclass(frozen=True)
class Example:
    """One pair, drawn for one method."""

    section: str
    """Title of the section."""
    rank: Rank
    """Of the pair, by the score of the method that it was chosen by."""
    chosen_by: str
    """That method."""
    pair: str
    method: str
    budget: int
    """Most keypoints of a picture, K."""
    score: float
    """Matching score at 5 px."""
    right: int
    """Mutual matches within 5 px of the true place."""
    known: int
    """Mutual matches whose true place is known."""
    drawn: int
    """Of these, as many as the picture shows."""
    width: int
    height: int
    picture: Path
    """JPEG file."""

    @property
    def caption(self) -> str:
        """What is seen, in words."""
        share = f" ({self.drawn} drawn)" if self.drawn < self.known else ""
        return f"{self.method}: score {self.score:.3f}, {self.right} of {self.known} known matches right{share}"


def draw_examples(dataset: Dataset, section: Section, source: FeatureSource, output: Path) -> list[Example]:
    """Draw the best, the median and the worst pair of a section for every method, and note them in an index.

    Pairs are ranked by the score of the first method that is none of OpenCV's. Right mutual matches are green, wrong
    ones red; those whose true place is unknown or hidden are left out.

    Args:
        dataset: that the section was measured on.
        section: of the protocol `matching`.
        source: features of its methods.
        output: folder of the results; drawings go to `pictures/` in it.

    Returns:
        the drawings of this section; those of other sections stay in the index.

    Raises:
        OSError: they can't be written.
    """
    make_folder(output / FOLDER)
    examples = list(_examples(dataset, section, source, output / FOLDER))
    kept = [example for example in read_examples(output) if example.section != section.title]
    _write_index(output, [*kept, *examples])
    return examples


def forget_examples(output: Path) -> None:
    """Take away the drawings of earlier results, and nothing else that is in their folder."""
    for example in read_examples(output):
        example.picture.unlink(missing_ok=True)
    if (output / FOLDER).is_dir():
        _write_index(output, [])


def _examples(dataset: Dataset, section: Section, source: FeatureSource, folder: Path) -> Iterator[Example]:
    upright = section.only(variants=[UNTOUCHED_NAME])
    metric = widest(upright, "matching_score")
    if not upright.rows or metric is None:
        return
    budget = upright.budgets()[0]
    rows = upright.only(budget=budget)
    leader = str(champion(rows.methods()))
    pairs = {pair.name: pair for pair in dataset.pairs}
    scores = {(row.method, row.pair): row.metrics.get(metric, math.nan) for row in rows.rows}
    for rank, name in ranked_pairs(rows, leader, metric).items():
        for method in source.methods:
            drawing = _draw(dataset, pairs[name], method, source, upright.budgets()) if name in pairs else None
            if drawing is None:
                continue
            path = folder / f"{_slug(section.title)}-{rank}-{_slug(method.name)}.jpg"
            write_bytes(path, jpeg(drawing.image, QUALITY))
            yield Example(
                section=section.title,
                rank=rank,
                chosen_by=leader,
                pair=name,
                method=method.name,
                budget=budget,
                score=scores.get((method.name, name), math.nan),
                right=drawing.right,
                known=drawing.known,
                drawn=drawing.drawn,
                width=drawing.image.shape[1],
                height=drawing.image.shape[0],
                picture=path,
            )


def ranked_pairs(section: Section, method: str, metric: str) -> dict[Rank, str]:
    """Names of the best, the median and the worst pair of a method; fewer where there are fewer pairs.

    Args:
        section: rows of one budget.
        method: that pairs are ranked by.
        metric: e.g. `matching_score@5`.

    Returns:
        pairs by rank; pairs of equal scores keep their order.
    """
    rows = [row for row in section.only(method=method).rows if math.isfinite(row.metrics.get(metric, math.nan))]
    rows.sort(key=lambda row: -row.metrics[metric])
    if not rows:
        return {}
    places: dict[Rank, int] = {"best": 0, "median": len(rows) // 2, "worst": len(rows) - 1}
    found: dict[Rank, str] = {}
    for rank, place in places.items():
        if rows[place].pair not in found.values():
            found[rank] = rows[place].pair
    return found


@dataclass(frozen=True)
class _Drawing:
    image: UInt8[Array, "H W 3"]
    right: int
    known: int
    drawn: int


def _draw(
    dataset: Dataset, pair: EvaluationPair, method: Method, source: FeatureSource, budgets: Sequence[int]
) -> _Drawing | None:
    """A method's mutual matches on a pair at the smallest budget, cut from the largest as they were measured.

    None where it has no features of the pair, or nothing is known of its geometry.
    """
    try:
        names = (pair.picture_a, pair.picture_b)
        a, b = (source.features(method, dataset, name, budget=budgets[-1]).top(budgets[0]) for name in names)
        found = source.neighbours(a, b).mutual()
        image_a, image_b = (source.picture(dataset, name) for name in names)
    except Unmeasured:
        return None
    if pair.truth is None:
        return None
    known, correct = judged(pair.truth, a, b, found)
    shown = thinned(correct, MOST_LINES)
    matches = Matches(known[shown], np.ones(len(shown), np.float32))
    factor = min(1.0, WIDTH / (image_a.shape[1] + image_b.shape[1]))
    long_side = max(1, round(factor * max(*image_a.shape[:2], *image_b.shape[:2])))
    image = draw_matches(image_a, image_b, a, b, matches, correct[shown], long_side=long_side)
    return _Drawing(image, int(correct.sum()), len(known), len(shown))


def thinned(correct: Bool[Array, " M"], most: int) -> Array:
    """Indices of at most `most` matches, right and wrong ones in proportion, ascending; the same in every run."""
    if len(correct) <= most:
        return np.arange(len(correct))
    generator = np.random.default_rng(0)
    right, wrong = np.flatnonzero(correct), np.flatnonzero(~correct)
    count = round(most * len(right) / len(correct))
    parts = [generator.choice(right, count, replace=False), generator.choice(wrong, most - count, replace=False)]
    return np.sort(np.concatenate(parts))


def _write_index(output: Path, examples: Sequence[Example]) -> None:
    plain: list[dict[str, Any]] = []
    for example in examples:
        score = None if math.isnan(example.score) else example.score
        plain.append({**asdict(example), "picture": example.picture.name, "score": score})
    write_bytes(output / FOLDER / INDEX, (json.dumps(plain, indent=1) + "\n").encode())


def read_examples(output: Path) -> list[Example]:
    """The drawings of a folder of results.

    Args:
        output: folder that `draw_examples` was given.

    Returns:
        those whose picture is still there; none where nothing was drawn, or the index is damaged.
    """
    folder = output / FOLDER
    try:
        plain = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        examples = [
            Example(**{**entry, "picture": folder / entry["picture"], "score": _score(entry["score"])})
            for entry in plain
        ]
    except (OSError, ValueError, TypeError, KeyError):
        return []
    return [example for example in examples if example.picture.is_file()]


def _score(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _slug(text: str) -> str:
    """A file's name: letters, digits, and dashes for the rest; where that loses something, a digest."""
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")
    return slug if slug == text.replace(" ", "-") else f"{slug}-{digest(text.encode())[:6]}"
