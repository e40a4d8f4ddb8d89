"""Results as a typed, versioned file, and what a table says of them."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from lfnet.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 1
"""Of the file's layout; a reader refuses another."""


@dataclass(frozen=True)
class PairRow:
    """What one method reached on one pair under one transformation."""

    method: str
    pair: str
    group: str
    """Scene or stretch of frames, the unit of the bootstrap."""
    variant: str
    """Transformation of the second picture, e.g. `turn030`."""
    metrics: dict[str, float]


@dataclass(frozen=True)
class Results:
    """One run of a protocol."""

    protocol: str
    settings: dict[str, Any]
    environment: dict[str, str]
    rows: list[PairRow]
    seconds: dict[str, float] = field(default_factory=dict)
    """Median time of an extraction by method."""
    version: int = VERSION

    def methods(self) -> list[str]:
        """Methods in the order that they were run."""
        return list(dict.fromkeys(row.method for row in self.rows))

    def variants(self) -> list[str]:
        """Transformations in the order that they were run."""
        return list(dict.fromkeys(row.variant for row in self.rows))

    def groups(self) -> list[str]:
        """Scenes or stretches of frames."""
        return list(dict.fromkeys(row.group for row in self.rows))

    def mean(self, metric: str, method: str, variant: str, group: str | None = None) -> float:
        """Mean of a metric over pairs, leaving out pairs where it is undefined; NaN if none is left."""
        values = [
            row.metrics[metric]
            for row in self.rows
            if row.method == method and row.variant == variant and group in (None, row.group)
        ]
        known = [value for value in values if not np.isnan(value)]
        return float(np.mean(known)) if known else float("nan")


def describe_environment(folder: Path | None = None) -> dict[str, str]:
    """Versions, threads, processor and date of a run, and the commit if `folder` is in a git checkout.

    Args:
        folder: where to look for the checkout; this package's folder if None.

    Returns:
        names and values for a results file.
    """
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(folder or Path(__file__).parent),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
        "processor": _processor(),
        "threads_torch": str(torch.get_num_threads()),
        "threads_opencv": str(cv2.getNumThreads()),
    }


def _commit(folder: Path) -> str:
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def write_results(path: Path, results: Results) -> None:
    """Write results as JSON; undefined values become null.

    Args:
        path: file to write; its folder is made where it is missing.
        results: what to write.

    Raises:
        OSError: it can't be written, for example because the disk is full.
    """
    plain = asdict(results)
    for row in plain["rows"]:
        row["metrics"] = {key: None if np.isnan(value) else value for key, value in row["metrics"].items()}
    write_bytes(path, (json.dumps(plain, indent=1, allow_nan=False) + "\n").encode())


def read_results(path: Path) -> Results:
    """Read what `write_results` wrote.

    Args:
        path: JSON file.

    Returns:
        the results.

    Raises:
        ValueError: if the file is no results file, or one of another version.
    """
    try:
        plain = json.loads(Path(path).read_text())
        version = plain["version"]
    except (json.JSONDecodeError, TypeError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no results file of lfnet evaluate") from error
    if version != VERSION:
        raise ValueError(f"{path} has version {version}, this lfnet reads {VERSION}: run the evaluation again")
    rows = [
        PairRow(**{**row, "metrics": {k: float("nan") if v is None else v for k, v in row["metrics"].items()}})
        for row in plain.pop("rows")
    ]
    return Results(rows=rows, **plain)


@dataclass(frozen=True)
class Summary:
    """One method's figures of one metric, with the 95 % interval over resampled groups of pairs."""

    upright: float
    upright_interval: tuple[float, float] | None
    """None with fewer than two groups to resample."""
    turned: float
    """Mean over all turns, 0 included; NaN if only upright was measured."""
    turned_interval: tuple[float, float] | None
    worst_turn: float
    worst_name: str
    zooms: dict[str, float]
    """Other transformations, by name."""


def summarise(results: Results, method: str, metric: str, *, samples: int = 1000, seed: int = 0) -> Summary:
    """Figures of one method: upright, over turns, at zooms.

    Args:
        results: a run.
        method: one of its methods.
        metric: e.g. `matching_score@5`.
        samples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        means over pairs and intervals.
    """
    turns = [name for name in results.variants() if name.startswith("turn") and "-" not in name]
    others = [name for name in results.variants() if name not in turns]
    means = {name: results.mean(metric, method, name) for name in results.variants()}
    upright_names = [name for name in turns if name == "turn000"]
    many = len(turns) > 1
    worst = min(turns, key=lambda name: means[name]) if many else ""
    return Summary(
        upright=means.get("turn000", float("nan")),
        upright_interval=bootstrap_interval(results, method, metric, upright_names, samples=samples, seed=seed),
        turned=float(np.mean([means[name] for name in turns])) if many else float("nan"),
        turned_interval=(
            bootstrap_interval(results, method, metric, turns, samples=samples, seed=seed) if many else None
        ),
        worst_turn=means[worst] if many else float("nan"),
        worst_name=worst,
        zooms={name: means[name] for name in others},
    )


def bootstrap_interval(
    results: Results,
    method: str,
    metric: str,
    variants: Sequence[str],
    *,
    reference: str | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """95 % interval of a mean, or of its ratio to a reference's, resampling groups with replacement.

    Args:
        results: a run.
        method: one of its methods.
        metric: e.g. `matching_score@5`.
        variants: transformations that go into the mean.
        reference: method to divide by, resampled alike; None = the mean itself.
        samples: number of resamplings.
        seed: of the generator.

    Returns:
        lower and upper end, or None if there are fewer than two groups (scenes, stretches of frames).
    """
    groups = results.groups()
    if len(groups) < 2 or not variants:
        return None
    chosen = np.random.default_rng(seed).integers(0, len(groups), (samples, len(groups)))
    means = _resampled_means(results, method, metric, variants, chosen)
    if reference is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            means = means / _resampled_means(results, reference, metric, variants, chosen)
    known = means[np.isfinite(means)]
    if not len(known):
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def _resampled_means(
    results: Results, method: str, metric: str, variants: Sequence[str], chosen: np.ndarray
) -> np.ndarray:
    index = {group: position for position, group in enumerate(results.groups())}
    sums, counts = np.zeros(len(index)), np.zeros(len(index))
    for row in results.rows:
        value = row.metrics[metric]
        if row.method == method and row.variant in variants and not np.isnan(value):
            sums[index[row.group]] += value
            counts[index[row.group]] += 1
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)
