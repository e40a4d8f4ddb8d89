"""Fine-tune the shipped weights on a folder of your own pictures, and see whether matching got better.

    python train_on_your_pictures.py pictures run 1000

Pairs are made of each picture by random homographies, so no labels are needed. A thousand steps take some minutes on
two cores. Photos of one place that overlap teach more: docs/train_on_your_photos.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import lfnet
from lfnet.models.weights import describe_weights
from lfnet.training.config import build_config, default_tables
from lfnet.training.loop import train


def main(pictures: str, output: str, steps: str = "1000", start: str = "lfnet-cpu", **settings: object) -> None:
    tables = default_tables()
    tables["model"] = describe_weights(start)["config"]
    changes = {"data.pictures": [pictures], "optimizer.steps": int(steps), "optimizer.learning_rate": 2e-4, **settings}
    best = train(build_config(tables, changes), Path(output), init=start, say=print)

    # A picture against itself turned upside down: how many matches are right, before and after.
    picture = lfnet.read_image(lfnet.list_images(pictures)[0])
    height, width = picture.shape[:2]
    for name in (start, best):
        a, b = lfnet.extract(picture, name), lfnet.extract(np.ascontiguousarray(picture[::-1, ::-1]), name)
        matches = lfnet.match(a, b).indices
        there = (width - 1, height - 1) - a.keypoints[matches[:, 0]]
        right = np.linalg.norm(b.keypoints[matches[:, 1]] - there, axis=1) < 3
        print(f"{name}: {right.sum()} of {len(a)} keypoints matched rightly")
    lfnet.LFNet.from_pretrained(best).save_pretrained(Path(output) / "to_share")


if __name__ == "__main__":
    main(*sys.argv[1:5])
