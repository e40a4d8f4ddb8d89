"""Features and neighbours of every method on every picture, made once under one set of rules and kept."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import cv2
import numpy as np

from lfnet.errors import UserError, one_line
from lfnet.evaluation.cache import Arrays, Cache, digest
from lfnet.evaluation.data.views import UNTOUCHED, TransformedImage, Variant, beyond_reach, transform_image
from lfnet.evaluation.methods.extractors import settings_of, states_settings, wants_colour
from lfnet.evaluation.methods.feature_files import FeatureFile
from lfnet.evaluation.unmeasured import Unmeasured
from lfnet.features import Features
from lfnet.images import grey_bytes
from lfnet.matching import Neighbours
from lfnet.settings import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8
    from numpy import ndarray as Array

    from lfnet.evaluation.data.pairs import Dataset
    from lfnet.evaluation.methods.extractors import Extractor, Method

    Key = tuple[str, Callable[[str], Array], str, Variant, int]
    """Method, what loads the pictures (two data sets may have one name), picture, transformation, budget."""

PICTURES_KEPT = 16
FEATURES_KEPT = 96
"""In memory: at 2048 keypoints of 256 values, 200 MB."""

ARRAYS = ("keypoints", "scales", "orientations", "scores", "descriptors")
"""Of features, as an entry of the cache has them."""


@dataclass(frozen=True)
class FeatureRules:
    """Which keypoints of a method count; the same for every method."""

    reach: float = 32.0
    """Keypoints within this many pixels of an empty corner of a turned canvas are dropped."""
    min_distance: float = 0.0
    """Keypoints within this many pixels of a stronger one of the same method are dropped, so that a place that is found
    at several sizes or orientations counts once; 0 = all count, as in the paper."""

    def __post_init__(self) -> None:
        if self.reach < 0 or self.min_distance < 0:
            got = f"{self.reach} and {self.min_distance} px"
            raise ConfigError(f"reach and min_distance must not be negative, got {got}")


Value = TypeVar("Value")


class _Recent(Generic[Value]):
    """The last few values, so that a picture that is in many pairs is not made again for each."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        if key not in self._values:
            self._values[key] = make()
            if len(self._values) > self._size:
                self._values.popitem(last=False)
        self._values.move_to_end(key)
        return self._values[key]


class FeatureSource:
    """Features and neighbours of methods, from memory, from the cache, or made now.

    Args:
        methods: extractors and feature files, each of another name.
        cache: what is on disk already.
        rules: which keypoints count.
    """

    def __init__(
        self, methods: Sequence[Method], cache: Cache | None = None, rules: FeatureRules | None = None
    ) -> None:
        self.methods = list(methods)
        self.cache = cache or Cache(None)
        self.rules = rules or FeatureRules()
        self.seconds: dict[str, list[float]] = {}
        """Time of each extraction, as it was when the features were made, by method."""
        self._pictures: _Recent[UInt8[Array, "H W *C"]] = _Recent(PICTURES_KEPT)
        self._entries: _Recent[Arrays] = _Recent(FEATURES_KEPT)
        self._failures: dict[Key, str] = {}

    def features(
        self, method: Method, dataset: Dataset, picture: str, variant: Variant = UNTOUCHED, *, budget: int
    ) -> Features:
        """The strongest keypoints of a picture after a transformation.

        Args:
            method: one of `methods`.
            dataset: that the picture is of.
            picture: its name.
            variant: what is done to the picture first.
            budget: most keypoints, K.

        Returns:
            at most K features in pixels of the transformed picture, best score first.

        Raises:
            Unmeasured: the picture can't be read, or the method fails on it.
        """
        return _features_of(self._entry(method, dataset, picture, variant, budget))

    def transform(self, method: Method, dataset: Dataset, picture: str, variant: Variant, *, budget: int) -> Array:
        """3x3 matrix from pixels of the untouched picture to those of the transformed one."""
        return self._entry(method, dataset, picture, variant, budget)["from_base"]

    def picture(self, dataset: Dataset, picture: str) -> UInt8[Array, "H W *C"]:
        """A picture, grey or RGB, at the size it is measured at.

        Raises:
            Unmeasured: it can't be read.
        """
        try:
            return self._pictures.get((dataset.load, picture), lambda: dataset.load(picture))
        except (UserError, OSError) as error:
            raise Unmeasured(one_line(error)) from error

    def neighbours(self, features_a: Features, features_b: Features) -> Neighbours:
        """The nearest descriptors of two pictures, both ways.

        Raises:
            Unmeasured: descriptors of different kinds.
        """
        a, b = features_a.descriptors, features_b.descriptors

        def compute() -> Arrays:
            found = Neighbours.of(a, b)
            return {name: getattr(found, name) for name in ("b_of_a", "a_of_b", "distances", "second")}

        settings = {"a": digest(a), "b": digest(b)}
        try:
            return Neighbours(**self.cache.fetch("neighbours", settings, compute))
        except UserError as error:
            raise Unmeasured(one_line(error)) from error

    def _entry(self, method: Method, dataset: Dataset, picture: str, variant: Variant, budget: int) -> Arrays:
        key = (method.name, dataset.load, picture, variant, budget)
        if key in self._failures:
            raise Unmeasured(self._failures[key])
        try:
            return self._entries.get(key, lambda: _inside(self._make(method, dataset, picture, variant, budget)))
        except (UserError, MemoryError, cv2.error) as error:
            where = "" if isinstance(error, Unmeasured) else f"{method.name} on {dataset.name}/{picture}: "
            self._failures[key] = where + one_line(error)
            raise Unmeasured(self._failures[key]) from error

    def _make(self, method: Method, dataset: Dataset, picture: str, variant: Variant, budget: int) -> Arrays:
        image = self.picture(dataset, picture)
        if isinstance(method, FeatureFile):
            return self._from_file(method, dataset.name_in_files(picture), image, variant, budget)
        if image.ndim == 3 and not wants_colour(method):
            image = grey_bytes(image)
        elif image.ndim == 2 and wants_colour(method):
            image = np.repeat(image[:, :, None], 3, axis=2)
        settings = {
            "method": settings_of(method),
            "picture": digest(image),
            "variant": variant.name,
            "budget": budget,
            "rules": asdict(self.rules),
        }

        def compute() -> Arrays:
            view = transform_image(image, variant)
            start = time.perf_counter()
            found = extract_from(method, view, budget, self.rules)
            return _arrays_of(found, view.from_base, time.perf_counter() - start)

        cache = self.cache if states_settings(method) else Cache(None)
        arrays = cache.fetch("features", settings, compute)
        self.seconds.setdefault(method.name, []).append(float(arrays["seconds"]))
        return arrays

    def _from_file(
        self, method: FeatureFile, picture: str, image: UInt8[Array, "H W *C"], variant: Variant, budget: int
    ) -> Arrays:
        if variant != UNTOUCHED:
            raise Unmeasured(f"{method.name}: a features file has no turned or zoomed pictures")
        if budget > method.most_keypoints:
            raise Unmeasured(
                f"{method.name}: has at most {method.most_keypoints} keypoints of a picture, K = {budget} is asked; "
                "extract it with so many, or ask for fewer (--matching.budgets, --pose.budget, --homography.budget)"
            )
        found = method.features(picture, (image.shape[1], image.shape[0]), method.most_keypoints)
        apart = found.select(strongest_apart(found, self.rules.min_distance))
        return _arrays_of(apart.top(budget), np.eye(3), np.nan)


def _inside(arrays: Arrays) -> Arrays:
    """The features, unless most of them lie outside of their picture: then x and y, or sizes, are mixed up.

    Raises:
        ValueError: they do.
    """
    places, size = arrays["keypoints"], arrays["image_size"]
    outside = ((places < -1) | (places > size)).any(axis=1)
    if outside.sum() > 0.5 * len(places):
        raise UserError(
            f"{outside.sum()} of {len(places)} keypoints are not in the picture of {size[0]}x{size[1]} px: expected "
            "x before y, in pixels of the whole picture"
        )
    return arrays


def extract_from(extractor: Extractor, view: TransformedImage, budget: int, rules: FeatureRules) -> Features:
    """The K strongest keypoints of a method that are out of reach of empty corners.

    More are asked for until K are left or the method has no more, so that no method loses budget to corners, or to
    places that it finds more than once.

    Args:
        extractor: the method.
        view: picture and valid pixels.
        budget: K.
        rules: which keypoints count.

    Returns:
        at most K features, best score first.
    """
    whole = view.valid is None and rules.min_distance == 0
    asked = budget if whole else 2 * budget
    while True:
        found = extractor(view.image, max_keypoints=asked, mask=view.valid)
        kept = found.select(np.flatnonzero(beyond_reach(found.keypoints, view.valid, rules.reach)))
        kept = kept.select(strongest_apart(kept, rules.min_distance))
        if len(kept) >= budget or len(found) < asked:
            return kept.top(budget)
        asked *= 2


def strongest_apart(features: Features, distance: float) -> Int[Array, " M"]:
    """Which keypoints are left when each, best first, drops all weaker ones within `distance` px.

    Args:
        features: of one picture.
        distance: pixels; 0 drops nothing.

    Returns:
        their indices, ascending.
    """
    if distance == 0 or not len(features):
        return np.arange(len(features))
    free = np.ones(len(features), bool)
    kept = []
    for index in np.argsort(-features.scores, kind="stable"):
        if free[index]:
            kept.append(index)
            free &= np.linalg.norm(features.keypoints - features.keypoints[index], axis=1) > distance
    return np.sort(np.asarray(kept))


def _arrays_of(features: Features, from_base: Float[Array, "3 3"], seconds: float) -> Arrays:
    arrays = {name: getattr(features, name) for name in ARRAYS}
    size = np.asarray(features.image_size, np.int64)
    return {**arrays, "image_size": size, "from_base": from_base, "seconds": np.asarray(seconds)}


def _features_of(arrays: Arrays) -> Features:
    width, height = (int(value) for value in arrays["image_size"])
    return Features(**{name: arrays[name] for name in ARRAYS}, image_size=(width, height))
