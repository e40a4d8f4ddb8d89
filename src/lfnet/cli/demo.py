"""`lfnet demo`: match a real stereo pair, plain and turned, beside RootSIFT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lfnet.evaluation.protocols import ALL_TURNS

if TYPE_CHECKING:
    from lfnet.evaluation.results import Results


def demo(
    output: Path = Path("demo"),
    weights: str = "lfnet-cpu",
    turns: tuple[int, ...] = ALL_TURNS,
    max_keypoints: int = 512,
    device: str = "auto",
    threads: int | None = None,
) -> None:
    """Match the stereo pair that scikit-image bundles, its second picture turned, beside RootSIFT.

    Args:
        output: folder for pictures of the matches, the page index.html and results.json.
        weights: packaged weights by name, or a path.
        turns: degrees, clockwise, that the second picture is turned by.
        max_keypoints: budget of keypoints of a picture, for both methods.
        device: auto, cpu, cuda or cuda:N.
        threads: of PyTorch and OpenCV; as many as they choose if left out.

    Raises:
        ModuleNotFoundError: scikit-image is not installed.
        UsageError: options that make no sense.
    """
    from lfnet.cli.evaluate import progress_bar
    from lfnet.cli.options import UsageError, keypoint_limits, pick_device
    from lfnet.evaluation.baselines import make_extractors
    from lfnet.evaluation.protocols import ProtocolSettings
    from lfnet.reports.demo import run_demo

    keypoint_limits(max_keypoints, 0.0)
    if not turns:
        raise UsageError("--turns needs at least one angle in degrees")
    extractors = make_extractors([weights, "rootsift"], str(pick_device(device, threads)))
    settings = ProtocolSettings(max_keypoints=max_keypoints, turns=turns)
    drawn = min(turns, key=lambda degrees: (abs(degrees - 120), degrees))
    files = run_demo(output, extractors, settings, drawn_turn=drawn, progress=progress_bar)
    print("A real stereo pair (Middlebury motorcycle, from scikit-image), the second picture turned:\n")
    print(turn_table(files.results))
    print("\nscore: of the keypoints of one picture that the other sees, the share whose nearest descriptor")
    print("lies within 5 px of the true place, both directions averaged.\n")
    for picture in files.pictures:
        print(f"matches drawn  {picture}")
    print(f"page           {files.page}")
    print(f"numbers        {files.json}")


def turn_table(results: Results, metric: str = "matching_score@5") -> str:
    """Keypoints, matches and matching score of every method at every turn, as text.

    Args:
        results: of the stereo protocol.
        metric: the score to show.

    Returns:
        aligned lines.
    """
    from lfnet.evaluation.tables import markdown

    methods = results.methods()
    columns = ("keypoints", "matches", metric)
    turns = [name for name in results.variants() if name.startswith("turn")]
    header = [
        "turn",
        *(f"{method} {column}" for method in methods for column in ("keypoints", "matches", "score")),
    ]
    rows = []
    for name in turns:
        cells = [results.mean(column, method, name) for method in methods for column in columns]
        rows.append([f"{int(name.removeprefix('turn'))}°", *_formatted(cells)])
    means = [
        sum(results.mean(column, method, name) for name in turns) / len(turns)
        for method in methods
        for column in columns
    ]
    return markdown(header, [*rows, ["mean", *_formatted(means)]])


def _formatted(cells: list[float]) -> list[str]:
    return [f"{value:.3f}" if index % 3 == 2 else f"{value:.0f}" for index, value in enumerate(cells)]
