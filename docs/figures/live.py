"""A clip that turns and zooms, and the picture in docs/video.md: `python docs/figures/live.py`.

Needs scikit-image, whose photograph of a cat (by Stéfan van der Walt, CC0) is turned.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage import data

from lfnet.clips import ClipWriter, read_frames
from lfnet.models.lfnet import LFNet
from lfnet.reports.live import Live, LiveSettings

FRAMES, SHOWN = 60, 32
"""Frames of the clip, and the one that is drawn: turned by 65 degrees and zoomed 1.2 times."""


def write_clip(path: Path) -> None:
    """The photograph, turned by 120 degrees and zoomed 1.4 times on the way."""
    picture = cv2.resize(data.chelsea(), (600, 400), interpolation=cv2.INTER_AREA)
    height, width = picture.shape[:2]
    writer = ClipWriter(path, 25.0)
    for number in range(FRAMES):
        share = number / (FRAMES - 1)
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 120 * share, 1.4**share)
        writer.add(np.asarray(cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REFLECT)))
    writer.close()


def main() -> None:
    """Write the clip, and draw a frame of it."""
    clip = Path("clip.mp4")
    write_clip(clip)
    live = Live(LFNet.from_pretrained("lfnet-lean"), LiveSettings(max_keypoints=160))
    frames = [frame for number, frame in read_frames(clip) if number in (0, SHOWN)]
    shown = list(live.frames(frames))[-1]
    Image.fromarray(shown.image).save(Path(__file__).parents[1] / "images" / "live.jpg", quality=88)
    print(shown.counts)


if __name__ == "__main__":
    main()
