"""`lfnet train`."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import tyro

from lfnet.cli.options import Device
from lfnet.errors import UsageError
from lfnet.settings import ConfigError

_PLACES = {
    "steps": "optimizer.steps",
    "batch": "optimizer.batch",
    "accumulate": "optimizer.accumulate",
    "size": "data.size",
    "keypoints": "strategy.keypoints",
    "seed": "seed",
    "pictures": "data.pictures",
    "sequences": "data.sequences",
    "scenes": "data.scenes",
}
"""Options that stand for a setting, each with its place in the configuration."""


@dataclass(frozen=True)
class Command:
    """Train a model from pairs of known geometry, or resume a run.

    Writes last.ckpt (to resume), best.safetensors and last.safetensors (to use), metrics.csv, pictures and
    TensorBoard events into the output folder.
    """

    config: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG")] = None
    """TOML file with the settings of the run; without one, the cpu recipe on what --pictures, --sequences and --scenes
    name."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("run")
    """Folder of the run."""
    resume: bool = False
    """Go on from the last checkpoint of the output folder. Under torchrun, start where there is none yet."""
    init: str | None = None
    """Weights to start from, by name or path: fine-tuning. Their architecture is taken over; only a second stage
    (strategy.learns=descriptor) may have a descriptor of its own."""
    steps: int | None = None
    """Training steps in all."""
    batch: int | None = None
    """Pairs in a batch, of all processes together."""
    accumulate: int | None = None
    """Batches in a step, whose gradients are averaged."""
    pictures: tuple[str, ...] = ()
    """Pictures, or folders of them, to make pairs of by random homographies and to texture rendered scenes with; in
    place of the configuration's."""
    sequences: tuple[str, ...] = ()
    """Folders of RGB-D sequences (plain, 7-Scenes, TUM RGB-D, ScanNet or its .sens file) and of scenes of MegaDepth and
    the Image Matching Benchmark; in place of the configuration's."""
    scenes: tuple[str, ...] = ()
    """Folders that `lfnet prepare` made; in place of the configuration's. Where no pictures are named, the scenes'
    training pictures serve for homographies and textures, too."""
    size: int | None = None
    """Side of the training crops in pixels."""
    keypoints: int | None = None
    """Keypoints painted and described in a picture."""
    seed: int | None = None
    """Decides initial weights and every sample."""
    set: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.arg(metavar="NAME=VALUE"), tyro.conf.UseAppendAction
    ] = ()
    """Any other setting by its place in the configuration, as optimizer.learning_rate=0.0005; may be given several
    times."""
    machine: Annotated[Device, tyro.conf.arg(name="")] = field(default_factory=Device)

    def overrides(self) -> dict[str, Any]:
        """What the options lay over the configuration, by its place there.

        Raises:
            UsageError: a --set that sets nothing.
        """
        given = {place: getattr(self, name) for name, place in _PLACES.items()}
        given["data.pictures"] = list(self.pictures)
        for place in ("data.sequences", "data.scenes"):
            given[place] = [{"folder": folder} for folder in given[place]]
        overrides = {place: value for place, value in given.items() if value not in (None, [])}
        for setting in chain.from_iterable(self.set):
            name, separator, text = setting.partition("=")
            if not separator:
                raise UsageError(f"--set {setting}: expected NAME=VALUE, as optimizer.learning_rate=0.0005")
            overrides[name.strip()] = _value(text.strip())
        return overrides


def run(command: Command) -> int:
    """Train, and say where the best weights are."""
    from tqdm import tqdm

    from lfnet.distributed.processes import joined
    from lfnet.models.weights import describe_weights
    from lfnet.training.config import build_config, default_tables, read_tables
    from lfnet.training.loop import Progress, train

    tables = default_tables() if command.config is None else read_tables(command.config)
    overrides = command.overrides()
    if command.init is not None:
        # A second stage may have another descriptor: then the configuration says which.
        if not (command.config is not None and "model" in tables and _is_second_stage(tables, overrides)):
            tables["model"] = describe_weights(command.init)["config"]
    try:
        settings = build_config(tables, overrides)
    except ConfigError as error:
        raise ConfigError(f"config {command.config}: {error}" if command.config else str(error)) from error
    steps = settings.optimizer.steps
    with (
        joined(command.machine.pick()) as processes,
        tqdm(total=steps, unit="step", dynamic_ncols=True, disable=None if processes.leads else True) as bar,
    ):

        def show(progress: Progress) -> None:
            bar.update(progress.step - bar.n)
            losses = " ".join(f"{name[:3]} {value:.3f}" for name, value in progress.losses.items())
            score = progress.scores.get("matching_score")
            bar.set_postfix_str(losses + ("" if score is None else f" | matching score {score:.3f}"), refresh=False)

        best = train(
            settings,
            command.output,
            resume=command.resume,
            init=command.init,
            device=str(processes.device),
            progress=show,
            say=bar.write,
            processes=processes,
        )
    if processes.leads:
        print(f"best weights: {best}")
    return 0


def _is_second_stage(tables: dict[str, Any], overrides: dict[str, Any]) -> bool:
    strategy = tables.get("strategy")
    learns = strategy.get("learns") if isinstance(strategy, dict) else None
    return overrides.get("strategy.learns", learns) == "descriptor"


def _value(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
