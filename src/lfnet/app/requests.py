"""What the page asks for, as it comes and as it is checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from lfnet.app.decoder import LONGEST
from lfnet.errors import UserError
from lfnet.settings import config_from_dict, require_within

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class NetworkChoice:
    """How features are found."""

    weights: str = "lfnet-lean"
    """Name of packaged weights."""
    keypoints: int = 512
    """At most, of each picture."""
    size: int = 640
    """Long side that pictures are worked at, pixels."""

    def __post_init__(self) -> None:
        require_within(self, "", {"keypoints": (16, 4096), "size": (64, LONGEST)})


@dataclass(frozen=True)
class Pose:
    """How the second picture is held."""

    turn: float = 0.0
    """Degrees, clockwise on the screen."""
    zoom: float = 1.0
    """Factor: above 1 it is larger, and its edges are out of view."""

    def __post_init__(self) -> None:
        require_within(self, "", {"turn": (-360, 360), "zoom": (0.2, 5)})


@dataclass(frozen=True)
class MatchRequest:
    """Match two pictures, the second turned and zoomed."""

    first: str
    second: str
    """Tokens of pictures that are held; they may be the same one."""
    pose: Pose = Pose()
    network: NetworkChoice = NetworkChoice()
    geometry: Literal["none", "homography", "fundamental"] = "homography"
    """What inliers have in common."""
    threshold: float = 3.0
    """Largest error of an inlier, pixels of the pictures as they are worked at."""
    scores: bool = False
    """Also the score maps, drawn."""

    def __post_init__(self) -> None:
        require_within(self, "", {"threshold": (0.1, 50)})


@dataclass(frozen=True)
class TargetRequest:
    """Paint what the second picture teaches, turned and zoomed, to itself as it came."""

    second: str
    pose: Pose = Pose()
    weights: str = "lfnet-lean"


@dataclass(frozen=True)
class DownloadRequest:
    """The features of both pictures as a file."""

    match: MatchRequest
    format: Literal["h5", "npz", "csv"] = "h5"
    names: tuple[str, ...] = ("first", "second")
    """Of the pictures, for the file."""


def read_request(kind: type[Kind], content: bytes) -> Kind:
    """A request from JSON.

    Args:
        kind: of the classes above.
        content: the body of an HTTP request.

    Raises:
        UserError: it is no JSON, or has unknown, missing, or wrong values.
    """
    try:
        values: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError("expected a request in JSON") from error
    try:
        return config_from_dict(kind, values)
    except TypeError as error:  # A field without a default is missing.
        raise UserError(f"{kind.__name__}: {error}") from error
