"""How fast features are extracted, beside OpenCV's in the same run, and where the time goes.

    python benchmarks/speed.py --threads 2 --output speed.json

Rivals are interleaved: each round times every method once on the same picture, so that a busy machine slows all of
them alike. Shown are the median and the 10th and 90th percentile over rounds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
import tyro

import lfnet.models.descriptor
import lfnet.models.network
from lfnet.evaluation.data.stereo import motorcycle
from lfnet.evaluation.methods.lfnet_extractor import LFNetExtractor
from lfnet.evaluation.methods.opencv_extractors import OpenCVExtractor
from lfnet.evaluation.protocols.cost import time_interleaved
from lfnet.evaluation.results import describe_environment
from lfnet.models.config import ExtractionSettings, LFNetConfig
from lfnet.models.descriptor import Descriptor
from lfnet.models.lfnet import LFNet
from lfnet.reports.benchmark.tables import markdown

CASES = (((320, 240), 512), ((640, 480), 2048))
"""Width and height of the picture, and the budget of keypoints; the first is the paper's."""

PAPER_PICTURES_PER_SECOND = 60.0
"""LF-Net paper, section 3.1: 320x240, 512 keypoints, on a Titan X."""


@dataclass(frozen=True)
class Options:
    """What to time."""

    weights: tuple[str, ...] = ("lfnet-cpu",)
    """Packaged weights by name, paths, or `untrained-paper` for the paper's architecture with random weights."""
    rounds: int = 15
    """Times that every method is run on each picture size."""
    batch: int = 8
    """Pictures in a batch."""
    threads: int | None = None
    """Of PyTorch and OpenCV; as many as they choose if left out."""
    devices: tuple[str, ...] = field(default_factory=lambda: ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",))
    """PyTorch devices."""
    output: Path | None = None
    """JSON file; the tables go to the same name with .md."""


def load_model(weights: str, device: str) -> LFNet:
    """A model in evaluation mode, by weights or with the paper's untrained architecture."""
    model = LFNet(LFNetConfig()) if weights == "untrained-paper" else LFNet.from_pretrained(weights)
    return model.to(device).eval()


def synchronise(device: str) -> None:
    """Wait until a GPU has finished."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def pictures(size: tuple[int, int]) -> list[np.ndarray]:
    """Two real photographs, grey, at a size."""
    stereo = motorcycle()
    return [cv2.resize(stereo.load(key), size, interpolation=cv2.INTER_AREA) for key in ("left", "right")]


def extraction_section(options: Options) -> list[dict[str, Any]]:
    """Milliseconds of one picture at a time, for every method and device."""
    rows = []
    for size, budget in CASES:
        image = pictures(size)[0]
        calls: dict[str, Callable[[], object]] = {}
        counts: dict[str, int] = {}
        for name in ("sift", "orb"):
            calls[f"{name} (OpenCV)"] = _call(OpenCVExtractor(name), image, budget, "cpu")
        for device in options.devices:
            for weights in options.weights:
                model = load_model(weights, device)
                for octaves, note in ((None, ""), ((1.0,), ", one octave")):
                    name = f"{Path(weights).stem} ({device}){note}"
                    extractor = LFNetExtractor(model, name, ExtractionSettings(octaves=octaves))
                    calls[name] = _call(extractor, image, budget, device)
        for name, call in calls.items():
            counts[name] = len(call())  # type: ignore[arg-type]
        for name, seconds in time_interleaved(calls, options.rounds).items():
            rows.append(
                {
                    "method": name,
                    "size": size,
                    "budget": budget,
                    "keypoints": counts[name],
                    "seconds": seconds,
                }
            )
    return rows


def _call(
    extractor: OpenCVExtractor | LFNetExtractor, image: np.ndarray, budget: int, device: str
) -> Callable[[], object]:
    def call() -> object:
        found = extractor(image, max_keypoints=budget)
        synchronise(device)
        return found

    return call


def batch_section(options: Options) -> list[dict[str, Any]]:
    """Pictures a second when several are given at once."""
    rows = []
    for size, budget in CASES:
        several = [pictures(size)[index % 2] for index in range(options.batch)]
        settings = ExtractionSettings(max_keypoints=budget)
        for device in options.devices:
            for weights in options.weights:
                model = load_model(weights, device)
                seconds = time_interleaved(
                    {"batch": lambda m=model, s=settings, p=several: m.extract(p, settings=s)}, 3
                )
                rate = options.batch / float(np.median(seconds["batch"]))
                name = f"{Path(weights).stem} ({device})"
                rows.append({"method": name, "size": size, "budget": budget, "pictures_per_second": rate})
    return rows


def stage_section(options: Options) -> list[dict[str, Any]]:
    """Seconds in each stage of extraction, all octaves together, and of the first octave alone."""
    rows = []
    for size, budget in CASES:
        image = pictures(size)[0]
        for device in options.devices:
            for weights in options.weights:
                model = load_model(weights, device)
                for octaves in dict.fromkeys((model.config.octaves, (1.0,))):
                    settings = ExtractionSettings(max_keypoints=budget, octaves=octaves)
                    rounds = [time_stages(model, image, settings, device) for _ in range(options.rounds)]
                    stages = {stage: float(np.median([r[stage] for r in rounds])) for stage in rounds[0]}
                    name = f"{Path(weights).stem} ({device}), octaves {', '.join(f'{each:g}' for each in octaves)}"
                    rows.append({"method": name, "size": size, "budget": budget, "stages": stages})
    return rows


STAGES: dict[str, tuple[object, str]] = {
    "detector": (LFNet, "detect"),
    "keypoints": (LFNet, "keypoints_of"),
    "choice": (lfnet.models.network, "choose"),
    "patches": (LFNet, "patches_at"),
    "orientation": (Descriptor, "angle_scores"),
    "turning": (lfnet.models.descriptor, "turned"),
    "features of patches": (Descriptor, "begin"),
    "descriptor": (Descriptor, "finish"),
}
"""Each stage and the function that does it: none calls another. What is left of a picture's time is "other"."""


def time_stages(model: LFNet, image: np.ndarray, settings: ExtractionSettings, device: str) -> dict[str, float]:
    """Seconds in each stage while one picture is extracted."""
    seconds = dict.fromkeys(STAGES, 0.0)

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            synchronise(device)
            start = time.perf_counter()
            result = function(*arguments, **named)
            synchronise(device)
            seconds[stage] += time.perf_counter() - start
            return result

        return call

    with ExitStack() as stack:
        for stage, (owner, name) in STAGES.items():
            stack.enter_context(mock.patch.object(owner, name, timed(stage, getattr(owner, name))))
        start = time.perf_counter()
        model.extract([image], settings=settings)
        total = time.perf_counter() - start
    return {**seconds, "other": total - sum(seconds.values())}


def extraction_table(rows: list[dict[str, Any]]) -> str:
    """Milliseconds a picture as Markdown."""
    cells = []
    for row in rows:
        low, middle, high = np.percentile(np.array(row["seconds"]) * 1000, [10, 50, 90])
        width, height = row["size"]
        sift = next(r["seconds"] for r in rows if r["size"] == row["size"] and r["method"].startswith("sift"))
        ratio = float(np.median(np.array(row["seconds"]) / np.array(sift)))
        cells.append(
            [f"{width}x{height}", str(row["budget"]), row["method"], str(row["keypoints"]),
             f"{middle:.1f}", f"{low:.1f} - {high:.1f}", f"{1000 / middle:.1f}", f"{ratio:.2f}"]
        )  # fmt: skip
    return markdown(["picture", "K", "method", "found", "ms", "10 - 90 %", "a second", "of SIFT's time"], cells)


def batch_table(rows: list[dict[str, Any]]) -> str:
    """Pictures a second as Markdown."""
    cells = []
    for row in rows:
        width, height = row["size"]
        rate = row["pictures_per_second"]
        against = f"{rate / PAPER_PICTURES_PER_SECOND:.2f}x" if (row["size"], row["budget"]) == CASES[0] else ""
        cells.append([f"{width}x{height}", str(row["budget"]), row["method"], f"{rate:.1f}", against])
    return markdown(["picture", "K", "method", "pictures a second", "paper's GPU, 60 a second"], cells)


def stage_table(rows: list[dict[str, Any]]) -> str:
    """Milliseconds in each stage as Markdown."""
    cells = []
    for row in rows:
        total = sum(row["stages"].values())
        shares = [f"{1000 * value:.1f}" for value in row["stages"].values()]
        width, height = row["size"]
        cells.append([f"{width}x{height}", str(row["budget"]), row["method"], f"{1000 * total:.1f}", *shares])
    return markdown(["picture", "K", "method", "ms", *rows[0]["stages"]], cells)


SECTIONS: dict[str, tuple[Callable[[Options], list[dict[str, Any]]], Callable[[list[dict[str, Any]]], str]]] = {
    "One picture at a time": (extraction_section, extraction_table),
    "In batches": (batch_section, batch_table),
    "Where the time of one picture goes": (stage_section, stage_table),
}
"""Title of each part to what measures it and what prints it."""


def main(options: Options) -> None:
    """Time everything and print the tables."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
        cv2.setNumThreads(options.threads)
    environment = describe_environment()
    if torch.cuda.is_available():
        environment["gpu"] = torch.cuda.get_device_name()
    measured = {title: measure(options) for title, (measure, _) in SECTIONS.items()}
    about = ", ".join(f"{name} {value}" for name, value in environment.items())
    parts = [f"{about}; median of {options.rounds} interleaved rounds, batches of {options.batch}."]
    for title, rows in measured.items():
        parts += [f"### {title}", SECTIONS[title][1](rows)]
    report = "\n\n".join(parts)
    print(report)
    if options.output is not None:
        options.output.write_text(json.dumps({"environment": environment, "measured": measured}, indent=1) + "\n")
        options.output.with_suffix(".md").write_text(report + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
