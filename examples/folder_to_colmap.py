"""A folder of photos to a COLMAP model of cameras and points, by LF-Net's features (pip install 'lfnet[sfm]').

    python folder_to_colmap.py photos model

Every photo is matched with every other, which suits up to some hundred photos.
"""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path

import lfnet
from lfnet.integrations.colmap import CameraSettings, ColmapDatabase


def main(photos: str, output: str, weights: str = "lfnet-cpu") -> None:
    folder = Path(photos)
    paths = lfnet.list_images(folder)
    names = [path.relative_to(folder).as_posix() for path in paths]
    features = {}
    for name, path in zip(names, paths, strict=True):
        features[name] = lfnet.extract(path, weights, max_keypoints=2048)
        print(f"{name}: {len(features[name])} keypoints")
    matches = [(a, b, lfnet.match(features[a], features[b]).indices) for a, b in combinations(names, 2)]

    database = ColmapDatabase(Path(output) / "database.db", folder)
    database.add_pictures(names, CameraSettings(sharing="auto"))
    database.add_features(features, matches)
    print(f"{database.verify()} of {len(matches)} pairs verified")
    for model in database.map(Path(output)):
        print(
            f"{model.folder}: {len(model.names)} of {len(names)} photos, {model.points} points seen by "
            f"{model.track_length:.1f} photos each, error {model.reprojection_error:.2f} px"
        )


if __name__ == "__main__":
    main(*sys.argv[1:4])
