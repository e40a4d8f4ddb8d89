"""`lfnet evaluate`: measure features on pictures with known geometry."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from lfnet.cli.options import UsageError, check_output, pick_device
from lfnet.evaluation.homographies import HomographySettings
from lfnet.evaluation.protocols import ProtocolSettings
from lfnet.evaluation.scene import SceneSettings
from lfnet.evaluation.sequence import SequenceSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lfnet.evaluation.baselines import Extractor
    from lfnet.evaluation.results import PairRow, Results


@dataclass(frozen=True)
class Run:
    """What to measure with, and where results go."""

    methods: tuple[str, ...] = ("rootsift", "lfnet-cpu")
    """sift, rootsift, orb, packaged weights by name, or paths to weights."""
    output: Path | None = None
    """JSON file for the results, one row for each pair; the tables go to the same name with .md."""
    threads: int | None = None
    """Threads of PyTorch and OpenCV; all cores if left out."""
    device: str = "auto"
    """PyTorch device of the models: auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True)
class SequenceCommand:
    """RGB-D sequence: pairs by frame gap, the second view turned and zoomed."""

    folder: tyro.conf.Positional[Path]
    """Folder of a recording: plain (images, depth, K.txt, poses.txt), 7-Scenes, TUM RGB-D, ScanNet (or its .sens file),
    MegaDepth or Image Matching Benchmark."""
    run: Run = field(default_factory=Run)
    pairs: SequenceSettings = field(default_factory=SequenceSettings)
    measure: ProtocolSettings = field(default_factory=lambda: ProtocolSettings(zooms=(0.5, 2.0)))

    def results(self, extractors: list[Extractor]) -> Results:
        """Run the protocol."""
        from lfnet.evaluation.sequence import evaluate_sequence

        results = evaluate_sequence(self.folder, extractors, self.pairs, self.measure, progress=progress_bar)
        for note in results.settings["notes"]:
            print(f"{self.folder}: {note}", file=sys.stderr)
        return results


@dataclass(frozen=True)
class SceneCommand:
    """Scene that `lfnet prepare` made: its pairs, by default those held back, the second view turned."""

    folder: tyro.conf.Positional[Path]
    """Folder of the scene."""
    run: Run = field(default_factory=Run)
    pairs: SceneSettings = field(default_factory=SceneSettings)
    measure: ProtocolSettings = field(default_factory=ProtocolSettings)

    def results(self, extractors: list[Extractor]) -> Results:
        """Run the protocol."""
        from lfnet.evaluation.scene import evaluate_scene

        return evaluate_scene(self.folder, extractors, self.pairs, self.measure, progress=progress_bar)


@dataclass(frozen=True)
class HomographiesCommand:
    """Homography sets in the Oxford layout: image 1 against the others of each scene."""

    folder: tyro.conf.Positional[Path]
    """Folder of scenes, each with img1.png ... and H1toNp.xml."""
    run: Run = field(default_factory=Run)
    pairs: HomographySettings = field(default_factory=HomographySettings)
    measure: ProtocolSettings = field(default_factory=lambda: ProtocolSettings(turns=(0,)))

    def results(self, extractors: list[Extractor]) -> Results:
        """Run the protocol."""
        from lfnet.evaluation.homographies import evaluate_homographies

        return evaluate_homographies(self.folder, extractors, self.pairs, self.measure, progress=progress_bar)


@dataclass(frozen=True)
class StereoCommand:
    """The stereo pair that scikit-image bundles (extra `demo`), the second view turned."""

    run: Run = field(default_factory=Run)
    measure: ProtocolSettings = field(default_factory=ProtocolSettings)

    def results(self, extractors: list[Extractor]) -> Results:
        """Run the protocol."""
        from lfnet.evaluation.stereo import evaluate_stereo

        return evaluate_stereo(extractors, self.measure, progress=progress_bar)


Protocol = (
    Annotated[SequenceCommand, tyro.conf.subcommand("sequence", prefix_name=False)]
    | Annotated[SceneCommand, tyro.conf.subcommand("scene", prefix_name=False)]
    | Annotated[HomographiesCommand, tyro.conf.subcommand("homographies", prefix_name=False)]
    | Annotated[StereoCommand, tyro.conf.subcommand("stereo", prefix_name=False)]
)


def evaluate(protocol: tyro.conf.OmitArgPrefixes[Protocol]) -> None:
    """Measure features by matching score and print tables: ours beside OpenCV's, on the same pictures.

    Args:
        protocol: the data to measure on.

    Raises:
        UsageError: the results can't be written where they are wanted.
        ValueError: the data can't be read, or a method is unknown.
    """
    from lfnet.evaluation.baselines import make_extractors
    from lfnet.evaluation.results import write_results
    from lfnet.evaluation.tables import full_report
    from lfnet.files import write_bytes

    run = protocol.run
    if run.output is not None:
        if run.output.suffix != ".json":
            raise UsageError(f"--output must end in .json, got {run.output}")
        if not run.output.parent.is_dir():
            raise UsageError(f"--output: there is no folder {run.output.parent}")
        check_output(run.output, ())
    device = pick_device(run.device, run.threads)
    results = protocol.results(make_extractors(run.methods, str(device)))
    report = full_report(results)
    print(report)
    if run.output is not None:
        write_results(run.output, results)
        write_bytes(run.output.with_suffix(".md"), (report + "\n").encode())
        print(f"\nwrote {run.output} and {run.output.with_suffix('.md')}")


def progress_bar(rows: Iterator[PairRow], total: int) -> Iterator[PairRow]:
    """Rows with a bar that says which method and turn is measured."""
    from tqdm import tqdm

    with tqdm(rows, total=total, unit="pair", leave=False, disable=None) as bar:
        for row in bar:
            bar.set_postfix_str(f"{row.method} {row.variant}", refresh=False)
            yield row
