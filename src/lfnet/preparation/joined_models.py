"""Several reconstructions of one folder of photos set beside each other in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from lfnet.data.reconstructions.colmap_model import Points, Reconstruction


def side_by_side(models: Sequence[Reconstruction]) -> Reconstruction:
    """Several models as one, each moved along x past the one before; pictures keep their numbers."""
    cameras, images, ids, parts = {}, {}, 0, []
    edge = 0.0
    for model in models:
        poses = [image.camera_from_world for image in model.images.values()]
        centres = np.array([-pose[:3, :3].T @ pose[:3, 3] for pose in poses])
        places = np.concatenate((centres, model.points.positions))
        extent = float(np.ptp(places[:, 0])) if len(places) else 0.0
        shift = np.array([edge - places[:, 0].min(), 0.0, 0.0]) if parts else np.zeros(3)
        edge = float(places[:, 0].max()) + shift[0] + max(extent, 1e-6)
        order = np.argsort(model.points.ids)
        sorted_ids = model.points.ids[order]
        first_camera = max(cameras, default=0)
        for camera in model.cameras.values():
            cameras[first_camera + camera.camera_id] = replace(camera, camera_id=first_camera + camera.camera_id)
        for image in model.images.values():
            if image.image_id in images:  # A picture in two models stays with the larger.
                continue
            pose = image.camera_from_world.copy()
            pose[:3, 3] -= pose[:3, :3] @ shift
            numbers = ids + 1 + np.searchsorted(sorted_ids, image.point_ids)
            images[image.image_id] = replace(
                image, camera_id=first_camera + image.camera_id, camera_from_world=pose, point_ids=numbers
            )
        numbers = ids + 1 + np.arange(len(order))
        places = model.points.positions[order] + shift
        parts.append(Points(numbers, places, model.points.colours[order], model.points.errors[order]))
        ids += len(order)
    columns = [[getattr(part, field.name) for part in parts] for field in fields(Points)]
    return Reconstruction(cameras, images, Points(*map(np.concatenate, columns)))
