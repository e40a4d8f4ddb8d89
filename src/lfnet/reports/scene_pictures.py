"""A prepared scene drawn: its depth, its pairs warped onto each other, its cameras, and what its pairs are like."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from lfnet.data.frames import Frame, read_view
from lfnet.data.pair import Pair
from lfnet.data.reconstructions.colmap_files import read_reconstruction
from lfnet.data.scenes.pair_table import SPLITS, PairTable
from lfnet.data.scenes.scene import Scene
from lfnet.data.scenes.scene_pairs import shrunk_frame
from lfnet.errors import UserError
from lfnet.images import ImageError, read_image, to_grey
from lfnet.preparation.check import CheckedPair
from lfnet.preparation.reprojection import REFERENCE_SIDE
from lfnet.reports.canvas import (
    BLUE,
    INK,
    ORANGE,
    TEXT,
    Axis,
    Colour,
    Picture,
    beside,
    blank,
    fitted,
    histogram,
    in_rows,
    shortened,
    stacked,
    text_width,
    titled,
    widened,
    write_text,
)
from lfnet.reports.drawing import GREEN, RED, YELLOW

SPLIT_COLOURS: dict[str, Colour] = {"training": BLUE, "validation": ORANGE}
RESIDUAL_ZOOM = 10
"""How many times longer than they are residuals are drawn."""
SIDE = 640
"""Pairs are warped at this long side, px."""
CELL = (360, 300)
"""Most width and height of a picture of a pair as drawn, px."""
DEPTH_CELL = (320, 260)
"""The same of a picture beside its depth."""
DIM = 0.22
"""Brightness of what the other picture doesn't see."""
FEWEST_DRAWN = 8
"""Visible matches that a pair needs to be shown for its error."""
MOST_POINTS = 20000
"""Points of the scene that are drawn."""
FLAT = 0.25
"""Spread of cameras along the tops of their pictures, or of points along their normal, in parts of their largest, up to
which that direction is upwards."""
FAR_OFF = 20.0
"""Scaled error from which no line is drawn, px: most such matches are wrong."""
GREY: Colour = (165, 170, 176)
"""Of points of the scene."""


def draw_depth(scene: Scene, numbers: Sequence[int]) -> Picture:
    """Pictures beside their depth maps, near warm and far cold, unknown black, and what the colours stand for."""
    frames = [scene.frame(number) for number in numbers]
    maps = [frame.read_depth() if frame.read_depth else np.zeros(frame.size[::-1], np.float32) for frame in frames]
    known = np.concatenate([depth[::4, ::4][depth[::4, ::4] > 0] for depth in maps])
    near, far = (float(value) for value in np.quantile(known, (0.02, 0.98))) if len(known) else (1.0, 2.0)
    far = max(far, near * 1.01)
    cells = []
    for frame, depth in zip(frames, maps, strict=True):
        picture = fitted(_colours(scene, frame), *DEPTH_CELL)
        size = (picture.shape[1], picture.shape[0])
        colours = cv2.resize(_depth_colours(depth, near, far), size, interpolation=cv2.INTER_NEAREST_EXACT)
        share = f"{(depth > 0).mean():.0%} known"
        both = titled(beside((picture, np.asarray(colours, np.uint8)), 2), "")
        room = both.shape[1] - text_width(share) - 2
        write_text(both, shortened(frame.name, room - 12), (2, 3))
        write_text(both, share, (room, 3))
        cells.append(both)
    return stacked([_depth_legend(near, far), *in_rows(cells, 4 * DEPTH_CELL[0] + 18)], margin=12)


def _depth_colours(depth: NDArray[np.float32], near: float, far: float) -> Picture:
    place = np.log(np.clip(depth, near, far) / near) / np.log(far / near)
    # The darkest ends of the map are left out: unknown is black.
    levels = np.rint(255 * (0.95 - 0.87 * place)).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return np.where(depth[..., None] > 0, colours, 0).astype(np.uint8)


def _depth_legend(near: float, far: float) -> Picture:
    canvas = blank(660, 58)
    marks = np.geomspace(near, far, 5)
    left, width = 150, 400
    write_text(canvas, "depth, unit of poses", (2, 4))
    ramp = np.geomspace(near, far, width).astype(np.float32)[None].repeat(18, 0)
    canvas[4:22, left : left + width] = _depth_colours(ramp, near, far)
    for index, mark in enumerate(marks):
        label, x = f"{mark:.3g}", left + index * (width - 1) / 4
        canvas[22:26, round(x)] = INK
        write_text(canvas, label, (x - text_width(label) / 2, 28))
    canvas[4:22, 580:598] = 0
    write_text(canvas, "none", (604, 4))
    return canvas


def draw_overlays(scene: Scene, pairs: Sequence[CheckedPair]) -> Picture:
    """Pairs of the least, middle and largest error and overlap: a, b as a sees it, both as one, and the residuals."""
    rows, chosen = [], chosen_pairs(pairs)
    sizes = [scene.frame(number).size for _, pair in chosen for number in (pair.image_id_a, pair.image_id_b)]
    width = max(fitted(np.zeros(size[::-1], np.uint8), *CELL).shape[1] for size in sizes)
    for reason, pair in chosen:
        names = " and ".join(scene.frame(number).name for number in (pair.image_id_a, pair.image_id_b))
        count = len(pair.error.errors)
        error = f"{pair.median:.2f} px at {REFERENCE_SIDE} px (median)" if count else "no error known"
        text = f"{reason}: {names}; {error}, {count} visible matches, overlap {pair.overlap:.0%}"
        row = beside([widened(each, width) for each in _overlay_row(scene, pair)], 8)
        rows.append(titled(row, text))
    return stacked([_overlay_legend(width), *rows], margin=12)


def chosen_pairs(pairs: Sequence[CheckedPair]) -> list[tuple[str, CheckedPair]]:
    """The pairs that are shown, and what each is shown for; each once."""
    measured = sorted((pair for pair in pairs if len(pair.error.errors) >= FEWEST_DRAWN), key=lambda pair: pair.median)
    by_overlap = sorted(pairs, key=lambda pair: -pair.overlap)
    chosen: dict[tuple[int, int], tuple[list[str], CheckedPair]] = {}
    for ordered, reasons in (
        (measured, ("least error", "middle error", "largest error")),
        (by_overlap, ("largest overlap", "middle overlap", "least overlap")),
    ):
        for reason, place in zip(reasons, (0, len(ordered) // 2, -1), strict=True):
            if ordered:
                pair = ordered[place]
                chosen.setdefault((pair.image_id_a, pair.image_id_b), ([], pair))[0].append(reason)
    return [(", ".join(reasons), pair) for reasons, pair in chosen.values()]


def _overlay_row(scene: Scene, pair: CheckedPair) -> list[Picture]:
    frames = [scene.frame(number) for number in (pair.image_id_a, pair.image_id_b)]
    view_a, view_b = (read_view(shrunk_frame(frame, SIDE)) for frame in frames)
    places, seen = Pair(view_a, view_b).warp().grid()
    height, width = view_a.size
    target = places[0].numpy().reshape(height, width, 2).astype(np.float32)
    visible = seen[0].numpy().reshape(height, width)
    colours = [_colours(scene, frame) for frame in frames]
    a, b = (fitted(each, view.size[1], view.size[0]) for each, view in zip(colours, (view_a, view_b), strict=True))
    target = np.where(visible[..., None], target, np.float32(-10))
    warped = np.asarray(cv2.remap(b, target[..., 0], target[..., 1], cv2.INTER_LINEAR), np.uint8)
    warped[~visible] = (DIM * a[~visible]).astype(np.uint8)
    blend = _red_cyan(a, warped, visible)
    return [*(fitted(each, *CELL) for each in (a, warped, blend)), _residuals(b, pair)]


def _red_cyan(a: Picture, warped: Picture, visible: NDArray[np.bool_]) -> Picture:
    """a in red and b in cyan, b's brightness brought to a's; what b doesn't see is dim."""
    grey_a, grey_b = (255 * to_grey(each) for each in (a, warped))
    if visible.any():
        scale = grey_a[visible].std() / max(float(grey_b[visible].std()), 1.0)
        grey_b = (grey_b - grey_b[visible].mean()) * scale + grey_a[visible].mean()
    both = np.stack((grey_a, grey_b, grey_b), -1)
    both = np.where(visible[..., None], both, DIM * grey_a[..., None])
    return np.clip(both, 0, 255).astype(np.uint8)


def _residuals(b: Picture, pair: CheckedPair) -> Picture:
    """Picture b with a line at each match, ten times the way to where depth and poses send it; a ring far off."""
    canvas = (0.6 * fitted(b, *CELL)).astype(np.uint8)
    zoom = canvas.shape[1] / pair.error.size_b[0]
    for index in np.argsort(pair.error.errors):
        start = pair.error.points_b[index] * zoom
        end = start + (pair.error.warped[index] - pair.error.points_b[index]) * zoom * RESIDUAL_ZOOM
        error = float(pair.error.scaled_errors[index])
        colour = _error_colour(error)
        if error < FAR_OFF:
            cv2.line(canvas, _fixed(start), _fixed(end), colour, 1, cv2.LINE_AA, 4)
            cv2.circle(canvas, _fixed(start), 24, colour, cv2.FILLED, cv2.LINE_AA, 4)
        else:
            cv2.circle(canvas, _fixed(start), 64, colour, 1, cv2.LINE_AA, 4)
    return canvas


def _fixed(place: NDArray[np.float64]) -> tuple[int, int]:
    """A place in OpenCV's sixteenths of a pixel."""
    x, y = np.rint(16 * place).astype(int)
    return int(x), int(y)


def _error_colour(error: float) -> Colour:
    return GREEN if error < 1.5 else YELLOW if error < 5 else RED


def _overlay_legend(width: int) -> Picture:
    heads = (
        "picture a",
        "b as a sees it; dark: unseen",
        "a red, b cyan: grey is right",
        f"b, residuals x {RESIDUAL_ZOOM}",
    )
    labels = ((GREEN, "below 1.5 px"), (YELLOW, "below 5 px"), (RED, f"more; a ring: above {FAR_OFF:g} px"))
    canvas = blank(max(4 * width + 24, 600), 48)
    write_text(canvas, f"residuals at {REFERENCE_SIDE} px:", (2, 2))
    x = 18.0 + text_width(f"residuals at {REFERENCE_SIDE} px:")
    for colour, label in labels:
        cv2.rectangle(canvas, (round(x), 4), (round(x) + 12, 16), colour, cv2.FILLED)
        write_text(canvas, label, (x + 18, 2))
        x += 34 + text_width(label)
    for index, head in enumerate(heads):
        write_text(canvas, shortened(head, width), (index * (width + 8) + 2, 26))
    return canvas


def draw_cameras(scene: Scene, table: PairTable, width: int = 960, height: int = 720) -> Picture:
    """Cameras from above by their split, each with the way it looks, and the points of the scene."""
    poses = np.stack([frame.camera_from_world for frame in scene.frames])
    rotation = poses[:, :3, :3]
    centres = -np.einsum("nji,nj->ni", rotation, poses[:, :3, 3])
    points = _scene_points(scene)
    axes = view_from_above(centres, rotation, points)
    flat_centres, flat_points, looks = centres @ axes.T, points @ axes.T, rotation[:, 2] @ axes.T
    everything = np.concatenate((flat_centres, flat_points)) if len(points) else flat_centres
    low, high = np.quantile(everything, (0.02, 0.98), axis=0)
    low, high = np.minimum(low, flat_centres.min(0)), np.maximum(high, flat_centres.max(0))
    extent = np.maximum(high - low, 1e-9)
    margin, legend = 40, 34
    zoom = float(min((width - 2 * margin) / extent[0], (height - legend - 2 * margin) / extent[1]))
    middle = np.array([width / 2, (height + legend) / 2])

    def place(flat: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.rint(middle + (flat - (low + high) / 2) * zoom).astype(int)

    canvas = blank(width, height)
    spots = place(flat_points)
    inside = (spots >= (0, legend)).all(1) & (spots < (width, height)).all(1)
    canvas[spots[inside, 1], spots[inside, 0]] = GREY
    # Thicker, so that single points are seen on a large screen.
    canvas = np.asarray(cv2.erode(canvas, np.ones((2, 2), np.uint8)), np.uint8)
    splits = dict(zip(table.image_ids.tolist(), table.image_split.tolist(), strict=True))
    for number, spot, look in zip(scene.image_ids, place(flat_centres), looks, strict=True):
        colour = SPLIT_COLOURS[SPLITS[splits.get(number, 0)]]
        end = np.rint(spot + 18 * look).astype(int)
        cv2.line(canvas, (int(spot[0]), int(spot[1])), (int(end[0]), int(end[1])), colour, 1, cv2.LINE_AA)
        cv2.circle(canvas, (int(spot[0]), int(spot[1])), 4, colour, cv2.FILLED, cv2.LINE_AA)
    _camera_legend(canvas, table, zoom)
    return canvas


def view_from_above(
    centres: NDArray[np.float64], rotation: NDArray[np.float64], points: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Two axes of the world, right and down on the drawing, that show cameras from above.

    Above is where the pictures' tops point, if they agree on it and the cameras hardly move along it, as those of a
    person who walks. It is else the normal of the points if they are flat, as ground from the air, and else the
    direction in which the cameras spread least.

    Args:
        centres: (n, 3) of the cameras.
        rotation: (n, 3, 3) camera from world.
        points: (m, 3) of the scene; there may be none.

    Returns:
        (2, 3) orthonormal, along the largest spread of the cameras first.
    """
    principal, spread = _principal(centres)
    upwards = -rotation[:, 1].mean(0)
    agreed = float(np.linalg.norm(upwards))
    upwards = upwards / max(agreed, 1e-12)
    if agreed > 0.7 and float((centres @ upwards).std()) <= FLAT * max(spread[0], 1e-12):
        normal = upwards
    else:
        of_points, thickness = _principal(points)
        normal = of_points[2] if thickness[2] < FLAT * thickness[0] and thickness[2] < thickness[1] else principal[2]
        # The eye is on the side that the cameras look away from.
        normal = normal if rotation[:, 2].mean(0) @ normal < 0 else -normal
    level = principal[:2] - (principal[:2] @ normal)[:, None] * normal
    right = max(level, key=lambda axis: float(np.linalg.norm(axis)))
    right = right / np.linalg.norm(right)
    # Right, down and away from the eye are a right-handed frame.
    return np.stack((right, np.cross(-normal, right)))


def _principal(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Principal axes of points, the one of largest spread first, and the deviations along them, of the inner ones."""
    if not len(points):
        return np.eye(3), np.zeros(3)
    distances = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    inner = points[distances <= np.quantile(distances, 0.9)] if len(points) > 100 else points
    offsets = np.concatenate((inner - inner.mean(0), np.zeros((3, 3))))
    _, values, axes = np.linalg.svd(offsets, full_matrices=False)
    return axes, values / len(inner) ** 0.5


def _scene_points(scene: Scene) -> NDArray[np.float64]:
    """Sparse points of the model, or where it has none what its depth maps show."""
    points = read_reconstruction(scene.folder / "model").points.positions
    if not len(points):
        chosen = np.linspace(0, len(scene.frames) - 1, min(len(scene.frames), 60)).round().astype(int)
        points = np.concatenate([_seen_points(scene.frames[place]) for place in chosen])
    return points[:: max(1, len(points) // MOST_POINTS)]


def _seen_points(frame: Frame, step: int = 12) -> NDArray[np.float64]:
    if frame.read_depth is None:
        return np.zeros((0, 3))
    try:
        depth = frame.read_depth()
    except (UserError, OSError):  # A damaged map; the report names it.
        return np.zeros((0, 3))
    y, x = np.mgrid[0 : depth.shape[0] : step, 0 : depth.shape[1] : step]
    z = depth[y, x]
    rays = np.stack((x, y, np.ones_like(x)), -1)[z > 0] @ np.linalg.inv(frame.intrinsics).T
    return (rays * z[z > 0][:, None] - frame.camera_from_world[:3, 3]) @ frame.camera_from_world[:3, :3]


def _camera_legend(canvas: Picture, table: PairTable, zoom: float) -> None:
    x = 12.0
    for index, split in enumerate(SPLITS):
        label = f"{split}: {int((table.image_split == index).sum())} pictures"
        cv2.circle(canvas, (round(x) + 5, 17), 5, SPLIT_COLOURS[split], cv2.FILLED, cv2.LINE_AA)
        write_text(canvas, label, (x + 16, 8))
        x += 44 + text_width(label)
    cv2.circle(canvas, (round(x) + 5, 17), 5, GREY, cv2.FILLED, cv2.LINE_AA)
    write_text(canvas, "points of the scene; from above", (x + 16, 8))
    length = 10.0 ** np.floor(np.log10(160 / zoom))
    length *= max(factor for factor in (1, 2, 5) if factor * length * zoom <= 160)
    label = f"{length:g} {'unit' if length == 1 else 'units'}"
    right = canvas.shape[1] - 14
    left = right - round(length * zoom)
    cv2.line(canvas, (left, 26), (right, 26), INK, 2)
    write_text(canvas, label, (min((left + right - text_width(label)) / 2, right - text_width(label)), 24 - TEXT - 2))


AXES = (
    ("overlap", Axis("overlap (the smaller of both ways)", np.linspace(0, 1, 21), [(0, "0"), (0.5, "0.5"), (1, "1")])),
    ("angle", Axis("angle of the rays, degrees", np.linspace(0, 60, 21), [(0, "0"), (30, "30"), (60, "60+")])),
    (
        "scale_ratio",
        Axis(
            "zoom from a to b",
            np.geomspace(0.25, 4, 21),
            [(0.25, "1/4"), (0.5, "1/2"), (1, "1"), (2, "2"), (4, "4")],
        ),
    ),
)
"""What the histograms of pairs show."""


def draw_pairs(table: PairTable) -> Picture:
    """How overlap, angle and zoom of the pairs of each split are spread; the lines mark medians."""
    rows = []
    for split in SPLITS:
        pairs = table.of_split(split)
        overlap = np.minimum(pairs.overlap_ab, pairs.overlap_ba)
        columns = {"overlap": overlap, "angle": pairs.angle, "scale_ratio": pairs.scale_ratio}
        charts = beside([histogram(columns[name], axis, SPLIT_COLOURS[split]) for name, axis in AXES])
        rows.append(titled(charts, f"{split}: {len(pairs)} pairs; the line is the median"))
    return stacked(rows, margin=12)


def _colours(scene: Scene, frame: Frame) -> NDArray[np.uint8]:
    """The picture in colour where it is a file that shows what the frame's camera sees, else grey."""
    path = scene.folder / "images" / frame.name
    if path.is_file() and not any(frame.distortion):
        try:
            colours = read_image(path)
        except ImageError:
            colours = None
        if colours is not None and colours.shape[:2] == frame.size[::-1]:
            return colours
    return frame.read_grey()
