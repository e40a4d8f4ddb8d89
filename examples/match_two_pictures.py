"""What two pictures have in common, drawn and counted.

    python match_two_pictures.py a.jpg b.jpg matches.jpg

Tell apart two pictures of one thing from two of different things by the matches that one geometry explains: mutual
nearest neighbours exist between any two pictures. Use "homography" for a flat thing or a camera that only turns.
"""

from __future__ import annotations

import sys

import cv2

import lfnet
from lfnet.reports.drawing import draw_matches


def main(path_a: str, path_b: str, output: str) -> None:
    picture_a, picture_b = lfnet.read_image(path_a), lfnet.read_image(path_b)
    features_a, features_b = lfnet.extract(picture_a), lfnet.extract(picture_b)
    mutual = lfnet.match(features_a, features_b)
    inliers, matrix = lfnet.verify(features_a, features_b, mutual, "fundamental")
    print(f"{len(features_a)} and {len(features_b)} keypoints, {len(mutual)} mutual matches, {len(inliers)} inliers")

    # The arrays are NumPy's: row i of `indices` names a keypoint of a and one of b.
    for index_a, index_b in inliers.indices[:3]:
        (xa, ya), (xb, yb) = features_a.keypoints[index_a], features_b.keypoints[index_b]
        print(f"({xa:.1f}, {ya:.1f}) px in {path_a} is ({xb:.1f}, {yb:.1f}) px in {path_b}")
    if matrix is not None:
        print("fundamental matrix:\n", matrix)

    drawing = draw_matches(picture_a, picture_b, features_a, features_b, inliers)
    if not cv2.imwrite(output, cv2.cvtColor(drawing, cv2.COLOR_RGB2BGR)):
        raise SystemExit(f"{output}: can't be written; is its folder there?")
    print(f"drawn in {output}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
