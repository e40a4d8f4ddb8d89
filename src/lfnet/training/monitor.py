"""What a run leaves behind to be looked at: a CSV, TensorBoard events, and pictures."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from lfnet.data.pair import Pair
from lfnet.files.atomic import naming, write_bytes
from lfnet.training.branches import Direction, StepResult

EVERY = 20
"""Steps between two rows of losses."""
RIGHT_WITHIN = 3.0
"""Pixels from the true place within which a match is drawn as right."""


class Monitor:
    """Writes the measures of a run; a resumed run goes on in the same files."""

    def __init__(self, output: Path, step: int) -> None:
        self._output = output
        self._table = output / "metrics.csv"
        _drop_rows_after(self._table, step)
        self._events = output / "tensorboard"
        self._writer = _tensorboard(self._events, step)

    @property
    def has_tensorboard(self) -> bool:
        """Whether TensorBoard is installed, and gets events."""
        return self._writer is not None

    def step(self, step: int, result: StepResult, losses: dict[str, float]) -> None:
        """Losses and statistics of a training step, every `EVERY` steps."""
        if step % EVERY:
            return
        values = {f"loss/{name}": value for name, value in losses.items()}
        values.update(_statistics(result))
        self._write(step, values)

    def validation(self, step: int, scores: dict[str, float]) -> None:
        """Measures on held-back pairs."""
        self._write(step, {f"validation/{name}": value for name, value in scores.items()})

    def pictures(self, step: int, batch: Pair, result: StepResult) -> None:
        """Score map, painted target, keypoints and correspondences of the first pair of the batch."""
        sheet = draw_sheet(batch, result)
        folder = self._output / "pictures"
        write_bytes(folder / f"step_{step:07d}.png", cv2.imencode(".png", sheet)[1].tobytes())
        if self._writer is not None:
            with naming(self._events):
                self._writer.add_image("pair", sheet[..., ::-1].copy(), step, dataformats="HWC")

    def close(self) -> None:
        """Flush."""
        if self._writer is not None:
            with naming(self._events):
                self._writer.close()

    def _write(self, step: int, values: dict[str, float]) -> None:
        with naming(self._table), open(self._table, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if file.tell() == 0:
                writer.writerow(("step", "name", "value"))
            writer.writerows((step, name, f"{value:.6g}") for name, value in values.items())
        if self._writer is not None:
            with naming(self._events):
                for name, value in values.items():
                    self._writer.add_scalar(name, value, step)


def _drop_rows_after(table: Path, step: int) -> None:
    """A run that was stopped wrote rows after its last checkpoint; they come again."""
    if not table.exists():
        return
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    kept = rows[:1] + [row for row in rows[1:] if len(row) == 3 and int(row[0]) <= step]
    text = io.StringIO()
    csv.writer(text).writerows(kept)
    write_bytes(table, text.getvalue().encode())


def _tensorboard(events: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    with naming(events):
        return SummaryWriter(str(events), purge_step=step + 1)


@torch.no_grad()
def _statistics(result: StepResult) -> dict[str, float]:
    first, second = result.directions
    visible = torch.cat((first.target.visible, second.target.visible)).float().mean()
    keypoints = first.correspondences.keypoints
    present = first.correspondences.counts
    values = {"statistics/visible": float(visible), "statistics/correspondences": float(
        torch.cat((first.correspondences.counts, second.correspondences.counts)).float().mean()
    )}  # fmt: skip
    if bool(present.any()):
        directions = keypoints.orientations[present]
        values["statistics/score_peak"] = float(keypoints.scores[present].mean())
        values["statistics/scale_spread"] = float(keypoints.scales[present].log().std(correction=0))
        values["statistics/orientation_spread"] = 1 - float(directions.mean(0).norm())
    return values


def draw_sheet(batch: Pair, result: StepResult) -> np.ndarray:
    """BGR picture: a row per view with keypoints, score map, target, both laid over each other, and matches.

    The fifth tile holds the other view: each keypoint's nearest descriptor there, green if it is at the true
    place, red with a line to where it should be if not.
    """
    rows = []
    views = (batch.a, batch.b)
    for number, (view, seen, direction) in enumerate(zip(views, result.views, result.directions, strict=True)):
        picture = _bytes(view.image[0, 0])
        scores = _bytes(seen.maps.scores[0, 0])
        target = _bytes(direction.target.scores[0, 0])
        unseen = ~direction.target.known[0, 0].cpu().numpy()
        drawn = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
        keypoints, counts = direction.correspondences.keypoints, direction.correspondences.counts[0]
        for point, scale, turn in zip(
            keypoints.points[0][counts].tolist(),
            keypoints.scales[0][counts].tolist(),
            keypoints.orientations[0][counts].tolist(),
            strict=True,
        ):
            centre = (round(point[0]), round(point[1]))
            tip = (round(point[0] + 6 * scale * turn[0]), round(point[1] + 6 * scale * turn[1]))
            cv2.line(drawn, centre, tip, (0, 200, 255), 1)
            cv2.circle(drawn, centre, 1, (0, 255, 0), -1)
        overlay = np.stack((np.zeros_like(scores), target, scores), -1)
        overlay[unseen] = overlay[unseen] // 2 + 40
        tiles = [drawn, cv2.cvtColor(scores, cv2.COLOR_GRAY2BGR), cv2.cvtColor(target, cv2.COLOR_GRAY2BGR), overlay]
        tiles.append(_draw_matches(views[1 - number].image, direction))
        rows.append(np.hstack(tiles))
    return cv2.resize(np.vstack(rows), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)


def _draw_matches(other: torch.Tensor, direction: Direction) -> np.ndarray:
    drawn = cv2.cvtColor(_bytes(other[0, 0]), cv2.COLOR_GRAY2BGR)
    counts = direction.correspondences.counts[0]
    if direction.descriptors is None or not bool(counts.any()):
        return drawn
    mine, theirs = (each[0][counts].float() for each in direction.descriptors)
    points = direction.correspondences.points_j[0][counts]
    found = points[torch.cdist(mine, theirs).argmin(1)]
    right = (found - points).norm(dim=-1) <= RIGHT_WITHIN
    for place, true_place, good in zip(found.tolist(), points.tolist(), right.tolist(), strict=True):
        end = (round(place[0]), round(place[1]))
        if not good:
            cv2.line(drawn, end, (round(true_place[0]), round(true_place[1])), (60, 60, 255), 1)
        cv2.circle(drawn, end, 2, (0, 220, 0) if good else (60, 60, 255), -1)
    return drawn


def _bytes(plane: torch.Tensor) -> np.ndarray:
    return (plane.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
