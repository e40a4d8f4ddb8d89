"""A benchmark from end to end: measured, written as results, drawn as tables and a page."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lfnet.evaluation.results import Results, describe_environment, read_results, write_results
from lfnet.evaluation.suite import about_methods, measure
from lfnet.files.atomic import make_folder, write_bytes
from lfnet.progress import Say
from lfnet.reports.benchmark.examples import draw_examples, forget_examples, read_examples
from lfnet.reports.benchmark.page import benchmark_page
from lfnet.reports.benchmark.tables import tables

if TYPE_CHECKING:
    from lfnet.evaluation.feature_source import FeatureSource
    from lfnet.evaluation.suite import BenchmarkSettings, Material, ProtocolName

RESULTS = "results.json"
TABLES = "tables.md"
PAGE = "index.html"


@dataclass(frozen=True)
class Request:
    """What is wanted of a benchmark."""

    material: Material
    protocols: Sequence[ProtocolName]
    settings: BenchmarkSettings
    command: str
    """What was typed, for the reader of the results."""
    skipped: Sequence[str] = ()
    """Data that could not be opened, a line each."""
    drawn: Collection[str] | None = None
    """Names of the data sets of which pairs are drawn; None = of all."""


def run_benchmark(request: Request, source: FeatureSource, output: Path, progress: Say) -> Results:
    """Measure and report, writing after every section, so that a run that is stopped leaves what it had.

    Args:
        request: what to measure.
        source: features of the methods.
        output: folder for results.json, tables.md, index.html and pictures/.
        progress: called with what is being measured.

    Returns:
        the results; earlier ones stay in the folder where nothing could be measured.

    Raises:
        OSError: the output can't be written.
    """
    make_folder(output)
    environment = describe_environment()
    results = Results([], environment, {}, request.command, list(request.skipped))
    for section, dataset in measure(request.material, source, request.protocols, request.settings, progress):
        results.sections.append(section)
        if section.rows and not any(earlier.rows for earlier in results.sections[:-1]):
            forget_examples(output)  # Not before there is something to put in their place.
        results.methods.update(about_methods(source))
        wanted = dataset is not None and (request.drawn is None or dataset.name in request.drawn)
        if wanted and section.protocol == "matching" and section.rows:
            progress(f"drawing examples of {section.title}")
            assert dataset is not None
            draw_examples(dataset, section, source, output)
        if any(known.rows for known in results.sections):
            write_results(output / RESULTS, results)
    if any(section.rows for section in results.sections):
        write_report(output)
    return results


def write_report(output: Path) -> list[Path]:
    """Tables and page from the results and drawings of a folder.

    Args:
        output: folder that `run_benchmark` wrote.

    Returns:
        the files written.

    Raises:
        ValueError: its results are none.
        OSError: there are none, or nothing can be written.
    """
    results = read_results(output / RESULTS)
    write_bytes(output / TABLES, (tables(results) + "\n").encode())
    write_bytes(output / PAGE, benchmark_page(results, read_examples(output)).encode())
    return [output / TABLES, output / PAGE]
