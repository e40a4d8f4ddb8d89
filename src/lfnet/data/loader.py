"""From a configuration to a stream of batches, each a function of (seed, step, index)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from lfnet.data.augment import GeometricConfig, PhotometricConfig, augment_light
from lfnet.data.pair import Pair, concatenate_pairs
from lfnet.data.pair_sources import (
    MIN_OVERLAP,
    BatchSource,
    PairSource,
    PicturePairs,
    SequencePairs,
    load_pictures,
)
from lfnet.data.renders.render_settings import RenderSettings
from lfnet.data.renders.rendered_scenes import RenderedScenes
from lfnet.data.scenes.scene import Scene
from lfnet.data.scenes.scene_pairs import ScenePairs, training_pictures
from lfnet.settings import ConfigError, require_at_least

MIN_SIZE = 48
"""Side in pixels below which a crop has no room for keypoints between its borders."""


@dataclass(frozen=True)
class SequenceConfig:
    """One RGB-D sequence."""

    folder: str
    """Path, in one of `lfnet.data.layouts.LAYOUTS`."""
    frames: tuple[int, ...] = ()
    """First frame for training and the one past the last; empty takes all."""
    validation_frames: tuple[int, ...] = ()
    """The same for validation; empty holds nothing back."""
    gaps: tuple[int, ...] = (1, 2, 4, 6, 8, 10, 12, 16, 20)
    """Distances between the frames of a pair."""
    overlap: tuple[float, float] = (MIN_OVERLAP, 1.0)
    """Least and largest share of each frame that the other sees, measured through depth."""
    share: float = 1.0
    """Relative number of training steps that draw from this sequence."""


@dataclass(frozen=True)
class SceneConfig:
    """One scene that `lfnet prepare` made; its own split says what is held back for validation."""

    folder: str
    """Path of the scene."""
    share: float = 1.0
    """Relative number of training steps that draw from this scene."""
    cache_megabytes: float = 1024.0
    """Memory for its pictures and depth maps, the last ones asked for; validation takes an eighth of it more."""

    def __post_init__(self) -> None:
        require_at_least(self, "scenes", {"cache_megabytes": 0})


@dataclass(frozen=True)
class DataConfig:
    """Where pairs come from and how they are varied."""

    sequences: tuple[SequenceConfig, ...] = ()
    """RGB-D sequences."""
    scenes: tuple[SceneConfig, ...] = ()
    """Prepared scenes."""
    pictures: tuple[str, ...] = ()
    """Pictures, or folders of them, for random homographies; every 20th, but at least one where there are several, is
    held back for validation. Where none are named, up to 100 of each scene's training pictures stand in."""
    picture_share: float = 1.0
    """Relative number of steps that draw homographies of `pictures`."""
    render_share: float = 1.0
    """Relative number of steps that draw rendered scenes, textured by `pictures`; 0 renders nothing."""
    size: int = 192
    """Side of the square crops, px."""
    max_picture_side: int = 640
    """Pictures are kept at most this large, px."""
    geometry: GeometricConfig = field(default_factory=GeometricConfig)
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)

    def __post_init__(self) -> None:
        require_at_least(self, "data", {"size": MIN_SIZE})
        for sequence in self.sequences:
            for name in ("frames", "validation_frames"):
                frames = getattr(sequence, name)
                if len(frames) not in (0, 2):
                    raise ConfigError(f"sequences.{name}: expected [first, past the last] or [], got {frames}")
            if not 0 <= sequence.overlap[0] <= sequence.overlap[1] <= 1:
                raise ConfigError(f"sequences.overlap: expected [least, largest] within [0, 1], got {sequence.overlap}")
        shares = [each.share for each in (*self.sequences, *self.scenes)] + [self.picture_share, self.render_share]
        if min(shares) < 0:
            raise ConfigError(f"data: expected shares of at least 0, got {min(shares)}")


SCENE_PICTURES = 100
"""Training pictures of a scene, at most, that serve as pictures where none are named: 35 MB at 640 px."""
VALIDATION_CACHE = 1 / 8
"""Of a scene's cache, for validation, which draws the same few pairs each time."""
HELD_BACK = 20
"""Every how many-th picture is held back for validation."""
NOT_HELD_BACK = " (also trained on: nothing is held back)"
"""What the name of a source for validation ends in where it is no independent one."""


@dataclass(frozen=True)
class WeightedSource:
    """A source, its name, and how often it is drawn from."""

    name: str
    source: PairSource
    share: float


def build_sources(config: DataConfig, device: str = "cpu") -> tuple[list[WeightedSource], list[WeightedSource]]:
    """Sources for training and for validation.

    Raises:
        ValueError: if the configuration names no source at all.
    """
    training: list[WeightedSource] = []
    validation: list[WeightedSource] = []
    size, geometry = config.size, config.geometry
    for sequence in config.sequences:
        frames = _range(sequence.frames)
        name = f"sequence {Path(sequence.folder).resolve().name}"
        source = SequencePairs(sequence.folder, geometry, size, frames, sequence.gaps, sequence.overlap)
        training.append(WeightedSource(name, source, sequence.share))
        if sequence.validation_frames:
            held_frames = _range(sequence.validation_frames)
            held = SequencePairs(sequence.folder, geometry, size, held_frames, sequence.gaps, sequence.overlap)
            validation.append(WeightedSource(name, held, 1.0))
    scenes = [Scene.open(scene.folder) for scene in config.scenes]
    for scene, settings in zip(scenes, config.scenes, strict=True):
        _add_scene(scene, settings, config, training, validation)
    textures = None
    if scenes and not config.pictures and config.picture_share + config.render_share > 0:
        side = config.max_picture_side
        loaded = [training_pictures(scene, SCENE_PICTURES, side) for scene in scenes]
        textures = [picture for pictures, _ in loaded for picture in pictures]
        if config.picture_share > 0:
            pairs = PicturePairs(textures, geometry, size, [note for _, notes in loaded for note in notes])
            training.append(WeightedSource("pictures of the scenes", pairs, config.picture_share))
    if config.pictures:
        pictures, notes = load_pictures(config.pictures, config.max_picture_side, size)
        textures, held_back = hold_back(pictures)
        if config.picture_share > 0:
            pairs = PicturePairs(textures, geometry, size, notes)
            training.append(WeightedSource("pictures", pairs, config.picture_share))
            name = "pictures" if len(pictures) > 1 else f"pictures{NOT_HELD_BACK}"
            validation.append(WeightedSource(name, PicturePairs(held_back, geometry, size), 1.0))
    if config.render_share > 0:
        settings = RenderSettings(size=size, roll_degrees=geometry.rotation, zoom_max=geometry.zoom, device=device)
        rendered = RenderedScenes(settings, textures)
        training.append(WeightedSource("renders", rendered, config.render_share))
        if not validation:
            validation.append(WeightedSource("renders", rendered, 1.0))
    if not training:
        raise ConfigError("data: no source of pairs; name scenes, sequences or pictures, or give render_share above 0")
    if not validation:
        validation = [WeightedSource(each.name + NOT_HELD_BACK, each.source, each.share) for each in training]
    return training, validation


def _add_scene(
    scene: Scene,
    settings: SceneConfig,
    config: DataConfig,
    training: list[WeightedSource],
    validation: list[WeightedSource],
) -> None:
    name = f"scene {scene.folder.resolve().name}"
    common = (scene, config.geometry, config.size)
    source = ScenePairs(*common, "training", config.max_picture_side, settings.cache_megabytes)
    training.append(WeightedSource(name, source, settings.share))
    if len(scene.pairs("validation")):
        cache = settings.cache_megabytes * VALIDATION_CACHE
        held = ScenePairs(*common, "validation", config.max_picture_side, cache)
        validation.append(WeightedSource(name, held, 1.0))


def hold_back(pictures: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pictures for training and pictures for validation: every `HELD_BACK`th, or the last of a few; one serves both."""
    held_back = pictures[HELD_BACK - 1 :: HELD_BACK] or pictures[-1:]
    chosen = {id(picture) for picture in held_back}
    return [picture for picture in pictures if id(picture) not in chosen] or pictures, held_back


def _range(frames: Sequence[int]) -> tuple[int, int] | None:
    return (frames[0], frames[1]) if frames else None


class PairLoader:
    """Batches of pairs, each of one source, prepared in the background.

    Args:
        sources: what to draw from.
        photometric: change of light, drawn after the geometry.
        batch: pairs in a batch.
        seed: with the step and the index in the batch it decides every sample.
        device: where light is varied, and the batches are.
        indices: of the samples that are drawn, where other processes draw the rest; None: 0 to before `batch`.
    """

    def __init__(
        self,
        sources: Sequence[WeightedSource],
        photometric: PhotometricConfig,
        batch: int,
        seed: int,
        device: torch.device | str = "cpu",
        indices: Sequence[int] | None = None,
    ) -> None:
        self.sources = list(sources)
        self.photometric = photometric
        self.indices = range(batch) if indices is None else indices
        self.seed = seed
        self.device = device
        self._shares = torch.tensor([source.share for source in sources], dtype=torch.float64)
        self._told = [len(getattr(source.source, "notes", ())) for source in sources]

    def news(self) -> list[str]:
        """What the sources have left out since this was asked for last, a line each."""
        lines = []
        for place, source in enumerate(self.sources):
            notes = list(getattr(source.source, "notes", ()))
            lines += [f"{source.name}: {note}" for note in notes[self._told[place] :]]
            self._told[place] = len(notes)
        return lines

    def load(self, step: int) -> Pair:
        """The batch of a step."""
        chooser = sample_generator(self.seed, step, 0)
        source = self.sources[int(torch.multinomial(self._shares, 1, generator=chooser))].source
        generators = [sample_generator(self.seed, step, index + 1) for index in self.indices]
        if isinstance(source, BatchSource):
            pairs = source.sample_each(generators)
        else:
            pairs = concatenate_pairs([source.sample(generator) for generator in generators])
        return augment_light(pairs.to(self.device), self.photometric, generators)

    def iterate(self, start: int, stop: int, lookahead: int = 2, workers: int = 1) -> Iterator[tuple[int, Pair]]:
        """Batches of the steps from `start` to before `stop`, in order, `lookahead` of them prepared beforehand."""
        # Each worker computes on one thread, so that preparing a batch leaves the other cores to the training step.
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            waiting: list[tuple[int, Future[Pair]]] = []
            coming = iter(range(start, stop))
            try:
                while True:
                    while len(waiting) <= lookahead and (step := next(coming, None)) is not None:
                        waiting.append((step, pool.submit(self.load, step)))
                    if not waiting:
                        return
                    step, future = waiting.pop(0)
                    yield step, future.result()
            finally:
                for _, future in waiting:
                    future.cancel()


def sample_generator(seed: int, step: int, index: int) -> torch.Generator:
    """The generator of one sample, a function of (seed, step, index); two seldom have the same 32 bits."""
    mixed = 0
    for value in (seed, step, index):
        # Multiply-and-add over 63 bits with the constants of Knuth's MMIX generator.
        mixed = (mixed * 6364136223846793005 + value + 1442695040888963407) & 0x7FFFFFFFFFFFFFFF
    # PyTorch's generator heeds the low 32 bits alone, in which steps 2^32 apart would be the same.
    return torch.Generator().manual_seed((mixed ^ (mixed >> 31)) & 0xFFFFFFFF)


def describe_sources(sources: Sequence[WeightedSource]) -> list[str]:
    """A line a source: name, share of steps, number of pairs or pictures where it is known; then what it left out."""
    total = sum(source.share for source in sources)
    lines = []
    for source in sources:
        size = f", {len(source.source)} pairs or pictures" if hasattr(source.source, "__len__") else ""  # type: ignore[arg-type]
        lines.append(f"{source.name}: {source.share / total:.0%} of steps{size}")
        lines += [f"{source.name}: {note}" for note in getattr(source.source, "notes", ())]
    return lines
