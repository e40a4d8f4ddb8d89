"""`lfnet eval`: measure features, ours and others', on pictures with known geometry."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from lfnet.cli.options import Device
from lfnet.errors import UsageError, UserError
from lfnet.evaluation.data.data_settings import DataSettings
from lfnet.evaluation.suite import BenchmarkSettings, ProtocolName
from lfnet.progress import Say
from lfnet.settings import ConfigError

if TYPE_CHECKING:
    from lfnet.reports.benchmark.run import Request

METHODS = ("sift", "rootsift", "orb", "lfnet-cpu")
PAIR_PROTOCOLS: tuple[ProtocolName, ...] = ("matching", "sweep", "pose", "homography")


@dataclass(frozen=True)
class Machine(Device):
    """With what it is measured, and where results go."""

    methods: tuple[str, ...] = METHODS
    """sift, rootsift, orb, brisk, akaze; packaged weights by name; paths to weights (.safetensors) or to features of
    anybody (.h5, hloc's layout); module:factory of an extractor of your own; disk:PATH, aliked:PATH, xfeat:PATH,
    dedode:PATH, superpoint:PATH with weights of yours (extra `rivals`). NAME=METHOD gives a name for the tables."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("benchmark")
    """Folder for results.json, tables.md, index.html, pictures and the cache; earlier results in it are replaced."""
    cache: Path | None = None
    """Folder that features, matches and measures are kept in; `cache` in the output if left out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.methods:
            raise ConfigError("methods: name at least one")


@dataclass(frozen=True)
class QuickCommand:
    """A first look, in minutes and without any data: rendered rooms, warped photographs, and the bundled stereo pair
    (extra `demo`)."""

    machine: Annotated[Machine, tyro.conf.arg(name="")] = field(default_factory=lambda: Machine(output=Path("quick")))


@dataclass(frozen=True)
class RunCommand:
    """Every protocol that fits, on your data: scenes, RGB-D recordings, homography sets (Oxford, HPatches), COLMAP
    models, folders with cameras, pair lists of ScanNet-1500, YFCC and MegaDepth-1500."""

    data: tyro.conf.Positional[tuple[str, ...]] = ()
    """Folders and pair lists, each as PATH or NAME=PATH; and rendered, warped, stereo, which need none."""
    photos: tuple[Path, ...] = ()
    """Folders of photos for the protocol `structure` (extra `sfm`)."""
    protocols: tuple[ProtocolName, ...] = PAIR_PROTOCOLS
    """What to measure; each is done on the data that it fits. `structure` and `cost` are done if they are named."""
    tuning: str | None = None
    """Data that ratio and threshold are tuned on for pose and homography; every fourth group of each data set, set
    aside and taken together, if left out."""
    drawn: tuple[str, ...] | None = None
    """Data sets, by name, of which pairs are drawn; all if left out. Who publishes the page publishes those pictures:
    mind their licences."""
    machine: Annotated[Machine, tyro.conf.arg(name="")] = field(default_factory=Machine)
    pairs: Annotated[DataSettings, tyro.conf.arg(name="")] = field(default_factory=DataSettings)
    measure: Annotated[BenchmarkSettings, tyro.conf.arg(name="")] = field(default_factory=BenchmarkSettings)


@dataclass(frozen=True)
class ReportCommand:
    """Tables and page again, from the results of a folder."""

    folder: tyro.conf.Positional[Path]
    """Folder that `lfnet eval run` or `quick` wrote."""


@dataclass(frozen=True)
class CompareCommand:
    """What became better or worse from one run to another, beyond the 95 % interval."""

    before: tyro.conf.Positional[Path]
    """results.json, or its folder."""
    after: tyro.conf.Positional[Path]
    """results.json of the run to hold against it, or its folder."""
    rename: tuple[str, ...] = ()
    """Methods with different names in the two, each as BEFORE=AFTER."""


@dataclass(frozen=True)
class Command:
    """Measure features by matching score, pose, homography, rotation, scale, structure from motion and cost.

    Every method gets the same pictures at the same size with the same budget of keypoints. Features, matches and
    measures are cached under everything that decides them: the same command repeats a run in seconds.
    """

    task: Annotated[
        Annotated[QuickCommand, tyro.conf.subcommand("quick", prefix_name=False)]
        | Annotated[RunCommand, tyro.conf.subcommand("run", prefix_name=False)]
        | Annotated[ReportCommand, tyro.conf.subcommand("report", prefix_name=False)]
        | Annotated[CompareCommand, tyro.conf.subcommand("compare", prefix_name=False)],
        tyro.conf.arg(name=""),
    ]
    """What to do."""


def run(command: Command) -> int:
    """Measure, report or compare: 0, or 1 where something could not be measured."""
    task = command.task
    if isinstance(task, ReportCommand):
        from lfnet.reports.benchmark.run import write_report

        print(f"wrote {', '.join(map(str, write_report(task.folder)))}")
        return 0
    if isinstance(task, CompareCommand):
        return _compare(task)
    device = str(task.machine.pick())
    request = _quick_request() if isinstance(task, QuickCommand) else _request(task)
    return _run(request, task.machine, device)


def _request(command: RunCommand) -> Request:
    from lfnet.evaluation.suite import Material, open_all
    from lfnet.reports.benchmark.run import Request

    if not command.data and not command.photos and "cost" not in command.protocols:
        raise UsageError("name data to measure on, or --photos, or --protocols cost; 'lfnet eval quick' needs none")
    if "structure" in command.protocols and not command.photos:
        raise UsageError("--protocols structure needs folders of photos: --photos FOLDER ...")
    datasets, lines = open_all(command.data, command.pairs)
    if command.data and not datasets:
        raise UserError(lines[0])
    tuning = None
    if command.tuning is not None:
        opened, wrong = open_all([command.tuning], command.pairs)
        if wrong:
            raise UserError(f"--tuning: {wrong[0]}")
        tuning = opened[0]
    protocols = command.protocols
    if command.photos and "structure" not in protocols:
        protocols = (*protocols, "structure")
    material = Material(datasets, command.photos, tuning)
    unknown = sorted(set(command.drawn or ()) - {dataset.name for dataset in datasets})
    if unknown:
        raise UsageError(f"--drawn: no data set is called {', '.join(unknown)}")
    return Request(material, protocols, command.measure, typed(), lines, command.drawn)


def _quick_request() -> Request:
    from lfnet.evaluation.suite import EMBEDDED, Material, open_all
    from lfnet.reports.benchmark.run import Request

    datasets, lines = open_all(list(EMBEDDED), DataSettings())
    return Request(Material(datasets), (*PAIR_PROTOCOLS, "cost"), BenchmarkSettings.quick(), typed(), lines)


def _run(request: Request, machine: Machine, device: str) -> int:
    from lfnet.evaluation.cache import Cache
    from lfnet.evaluation.feature_source import FeatureSource
    from lfnet.evaluation.methods.extractors import make_methods
    from lfnet.reports.benchmark.run import PAGE, run_benchmark
    from lfnet.reports.benchmark.tables import full_report

    for line in request.skipped:
        print(f"lfnet: left out: {line}", file=sys.stderr)
    if machine.output.exists() and not machine.output.is_dir():
        raise UsageError(f"--output {machine.output}: is a file; name a folder")
    cache = Cache(machine.cache or machine.output / "cache")
    source = FeatureSource(make_methods(machine.methods, device), cache, request.settings.rules)
    with status() as progress:
        results = run_benchmark(request, source, machine.output, progress)
    if not any(section.rows for section in results.sections):
        for line in dict.fromkeys(line for section in results.sections for line in section.skipped):
            print(f"lfnet: left out: {line}", file=sys.stderr)
        fitting = "no data has what these protocols need" if not results.sections else "see above"
        print(f"lfnet: error: nothing could be measured: {fitting} ({', '.join(request.protocols)})", file=sys.stderr)
        return 1
    print(full_report(results))
    print(f"\nwrote {machine.output / PAGE}, results.json and tables.md beside it")
    return 1 if request.skipped else 0


def _compare(command: CompareCommand) -> int:
    from lfnet.evaluation.results import read_results
    from lfnet.reports.benchmark.comparison import compare, comparison_text
    from lfnet.reports.benchmark.run import RESULTS

    rename = {}
    for text in command.rename:
        before, equals, after = text.partition("=")
        if not (before and equals and after):
            raise UsageError(f"--rename expects BEFORE=AFTER, got {text!r}")
        rename[before] = after
    paths = (path / RESULTS if path.is_dir() else path for path in (command.before, command.after))
    print(comparison_text(compare(*map(read_results, paths), rename=rename)))
    return 0


def typed() -> str:
    """The command line as it could be typed again."""
    return shlex.join(["lfnet", *sys.argv[1:]])


@contextmanager
def status() -> Iterator[Say]:
    """A line that says what is being measured; on no terminal, one for each section."""
    from tqdm import tqdm

    with tqdm(unit=" pairs", leave=False, disable=None, bar_format="{n_fmt} pairs in {elapsed}: {desc}") as bar:
        last = ""

        def progress(text: str) -> None:
            nonlocal last
            section = text.partition(":")[0]
            if bar.disable and section != last:
                print(section, file=sys.stderr, flush=True)
            last = section
            bar.set_description_str(text, refresh=False)
            bar.update()

        yield progress
