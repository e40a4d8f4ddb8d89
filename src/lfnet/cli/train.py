"""`lfnet train`."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import tyro


def train(
    config: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG")] = None,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("run"),
    resume: bool = False,
    init: str | None = None,
    steps: int | None = None,
    batch: int | None = None,
    pictures: tuple[str, ...] = (),
    sequences: tuple[str, ...] = (),
    scenes: tuple[str, ...] = (),
    size: int | None = None,
    keypoints: int | None = None,
    seed: int | None = None,
    set: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.arg(metavar="NAME=VALUE"), tyro.conf.UseAppendAction
    ] = (),
    device: str = "auto",
    threads: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
) -> int:
    """Train a model from pairs of known geometry, or resume a run.

    Writes last.ckpt (to resume), best.safetensors and last.safetensors (to use), metrics.csv, pictures and
    TensorBoard events into the output folder.

    Args:
        config: TOML file with the settings of the run; without one, the cpu recipe on what --pictures,
            --sequences and --scenes name.
        output: Folder of the run.
        resume: Go on from the last checkpoint of the output folder.
        init: Weights to start from, by name or path: fine-tuning. Their architecture is taken over.
        steps: Training steps in all.
        batch: Pairs in a step.
        pictures: Pictures, or folders of them, to make pairs of by random homographies and to texture rendered
            scenes with; in place of the configuration's.
        sequences: Folders of RGB-D sequences (plain, 7-Scenes, TUM RGB-D, ScanNet or its .sens file) and of scenes of
            MegaDepth and the Image Matching Benchmark; in place of the configuration's.
        scenes: Folders that `lfnet prepare` made; in place of the configuration's. Where no pictures are named,
            the scenes' training pictures serve for homographies and textures, too.
        size: Side of the training crops in pixels.
        keypoints: Keypoints painted and described in a picture.
        seed: Decides initial weights and every sample.
        set: Any other setting by its place in the configuration, as optimizer.learning_rate=0.0005; may be
            given several times.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads; all unless given.
    """
    from tqdm import tqdm

    from lfnet.cli.options import UsageError, pick_device
    from lfnet.training.config import build_config, default_tables, read_tables
    from lfnet.training.loop import Progress
    from lfnet.training.loop import train as run

    given = {
        "optimizer.steps": steps,
        "optimizer.batch": batch,
        "data.size": size,
        "strategy.keypoints": keypoints,
        "seed": seed,
        "data.pictures": list(pictures) or None,
        "data.sequences": [{"folder": folder} for folder in sequences] or None,
        "data.scenes": [{"folder": folder} for folder in scenes] or None,
    }
    overrides: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for setting in chain.from_iterable(set):
        name, separator, text = setting.partition("=")
        if not separator:
            raise UsageError(f"--set {setting}: expected NAME=VALUE, as optimizer.learning_rate=0.0005")
        overrides[name.strip()] = _value(text.strip())
    tables = default_tables() if config is None else read_tables(config)
    if init is not None:
        tables["model"] = _architecture(init)
    settings = build_config(tables, overrides)
    place = pick_device(device, threads)
    with tqdm(total=settings.optimizer.steps, unit="step", dynamic_ncols=True, disable=None) as bar:

        def show(progress: Progress) -> None:
            bar.update(progress.step - bar.n)
            losses = " ".join(f"{name[:3]} {value:.3f}" for name, value in progress.losses.items())
            score = progress.scores.get("matching_score")
            bar.set_postfix_str(losses + ("" if score is None else f" | matching score {score:.3f}"), refresh=False)

        best = run(
            settings, output, resume=resume, init=init, device=str(place), progress=show, say=bar.write
        )
    print(f"best weights: {best}")
    return 0


def _value(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _architecture(init: str) -> dict[str, Any]:
    from lfnet.models.weights import describe_weights

    return describe_weights(init)["config"]
