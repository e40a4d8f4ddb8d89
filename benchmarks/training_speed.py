"""Where a training step spends its time: `python benchmarks/training_speed.py [CONFIG] [--devices cpu cuda]`.

Pairs are rendered scenes, so that no data is needed. Prints training steps per second, and the share of time in data,
forward, backward and optimiser, measured apart on one batch after the other.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from lfnet.data.augment import GeometricConfig, PhotometricConfig
from lfnet.data.loader import PairLoader, WeightedSource
from lfnet.data.renders.render_settings import RenderSettings
from lfnet.data.renders.rendered_scenes import RenderedScenes
from lfnet.evaluation.results import describe_environment
from lfnet.training.branches import apply_gradients, two_branch_step
from lfnet.training.config import TrainConfig, build_config, default_tables, read_tables
from lfnet.training.draws import Draws
from lfnet.training.loop import new_state, train_step

PARTS = ("data", "forward", "backward", "optimiser")


def loader_of(config: TrainConfig, device: torch.device) -> PairLoader:
    """Rendered scenes at the configuration's size and batch, drawn on the device that trains."""
    settings = RenderSettings(size=config.data.size, roll_degrees=GeometricConfig().rotation, device=str(device))
    source = WeightedSource("renders", RenderedScenes(settings), 1.0)
    return PairLoader([source], PhotometricConfig(), config.optimizer.batch, config.seed, device)


def measure_parts(config: TrainConfig, loader: PairLoader, device: torch.device, steps: int) -> dict[str, list[float]]:
    """Seconds of each part, one list entry a step, nothing overlapped."""
    state = new_state(config, device)
    times: dict[str, list[float]] = {part: [] for part in PARTS}
    for step in range(steps + 2):
        marks = [_now(device)]
        batch = loader.load(step).to(device)
        marks.append(_now(device))
        precision = getattr(torch, config.optimizer.precision)
        result = two_branch_step(state.model, batch, config.strategy, step, Draws(state.generator), precision)
        marks.append(_now(device))
        apply_gradients(state.model, result)
        marks.append(_now(device))
        state.detector_optimizer.step()
        state.descriptor_optimizer.step()
        marks.append(_now(device))
        if step >= 2:
            for part, first, last in zip(PARTS, marks, marks[1:], strict=False):
                times[part].append(last - first)
    return times


def measure_loop(config: TrainConfig, loader: PairLoader, device: torch.device, steps: int) -> float:
    """Steps per second as a run has them, with data prepared in the background."""
    state = new_state(config, device)
    started = 0.0
    for step, batch in loader.iterate(0, steps + 2):
        if step == 2:
            started = _now(device)
        train_step(state, config, batch.to(device))
        state.step += 1
    return steps / (_now(device) - started)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="where a training step spends its time")
    parser.add_argument("config", type=Path, nargs="?", help="TOML; the default is the cpu recipe")
    present = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--devices", nargs="+", default=present)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=None)
    arguments = parser.parse_args()
    tables = default_tables() if arguments.config is None else read_tables(arguments.config)
    config = build_config(tables, {} if arguments.batch is None else {"optimizer.batch": arguments.batch})
    print(", ".join(f"{name} {value}" for name, value in describe_environment().items()))
    for device in map(torch.device, arguments.devices):
        report(config, device, arguments.steps)


def report(config: TrainConfig, device: torch.device, steps: int) -> None:
    """Measure and print on one device."""
    loader = loader_of(config, device)
    times = measure_parts(config, loader, device, steps)
    total = sum(statistics.median(values) for values in times.values())
    what = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"\n{what}: batch {config.optimizer.batch}, {config.data.size} px, K = {config.strategy.keypoints}, "
          f"{config.optimizer.precision}")  # fmt: skip
    for part, values in times.items():
        median = statistics.median(values)
        spread = f"{min(values) * 1e3:.1f} to {max(values) * 1e3:.1f}"
        print(f"{part:10s} {1e3 * median:7.1f} ms ({spread}), {median / total:.0%}")
    print(f"in a run: {measure_loop(config, loader, device, steps):.2f} steps a second")


if __name__ == "__main__":
    main()
