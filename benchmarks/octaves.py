"""What octaves, and the preference for coarse ones, give: `python benchmarks/octaves.py SEQUENCE`.

Nothing is trained: the same weights extract at other octaves, and are measured on an RGB-D sequence as by
`lfnet evaluate sequence`.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch

from lfnet.evaluation.baselines import LFNetExtractor, OpenCVExtractor
from lfnet.evaluation.protocols import ProtocolSettings
from lfnet.evaluation.sequence import SequenceSettings, evaluate_sequence
from lfnet.evaluation.tables import markdown
from lfnet.models.lfnet import LFNet

WHOLE = (1.0, 0.5, 0.25)
HALF = (1.0, 0.7071, 0.5, 0.3536, 0.25)
CHOICES: tuple[tuple[tuple[float, ...], float], ...] = (
    ((1.0,), 0.0),
    (WHOLE, 0.0),
    (WHOLE, 1.0),
    (HALF, 0.0),
    (HALF, 1.0),
    (HALF, 2.0),
    (HALF[1:], 1.0),
)
"""Octaves, and the power of the preference."""


def extractor(weights: str, octaves: tuple[float, ...], preference: float) -> LFNetExtractor:
    """The model of the weights, extracting at other octaves."""
    model = LFNet.from_pretrained(weights)
    model.config = dataclasses.replace(model.config, octaves=octaves, octave_preference=preference)
    return LFNetExtractor(model, f"{', '.join(f'{octave:g}' for octave in octaves)}; preference {preference:g}")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="matching score at several octaves")
    parser.add_argument("sequence", type=Path)
    parser.add_argument("--frames", type=int, nargs=2, help="first frame and one past the last; all if left out")
    parser.add_argument("--weights", default="lfnet-cpu")
    parser.add_argument("--max-pairs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=0, help="0: all")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    methods = [OpenCVExtractor("rootsift"), *(extractor(arguments.weights, *choice) for choice in CHOICES)]
    frames = None if arguments.frames is None else tuple(arguments.frames)
    pairs = SequenceSettings(frames=frames, max_pairs=arguments.max_pairs)
    measure = ProtocolSettings(turns=(0, 90), zooms=(0.5, 2.0))
    results = evaluate_sequence(arguments.sequence, methods, pairs, measure)
    variants = results.variants()
    rows = []
    for method in results.methods():
        scores = [f"{results.mean('matching_score@5', method, variant):.3f}" for variant in variants]
        rows.append([method, *scores, f"{results.mean('matching_score@1', method, variants[0]):.3f}"])
    print(f"{arguments.max_pairs} pairs, K = {measure.max_keypoints}, matching score at 5 px:\n")
    print(markdown(["octaves", *variants, f"{variants[0]} at 1 px"], rows))


if __name__ == "__main__":
    main()
