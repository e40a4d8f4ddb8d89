"""Weights on disk: safetensors, with configuration, training data and licence in the header as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lfnet.errors import UserError
from lfnet.files.atomic import write_bytes
from lfnet.files.reading import check_regular, parsed_json
from lfnet.models.config import LFNetConfig
from lfnet.models.hub import read_config, weights_in
from lfnet.settings import ConfigError, config_from_dict, config_to_dict

FORMAT = "lfnet-1"
"""Version of the header; a file of another format is refused."""


MOST_SETTING = 4096
"""Of any whole number in a network's configuration: eight times the widest layer of the paper's."""
RETIRED = (("orientation", "channels"), ("keypoints", "subpixel_gradient"))
"""Settings of earlier versions that decide nothing any more: weights whose header names them load all the same."""


class WeightsError(UserError):
    """A weights file that is missing, damaged, or of another configuration."""


def list_pretrained() -> list[str]:
    """Names of the weights that ship with the package."""
    folder = resources.files("lfnet") / "weights"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".safetensors"))


def resolve_weights(name_or_path: str | Path) -> Path:
    """Path of weights given by the name of shipped ones, by a file, or by a folder of `LFNet.save_pretrained`.

    Raises:
        WeightsError: if neither exists.
    """
    path = weights_in(Path(name_or_path))
    if path.is_file():
        return path
    shipped = Path(str(resources.files("lfnet") / "weights" / f"{name_or_path}.safetensors"))
    if path.suffix == "" and path.name == str(name_or_path) and shipped.is_file():
        return shipped
    raise WeightsError(
        f"weights {name_or_path}: no such file, nor weights of that name; "
        f"shipped are {', '.join(list_pretrained()) or 'none'}"
    )


def save_weights(
    path: str | Path, config: LFNetConfig, tensors: Mapping[str, Tensor], card: dict[str, Any] | None = None
) -> None:
    """Write a model's weights, replacing the file in one step; equal weights and facts are equal bytes.

    Args:
        config: of the network.
        tensors: its state.
        card: facts for the header (training data, steps, licence …), anything that JSON holds.

    Raises:
        OSError: if it can't be written, for example because the disk is full.
    """
    header = {
        "format": FORMAT,
        "config": json.dumps(config_to_dict(config)),
        "card": json.dumps(card or {}, ensure_ascii=False),
    }
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, _sorted_texts(save(whole, metadata=header)))


def _sorted_texts(content: bytes) -> bytes:
    """The same safetensors file with its texts in order: the library's order changes from one save to the next."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # The tensors' bytes are aligned, as the library aligns them.
    return len(text).to_bytes(8, "little") + text + content[end:]


def describe_weights(name_or_path: str | Path) -> dict[str, Any]:
    """What the header says: `config`, `card`, and the number of `parameters`.

    Raises:
        WeightsError: if the file is missing, damaged, or not ours.
    """
    path = resolve_weights(name_or_path)
    check_regular(path, WeightsError, "weights")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            config = metadata["config"] if metadata.get("format") == FORMAT else read_config(path)
            if config is None:
                raise WeightsError(
                    f"weights {path}: expected format {FORMAT!r} in the header, got {metadata.get('format')!r}; "
                    "was the file written by lfnet?"
                )
            parameters = sum(
                _product(file.get_slice(name).get_shape())
                for name in file.keys()
                if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
            )
            return {
                "path": str(path),
                "config": parsed_json(config, path, WeightsError, "a configuration in the header"),
                "card": parsed_json(metadata.get("card", "{}"), path, WeightsError, "facts in the header"),
                "parameters": parameters,
            }
    except WeightsError:
        raise
    except (SafetensorError, OSError, KeyError, UserError) as error:
        raise WeightsError(f"weights {path}: cannot be read ({_first_line(error)}); is the file complete?") from error


class Weights(NamedTuple):
    """What a weights file holds."""

    path: str
    config: LFNetConfig
    tensors: dict[str, Tensor]


def read_weights(name_or_path: str | Path) -> Weights:
    """The configuration and the tensors of a weights file; `LFNet.from_pretrained` builds the model.

    Raises:
        WeightsError: if the file is missing or damaged, or its configuration is not known.
    """
    header = describe_weights(name_or_path)
    path = header["path"]
    for table, setting in RETIRED:
        if isinstance(header["config"], dict) and isinstance(header["config"].get(table), dict):
            header["config"][table].pop(setting, None)
    try:
        config = config_from_dict(LFNetConfig, header["config"])
    except ConfigError as error:
        raise WeightsError(f"weights {path}: its configuration does not fit this version of lfnet: {error}") from error
    vast = next(((name, value) for name, value in _whole_numbers(header["config"]) if value > MOST_SETTING), None)
    if vast is not None:
        raise WeightsError(f"weights {path}: expected {vast[0]} of at most {MOST_SETTING}, got {vast[1]}")
    with safe_open(path, framework="pt") as file:
        return Weights(path, config, {name: file.get_tensor(name) for name in file.keys()})


def _whole_numbers(settings: dict[str, Any], path: str = "") -> Iterator[tuple[str, int]]:
    """Settings that are whole numbers, or rows of them, with their places."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _whole_numbers(value, f"{path}{name}.")
        else:
            rows = value if isinstance(value, (list, tuple)) else [value]
            yield from ((f"{path}{name}", each) for each in rows if isinstance(each, int))


def _product(shape: list[int]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
