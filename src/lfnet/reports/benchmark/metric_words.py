"""How protocols and metrics are called, which way a metric is better, and what a section has of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lfnet.evaluation.methods.opencv_extractors import OPENCV_METHODS
from lfnet.evaluation.results import UNTOUCHED_NAME

if TYPE_CHECKING:
    from lfnet.evaluation.results import Results, Section

REFERENCE = "rootsift"
"""The method that ratios refer to, where it was run."""

Direction = Literal["higher", "lower", "neither"]
"""Which values of a metric are better."""

TITLES = {
    "matching": "Matching score",
    "sweep": "Rotation and scale",
    "pose": "Relative pose",
    "homography": "Homography",
    "structure": "Structure from motion",
    "cost": "Cost",
}

EXPLAINED = {
    "matching": "Matching score: of the keypoints of one view that the other sees, the share whose nearest descriptor "
    "lies within a threshold of the true place; the mean of both directions.",
    "sweep": "The second view is turned in the plane and zoomed; the matching score is taken each time, of keypoints "
    "away from the turned canvas' empty corners.",
    "pose": "The essential matrix by MAGSAC from mutual nearest neighbours. The error is the larger of the angles of "
    "rotation and of the direction of translation; AUC is the area below the recall curve up to an angle.",
    "homography": "The homography by MAGSAC from mutual nearest neighbours, its error at the corners of the picture as "
    "area below the recall curve; mean matching accuracy (MMA) is the share of matches within a threshold.",
    "structure": "Pictures registered by COLMAP's mapping from each method's features and matches.",
    "cost": "Extraction of one picture, [10 - 90 %] over rounds; all methods interleaved in the same run.",
}


@dataclass(frozen=True)
class Metric:
    """How a metric is shown."""

    word: str
    better: Direction = "higher"
    digits: int = 3
    """Decimals that are shown."""


METRICS = {
    "matching_score": Metric("score"),
    "localisation_error": Metric("localisation error (px)", "lower"),
    "match_error_median": Metric("median match error (px)", "lower"),
    "match_share": Metric("share of correct matches", "neither"),
    "keypoints": Metric("keypoints", "neither", 0),
    "matches": Metric("matches", "neither", 0),
    "visible": Metric("visible", "neither", 0),
    "inliers": Metric("inliers", "neither", 0),
    "pose_auc": Metric("AUC"),
    "pose_error": Metric("pose error (°)", "lower"),
    "rotation_error": Metric("rotation error", "lower"),
    "translation_error": Metric("translation error", "lower"),
    "corner_auc": Metric("corner AUC"),
    "corner_error": Metric("corner error (px)", "lower"),
    "mma": Metric("MMA"),
    "registered": Metric("registered pictures", digits=0),
    "registered_share": Metric("share registered"),
    "points": Metric("points", digits=0),
    "observations": Metric("observations", digits=0),
    "reprojection_error": Metric("reprojection error (px)", "lower"),
    "seconds": Metric("seconds", "lower", 0),
    "milliseconds": Metric("ms a picture", "lower"),
    "estimation_time": Metric("ms a pair, filter and MAGSAC", "lower", 1),
    "milliseconds_low": Metric("milliseconds low", "lower"),
    "milliseconds_high": Metric("milliseconds high", "lower"),
    "keypoints_per_second": Metric("keypoints a second", digits=0),
    "memory": Metric("memory (MB)", "lower", 0),
    "model_size": Metric("model (MB)", "lower"),
    "parameters": Metric("parameters", "neither", 0),
}
"""By name; others are shown by their name, and more of them is better."""


def shown(metric: str) -> Metric:
    """How a metric is shown, whatever its threshold: `localisation_error`, `pose_auc@5`."""
    name = metric.partition("@")[0]
    return METRICS.get(name, Metric(name.replace("_", " ")))


def worded(metric: str) -> str:
    """A metric as tables write it: `score at 5 px`, `AUC at 10°`, `share of correct matches at octave 1/2`."""
    name, _, threshold = metric.partition("@")
    if not threshold:
        return shown(metric).word
    if threshold.startswith("octave"):
        return f"{shown(metric).word} at octave {threshold.removeprefix('octave')}"
    return f"{shown(metric).word} at {threshold}{'°' if name == 'pose_auc' else ' px'}"


def capital(text: str) -> str:
    """The text with its first letter in capitals, the others as they are."""
    return text[:1].upper() + text[1:]


def title_of(protocol: str) -> str:
    """What a protocol is called above its tables."""
    return TITLES.get(protocol, protocol.capitalize())


def at_budget(budget: int) -> str:
    """`, K = 512`; nothing where there is no budget."""
    return f", K = {budget}" if budget else ""


def thresholds(section: Section, name: str) -> list[float]:
    """Thresholds that a metric was measured at, ascending: of `mma@1`, `mma@3` it is [1.0, 3.0]."""
    split = (metric.partition("@") for metric in section.metrics())
    return sorted(float(threshold) for before, at, threshold in split if before == name and at)


def at_thresholds(section: Section, *names: str) -> list[str]:
    """Metrics at every threshold that they were measured at: `pose_auc@5`, `pose_auc@10`."""
    return [f"{name}@{threshold:g}" for name in names for threshold in thresholds(section, name)]


def widest(section: Section, name: str) -> str | None:
    """The metric at its largest threshold, `matching_score@5`; None if the section has none."""
    return next(reversed(at_thresholds(section, name)), None)


def main_corner_auc(section: Section) -> str | None:
    """The corner AUC that stands for a section: at 3 px, or else the widest."""
    return "corner_auc@3" if "corner_auc@3" in section.metrics() else widest(section, "corner_auc")


def turns(section: Section) -> dict[str, int]:
    """Variants that only turn, with their degrees, ascending."""
    plain = [name for name in section.variants() if name.startswith("turn") and "-" not in name]
    return dict(sorted(((name, int(name.removeprefix("turn"))) for name in plain), key=lambda item: item[1]))


def zooms(section: Section) -> dict[str, float]:
    """Variants that only zoom, with their factors, ascending; the untouched picture is the factor 1."""
    found = {name: float(name.removeprefix("zoom")) for name in section.variants() if name.startswith("zoom")}
    if UNTOUCHED_NAME in section.variants():
        found[UNTOUCHED_NAME] = 1.0
    return dict(sorted(found.items(), key=lambda item: item[1]))


def reference_of(section: Section) -> str | None:
    """The method that ratios refer to; None if it was not run."""
    return REFERENCE if REFERENCE in section.methods() else None


def champion(methods: Iterable[str]) -> str | None:
    """The method that a reader came for: the first that is none of OpenCV's, else the first."""
    names = list(methods)
    return next((name for name in names if name not in OPENCV_METHODS), names[0] if names else None)


def all_methods(results: Results) -> list[str]:
    """Every method of a run, in the order of their first mention."""
    return list(dict.fromkeys([*results.methods, *(name for part in results.sections for name in part.methods())]))


def described(section: Section) -> str:
    """What a section was measured on, in words: pairs, groups, budgets, and what intervals are over."""
    pairs = len({row.pair for row in section.rows})
    nouns = {"structure": ("set of pictures", "sets of pictures"), "cost": ("size", "sizes")}
    parts = [f"{pairs:,} {nouns.get(section.protocol, ('pair', 'pairs'))[pairs != 1]}"]
    groups = len(section.groups())
    if section.protocol not in nouns and groups > 1:
        parts.append(f"{groups:,} {section.unit}")
    budgets = [budget for budget in section.budgets() if budget]
    if budgets:
        parts.append("K = " + ", ".join(map(str, budgets)))
    over = f", intervals over {section.unit}" if groups > 1 and section.protocol != "cost" else ""
    return f"{'; '.join(parts)}{over}."


def chosen_words(section: Section) -> dict[str, str]:
    """What was tuned for each method, in words: `ratio 0.9, 1 px`; on what it was tuned is left to `tuning_words`."""
    words = {}
    for method, values in section.chosen.items():
        parts = []
        if "ratio" in values:
            parts.append("no ratio test" if values["ratio"] in (None, 1) else f"ratio {_setting(values['ratio'])}")
        if "threshold" in values:
            parts.append(f"{_setting(values['threshold'])} px")
        if values.get("filter"):
            parts.append("filtered")
        words[method] = ", ".join(parts or [f"{name} {_setting(value)}" for name, value in values.items()])
    return words


def tuning_words(section: Section) -> str:
    """On what ratios and thresholds were tuned, as a sentence; nothing where that isn't said."""
    places = {str(values["tuned_on"]) for values in section.chosen.values() if "tuned_on" in values}
    counts = {int(values["tuning_pairs"]) for values in section.chosen.values() if "tuning_pairs" in values}
    pairs = f", {min(counts)} pairs that don't count here" if len(counts) == 1 else ""
    return f"Ratio and threshold were tuned for each method on {', '.join(sorted(places))}{pairs}." if places else ""


def _setting(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
