"""Every method that a benchmark can measure, behind one call, and how each is made from its name."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from lfnet.errors import UserError, one_line
from lfnet.evaluation.methods.feature_files import FeatureFile
from lfnet.evaluation.methods.opencv_extractors import OPENCV_METHODS, OpenCVExtractor
from lfnet.features import Features
from lfnet.files.checksum import checksum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Bool, UInt8
    from numpy import ndarray as Array

    from lfnet.evaluation.methods.lfnet_extractor import LFNetExtractor


class Extractor(Protocol):
    """Finds and describes keypoints; the two lines that a new method needs.

    It may also have `wants_colour = True`, to be given RGB pictures (H, W, 3) in place of grey ones, and `settings`, a
    dictionary of JSON's types that holds whatever decides its features: they are cached under it, and without it not at
    all.
    """

    @property
    def name(self) -> str:
        """Name in tables."""
        ...

    def __call__(
        self, image: UInt8[Array, "H W *C"], *, max_keypoints: int, mask: Bool[Array, "H W"] | None = None
    ) -> Features:
        """The strongest keypoints of a picture, where `mask` is True."""
        ...


Method: TypeAlias = Extractor | FeatureFile
"""What a benchmark measures: something to call on a picture, or features that somebody else has made."""


def wants_colour(method: Method) -> bool:
    """Whether a method is given RGB pictures (H, W, 3) in place of grey ones."""
    return bool(getattr(method, "wants_colour", False))


def settings_of(method: Method) -> dict[str, Any]:
    """Whatever decides a method's features, in types that JSON has.

    Args:
        method: one that says so by `settings`, or any other: then its class and the text of that class's file count.

    Returns:
        settings, by name.
    """
    settings = getattr(method, "settings", None)
    return dict(settings) if isinstance(settings, dict) else _source_of(method)


def states_settings(method: Method) -> bool:
    """Whether a method says what decides its features: if it doesn't, nothing of it is kept for another run."""
    return bool(getattr(method, "states_settings", isinstance(getattr(method, "settings", None), dict)))


def _source_of(thing: object) -> dict[str, Any]:
    kind = thing if inspect.isroutine(thing) else type(thing)
    about: dict[str, Any] = {"kind": "python", "class": f"{kind.__module__}.{kind.__qualname__}"}
    try:
        path = inspect.getsourcefile(kind)
        about["source"] = checksum(Path(path)) if path else ""
    except (OSError, TypeError):
        about["source"] = ""  # Typed at a prompt: there is no file to tell versions apart by.
    return about


class PythonExtractor:
    """An extractor of somebody else's, held to what it promises.

    Args:
        extractor: the two-line protocol.
        name: in tables; the extractor's own if left out.
    """

    def __init__(self, extractor: Extractor, name: str | None = None) -> None:
        self.name = name or extractor.name
        self.wants_colour = wants_colour(extractor)
        self.settings = settings_of(extractor)
        self.states_settings = states_settings(extractor)
        self.parameters: int | None = getattr(extractor, "parameters", None)
        """Numbers that training has set; None = not said."""
        self.model_bytes: int | None = getattr(extractor, "model_bytes", None)
        """What they take; None = not said."""
        self.origin = ""
        """What it was made from, as `make_methods` takes it; empty if by another way."""
        self._extractor = extractor

    def __call__(
        self, image: UInt8[Array, "H W *C"], *, max_keypoints: int, mask: Bool[Array, "H W"] | None = None
    ) -> Features:
        """The strongest keypoints of a picture.

        Raises:
            ValueError: the extractor failed, or gave no Features, more than it was asked for, or those of another size.
        """
        try:
            found = self._extractor(image, max_keypoints=max_keypoints, mask=mask)
        except (Exception, SystemExit) as error:  # Anybody's code: whatever it raises costs a picture, not the run.
            raise UserError(f"{type(error).__name__}: {one_line(error)}") from error
        if not isinstance(found, Features):
            raise UserError(f"{self.name}: expected Features, got {type(found).__name__}")
        size = (image.shape[1], image.shape[0])
        if len(found) > max_keypoints or found.image_size != size:
            asked, got = f"at most {max_keypoints} features of a picture {size}", f"{len(found)} of {found.image_size}"
            raise UserError(f"{self.name}: expected {asked}, got {got}")
        return found


@dataclass(frozen=True)
class _Wish:
    """A method as it was asked for."""

    label: str | None
    """What it shall be called; None leaves that to the method."""
    text: str
    """The rest of what was typed."""

    @property
    def is_file(self) -> bool:
        return self.text.endswith((".safetensors", ".h5", ".hdf5"))

    @property
    def stem(self) -> str:
        return Path(self.text).stem


def make_methods(names: Sequence[str], device: str = "cpu") -> list[Method]:
    """Methods by name.

    Args:
        names: what to make, each one of

            - `sift`, `rootsift`, `orb`, `brisk`, `akaze`: OpenCV's, where the installed version has them;
            - packaged weights of LF-Net (`lfnet-cpu`), or a path that ends in `.safetensors`;
            - a path that ends in `.h5` or `.hdf5`: features in hloc's layout, made by anybody;
            - `module:factory`: what `factory()` of an importable module (the current folder's too) gives;
            - `disk:PATH`, `aliked:PATH`, `xfeat:PATH`, `dedode:PATH`, `superpoint:PATH`: a rival with its weights;
            - `label=` before any of these: the method is called so.

            Files of one name are told apart by their folders, as those of two runs are; no two methods may end up with
            one name.
        device: torch device of models.

    Returns:
        one method for each name.

    Raises:
        ValueError: in one line: nothing has that name, a file or package is missing, or two methods have one name, as
            their results could not be told apart.
    """
    wishes = [_wish(name) for name in names]
    stems = [wish.stem for wish in wishes if wish.is_file and wish.label is None]
    made: list[Method] = []
    for wish in wishes:
        method = _make(wish.text, device)
        if wish.label is not None:
            method.name = wish.label
        elif wish.is_file and stems.count(wish.stem) > 1:
            method.name = f"{Path(wish.text).resolve().parent.name}/{wish.stem}"
        made.append(method)
    taken = [method.name for method in made]
    twice = sorted({name for name in taken if taken.count(name) > 1})
    if twice:
        got = ", ".join(twice)
        raise UserError(f"methods must have different names, got twice: {got}; give one another: NAME=METHOD")
    return made


def _wish(name: str) -> _Wish:
    found = re.fullmatch(r"([^=/\\:]+)=(.+)", name)
    if found and not Path(name).exists():
        return _Wish(found[1], found[2])
    return _Wish(None, name)


def _make(text: str, device: str) -> OpenCVExtractor | LFNetExtractor | FeatureFile | PythonExtractor:
    if text in OPENCV_METHODS:
        return OpenCVExtractor(text)
    # PyTorch is loaded for the methods that need it alone, or their cost would count it.
    from lfnet.evaluation.methods.lfnet_extractor import LFNetExtractor
    from lfnet.evaluation.methods.rivals import RIVALS, make_rival
    from lfnet.models.weights import list_pretrained

    rival, colon, path = text.partition(":")
    if rival in RIVALS:
        return _with_origin(PythonExtractor(make_rival(rival, Path(path) if path else None, device)), text)
    if text.endswith(".safetensors") or text in list_pretrained():
        return LFNetExtractor.from_weights(text, device)
    if text.endswith((".h5", ".hdf5")):
        return FeatureFile(text)
    if colon:
        return _with_origin(PythonExtractor(_from_module(rival, path)), text)
    raise UserError(
        f"no method {text!r}: expected one of {', '.join((*OPENCV_METHODS, *list_pretrained(), *RIVALS))}, a path to "
        ".safetensors or .h5, or module:factory"
    )


def _with_origin(extractor: PythonExtractor, text: str) -> PythonExtractor:
    extractor.origin = text
    return extractor


def _from_module(module: str, factory: str) -> Extractor:
    text = f"{module}:{factory}"
    with _current_folder_importable():
        try:
            function: Callable[[], Any] = getattr(importlib.import_module(module), factory)
            extractor: Any = function()
        except Exception as error:  # Anybody's code: whatever it raises is said in one line.
            raise UserError(f"method {text}: {type(error).__name__}: {one_line(error)}") from error
    if not (hasattr(extractor, "__call__") and isinstance(getattr(extractor, "name", None), str)):  # noqa: B004
        raise UserError(
            f"method {text}: expected {factory}() to give an extractor with a name, that can be called with a picture; "
            f"got {type(extractor).__name__}"
        )
    return extractor


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """A command's own folder of scripts stands first in the search path, not the folder it is run in."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
