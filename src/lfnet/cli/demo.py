"""`lfnet demo`: match a real stereo pair, plain and turned, beside RootSIFT; or a camera, live."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from lfnet.cli.options import Model, check_output
from lfnet.evaluation.protocols.matching import ALL_TURNS
from lfnet.settings import ConfigError, require_at_least

if TYPE_CHECKING:
    from lfnet.reports.live import LiveCounts


@dataclass(frozen=True)
class Command(Model):
    """Match the stereo pair that scikit-image bundles, its second picture turned, beside RootSIFT.

    With --camera: match each frame of a camera or a clip against the first, live in a window, or into a clip by -o.
    In the window, the space bar freezes another frame, and q ends.
    """

    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder for pictures of the matches, the page index.html and results.json; "demo" unless given. With --camera,
    the clip (.mp4) that is written."""
    camera: Annotated[str | None, tyro.conf.arg(metavar="NUMBER|CLIP")] = None
    """Number of a camera, such as 0, or a clip, such as clip.mp4."""
    turns: tuple[int, ...] = ALL_TURNS
    """Degrees, clockwise, that the second picture is turned by."""
    max_keypoints: int = 512
    """Budget of keypoints of a picture, for both methods."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, "", {"max_keypoints": 1})
        if not self.turns:
            raise ConfigError("turns: expected at least one angle in degrees")
        if self.camera is not None and self.turns != ALL_TURNS:
            raise ConfigError("turns: are for the stereo pair; leave --turns or --camera out")


def run(command: Command) -> int:
    """Match, and print what was found.

    Raises:
        ModuleNotFoundError: scikit-image is not installed.
        UserError: the camera or clip can't be read, or there is no screen for a window.
    """
    return _run_pair(command) if command.camera is None else _run_live(command, command.camera)


def _run_live(command: Command, camera: str) -> int:
    from lfnet.cli.window import Window
    from lfnet.clips import ClipWriter, frames_per_second, read_frames
    from lfnet.reports.live import Live, LiveSettings

    source = int(camera) if camera.isdecimal() else Path(camera)
    rate = frames_per_second(source)
    if command.output is not None:
        check_output(command.output, [source] if isinstance(source, Path) else [])
    live = Live(command.load(), LiveSettings(max_keypoints=command.max_keypoints))
    # Another frame is frozen by a key of the window.
    window = Window("lfnet demo", live.freeze_next) if command.output is None else None
    writer = None if command.output is None else ClipWriter(command.output, rate)
    counts: list[LiveCounts] = []
    try:
        for frame in live.frames(image for _, image in read_frames(source)):
            counts.append(frame.counts)
            if writer is not None:
                writer.add(frame.image)
            elif window is not None and window.open:
                window.show(frame.image)
            if window is not None and not window.open:
                break
    except KeyboardInterrupt:
        pass  # So a camera ends that writes a clip.
    except BaseException:
        if writer is not None:
            writer.discard()
        raise
    if writer is not None:
        writer.close()
    return _tell_live(counts, command.output)


def _tell_live(frames: list[LiveCounts], output: Path | None) -> int:
    means = [sum(values) / max(len(frames), 1) for values in zip(*frames, strict=True)]
    if not means:
        return 0
    place = "" if output is None else f"{output}: "
    keypoints, matches, inliers, seconds = means
    print(f"{place}{len(frames)} frames, {1 / seconds:.1f} a second; a frame has on average")
    print(f"{keypoints:.0f} keypoints and {matches:.0f} matches, of which {inliers:.0f} lie on one homography")
    return 0


def _run_pair(command: Command) -> int:
    from lfnet.cli.evaluate import status, typed
    from lfnet.evaluation.feature_source import FeatureSource
    from lfnet.evaluation.methods.extractors import make_methods
    from lfnet.evaluation.protocols.matching import SweepSettings
    from lfnet.reports.benchmark.tables import markdown
    from lfnet.reports.demo import run_demo
    from lfnet.reports.demo_page import turn_table

    source = FeatureSource(make_methods([command.weights, "rootsift"], str(command.pick())))
    settings = SweepSettings(turns=command.turns, zooms=(), budget=command.max_keypoints)
    drawn = min(command.turns, key=lambda degrees: (abs(degrees - 120), degrees))
    with status() as progress:
        files = run_demo(command.output or Path("demo"), source, settings, progress, drawn_turn=drawn, command=typed())
    print("A real stereo pair (Middlebury motorcycle, from scikit-image), the second picture turned:\n")
    print(markdown(*turn_table(files.results.section("sweep"))))
    print("\nscore: of the keypoints of one picture that the other sees, the share whose nearest descriptor")
    print("lies within 5 px of the true place, both directions averaged.\n")
    for picture in files.pictures:
        print(f"matches drawn  {picture}")
    print(f"page           {files.page}")
    print(f"numbers        {files.json}")
    return 0
