"""Results that no benchmark measured: every protocol, with what goes wrong in real ones. Seeded."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from lfnet.evaluation.results import UNTOUCHED_NAME, Results, Row, Section, describe_environment

METHODS = {"lfnet-cpu": 0.47, "rootsift": 0.24, "sift": 0.22, "orb": 0.23, "disk <&\"' (rival)": 0.45}
"""Name, and how well each matches."""
TURNS = tuple(range(0, 360, 30))
ZOOMS = (0.25, 0.5, 2.0, 4.0)
ENVIRONMENT = {
    "date": "2026-01-02T03:04:05+00:00",
    "commit": "0123456789ab",
    "python": "3.11.4",
    "torch": "2.8.0",
    "opencv": "4.12.0",
    "numpy": "2.1.0",
    "processor": "A <fast> & big processor",
    "threads_torch": "2",
    "threads_opencv": "2",
}


def made_results(seed: int = 0, gain: float = 1.0) -> Results:
    """All protocols.

    Args:
        seed: of the generator.
        gain: factor of the scores of `lfnet-cpu`.

    Returns:
        a run that looks like a real one.
    """
    generator = np.random.default_rng(seed)
    skill = {name: value * (gain if name == "lfnet-cpu" else 1.0) for name, value in METHODS.items()}
    sections = [
        Section(
            "matching", "walk", list(_matching(skill, generator)), "stretches of frames",
            {"thresholds": [1.0, 3.0, 5.0], "size": [480, 320]},
            skipped=["walk/000123.png: no such picture: check the folder", "0004-0012: sift: no <keypoints> & none"],
        ),
        Section("matching", "stereo", list(_stereo(skill)), "pairs", {"thresholds": [1.0, 3.0, 5.0]}),
        Section("sweep", "walk", list(_sweep(skill, generator)), "stretches of frames", {"zooms": ZOOMS}),
        Section(
            "pose", "scannet1500", list(_pose(skill, generator)), "scenes", {"seed": 0},
            chosen={name: {"ratio": 0.9 if "sift" in name else None, "threshold": 1.0} for name in skill},
            skipped=[f"scene{index:04d}_00/frame-{index}.jpg: can't be read" for index in range(14)],
        ),
        Section(
            "homography", "hpatches", list(_homography(skill, generator)), "scenes", {"thresholds": [1, 3, 5]},
            chosen={name: {"ratio": 0.95, "threshold": 3.0} for name in skill},
        ),
        Section("structure", "boruszyn", list(_structure(skill)), "sets of pictures", {"mapper": "incremental"}),
        Section("cost", "this machine", list(_cost(skill)), "sizes", {"rounds": 15}),
        Section("pose", "yfcc", [], "scenes", skipped=["pairs.txt: there is no folder images beside it"]),
    ]  # fmt: skip
    methods = {name: {"kind": "made", "seconds": 0.01 * (index + 1)} for index, name in enumerate(METHODS)}
    return Results(sections, dict(ENVIRONMENT), methods, "lfnet eval run walk --output out", ["far: no <folder> there"])


def _scores(skill: float, hardness: float, generator: np.random.Generator) -> dict[str, float]:
    score = float(np.clip(skill * (1.5 - hardness) + generator.normal(0, 0.03), 0, 1))
    values = {f"matching_score@{t}": score * share for t, share in ((1, 0.2), (3, 0.7), (5, 1.0))}
    values |= {f"repeatability@{t}": min(1.0, 0.2 + score * share) for t, share in ((1, 0.2), (3, 0.7), (5, 1.0))}
    values |= {"precision@5": min(1.0, 1.3 * score), "localisation_error": 3 - score, "orientation_agreement": 0.6}
    return {**values, **_octaves(score), "keypoints": 512.0, "matches": 400 * score, "visible": 120.0}


def _octaves(score: float) -> dict[str, float]:
    values = {"match_error_median": 2 - score}
    for octave, error, share in (("1", 1.0, 0.6), ("1/2", 2.0, 0.3), ("1/4", 3.0, 0.1), ("1/8", math.nan, 0.0)):
        values |= {f"match_error_median@octave{octave}": error - score, f"match_share@octave{octave}": share}
    return values


def _pairs(count: int, group_size: int, generator: np.random.Generator) -> Iterator[tuple[str, str, float]]:
    for index in range(count):
        yield f"{index:04d}-{index + 8:04d}", f"stretch {index // group_size}", generator.uniform(0.2, 1.0)


def _matching(skill: dict[str, float], generator: np.random.Generator) -> Iterator[Row]:
    for pair, group, hardness in _pairs(60, 6, generator):
        subset = f"gap {(10, 20, 30)[int(pair[:4]) % 3]}"
        for budget, more in ((512, 1.0), (1024, 1.05), (2048, 1.1)):
            for name, value in skill.items():
                metrics = _scores(value * more, hardness, generator)
                if name.startswith("disk"):  # As of a file from before there were octaves.
                    metrics = {key: metric for key, metric in metrics.items() if "octave" not in key}
                if pair.startswith("0007"):
                    metrics |= {"precision@5": math.nan, "localisation_error": math.nan}
                yield Row(name, pair, group, metrics, subset, UNTOUCHED_NAME, budget)


def _stereo(skill: dict[str, float]) -> Iterator[Row]:
    for name, value in skill.items():
        metrics = {"matching_score@5": value, "matching_score@1": value / 5}
        yield Row(name, "motorcycle", "motorcycle", metrics, budget=512)


def _sweep(skill: dict[str, float], generator: np.random.Generator) -> Iterator[Row]:
    for pair, group, hardness in _pairs(24, 3, generator):
        for name, value in skill.items():
            for degrees in TURNS:
                wave = math.cos(math.radians(degrees)) ** 2 if "disk" in name else 0.92 + 0.08 * math.cos(4 * degrees)
                metrics = _scores(value * wave, hardness, generator)
                yield Row(name, pair, group, metrics, variant=f"turn{degrees:03d}", budget=512)
            for zoom in ZOOMS:
                metrics = _scores(value / (1 + 0.6 * abs(math.log2(zoom))), hardness, generator)
                yield Row(name, pair, group, metrics, variant=f"zoom{zoom:g}", budget=512)


def _pose(skill: dict[str, float], generator: np.random.Generator) -> Iterator[Row]:
    for index in range(120):
        hardness = generator.uniform(0.2, 1.0)
        for name, value in skill.items():
            error = float(generator.exponential(4 * hardness / value))
            error = math.inf if error > 60 else error
            metrics = {f"pose_auc@{t}": max(0.0, 1 - error / t) for t in (5, 10, 20)}
            metrics |= {"pose_error": error, "rotation_error": error / 2, "translation_error": error}
            metrics |= {"matches": 300 * value, "inliers": 180 * value}
            yield Row(name, f"pair {index}", f"scene{index // 12:04d}", metrics, budget=2048)


def _homography(skill: dict[str, float], generator: np.random.Generator) -> Iterator[Row]:
    for index in range(80):
        subset = "viewpoint" if index % 2 else "illumination"
        hardness = generator.uniform(0.2, 1.0) + (0.4 if index % 2 else 0)
        for name, value in skill.items():
            error = float(generator.exponential(0.7 * hardness / value))
            error = math.inf if error > 40 else error
            metrics = {f"corner_auc@{t}": max(0.0, 1 - error / t) for t in (1, 3, 5)}
            metrics |= {f"mma@{t}": (1 - math.exp(-t * value)) * min(1.0, 1.3 - 0.3 * hardness) for t in range(1, 11)}
            metrics |= {"corner_error": error, "matches": 500 * value, "inliers": 320 * value}
            scene = f"{subset[0]}_{index // 10}"
            yield Row(name, f"{scene}/1_{index}", scene, metrics, subset, budget=2048)


def _structure(skill: dict[str, float]) -> Iterator[Row]:
    for name, value in skill.items():
        count = round(40 * min(1.0, value * 2.2))
        metrics = {"registered": float(count), "registered_share": count / 40, "points": 21000.0 * value}
        metrics |= {"track_length": 3 + value, "reprojection_error": 1.2 - value / 2, "seconds": 40.0}
        if name == "orb":
            metrics |= {"track_length": math.nan, "reprojection_error": math.nan}
        yield Row(name, "boruszyn", "boruszyn", {**metrics, "observations": 90000.0 * value})


def _cost(skill: dict[str, float]) -> Iterator[Row]:
    for subset, budget, factor in (("320x240", 512, 1.0), ("640x480", 2048, 3.6)):
        for index, name in enumerate(skill):
            time = factor * (163.1, 23.1, 22.5, 6.1, 210.0)[index]
            metrics = {"milliseconds": time, "milliseconds_low": 0.97 * time, "milliseconds_high": 1.2 * time}
            metrics |= {"keypoints": budget - 12.0, "keypoints_per_second": 1000 * budget / time}
            metrics["memory"] = 60.0 + index
            if name in ("lfnet-cpu", "disk <&\"' (rival)"):
                metrics |= {"model_size": 5.4, "parameters": 1.35e6}
            yield Row(name, subset, subset, metrics, subset, budget=budget)


METRIC = "matching_score@5"


def example(gain: float = 2.0) -> Results:
    """Two methods on four pairs of two stretches; ours is right `gain` times as often as RootSIFT."""
    rows = []
    for variant, factor in (("turn000", 1.0), ("turn030", 0.5), ("zoom2", 0.25)):
        for group, pair, value in (("A", "1", 0.2), ("A", "2", 0.4), ("B", "3", 0.1), ("B", "4", 0.1)):
            for method, times in (("rootsift", 1.0), ("ours", gain)):
                metrics = {METRIC: times * factor * value, "precision@5": math.nan}
                rows.append(Row(method, pair, group, metrics, variant=variant, budget=512))
    section = Section("sweep", "walk", rows, "stretches of frames", {"reach": 32.0})
    return Results([section], describe_environment(), {"ours": {"seconds": 0.01}}, "lfnet eval run walk")


def upright(results: Results, method: str) -> Section:
    """Rows of a method on untouched pictures."""
    return results.section("sweep").only(method=method, variants=["turn000"])
