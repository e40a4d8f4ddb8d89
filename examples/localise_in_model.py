"""Where was this photo taken? Its pose in a COLMAP model that folder_to_colmap.py made of other photos.

    python localise_in_model.py photos model/0 query.jpg

The query is taken by the camera of the model's photos: give one of the same size and zoom.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

import lfnet
from lfnet.data.reconstructions.colmap_files import read_reconstruction


def main(photos: str, model: str, query: str, weights: str = "lfnet-cpu") -> np.ndarray:
    reconstruction = read_reconstruction(model)
    position_of = dict(zip(reconstruction.points.ids, reconstruction.points.positions, strict=True))
    wanted = lfnet.extract(query, weights, max_keypoints=2048)
    places, points = [], []
    for image in reconstruction.images.values():
        features = lfnet.extract(Path(photos) / image.name, weights, max_keypoints=2048)
        # The same settings find the features that the model was made of, at the same places.
        distance = np.linalg.norm(image.keypoints[:, None] - features.keypoints, axis=2)
        point_of = dict(zip(distance.argmin(1), image.point_ids, strict=True))
        for index, other in lfnet.match(wanted, features).indices:
            if other in point_of:
                places.append(wanted.keypoints[index])
                points.append(position_of[point_of[other]])

    camera = next(iter(reconstruction.cameras.values()))
    lens = camera.intrinsics, np.array(camera.distortion or [0.0] * 4)
    found, turn, shift, inliers = cv2.solvePnPRansac(np.array(points), np.array(places, np.float64), *lens)
    if not found:
        raise SystemExit(f"{query}: no pose explains its {len(points)} matches")
    camera_from_world = np.eye(4)
    camera_from_world[:3] = np.hstack((cv2.Rodrigues(turn)[0], shift))
    print(f"{len(inliers)} of {len(points)} matches agree")
    print("camera from world:", *camera_from_world.tolist(), sep="\n")
    return camera_from_world


if __name__ == "__main__":
    main(*sys.argv[1:5])
