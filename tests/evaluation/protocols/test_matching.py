"""Matching score and sweeps: proven by a feature that knows the truth, cached, and fair where things go wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lfnet.evaluation.cache import Cache
from lfnet.evaluation.data.pairs import Dataset, EvaluationPair
from lfnet.evaluation.data.synthetic import rendered_dataset
from lfnet.evaluation.data.truth import HomographyTruth
from lfnet.evaluation.feature_source import FeatureRules, FeatureSource, strongest_apart
from lfnet.evaluation.methods.opencv_extractors import OpenCVExtractor
from lfnet.evaluation.protocols.matching import MatchingSettings, SweepSettings, measure_matching, measure_sweep
from lfnet.evaluation.results import Section
from lfnet.evaluation.unmeasured import Unmeasured
from lfnet.features import Features
from lfnet.matching_score import OCTAVES
from support.oracle import Oracle, both_turned, grey

pytestmark = pytest.mark.slow

MAIN = "matching_score@5"
ONE_BUDGET = MatchingSettings(budgets=(400,))


def quiet(text: str) -> None:
    """No progress shown."""


@pytest.fixture(scope="module")
def rendered() -> Dataset:
    """Four pairs of rendered rooms with exact depth and poses."""
    return rendered_dataset(count=4)


def matching(dataset: Dataset, *methods: object, settings: MatchingSettings = ONE_BUDGET) -> Section:
    return measure_matching(dataset, FeatureSource(methods), settings, quiet)  # type: ignore[arg-type]


def test_the_oracle_matches_everything(rendered: Dataset) -> None:
    section = matching(rendered, Oracle(rendered))
    assert len(section.rows) == 4
    for row in section.rows:
        assert row.metrics["visible"] > 150
        for name in ("matching_score@1", MAIN, "repeatability@1", "precision@1"):
            assert row.metrics[name] == 1.0
        assert row.metrics["localisation_error"] < 0.01
        assert row.metrics["match_error_median"] < 0.01
        assert [row.metrics[f"match_share@octave{octave}"] for octave in OCTAVES] == [1.0, 0.0, 0.0, 0.0]


def test_shuffled_descriptors_give_chance(rendered: Dataset) -> None:
    oracle, shuffled = Oracle(rendered), Oracle(rendered, shuffled=True)
    section = matching(rendered, oracle, shuffled)
    expected = []
    for pair in rendered.pairs:
        image_a, image_b = (grey(rendered.load(name)) for name in (pair.picture_a, pair.picture_b))
        places, _ = pair.truth.b_from_a(oracle(image_a, max_keypoints=400).keypoints)  # type: ignore[union-attr]
        others = oracle(image_b, max_keypoints=400).keypoints
        expected.append((np.linalg.norm(places[:, None] - others[None], axis=-1) <= 5).mean())
    chance = float(np.mean(expected))
    assert 0.002 < chance < 0.05
    assert section.only(method="shuffled").mean(MAIN) == pytest.approx(chance, abs=0.02)
    assert section.only(method="shuffled").mean("repeatability@5") > 0.99


@pytest.mark.parametrize("degrees", [30, 90, 215])
def test_turning_both_pictures_changes_nothing_for_the_oracle(rendered: Dataset, degrees: int) -> None:
    turned = both_turned(rendered, degrees)
    upright = matching(rendered, Oracle(rendered))
    also = matching(turned, Oracle(turned))
    for name in ("matching_score@1", MAIN, "repeatability@3", "precision@1", "visible"):
        assert also.mean(name) == pytest.approx(upright.mean(name))


def test_turns_and_zooms_change_nothing_for_the_oracle(rendered: Dataset) -> None:
    settings = SweepSettings(turns=(0, 30, 90), zooms=(0.5, 2.0), pairs=2, budget=400)
    oracle = Oracle(rendered, settings.variants())
    source = FeatureSource([oracle])
    section = measure_sweep(rendered, source, settings, quiet)
    assert section.variants() == ["turn000", "turn030", "turn090", "zoom0.5", "zoom2"]
    for variant in section.variants():
        only = section.only(variants=[variant])
        assert len(only.rows) == 2
        assert only.mean("matching_score@3") > 0.99
        assert np.isnan(only.mean("orientation_agreement")), "the oracle has no orientations"


def test_budgets_are_cut_from_one_extraction(rendered: Dataset) -> None:
    class Counting(OpenCVExtractor):
        calls = 0

        def __call__(self, image: np.ndarray, **options: object) -> Features:
            Counting.calls += 1
            return super().__call__(image, **options)  # type: ignore[arg-type]

    section = matching(rendered, Counting("rootsift"), settings=MatchingSettings(budgets=(300, 100, 200)))
    assert Counting.calls == 8
    assert section.budgets() == [100, 200, 300]
    alone = matching(rendered, OpenCVExtractor("rootsift"), settings=MatchingSettings(budgets=(100,)))
    assert section.only(budget=100).mean(MAIN) == pytest.approx(alone.mean(MAIN), abs=0.01)
    assert section.only(budget=300).mean("keypoints") == 300


def test_what_was_computed_is_not_computed_again_and_nothing_is_mixed(rendered: Dataset, tmp_path: Path) -> None:
    def run(settings: MatchingSettings = ONE_BUDGET, rules: FeatureRules | None = None) -> tuple[Cache, Section]:
        cache = Cache(tmp_path)
        return cache, measure_matching(rendered, FeatureSource([OpenCVExtractor("orb")], cache, rules), settings, quiet)

    first, before = run()
    assert first.computed == 8 + 4 + 4
    again, after = run()
    assert (again.computed, again.found) == (0, 16)
    np.testing.assert_equal([row.metrics for row in after.rows], [row.metrics for row in before.rows])  # NaN is NaN.
    assert list(after.rows[0].metrics) == list(before.rows[0].metrics)
    damaged = next((tmp_path / "measures").rglob("*.h5"))
    damaged.write_bytes(b"cut short")
    mended, _ = run()
    assert mended.computed == 1
    fewer, _ = run(MatchingSettings(budgets=(50,)))
    assert fewer.computed == 16
    apart, sparse = run(rules=FeatureRules(min_distance=4.0))
    assert apart.computed == 16
    assert sparse.mean("matches") != before.mean("matches")


def test_an_entry_of_other_settings_is_not_taken(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.fetch("kind", {"a": 1}, lambda: {"x": np.arange(3)})
    (path,) = tmp_path.rglob("*.h5")
    other = Cache(tmp_path).fetch("kind", {"a": 2}, lambda: {"x": np.arange(4)})
    assert len(other["x"]) == 4
    (second,) = set(tmp_path.rglob("*.h5")) - {path}
    path.replace(second)  # As if two settings had one digest.
    assert len(Cache(tmp_path).fetch("kind", {"a": 2}, lambda: {"x": np.arange(5)})["x"]) == 5


def test_what_says_not_what_decides_it_is_not_kept(rendered: Dataset, tmp_path: Path) -> None:
    class Limited:
        def __init__(self, name: str, most: int) -> None:
            self.name = name
            self._most = most

        def __call__(self, image: np.ndarray, *, max_keypoints: int, mask: np.ndarray | None = None) -> Features:
            return OpenCVExtractor("orb")(image, max_keypoints=min(max_keypoints, self._most), mask=mask)

    source = FeatureSource([Limited("few", 20), Limited("more", 40)], Cache(tmp_path))
    section = measure_matching(rendered, source, ONE_BUDGET, quiet)
    assert section.only(method="few").mean("keypoints") == 20
    assert section.only(method="more").mean("keypoints") == 40
    assert not (tmp_path / "features").exists()


class Broken:
    """Fails on pictures whose number is in `on`."""

    def __init__(self, dataset: Dataset, on: set[str], name: str = "broken") -> None:
        self.name = name
        self._bad = {grey(dataset.load(picture)).tobytes() for picture in on}
        self._sift = OpenCVExtractor("sift")

    def __call__(self, image: np.ndarray, *, max_keypoints: int, mask: np.ndarray | None = None) -> Features:
        found = self._sift(image, max_keypoints=max_keypoints, mask=mask)
        if image.tobytes() in self._bad:
            return replace(found, descriptors=found.descriptors * np.float32(np.nan))
        return found


def test_a_pair_that_one_method_fails_on_is_taken_from_all(rendered: Dataset) -> None:
    bad = rendered.pairs[1].picture_b
    section = matching(rendered, OpenCVExtractor("orb"), Broken(rendered, {bad}))
    assert {row.pair for row in section.only(method="orb").rows} == {
        pair.name for pair in rendered.pairs if pair != rendered.pairs[1]
    }
    (line,) = section.skipped
    assert "left out for every method" in line
    assert "broken" in line
    assert "NaN" in line
    assert "\n" not in line


def test_keypoints_outside_of_their_picture_are_found_out(rendered: Dataset) -> None:
    class Mixed(OpenCVExtractor):
        def __call__(self, image: np.ndarray, **options: object) -> Features:
            found = super().__call__(image, **options)  # type: ignore[arg-type]
            return replace(found, keypoints=found.keypoints + np.float32(900))

    section = matching(rendered, OpenCVExtractor("orb"), Mixed("sift"))
    assert section.methods() == ["orb"]
    assert "keypoints are not in the picture of 320x240 px" in section.skipped[0]


def test_a_method_that_fails_on_most_pairs_is_left_out(rendered: Dataset) -> None:
    bad = {pair.picture_a for pair in rendered.pairs[:3]}
    section = matching(rendered, OpenCVExtractor("orb"), Broken(rendered, bad))
    assert section.methods() == ["orb"]
    assert len(section.rows) == 4
    (line,) = section.skipped
    assert line.startswith("broken is left out: it fails on 3 of 4 pairs")


def test_no_features_score_nothing(rendered: Dataset) -> None:
    class Blind:
        name = "blind"

        def __call__(self, image: np.ndarray, *, max_keypoints: int, mask: np.ndarray | None = None) -> Features:
            return Features.empty((image.shape[1], image.shape[0]))

    section = matching(rendered, Blind())
    assert section.mean(MAIN) == 0
    assert section.mean("keypoints") == 0
    assert np.isnan(section.mean("precision@5"))
    assert section.skipped == []


def test_a_missing_picture_is_one_line_and_the_rest_goes_on(rendered: Dataset) -> None:
    gone = rendered.pairs[0].picture_a

    def load(name: str) -> np.ndarray:
        if name == gone:
            raise FileNotFoundError(2, "No such file or directory", name)
        return rendered.load(name)

    section = matching(replace(rendered, load=load), OpenCVExtractor("orb"), OpenCVExtractor("sift"))
    assert len(section.rows) == 2 * 3
    assert [line for line in section.skipped if gone in line]


def test_a_failure_is_found_once(rendered: Dataset) -> None:
    broken = Broken(rendered, {rendered.pairs[0].picture_a})
    source = FeatureSource([broken])
    for _ in range(2):
        with pytest.raises(Unmeasured, match="broken on rendered"):
            source.features(broken, rendered, rendered.pairs[0].picture_a, budget=50)


def test_data_sets_of_one_name_keep_their_own_pictures(rendered: Dataset) -> None:
    """As those of a tuning set, or photos, that are called like a data set that is reported."""
    orb, name = OpenCVExtractor("orb"), rendered.pairs[0].picture_a
    upside_down = replace(rendered, load=lambda picture: np.ascontiguousarray(rendered.load(picture)[::-1]))
    source = FeatureSource([orb])
    first, second = (source.features(orb, dataset, name, budget=50) for dataset in (rendered, upside_down))
    assert (source.picture(upside_down, name) == source.picture(rendered, name)[::-1]).all()
    assert not np.array_equal(first.keypoints, second.keypoints)


def test_a_sweep_says_what_its_data_lack(rendered: Dataset) -> None:
    settings = SweepSettings(turns=(0,), zooms=(), pairs=1, budget=50)
    dataset = replace(rendered, skipped=["one: no such picture"])
    section = measure_sweep(dataset, FeatureSource([OpenCVExtractor("orb")]), settings, quiet)
    assert section.skipped == ["one: no such picture"]


def test_a_place_found_twice_counts_once() -> None:
    places = np.array([[10.0, 10.0], [11.0, 10.0], [12.5, 10.0], [30.0, 5.0]])
    features = Features(places, np.ones(4), np.zeros(4), np.array([0.5, 0.9, 0.4, 0.1]), np.eye(4), (64, 64))
    assert strongest_apart(features, 2.0).tolist() == [1, 3]
    assert strongest_apart(features, 1.2).tolist() == [1, 2, 3]
    assert strongest_apart(features, 0.0).tolist() == [0, 1, 2, 3]


def test_methods_get_the_colours_they_want() -> None:
    image = np.zeros((80, 90, 3), np.uint8)
    image[..., 0] = 200
    seen: dict[str, tuple[int, ...]] = {}

    class Looking:
        def __init__(self, name: str, wants_colour: bool) -> None:
            self.name = name
            self.wants_colour = wants_colour

        def __call__(self, image: np.ndarray, *, max_keypoints: int, mask: np.ndarray | None = None) -> Features:
            seen[self.name] = image.shape
            return Features.empty((image.shape[1], image.shape[0]))

    truth = HomographyTruth(np.eye(3), (90, 80), (90, 80))
    pair = EvaluationPair("one", "g", "a", "b", truth)
    dataset = Dataset("flat", "test", [pair], lambda name: image, "pairs")
    matching(dataset, Looking("grey", False), Looking("colour", True))
    assert seen == {"grey": (80, 90), "colour": (80, 90, 3)}
    matching(replace(dataset, load=lambda name: image[..., 0]), Looking("colour", True))
    assert seen["colour"] == (80, 90, 3)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: MatchingSettings(budgets=()), "budgets"),
        (lambda: SweepSettings(zooms=(0.0,)), "zooms must be positive"),
        (lambda: SweepSettings(pairs=0), "sweep.pairs: expected at least 1"),
        (lambda: FeatureRules(min_distance=-1), "must not be negative"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: object, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        make()  # type: ignore[operator]
