"""Samples and batches: functions of seed, step and index."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lfnet.data.augment import (
    GeometricConfig,
    PhotometricConfig,
)
from lfnet.data.frames import SequenceError
from lfnet.data.loader import (
    DataConfig,
    PairLoader,
    SequenceConfig,
    WeightedSource,
    build_sources,
    describe_sources,
    hold_back,
    sample_generator,
)
from lfnet.data.pair import Pair, View
from lfnet.data.pair_sources import PicturePairs, SequencePairs
from lfnet.training.validation import VALIDATION_STEP
from support.textured_plane import (
    STEADY,
    smooth_picture,
    world_from_camera,
)


def same(first: Pair, second: Pair) -> bool:
    equal = torch.equal(first.a.image, second.a.image) and torch.equal(first.b.image, second.b.image)
    return equal and torch.equal(first.b_from_a, second.b_from_a)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def loader() -> PairLoader:
    geometry = GeometricConfig()
    sources = [
        WeightedSource("one", PicturePairs([smooth_picture(100, 120)], geometry, 40), 3.0),
        WeightedSource("other", PicturePairs([smooth_picture(110, 100)], geometry, 40), 1.0),
        WeightedSource("never", PicturePairs([], geometry, 40), 0.0),
    ]
    return PairLoader(sources, PhotometricConfig(), 2, 7)


def test_samples_are_functions_of_seed_step_and_index(loader: PairLoader) -> None:
    torch.manual_seed(0)
    first = loader.load(5)
    torch.manual_seed(1)
    loader.load(2)
    again = loader.load(5)
    assert same(first, again)
    assert first.a.image.shape == (2, 1, 40, 40)
    assert not torch.equal(first.a.image[0], first.a.image[1])
    assert not same(first, loader.load(6))
    other = PairLoader(loader.sources, loader.photometric, 2, 8)
    assert not same(first, other.load(5))
    # The first sample of a larger batch is the same one.
    alone = PairLoader(loader.sources, loader.photometric, 1, 7)
    assert torch.equal(alone.load(5).a.image[0], first.a.image[0])


def test_processes_draw_parts_of_the_whole_batch(loader: PairLoader) -> None:
    halves = loader.load(5).split(2)
    parts = [PairLoader(loader.sources, loader.photometric, 2, 7, indices=[index]).load(5) for index in range(2)]
    assert all(same(half, part) for half, part in zip(halves, parts, strict=True))
    with pytest.raises(ValueError, match="expected a divisor of 2 pairs, got 3"):
        loader.load(5).split(3)


def test_batches_come_in_order_wherever_they_start(loader: PairLoader) -> None:
    whole = list(loader.iterate(0, 9, lookahead=3))
    assert [step for step, _ in whole] == list(range(9))
    resumed = list(loader.iterate(4, 9, lookahead=1))
    assert [step for step, _ in resumed] == list(range(4, 9))
    for (_, expected), (_, batch) in zip(whole[4:], resumed, strict=True):
        assert same(expected, batch)
    assert list(loader.iterate(9, 9)) == []


def test_an_error_in_a_source_reaches_the_loop() -> None:
    class Broken:
        def sample(self, generator: torch.Generator) -> Pair:
            raise SequenceError("frame 3: damaged")

    broken = PairLoader([WeightedSource("broken", Broken(), 1.0)], STEADY, 1, 0)
    with pytest.raises(SequenceError, match="frame 3: damaged"):
        next(broken.iterate(0, 3))


def first_numbers(seed: int, step: int, index: int) -> tuple[float, ...]:
    return tuple(torch.rand(3, generator=sample_generator(seed, step, index)).tolist())


def test_generators_are_distinct_for_validation_too() -> None:
    """PyTorch's generator heeds 32 bits of its seed, so steps 2^40 apart must differ there."""
    steps = [*range(40), *(VALIDATION_STEP + n for n in range(40)), *((1 << 32) + n for n in range(40))]
    drawn = {first_numbers(seed, step, index) for seed in range(3) for step in steps for index in range(3)}
    assert len(drawn) == 3 * len(steps) * 3
    assert first_numbers(1, 2, 3) == first_numbers(1, 2, 3)


def test_sources_are_built_from_a_configuration(plain: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(21):
        Image.fromarray(np.roll(smooth_picture(60, 70), 3 * index, 1)).save(pictures / f"{index}.png")
    sequence = SequenceConfig(str(plain), frames=(0, 2), validation_frames=(2, 4), share=3.0)
    config = DataConfig(sequences=(sequence,), pictures=(str(pictures),), render_share=0.0, size=48)
    training, validation = build_sources(config)
    assert [source.share for source in training] == [3.0, 1.0]
    assert describe_sources(training) == [
        f"sequence {plain.name}: 75% of steps, 1 pairs or pictures",
        "pictures: 25% of steps, 20 pairs or pictures",
    ]
    assert describe_sources(validation)[1] == "pictures: 50% of steps, 1 pairs or pictures"
    held = validation[0].source
    assert isinstance(held, SequencePairs)
    expected = torch.from_numpy(np.linalg.inv(world_from_camera(2))).float()
    torch.testing.assert_close(held.pair(0).a.camera_from_world[0], expected)
    whole = dataclasses.replace(config, sequences=(SequenceConfig(str(plain)),), pictures=())
    assert describe_sources(build_sources(whole)[1])[0].startswith(f"sequence {plain.name} (also trained on")
    alone = dataclasses.replace(config, sequences=(), pictures=(str(pictures / "0.png"),))
    assert describe_sources(build_sources(alone)[1])[0].startswith("pictures (also trained on")
    narrow = dataclasses.replace(sequence, overlap=(0.0, 1e-3))
    with pytest.raises(SequenceError, match="between 0% and 0%"):
        build_sources(dataclasses.replace(config, sequences=(narrow,)))
    with pytest.raises(ValueError, match="no source of pairs"):
        build_sources(DataConfig(render_share=0.0))
    with pytest.raises(ValueError, match="past the last"):
        dataclasses.replace(config, sequences=(SequenceConfig(str(plain), frames=(1,)),))


def test_pictures_are_held_back_however_few() -> None:
    pictures = [np.full((4, 4), index, np.uint8) for index in range(45)]
    for count, expected in ((45, [19, 39]), (20, [19]), (3, [2]), (2, [1])):
        training, held_back = hold_back(pictures[:count])
        assert [int(picture[0, 0]) for picture in held_back] == expected
        assert sorted(int(p[0, 0]) for p in training + held_back) == list(range(count))
    assert hold_back(pictures[:1]) == (pictures[:1], pictures[:1])


def test_shares_decide_how_often_a_source_is_drawn() -> None:
    class Named:
        def __init__(self, value: float) -> None:
            self.value = value

        def sample(self, generator: torch.Generator) -> Pair:
            image: Tensor = torch.full((1, 1, 4, 4), self.value)
            view = View(image, image >= 0, None, torch.eye(3)[None], torch.eye(4)[None])
            return Pair(view, view, torch.eye(3)[None])

    sources = [WeightedSource(str(value), Named(value), share) for value, share in ((0.1, 3.0), (0.2, 1.0), (0.3, 0.0))]
    drawer = PairLoader(sources, STEADY, 2, 0)
    values = [float(drawer.load(step).a.image.mean()) for step in range(400)]
    assert np.mean(np.isclose(values, 0.1)) == pytest.approx(0.75, abs=0.08)
    assert np.mean(np.isclose(values, 0.2)) == pytest.approx(0.25, abs=0.08)
