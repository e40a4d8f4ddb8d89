"""Photos from a camera that only turned, side by side in one panorama.

    python stitch_panorama.py left.jpg middle.jpg right.jpg panorama.jpg

Each photo must overlap the next. The middle one stays as it is; the others are bent into its plane, so all together
should see less than some 120 degrees.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np

import lfnet


def main(*paths: str) -> None:
    *inputs, output = paths
    pictures = [lfnet.read_image(path) for path in inputs]
    features = [lfnet.extract(picture) for picture in pictures]
    middle = len(pictures) // 2
    middle_from = {middle: np.eye(3)}
    for here in [*range(middle + 1, len(pictures)), *range(middle - 1, -1, -1)]:
        near = here - 1 if here > middle else here + 1
        matches = lfnet.match(features[here], features[near])
        inliers, near_from_here = lfnet.verify(features[here], features[near], matches, "homography")
        if near_from_here is None or len(inliers) < 20:
            raise SystemExit(f"{inputs[here]} and {inputs[near]}: only {len(inliers)} matches agree")
        middle_from[here] = middle_from[near] @ near_from_here

    corners = []
    for here, (h, w) in enumerate(picture.shape[:2] for picture in pictures):
        around = np.array([[[0, 0], [w, 0], [w, h], [0, h]]], np.float64)
        corners.append(cv2.perspectiveTransform(around, middle_from[here])[0])
    low = np.floor(np.concatenate(corners).min(0))
    width, height = (np.ceil(np.concatenate(corners).max(0)) - low).astype(int).tolist()
    panorama = np.zeros((height, width, 3), np.uint8)
    for here in sorted(middle_from, key=lambda number: -abs(number - middle)):  # The middle comes last, on top.
        matrix = np.array([[1, 0, -low[0]], [0, 1, -low[1]], [0, 0, 1]]) @ middle_from[here]
        covered = cv2.warpPerspective(np.ones_like(pictures[here]), matrix, (width, height)) > 0
        panorama[covered] = cv2.warpPerspective(pictures[here], matrix, (width, height))[covered]
    if not cv2.imwrite(output, cv2.cvtColor(panorama, cv2.COLOR_RGB2BGR)):
        raise SystemExit(f"{output}: can't be written; is its folder there?")
    print(f"{output}: {width}x{height} px of {len(pictures)} photos")


if __name__ == "__main__":
    main(*sys.argv[1:])
