"""A turning picture, matched live against its first frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lfnet.models.lfnet import LFNet
from lfnet.reports.drawing import GREEN
from lfnet.reports.live import Live, LiveSettings
from support.clips import turned_and_zoomed, write_clip


def test_the_first_frame_is_frozen_until_another_one_is(tiny_model: LFNet, camera: NDArray[np.uint8]) -> None:
    picture = np.repeat(camera[:, :, None], 3, 2)
    live, counts = Live(tiny_model, LiveSettings(max_keypoints=100, long_side=128)), []
    for number, frame in enumerate(live.frames(turned_and_zoomed(picture, 4, 180.0, 1.0))):
        counts.append(frame.counts)
        assert frame.image.shape == (128, 2 * 128 + 8, 3)
        assert (frame.image == GREEN).all(-1).any()
        assert frame.counts.seconds > 0
        if number == 1:
            live.freeze_next()
    inliers = [each.inliers for each in counts]
    # Of the frozen frame with itself every keypoint is matched.
    assert inliers[0] == inliers[2] == counts[0].keypoints == 100
    assert inliers[1] < 100
    assert inliers[3] < 100


@pytest.mark.slow
def test_demo_of_a_clip_writes_one(run_lfnet, tiny_weights: Path, coffee: NDArray[np.uint8], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", turned_and_zoomed(coffee, 4, 40.0, 1.1))
    words = ("demo", "--camera", clip, "--weights", tiny_weights, "--max-keypoints", "64")
    done = run_lfnet(*words, "-o", tmp_path / "out.mp4")
    assert done.returncode == 0, done.stderr
    assert "out.mp4: 4 frames" in done.stdout
    from lfnet.clips import count_frames

    assert count_frames(tmp_path / "out.mp4") == 4
    for others, message in (
        (("-o", clip), "is one of the inputs"),
        (("-o", tmp_path / "a.avi"), "end it in .mp4"),
        (("-o", tmp_path / "b.mp4", "--turns", "30"), "leave --turns or --camera out"),
    ):
        refused = run_lfnet(*words, *others)
        assert refused.returncode in (1, 2)
        assert message in refused.stderr
        assert refused.stderr.count("\n") == 1, refused.stderr


def test_a_window_without_a_screen_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from lfnet.cli.window import Window
    from lfnet.errors import UserError

    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(UserError, match=r"-o out\.mp4"):
        Window("lfnet demo", lambda: None)
