"""The check of a prepared scene as pages that people look at: pictures, a text, and the figures as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from lfnet.data.scenes.scene import Scene
from lfnet.files.atomic import make_folder, replacing, write_bytes
from lfnet.preparation.check import SceneReport
from lfnet.preparation.reprojection import EPIPOLAR, RATIO, REFERENCE_SIDE
from lfnet.progress import Progress
from lfnet.reports.canvas import Picture
from lfnet.reports.scene_pictures import chosen_pairs, draw_cameras, draw_depth, draw_overlays, draw_pairs

DEPTH_PICTURES = 8
"""Pictures whose depth maps are shown."""
CAPTIONS = {
    "depth.png": "Pictures and their depth maps: near is warm, far is cold, black is unknown.",
    "overlays.png": (
        "Pairs by error and by overlap. Where depth and poses are right, red and cyan make grey; coloured edges show a "
        "depth or a pose that is off. The last column draws how far matches land from where depth and poses send them."
    ),
    "cameras.png": "Cameras from above; a line points where each looks.",
    "pairs.png": "How the pairs of each split are spread.",
}
"""What each picture shows."""


def write_scene_report(scene: Path, report: SceneReport, output: Path, progress: Progress) -> list[Path]:
    """Draw a scene and write its report.

    Args:
        scene: its folder.
        report: of `check_scene`.
        output: folder for `depth.png`, `overlays.png` (where pairs were checked), `cameras.png`, `pairs.png`,
            `report.md` and `report.json`; made if it isn't there.
        progress: told how far it is.

    Returns:
        The files, in this order.

    Raises:
        SceneError: the scene can't be read.
        OSError: a file can't be written.
    """
    opened = Scene.open(scene)
    make_folder(output)
    damaged = report.damaged()
    usable = [number for number in opened.image_ids if opened.frame(number).name not in damaged]
    shown = [usable[place] for place in np.linspace(0, len(usable) - 1, min(DEPTH_PICTURES, len(usable))).astype(int)]
    drawings: dict[str, Callable[[], Picture]] = {}
    if shown:
        drawings["depth.png"] = lambda: draw_depth(opened, shown)
    if chosen_pairs(report.pairs):
        drawings["overlays.png"] = lambda: draw_overlays(opened, report.pairs)
    drawings["cameras.png"] = lambda: draw_cameras(opened, opened.pair_table)
    drawings["pairs.png"] = lambda: draw_pairs(opened.pair_table)
    for done, (name, draw) in enumerate(drawings.items()):
        progress("drawings", done, len(drawings))
        with replacing(output / name) as temporary:
            Image.fromarray(draw()).save(temporary, "PNG")
    progress("drawings", len(drawings), len(drawings))
    write_bytes(output / "report.md", report_text(report, list(drawings)).encode())
    write_bytes(output / "report.json", (json.dumps(report.as_dict(), indent=1, allow_nan=False) + "\n").encode())
    return [output / name for name in (*drawings, "report.md", "report.json")]


def report_text(report: SceneReport, pictures: list[str]) -> str:
    """The report in Markdown, with the pictures that lie beside it."""
    *findings, verdict = report.lines()
    method = (
        f"Matches: SIFT at the pictures' own size, each the other's nearest, ratio below {RATIO}, within {EPIPOLAR:g} "
        "px of the epipolar lines of a fundamental matrix (MAGSAC++), which knows nothing of depth and poses. Wrong "
        "matches that happen to lie on their epipolar line stay in. Only matches that depth and poses show to both "
        f"pictures count. Distances are scaled to a long side of {REFERENCE_SIDE} px."
    )
    parts = [f"# Check of {report.scene}", f"**{verdict}**", "\n".join(f"- {line}" for line in findings), method]
    for name in pictures:
        title = Path(name).stem.capitalize()
        parts.append(f"## {title}\n\n{CAPTIONS[name]}\n\n![{title}]({name})")
    return "\n\n".join(parts) + "\n"
