"""What octaves, and the preference for coarse ones, give: `python benchmarks/octaves.py DATA`.

Nothing is trained: the same weights extract at other octaves, and are measured by the sweep of `lfnet eval` on any data
set that it opens.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch

from lfnet.evaluation.data.data_settings import DataSettings
from lfnet.evaluation.data.datasets import open_data
from lfnet.evaluation.feature_source import FeatureRules, FeatureSource
from lfnet.evaluation.methods.lfnet_extractor import LFNetExtractor
from lfnet.evaluation.methods.opencv_extractors import OpenCVExtractor
from lfnet.evaluation.protocols.matching import SweepSettings, measure_sweep
from lfnet.models.lfnet import LFNet
from lfnet.reports.benchmark.tables import markdown

WHOLE = (1.0, 0.5, 0.25)
HALF = (1.0, 0.7071, 0.5, 0.3536, 0.25)
CHOICES: tuple[tuple[tuple[float, ...], float], ...] = (
    ((1.0,), 0.0),
    (WHOLE[:2], 0.0),
    (WHOLE, 0.0),
    (WHOLE, 0.5),
    (WHOLE, 1.0),
    ((*WHOLE, 0.125), 0.0),
    (HALF, 0.0),
    (HALF, 1.0),
)
"""Octaves, and the power of the preference."""

GAPS = (4, 8, 12)
"""Frames between the pictures of a pair, as in docs/results.md."""


def extractor(weights: str, octaves: tuple[float, ...], preference: float) -> LFNetExtractor:
    """The model of the weights, extracting at other octaves."""
    model = LFNet.from_pretrained(weights)
    model.config = dataclasses.replace(model.config, octaves=octaves, octave_preference=preference)
    return LFNetExtractor(model, f"{', '.join(f'{octave:g}' for octave in octaves)}; preference {preference:g}")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="matching score at several octaves")
    parser.add_argument("data", type=Path)
    parser.add_argument("--frames", type=int, nargs=2, help="first frame and one past the last; all if left out")
    parser.add_argument("--weights", default="lfnet-cpu")
    parser.add_argument("--max-pairs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=0, help="0: all")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    methods = [OpenCVExtractor("rootsift"), *(extractor(arguments.weights, *choice) for choice in CHOICES)]
    frames = None if arguments.frames is None else (arguments.frames[0], arguments.frames[1])
    data = open_data(arguments.data, DataSettings(frames=frames, gaps=GAPS))
    # Every place counts once, for RootSIFT as for octaves a root of 2 apart.
    rules = FeatureRules(min_distance=3.0)
    settings = SweepSettings(turns=(0, 90), zooms=(0.25, 0.5, 2.0, 4.0), pairs=arguments.max_pairs)
    section = measure_sweep(data, FeatureSource(methods, rules=rules), settings, lambda pair: None)
    variants = section.variants()
    rows = []
    for method in section.methods():
        measured = [section.only(method=method, variants=[variant]) for variant in variants]
        scores = [f"{only.mean('matching_score@5'):.3f}" for only in measured]
        rows.append([method, *scores, f"{measured[0].mean('localisation_error'):.2f}"])
    print(f"{arguments.max_pairs} pairs, K = {settings.budget}, matching score at 5 px:\n")
    print(markdown(["octaves", *variants, f"{variants[0]}, px off"], rows))
    for line in section.skipped:
        print(line)


if __name__ == "__main__":
    main()
