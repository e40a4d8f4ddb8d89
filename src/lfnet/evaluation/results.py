"""Results as a typed, versioned file: what was measured, on what, under which settings, by which machine."""

from __future__ import annotations

import datetime
import json
import math
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import cv2
import numpy as np
import torch

from lfnet.errors import UserError, one_line
from lfnet.files.atomic import write_bytes
from lfnet.files.reading import read_json_file

T = TypeVar("T")

VERSION = 2
"""Of the file's layout; a reader refuses another."""

UNTOUCHED_NAME = "turn000"
"""Variant of a second picture that was neither turned nor zoomed."""


@dataclass(frozen=True)
class Row:
    """What one method reached on one pair (or set of pictures) under one transformation and budget."""

    method: str
    pair: str
    group: str
    """Scene or stretch of frames, the unit of the bootstrap."""
    metrics: dict[str, float]
    """Value of each metric; NaN = undefined for this pair."""
    subset: str = "all"
    """What tables are split by: a frame gap, `viewpoint`, a scene."""
    variant: str = UNTOUCHED_NAME
    """Transformation of the second picture, e.g. `turn030`, `zoom0.5`."""
    budget: int = 0
    """Most keypoints of a picture, K; 0 where there is none."""


@dataclass(frozen=True)
class Section:
    """One protocol on one data set."""

    protocol: str
    """`matching`, `sweep`, `pose`, `homography`, `structure` or `cost`."""
    data: str
    """Name of the data set."""
    rows: list[Row]
    unit: str = "groups"
    """What the groups are, in the plural: "scenes", "stretches of frames"."""
    settings: dict[str, Any] = field(default_factory=dict)
    """How pairs were chosen and measured, in types that JSON has."""
    chosen: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What was tuned for each method on other pairs, e.g. `{"sift": {"ratio": 0.9, "threshold": 1.0}}`."""
    skipped: list[str] = field(default_factory=list)
    """What could not be measured, a line each."""

    @property
    def title(self) -> str:
        """Protocol and data, as `matching on oxford`."""
        return f"{self.protocol} on {self.data}"

    def methods(self) -> list[str]:
        """Methods in the order that they were run."""
        return list(dict.fromkeys(row.method for row in self.rows))

    def variants(self) -> list[str]:
        """Transformations in the order that they were run."""
        return list(dict.fromkeys(row.variant for row in self.rows))

    def budgets(self) -> list[int]:
        """Budgets of keypoints, ascending."""
        return sorted({row.budget for row in self.rows})

    def subsets(self) -> list[str]:
        """Subsets in the order of the pairs."""
        return list(dict.fromkeys(row.subset for row in self.rows))

    def groups(self) -> list[str]:
        """Scenes or stretches of frames."""
        return list(dict.fromkeys(row.group for row in self.rows))

    def metrics(self) -> list[str]:
        """Every metric that a row has, in the order of their first mention."""
        return list(dict.fromkeys(name for row in self.rows for name in row.metrics))

    def only(
        self,
        *,
        method: str | None = None,
        variants: Iterable[str] | None = None,
        budget: int | None = None,
        subset: str | None = None,
        group: str | None = None,
    ) -> Section:
        """The section with those of its rows alone that fit everything that is given."""
        kept = None if variants is None else set(variants)
        rows = [
            row
            for row in self.rows
            if method in (None, row.method)
            and (kept is None or row.variant in kept)
            and budget in (None, row.budget)
            and subset in (None, row.subset)
            and group in (None, row.group)
        ]
        return replace(self, rows=rows)

    def mean(self, metric: str) -> float:
        """Mean of a metric over all rows where it is defined; NaN if there is none."""
        values = [row.metrics.get(metric, math.nan) for row in self.rows]
        known = [value for value in values if not math.isnan(value)]
        return float(np.mean(known)) if known else math.nan


@dataclass(frozen=True)
class Results:
    """One run of a benchmark."""

    sections: list[Section]
    environment: dict[str, str]
    """Versions, threads, processor, date, commit: `describe_environment`."""
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each method is: whatever decides its features, and `seconds`, its median time for a picture."""
    command: str = ""
    """What was typed."""
    skipped: list[str] = field(default_factory=list)
    """Data that could not be measured on at all, a line each."""
    version: int = VERSION

    def section(self, protocol: str, data: str | None = None) -> Section:
        """The section of a protocol on a data set (the first, if none is named).

        Raises:
            KeyError: there is none.
        """
        for section in self.sections:
            if section.protocol == protocol and data in (None, section.data):
                return section
        raise KeyError(f"no section {protocol} on {data or 'any data'}")


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
    """Write results as JSON; undefined and infinite values become null and "inf".

    Args:
        path: file to write; its folder is made where it is missing.
        results: what to write.

    Raises:
        OSError: it can't be written, for example because the disk is full.
    """
    plain = asdict(results)
    sections = [_section_text(section) for section in plain.pop("sections")]
    write_bytes(path, _joined(plain, "sections", sections).encode())


def _section_text(section: dict[str, Any]) -> str:
    rows = section.pop("rows")
    for row in rows:
        row["metrics"] = {key: _plain(value) for key, value in row["metrics"].items()}
    return _joined(section, "rows", [json.dumps(row, allow_nan=False) for row in rows])


def _joined(plain: dict[str, Any], name: str, items: Sequence[str]) -> str:
    """JSON of a dictionary with one more entry, a list of items that are JSON already: a row is a line."""
    head = json.dumps(plain, indent=1, allow_nan=False).removesuffix("\n}")
    return f'{head},\n "{name}": [\n' + ",\n".join(items) + "\n]}\n"


def _plain(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return float(value) if math.isfinite(value) else "inf"


def read_results(path: Path) -> Results:
    """Read what `write_results` wrote.

    Args:
        path: JSON file.

    Returns:
        the results.

    Raises:
        ValueError: if the file is no results file, or one of another version.
        OSError: it can't be read.
    """
    unknown = f"{path} is no results file of lfnet eval"
    plain = read_json_file(path, UserError, "a results file of lfnet eval")
    if not isinstance(plain, dict) or "version" not in plain:
        raise UserError(unknown)
    version = plain["version"]
    if version != VERSION:
        raise UserError(f"{path} has version {version}, this lfnet reads {VERSION}: run the benchmark again")
    try:
        sections = [
            _made(Section, {**section, "rows": [_row(row) for row in section["rows"]]})
            for section in plain.pop("sections")
        ]
        return _made(Results, {**plain, "sections": sections})
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as error:
        raise UserError(f"{unknown}: {one_line(error)}") from error


def _row(plain: dict[str, Any]) -> Row:
    metrics = {key: math.nan if value is None else float(value) for key, value in plain["metrics"].items()}
    return _made(Row, {**plain, "metrics": metrics})


def _made(kind: type[T], values: dict[str, Any]) -> T:
    """What values make, each of the type that its field has."""
    for name, hint in get_type_hints(kind).items():
        if name in values and not _is(values[name], hint):
            raise UserError(f"{name}: expected {hint}, got {str(values[name])[:80]}")
    return kind(**values)


def _is(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if isinstance(value, dict) and origin is dict:
        return all(_is(key, arguments[0]) and _is(item, arguments[1]) for key, item in value.items())
    if isinstance(value, list) and origin is list:
        return all(_is(item, arguments[0]) for item in value)
    return isinstance(value, origin) and isinstance(value, bool) == (origin is bool)
