"""What each method costs: time of a picture, all methods in turn in one run; memory and size of the model."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from lfnet.errors import UserError, one_line
from lfnet.evaluation.methods.extractors import wants_colour
from lfnet.evaluation.methods.feature_files import FeatureFile
from lfnet.evaluation.results import Row, Section
from lfnet.images import grey_bytes
from lfnet.progress import Say
from lfnet.settings import ConfigError

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from numpy import ndarray as Array

    from lfnet.evaluation.methods.extractors import Extractor, Method

SPREAD = (10, 90)
"""Percentiles of the rounds that are shown beside the median."""

PATIENCE = 300
"""Seconds that the process whose memory is measured may take."""


@dataclass(frozen=True)
class CostSettings:
    """What is timed, and how often."""

    cases: tuple[tuple[int, int, int], ...] = ((320, 240, 512), (640, 480, 2048))
    """Width, height and budget K; the first is the paper's (section 3.1)."""
    rounds: int = 11
    """Times that every method is run on each picture, after one that doesn't count."""
    threads: int | None = None
    """Of PyTorch and OpenCV; None = as they are set."""
    memory: bool = True
    """Whether to run each method once more in a process of its own, to see what memory it takes."""

    def __post_init__(self) -> None:
        if not self.cases or min(min(case) for case in self.cases) < 1:
            raise ConfigError(f"cases must hold a positive width, height and budget each, got {self.cases}")
        if self.rounds < 1 or (self.threads is not None and self.threads < 1):
            raise ConfigError(f"rounds and threads must be at least 1, got {self.rounds} and {self.threads}")


def measure_cost(methods: Sequence[Method], settings: CostSettings, progress: Say) -> Section:
    """Time, memory and size of every method that can be run.

    Methods take turns: each round runs every one once on the same picture, so that a busy machine slows all alike.
    `milliseconds` is the median over rounds, `milliseconds_low` and `milliseconds_high` the 10th and 90th percentile.
    `memory` is the largest resident memory of a fresh process that makes the method and extracts once: Python and the
    libraries that the method needs are in it, memory of a GPU is not. `model_size` is what a network's numbers take.
    Both are in megabytes (10^6 bytes).

    Args:
        methods: what to measure.
        settings: pictures, rounds, threads.
        progress: called with what is being done.

    Returns:
        the section `cost`, a row for each method and case.
    """
    skipped = [
        f"{method.name}: features from a file can't be timed" for method in methods if isinstance(method, FeatureFile)
    ]
    extractors = [method for method in methods if not isinstance(method, FeatureFile)]
    photo, about = _photo()
    rows = []
    with _threads(settings.threads):
        threads = {"torch": torch.get_num_threads(), "opencv": cv2.getNumThreads()}
        for width, height, budget in settings.cases:
            picture = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
            calls, failures = _working(extractors, picture, budget)
            skipped += failures
            progress(f"time of {width}x{height}, K = {budget}")
            times = time_interleaved({name: call for name, (_, call) in calls.items()}, settings.rounds)
            for name, (extractor, call) in calls.items():
                found = call()
                metrics = {**_speed(times[name], len(found)), **_size(extractor)}
                if settings.memory:
                    progress(f"memory of {name} at {width}x{height}")
                    metrics["memory"], line = _memory(extractor, picture, budget)
                    skipped += line
                case = f"{width}x{height}"
                rows.append(Row(name, case, case, metrics, subset=case, budget=budget))
    described = {**asdict(settings), "cases": [list(case) for case in settings.cases], "threads": threads}
    return Section("cost", about, rows, "picture sizes", described, {}, list(dict.fromkeys(skipped)))


def time_interleaved(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time calls in turn, after one round that does not count.

    Args:
        calls: what to time, by name.
        rounds: that count.

    Returns:
        seconds of every round, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def peak_memory(origin: str, device: str, picture: UInt8[Array, "H W *C"], budget: int) -> float:
    """Largest resident memory of a fresh process that makes a method and extracts once.

    Args:
        origin: the method, as `make_methods` takes it.
        device: torch device.
        picture: as the method wants it.
        budget: K.

    Returns:
        megabytes (10^6 bytes).

    Raises:
        OSError: the process failed; the message says how.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.npy"
        np.save(path, picture)
        task = {"origin": origin, "device": device, "picture": str(path), "budget": budget}
        task["threads"] = {"torch": torch.get_num_threads(), "opencv": cv2.getNumThreads()}
        try:
            done = subprocess.run(
                [sys.executable, "-m", "lfnet.evaluation.protocols.memory", json.dumps(task)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            lines = (error.stderr or "").strip().splitlines()
            raise OSError(lines[-1] if lines else f"it ended with code {error.returncode}") from error
        except subprocess.TimeoutExpired as error:
            raise OSError(f"it took longer than {PATIENCE} s") from error
    return int(done.stdout.split()[-1]) / 1e6


def _photo() -> tuple[UInt8[Array, "H W 3"], str]:
    """A picture that needs no file, and what it is."""
    try:
        from lfnet.evaluation.data.stereo import motorcycle

        return motorcycle().left, "motorcycle"
    except ModuleNotFoundError:
        from lfnet.evaluation.data.synthetic import rendered_dataset

        scene = rendered_dataset(1, (640, 480))
        picture = scene.load(scene.pairs[0].picture_a)
        return picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2), "rendered scene"


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads(), cv2.getNumThreads()
    if count is not None:
        torch.set_num_threads(count)
        cv2.setNumThreads(count)
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before[0])
            cv2.setNumThreads(before[1])


Call = Callable[[], "Array"]


def _working(
    extractors: Sequence[Extractor], picture: UInt8[Array, "H W 3"], budget: int
) -> tuple[dict[str, tuple[Extractor, Call]], list[str]]:
    """What extracts from the picture, by name; and what fails, a line each."""
    calls: dict[str, tuple[Extractor, Call]] = {}
    failures = []
    for extractor in extractors:
        call = _call(extractor, _as_wanted(extractor, picture), budget)
        try:
            call()
        except (UserError, MemoryError, cv2.error) as error:
            size = f"{picture.shape[1]}x{picture.shape[0]}"
            failures.append(f"{extractor.name} at {size}: {one_line(error)}")
            continue
        calls[extractor.name] = extractor, call
    return calls, failures


def _call(extractor: Extractor, picture: UInt8[Array, "H W *C"], budget: int) -> Call:
    def call() -> Array:
        return extractor(picture, max_keypoints=budget).keypoints

    return call


def _as_wanted(extractor: Extractor, picture: UInt8[Array, "H W 3"]) -> UInt8[Array, "H W *C"]:
    return picture if wants_colour(extractor) else grey_bytes(picture)


def _speed(seconds: Sequence[float], keypoints: int) -> dict[str, float]:
    low, middle, high = np.percentile(np.array(seconds) * 1000, [SPREAD[0], 50, SPREAD[1]])
    return {
        "milliseconds": float(middle),
        "milliseconds_low": float(low),
        "milliseconds_high": float(high),
        "keypoints": float(keypoints),
        "keypoints_per_second": keypoints / (float(middle) / 1000),
    }


def _size(extractor: Extractor) -> dict[str, float]:
    parameters, size = (getattr(extractor, name, None) for name in ("parameters", "model_bytes"))
    return {
        "parameters": math.nan if parameters is None else float(parameters),
        "model_size": math.nan if size is None else size / 1e6,
    }


def _memory(extractor: Extractor, picture: UInt8[Array, "H W 3"], budget: int) -> tuple[float, list[str]]:
    origin = getattr(extractor, "origin", "")
    if not origin:
        return math.nan, [f"{extractor.name}: its memory is unknown, as it can't be made again from its name"]
    device = getattr(extractor, "settings", {}).get("device", "cpu")
    try:
        return peak_memory(origin, device, _as_wanted(extractor, picture), budget), []
    except OSError as error:
        return math.nan, [f"{extractor.name}: its memory is unknown: {error}"]
