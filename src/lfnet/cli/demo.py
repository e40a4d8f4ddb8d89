"""`lfnet demo`: match a real stereo pair, plain and turned, beside RootSIFT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lfnet.cli.options import Model
from lfnet.evaluation.protocols.matching import ALL_TURNS
from lfnet.settings import ConfigError, require_at_least


@dataclass(frozen=True)
class Command(Model):
    """Match the stereo pair that scikit-image bundles, its second picture turned, beside RootSIFT."""

    output: Path = Path("demo")
    """Folder for pictures of the matches, the page index.html and results.json."""
    turns: tuple[int, ...] = ALL_TURNS
    """Degrees, clockwise, that the second picture is turned by."""
    max_keypoints: int = 512
    """Budget of keypoints of a picture, for both methods."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, "", {"max_keypoints": 1})
        if not self.turns:
            raise ConfigError("turns: expected at least one angle in degrees")


def run(command: Command) -> int:
    """Match, and print the table of turns.

    Raises:
        ModuleNotFoundError: scikit-image is not installed.
    """
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
        files = run_demo(command.output, source, settings, progress, drawn_turn=drawn, command=typed())
    print("A real stereo pair (Middlebury motorcycle, from scikit-image), the second picture turned:\n")
    print(markdown(*turn_table(files.results.section("sweep"))))
    print("\nscore: of the keypoints of one picture that the other sees, the share whose nearest descriptor")
    print("lies within 5 px of the true place, both directions averaged.\n")
    for picture in files.pictures:
        print(f"matches drawn  {picture}")
    print(f"page           {files.page}")
    print(f"numbers        {files.json}")
    return 0
