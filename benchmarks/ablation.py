"""What each part gives at equal time: `python benchmarks/ablation.py CONFIG --minutes 60 --output ablation.md`.

Each row changes one thing of the recipe. A first run of some steps tells how many fit into the time, and the schedule
is laid out over these. All runs share data and seed, and are measured on the same held-back pairs.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lfnet.evaluation.results import describe_environment
from lfnet.reports.benchmark.tables import markdown
from lfnet.training.config import build_config, read_tables
from lfnet.training.loop import train

MEASURES = ("matching_score", "repeatability", "orientation_agreement", "descriptor_accuracy", "score_peak")

CHANGED: list[tuple[str, dict[str, Any]]] = [
    ("the recipe", {}),
    ("no L_ce", {"strategy.sharpening_weight": 0.0, "strategy.image_weight": 3.0}),
    ("score maps normalised", {"model.scale_space.normalize": True}),
    ("whole-pixel targets", {"strategy.subpixel_targets": False}),
    ("soft-argmax", {"model.keypoints.refinement": "soft-argmax"}),
    ("detector at half resolution", {"model.detector.stride": 2}),
    ("orientation by a gradient field", {"model.orientation.mode": "gradient"}),
    ("square patches of 40 px", {
        "model.patches.sampling": "square", "model.patches.extent": 40.0, "model.orientation.mode": "gradient",
    }),
    ("triplets in place of the dual softmax", {"strategy.descriptor_loss": "triplet"}),
    ("j's own orientations always", {"strategy.agreement_degrees": 180.0}),
    ("no preference for contrast", {"model.contrast_preference": 0.0}),
    ("no context", {"model.detector.context": 0}),
    ("undisturbed positives", {"strategy.positive_jitter": 0.0}),
    ("256 values", {"model.descriptor.dimension": 256, "model.descriptor.hidden": 512}),
    ("weaker change of light", {
        "data.photometric.tone": 0.0, "data.photometric.relight": 0.0, "data.photometric.inverted": 0.0,
    }),
]  # fmt: skip
"""Each row of the table, and what it changes of the recipe."""


WARMING, TIMED = 20, 60
"""Steps before the rate of a variant is measured, and steps that it is measured over."""


def run(tables: dict[str, Any], overrides: dict[str, Any], seconds: float) -> dict[str, float]:
    """Train with the overrides for about so many seconds; the measures of the last validation, and the steps."""
    moments: list[float] = []
    _train(tables, {**overrides, "optimizer.steps": WARMING + TIMED}, lambda progress: moments.append(time.monotonic()))
    step = (moments[-1] - moments[WARMING - 1]) / TIMED
    steps = max(WARMING + TIMED, round(seconds / step))
    return {"steps": float(steps), **_train(tables, {**overrides, "optimizer.steps": steps}, None)}


def _train(
    tables: dict[str, Any], overrides: dict[str, Any], progress: Callable[[Any], None] | None
) -> dict[str, float]:
    steps = overrides["optimizer.steps"]
    config = build_config(tables, {**overrides, "validation.every": steps, "validation.pairs": 100})
    with tempfile.TemporaryDirectory() as folder:
        train(config, Path(folder), progress=progress, say=lambda line: None)
        with open(Path(folder) / "metrics.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    prefix = "validation/"
    return {row["name"].removeprefix(prefix): float(row["value"]) for row in rows if row["name"].startswith(prefix)}


def main() -> None:
    """Run every variant, and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config", type=Path, help="TOML of the recipe")
    parser.add_argument("--output", type=Path, default=Path("ablation.md"), help="Markdown; a .json goes beside it")
    parser.add_argument("--minutes", type=float, default=60, help="of training, for each row")
    parser.add_argument("--rows", nargs="*", help="names of the rows to run; all if left out")
    arguments = parser.parse_args()
    unknown = set(arguments.rows or ()) - {name for name, _ in CHANGED}
    if unknown:
        parser.error(f"no row {sorted(unknown)[0]!r}; there are: {'; '.join(name for name, _ in CHANGED)}")
    tables = read_tables(arguments.config)
    results: list[tuple[str, dict[str, float]]] = []
    for name, overrides in CHANGED:
        if arguments.rows and name not in arguments.rows:
            continue
        if overrides and build_config(tables, overrides) == build_config(tables):
            print(f"{name}: as the recipe has it, left out")
            continue
        results.append((name, run(tables, overrides, 60 * arguments.minutes)))
        write(arguments.output, results, arguments.minutes)


def write(path: Path, results: list[tuple[str, dict[str, float]]], minutes: float) -> None:
    """The results so far, as JSON and as a Markdown table."""
    path.with_suffix(".json").write_text(json.dumps(results, indent=1))
    rows = [
        [name, f"{scores['steps']:.0f}", *(f"{scores.get(column, float('nan')):.3f}" for column in MEASURES)]
        for name, scores in results
    ]
    environment = ", ".join(f"{name} {value}" for name, value in describe_environment().items())
    about = f"{minutes:g} minutes a row, one seed; held-back crops, turned by any angle, in changed light; within 3 px."
    about = f"{about}\n\n{environment}."
    path.write_text(f"{about}\n\n{markdown(['changed', 'steps', *MEASURES], rows)}\n")


if __name__ == "__main__":
    main()
