"""`lfnet eval` as a user runs it, well and badly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lfnet.evaluation.results import read_results

pytestmark = pytest.mark.slow

SMALL = ("--matching.budgets", "64", "128", "--sweep.turns", "0", "90", "--sweep.zooms", "0.5", "--sweep.budget", "64",
         "--sweep.pairs", "2", "--homography.budget", "128", "--threads", "1")  # fmt: skip


@pytest.fixture
def sets(tmp_path: Path, camera: NDArray[np.uint8]) -> Path:
    """Two homography sets in the Oxford layout, of two pictures each besides the first."""
    folder = tmp_path / "sets"
    size = (camera.shape[1], camera.shape[0])
    for scene, start in (("mild", 0.02), ("strong", 0.06)):
        (folder / scene).mkdir(parents=True)
        Image.fromarray(camera).save(folder / scene / "img1.png")
        for index in (2, 3):
            matrix = np.array([[1 - index * start, start, 4], [-start, 1 - index * start, 6], [0, 0, 1]])
            view = cv2.warpPerspective(camera, matrix, size)
            Image.fromarray(view).save(folder / scene / f"img{index}.png")
            storage = cv2.FileStorage(str(folder / scene / f"H1to{index}p.xml"), cv2.FILE_STORAGE_WRITE)
            storage.write("H", matrix)
            storage.release()
    return folder


def test_run_report_and_compare(run_lfnet, sets: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = ("eval", "run", sets, "--methods", "rootsift", "first=orb", "--output", output, *SMALL)
    done = run_lfnet(*command)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in output.iterdir()} >= {"results.json", "tables.md", "index.html", "pictures", "cache"}
    results = read_results(output / "results.json")
    assert [section.protocol for section in results.sections] == ["matching", "sweep", "homography"]
    matching = results.section("matching", "sets")
    assert matching.methods() == ["rootsift", "first"]
    assert matching.budgets() == [64, 128]
    assert matching.subsets() == ["mild", "strong"]
    assert len(matching.rows) == 2 * 2 * 4
    assert matching.only(subset="mild").mean("matching_score@5") > 0.3
    assert results.section("sweep").variants() == ["turn000", "turn090", "zoom0.5"]
    assert results.environment["threads_opencv"] == "1"
    assert "lfnet eval run" in results.command
    assert "rootsift" in done.stdout
    assert "first" in (output / "tables.md").read_text()

    page, tables = (output / "index.html").read_bytes(), (output / "tables.md").read_bytes()
    (output / "index.html").unlink()
    (output / "tables.md").unlink()
    assert run_lfnet("eval", "report", output).returncode == 0
    assert (output / "index.html").read_bytes() == page
    assert (output / "tables.md").read_bytes() == tables

    other = tmp_path / "other"
    again = run_lfnet(*command[:-len(SMALL) - 1], other, *SMALL, "--cache", output / "cache")
    assert again.returncode == 0, again.stderr
    assert [section.rows for section in read_results(other / "results.json").sections] == [
        section.rows for section in results.sections
    ], "what is cached gives the same rows"
    same = run_lfnet("eval", "compare", output, other / "results.json")
    assert same.returncode == 0, same.stderr
    assert "Better (0)" in same.stdout
    assert "Worse (0)" in same.stdout
    renamed = run_lfnet("eval", "compare", output, other, "--rename", "rootsift=first")
    assert renamed.returncode == 0, renamed.stderr


def test_the_rest_goes_on(run_lfnet, sets: Path, tmp_path: Path) -> None:
    (sets / "mild" / "img3.png").unlink()
    storage = cv2.FileStorage(str(sets / "strong" / "H1to2p.xml"), cv2.FILE_STORAGE_WRITE)
    storage.write("H", np.ones((3, 3)))
    storage.release()
    done = run_lfnet(
        "eval", "run", sets, tmp_path / "nowhere", "--methods", "orb", "-o", tmp_path / "out",
        "--protocols", "matching", *SMALL,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "nowhere: no such file or folder" in done.stderr
    results = read_results(tmp_path / "out" / "results.json")
    (section,) = results.sections
    assert len({row.pair for row in section.rows}) == 2
    assert len(section.skipped) == 2
    assert any("img3" in line for line in section.skipped)
    assert any("singular" in line for line in section.skipped)
    assert "nowhere" in results.skipped[0]
    for line in (*section.skipped, *results.skipped):
        assert line.split("\n")[0] in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "expected", "code"),
    [
        ((), "name data to measure on", 2),
        (("nowhere",), "nowhere: no such file or folder", 1),
        (("sets", "--methods", "surf"), "no method 'surf'", 1),
        (("sets", "--methods", "missing.safetensors"), "missing.safetensors", 1),
        (("sets", "--methods", "orb", "orb"), "twice: orb", 1),
        (("sets", "--methods", "disk"), "disk", 1),
        (("sets", "--methods", "json:nothing"), "json:nothing", 1),
        (("sets", "--methods", "orb", "--output", "file"), "is a file", 2),
        (("sets", "--protocols", "structure"), "needs folders of photos", 2),
        (("sets", "--tuning", "nowhere", "--methods", "orb"), "nowhere: no such file or folder", 1),
    ],
)
def test_wrong_use_is_one_line(
    run_lfnet, sets: Path, arguments: tuple[str, ...], expected: str, code: int
) -> None:
    (sets.parent / "file").write_text("")
    done = run_lfnet("eval", "run", *arguments, cwd=sets.parent)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("lfnet: error")]
    assert len(lines) == 1
    assert expected in lines[0]


def test_settings_that_make_no_sense_are_wrong_usage(run_lfnet, sets: Path) -> None:
    done = run_lfnet("eval", "run", sets, "--methods", "orb", "--sweep.zooms", "-1")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "zooms must be positive" in " ".join(done.stderr.split())


@pytest.mark.parametrize("content", ["[1, 2]", '{"version": 99, "sections": []}', "{"])
def test_what_is_no_results_file_is_refused(run_lfnet, tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    for command in (("report", tmp_path), ("compare", tmp_path, tmp_path)):
        done = run_lfnet("eval", *command)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "results.json" in done.stderr


def test_features_of_anybody_are_measured_without_code(run_lfnet, sets: Path, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    done = run_lfnet("extract", sets, "-o", tmp_path / "features.h5", "--max-keypoints", "128", "--threads", "1")
    assert done.returncode == 0, done.stderr
    shutil.copy(tmp_path / "features.h5", tmp_path / "theirs.h5")
    done = run_lfnet(
        "eval", "run", sets, "--methods", "ours=lfnet-cpu", tmp_path / "theirs.h5", "-o", tmp_path / "out", *SMALL
    )
    assert done.returncode == 0, done.stderr
    results = read_results(tmp_path / "out" / "results.json")
    matching = results.section("matching")
    for budget in (64, 128):
        ours, theirs = (matching.only(method=name, budget=budget) for name in ("ours", "theirs"))
        assert theirs.mean("matching_score@5") == pytest.approx(ours.mean("matching_score@5"), abs=1e-6)
    sweep = results.section("sweep")
    assert sweep.methods() == ["ours"]
    assert any(line.startswith("theirs is left out") for line in sweep.skipped)


@pytest.mark.slow
def test_quick_needs_no_data(run_lfnet, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    done = run_lfnet("eval", "quick", "--methods", "orb", "rootsift", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "quick" / "results.json").read_text())
    measured = {section["protocol"] for section in written["sections"]}
    assert measured == {"matching", "sweep", "pose", "homography", "cost"}
    assert (tmp_path / "quick" / "index.html").stat().st_size < 5_000_000
