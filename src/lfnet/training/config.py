"""The settings of a training run: text in, text kept beside every checkpoint."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from lfnet.data.loader import DataConfig
from lfnet.errors import UserError, one_line
from lfnet.files.reading import read_text_file
from lfnet.models.config import LFNetConfig
from lfnet.settings import ConfigError, config_from_dict, require_at_least
from lfnet.training.branches import StrategyConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam, one for the detector and one for the descriptor."""

    steps: int = 50_000
    """Training steps in all."""
    batch: int = 6
    """Pairs in a batch, of all processes together; each takes an equal part."""
    accumulate: int = 1
    """Batches in a step, one after the other: their gradients are averaged, in the memory that one takes."""
    batch_norm: Literal["own", "synchronised", "frozen"] = "own"
    """Statistics by which features are normalised, where several processes train. "own": those of each process's pairs,
    averaged at checkpoints; "synchronised": those of the pairs of all. "frozen", with any number of processes: those
    that the weights came with, which stay."""
    learning_rate: float = 1e-3
    """Adam's (paper: 1e-3)."""
    schedule: Literal["constant", "cosine"] = "constant"
    """"constant" is the paper's; "cosine" falls to a hundredth over the whole run, after `warmup` steps of rise."""
    warmup: int = 0
    """Steps over which the rate rises from 0."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the convolutions (autocast); losses, geometry and scale space stay in float32."""

    def __post_init__(self) -> None:
        require_at_least(self, "optimizer", {"steps": 1, "batch": 1, "accumulate": 1, "learning_rate": 0, "warmup": 0})


@dataclass(frozen=True)
class ValidationConfig:
    """How the run is watched."""

    every: int = 500
    """Steps between validations, pictures and checkpoints."""
    pairs: int = 24
    """Held-back pairs."""
    keypoints: int = 128
    """K of the matching score."""
    threshold: float = 3.0
    """Pixels within which a match is right."""

    def __post_init__(self) -> None:
        require_at_least(self, "validation", {"every": 1, "pairs": 1, "keypoints": 1, "threshold": 0})


@dataclass(frozen=True)
class CardConfig:
    """What the header of the weights says of them, beside what the run itself knows."""

    name: str = ""
    """Of the weights."""
    licence: str = "that of the data; not stated"
    """Under which the weights may be used."""
    data: tuple[str, ...] = ()
    """What they are trained on, with its licences; empty takes the names of the sources."""


@dataclass(frozen=True)
class TrainConfig:
    """A whole run."""

    model: LFNetConfig = field(default_factory=LFNetConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    card: CardConfig = field(default_factory=CardConfig)
    seed: int = 0
    """Decides initial weights and every sample."""


def read_tables(path: str | Path) -> dict[str, Any]:
    """Nested tables of a TOML file, not yet checked.

    Raises:
        ConfigError: if the file is missing or no TOML.
    """
    text = read_text_file(path, ConfigError, "a configuration in TOML")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError, OverflowError) as error:  # A date that there is not is a plain ValueError.
        raise ConfigError(f"config {path}: cannot be read ({one_line(error)})") from error


def default_tables() -> dict[str, Any]:
    """The cpu recipe without its data: what `lfnet train` runs where no configuration is given."""
    text = (resources.files("lfnet") / "training" / "default.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def read_config(path: str | Path, overrides: dict[str, Any] | None = None) -> TrainConfig:
    """The settings in a TOML file, with `overrides` ("optimizer.steps": 200) laid over it.

    Raises:
        ConfigError: if the file is missing or no TOML, or a setting is unknown or of the wrong type.
    """
    tables = read_tables(path)
    try:
        return build_config(tables, overrides)
    except UserError as error:
        raise ConfigError(f"config {path}: {error}") from error


def build_config(values: dict[str, Any], overrides: dict[str, Any] | None = None) -> TrainConfig:
    """Build the settings of a run from nested tables; see `read_config`."""
    values = copy.deepcopy(values)
    for key, value in (overrides or {}).items():
        table = values
        *path, name = key.split(".")
        for part in path:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{key}: {part} is a setting, not a table of settings")
        table[name] = value
    return config_from_dict(TrainConfig, values)
