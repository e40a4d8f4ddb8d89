"""What each part of the strategy gives at equal steps: `python benchmarks/ablation.py CONFIG --output ablation.md`.

Each row of the first table adds one part to the row above it; each row of the second changes one option of the last
row of the first. All runs share data, seed and number of steps, and are measured on the same held-back pairs.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from lfnet.training.config import build_config, read_tables
from lfnet.training.loop import train

MEASURES = ("matching_score", "repeatability", "orientation_agreement", "descriptor_accuracy", "score_peak")

BARE: dict[str, Any] = {
    "model.orientation.mode": "head",
    "model.descriptor.normalize_patches": False,
    "model.detector.derivatives": False,
    "strategy.orientation_weight": 0.0,
    "strategy.scale_weight": 0.0,
    "strategy.pair_weight": 0.0,
    "strategy.anneal_negatives": False,
    "strategy.positive_jitter": 0.0,
    "strategy.pixels_per_point": 0.0,
}
"""The detector learns from L_im alone; the descriptor by the hardest negative, on raw patches."""

ADDED: list[tuple[str, dict[str, Any]]] = [
    ("L_im alone", {}),
    ("+ L_pair", {"strategy.pair_weight": 0.01}),
    ("+ L_ori and L_s, the paper's head", {"strategy.orientation_weight": 0.1, "strategy.scale_weight": 0.1}),
    ("gradient field in place of the head", {"model.orientation.mode": "gradient"}),
    ("+ annealed negatives", {"strategy.anneal_negatives": True}),
    ("+ patch normalisation", {"model.descriptor.normalize_patches": True}),
    ("+ derivative channels", {"model.detector.derivatives": True}),
    ("+ a point painted for 330 known pixels", {"strategy.pixels_per_point": 330.0}),
    ("+ disturbed positives", {"strategy.positive_jitter": 1.0}),
]

CHANGED: list[tuple[str, dict[str, Any]]] = [
    ("orientation by the paper's head", {"model.orientation.mode": "head"}),
    ("gradient magnitudes compressed (0.5)", {"model.orientation.compression": 0.5}),
    ("L_pair moves keypoints too", {"model.keypoints.subpixel_gradient": True}),
    ("L_im ten times lighter", {"strategy.image_weight": 0.3}),
    ("patches 32 px wide (paper)", {"model.patches.extent": 32.0}),
    ("descriptor 64-128-256 (paper)", {"model.descriptor.channels": [64, 128, 256]}),
    ("detector at full resolution, 16 channels, 5x5 (paper)", {
        "model.detector.stride": 1, "model.detector.channels": 16, "model.detector.kernel_size": 5,
    }),
    ("a point painted for 200 known pixels", {"strategy.pixels_per_point": 200.0}),
    ("batch norm momentum 0.1", {"model.norm_momentum": 0.1}),
]  # fmt: skip


def run(tables: dict[str, Any], overrides: dict[str, Any]) -> dict[str, float]:
    """Train with the overrides; the measures of the last validation."""
    config = build_config(tables, overrides)
    with tempfile.TemporaryDirectory() as folder:
        train(config, Path(folder), say=lambda line: None)
        with open(Path(folder) / "metrics.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    prefix = "validation/"
    return {row["name"].removeprefix(prefix): float(row["value"]) for row in rows if row["name"].startswith(prefix)}


def main() -> None:
    """Run every variant, and write the tables as they grow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config", type=Path, help="TOML with the data and the common settings")
    parser.add_argument("--output", type=Path, default=Path("ablation.md"), help="Markdown; a .json goes beside it")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--threads", type=int, default=0, help="0: all")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    tables = read_tables(arguments.config)
    common = {"optimizer.steps": arguments.steps, "validation.every": arguments.steps, "validation.pairs": 40}
    settings = {**common, **BARE}
    results: list[tuple[str, str, dict[str, float]]] = []
    for name, overrides in ADDED:
        settings.update(overrides)
        results.append(("added", name, run(tables, settings)))
        write(arguments.output, results, arguments.steps)
    for name, overrides in CHANGED:
        results.append(("changed", name, run(tables, {**settings, **overrides})))
        write(arguments.output, results, arguments.steps)


def write(path: Path, results: list[tuple[str, str, dict[str, float]]], steps: int) -> None:
    """The results so far, as JSON and as two Markdown tables."""
    path.with_suffix(".json").write_text(json.dumps(results, indent=1))
    lines = [
        "# Ablation",
        "",
        f"Made by `python benchmarks/ablation.py configs/ablation.toml --steps {steps} --output docs/ablation.md`. "
        f"One seed and {steps} steps a row: enough to see what learns at all and how fast it starts, not where it "
        "ends; the spread between seeds is not known. Measured on 40 held-back crops, turned by any angle, zoomed by "
        "up to sqrt 2 and with the light changed; within 3 px, K = 128.",
        "",
    ]
    titles = {"added": "Each row keeps all of the one above, and changes one thing"}
    titles["changed"] = "Each row changes the last one of that table"
    for kind, title in titles.items():
        rows = [(name, scores) for group, name, scores in results if group == kind]
        columns = MEASURES
        lines += [f"{title} ({steps} steps):", ""]
        lines += ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for name, scores in rows:
            values = (f"{scores.get(column, float('nan')):.3f}" for column in columns)
            lines.append(f"| {name} | " + " | ".join(values) + " |")
        lines.append("")
    path.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
