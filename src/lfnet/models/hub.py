"""A model as a folder in the layout of the Hugging Face Hub: `config.json`, `model.safetensors` and a `README.md`.

Nothing here reaches the network: download a repository with its own tools, and give the folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lfnet.errors import UserError
from lfnet.files.atomic import write_bytes
from lfnet.files.reading import read_json_file
from lfnet.models.config import LFNetConfig
from lfnet.settings import config_to_dict

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
MODEL_TYPE = "lfnet"
"""By which `config.json` says whose it is."""

_README = """\
---
library_name: lfnet
license: {licence}
pipeline_tag: keypoint-detection
tags: [local-features, keypoints, descriptors, image-matching]
---

# {name}

Weights of LF-Net, local image features. Download this folder, and:

```python
import lfnet

model = lfnet.LFNet.from_pretrained("{name}")  # the folder's path
features = lfnet.extract("a.jpg", model)
```

What is known of the training:

```json
{card}
```
"""


def weights_in(path: Path) -> Path:
    """The weights file of a folder in the Hub's layout; any other path as it is."""
    return path / WEIGHTS_FILE if (path / WEIGHTS_FILE).is_file() else path


def write_beside(weights: Path, config: LFNetConfig, card: dict[str, Any]) -> None:
    """Write what the Hub shows of a model: its configuration, and a page that says how to use it.

    Args:
        weights: the file in whose folder they go.
        config: of the network.
        card: facts of the training, anything that JSON holds.

    Raises:
        OSError: a file can't be written.
    """
    described = {"model_type": MODEL_TYPE, **config_to_dict(config)}
    write_bytes(weights.with_name(CONFIG_FILE), json.dumps(described, indent=2).encode())
    text = _README.format(
        licence=str(card.get("licence", "other")).lower(),
        name=weights.resolve().parent.name,
        card=json.dumps(card, indent=2, ensure_ascii=False),
    )
    write_bytes(weights.with_name("README.md"), text.encode())


def read_config(weights: Path) -> str | None:
    """The configuration that stands beside a weights file, for files that other tools wrote without our header.

    Args:
        weights: the file.

    Returns:
        JSON, or None where there is no `config.json` of an LF-Net.

    Raises:
        UserError: `config.json` is no JSON.
    """
    path = weights.with_name(CONFIG_FILE)
    if weights.name != WEIGHTS_FILE or not path.is_file():
        return None
    config = read_json_file(path, UserError, "the configuration of a model")
    if not isinstance(config, dict) or config.pop("model_type", None) != MODEL_TYPE:
        return None
    return json.dumps(config)
