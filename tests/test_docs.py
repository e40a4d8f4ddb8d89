"""Documentation runs: every block is executed or says why not, links lead somewhere, tables agree with the recipes."""

from __future__ import annotations

import csv
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lfnet.evaluation.results import read_results
from lfnet.models.weights import list_pretrained
from lfnet.settings import config_to_dict
from lfnet.training.config import build_config, read_config, read_tables
from support.commands import REPOSITORY
from support.rendered_photos import render_views, write_photos

RUN_FROM = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
ALL_PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md")),
             *sorted((REPOSITORY / "src").rglob("*.md"))]  # fmt: skip
NOT_RUN = re.compile(r"<!-- not run: (.*\S.*) -->$")
LANGUAGES = {"python", "bash", "toml", "text"}
"""Of blocks: the first two are executed, TOML is read as the settings of a run, text is shown."""
MACHINE_PATH = re.compile(r"(?<![\w.\-/])/(?:work|root|home|Users|tmp|mnt)/")
WHOLE_SEQUENCE_FRAMES = 10
PHOTOS = 12
"""In the folder of the page on photos: so many that a place can be held back."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    code: str
    line: int
    """Of the opening fence, from 1."""
    reason: str | None
    """Why it is not run, from the comment right before it."""


def read_blocks(text: str) -> list[Block]:
    """Every fenced block, in order."""
    blocks: list[Block] = []
    lines = text.splitlines()
    start = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        before = NOT_RUN.match(lines[start - 1]) if start else None
        code = "\n".join(lines[start + 1 : number]) + "\n"
        blocks.append(Block(lines[start][3:].strip(), code, start + 1, before.group(1) if before else None))
        start = None
    assert start is None, f"line {(start or 0) + 1}: a fence that is not closed"
    return blocks


def without_blocks(text: str) -> str:
    """A page without its fenced blocks and code in backticks."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def run_block(block: Block, namespace: dict[str, Any], folder: Path, environment: dict[str, str]) -> None:
    """Execute a block in a folder; Python blocks of a page share their names, as they do for a reader."""
    if block.language == "python":
        exec(compile(block.code, f"block at line {block.line}", "exec"), namespace)
    elif block.language == "bash":
        command = ["bash", "-euo", "pipefail", "-c", block.code]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False
        )
        assert done.returncode == 0, f"line {block.line}:\n{block.code}\n{done.stdout}\n{done.stderr}"
    elif block.language == "toml":
        (folder / "block.toml").write_text(block.code)
        build_config(read_tables(folder / "block.toml"))


def turned_view(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The picture turned by 30 degrees and at 0.8 of its size, and the 3x3 map of pixels to it."""
    height, width = image.shape[:2]
    matrix = np.eye(3)
    matrix[:2] = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 30, 0.8)
    return cv2.warpPerspective(image, matrix, (width, height), flags=cv2.INTER_AREA), matrix


def write_walk(folder: Path, picture: NDArray[np.uint8]) -> None:
    """A camera that moves sideways past a photograph on a wall 2 m away, in the plain layout."""
    focal, distance, step = 200.0, 2.0, 3
    (folder / "images").mkdir(parents=True)
    (folder / "depth").mkdir()
    np.savetxt(folder / "K.txt", [[focal, 0, 119.5], [0, focal, 89.5], [0, 0, 1]])
    poses = np.tile(np.eye(4), (WHOLE_SEQUENCE_FRAMES, 1, 1))
    poses[:, 0, 3] = np.arange(WHOLE_SEQUENCE_FRAMES) * step * distance / focal
    np.savetxt(folder / "poses.txt", poses.reshape(-1, 16))
    depth = np.full((180, 240), round(distance * 1000), np.uint16)
    for frame in range(WHOLE_SEQUENCE_FRAMES):
        view = picture[40:220, 40 + step * frame : 280 + step * frame]
        Image.fromarray(view).save(folder / "images" / f"{frame:03d}.png")
        cv2.imwrite(str(folder / "depth" / f"{frame:03d}.png"), depth)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the pages take for granted: pictures, two views of one thing, a sequence with depth."""
    data = pytest.importorskip("skimage.data")
    (tmp_path / "pictures").mkdir()
    for name in ("astronaut", "coffee", "chelsea", "brick", "rocket"):
        Image.fromarray(getattr(data, name)()).save(tmp_path / "pictures" / f"{name}.jpg", quality=92)
    image = cv2.resize(data.astronaut(), (400, 400), interpolation=cv2.INTER_AREA)
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(turned_view(image)[0]).save(tmp_path / "b.jpg", quality=95)
    write_walk(tmp_path / "walk", data.coffee())
    return tmp_path


@pytest.fixture
def environment(user_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A user's environment in which `lfnet` is this source."""
    binaries = tmp_path_factory.mktemp("bin")
    for name, words in (("lfnet", "-m lfnet.cli.main"), ("python", "")):
        command = binaries / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return {**user_environment, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}


def has_blocks_to_run(page: Path) -> bool:
    """Whether any block of a page is executed, or read as settings."""
    blocks = read_blocks(page.read_text(encoding="utf-8"))
    return any(block.reason is None and block.language in ("python", "bash", "toml") for block in blocks)


@pytest.mark.slow
@pytest.mark.parametrize("page", list(filter(has_blocks_to_run, RUN_FROM)), ids=lambda page: page.name)
def test_every_block_runs(
    page: Path, folder: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "lfnet-cpu" not in list_pretrained():
        pytest.skip("the package has no weights lfnet-cpu, which the documentation uses")
    monkeypatch.chdir(folder)
    if page.name in ("train_on_your_photos.md", "colmap.md"):
        if find_spec("pycolmap") is None:
            pytest.skip("the page needs pycolmap")
        write_photos(folder / "my_photos", render_views(PHOTOS))
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in read_blocks(page.read_text(encoding="utf-8")):
        if block.reason is None:
            run_block(block, namespace, folder, environment)
    checks = {"README.md": check_readme, "training.md": check_training, "train_on_your_photos.md": check_photos}
    check = checks.get(page.name)
    if check is not None:
        check(page, folder, namespace)


def check_readme(page: Path, folder: Path, namespace: dict[str, Any]) -> None:
    """The first snippet finds how the two pictures really are to each other."""
    image = np.asarray(Image.open(folder / "a.jpg"))
    truth = turned_view(image)[1]
    corners = np.array([[[50, 50], [350, 50], [350, 350], [50, 350]]], np.float64)
    found = cv2.perspectiveTransform(corners, namespace["b_from_a"])
    errors = np.linalg.norm(found - cv2.perspectiveTransform(corners, truth), axis=-1)
    assert errors.max() < 3, f"corners are off by {errors} px"
    assert (folder / "matches.png").stat().st_size > 10_000


def check_photos(page: Path, folder: Path, namespace: dict[str, Any]) -> None:
    """All photos found their place, both trainings ended, and the table has all four methods on held-back pairs."""
    manifest = json.loads((folder / "scene" / "manifest.json").read_text())
    assert manifest["numbers"]["registered"] == PHOTOS
    assert (folder / "scene" / "check" / "overlays.png").stat().st_size > 10_000
    for section in read_results(folder / "before_and_after" / "results.json").sections:
        assert set(section.methods()) == {"rootsift", "lfnet-cpu", "tuned/last", "scratch/last"}, section.title


def check_training(page: Path, folder: Path, namespace: dict[str, Any]) -> None:
    """Each measure that a run writes is explained, and the resumed run went on."""
    with open(folder / "run" / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    assert max(int(step) for step, _, _ in rows) == 40
    text = page.read_text(encoding="utf-8")
    missing = sorted({name for _, name, _ in rows if f"`{name}`" not in text})
    assert not missing, f"{page.name} doesn't explain {missing}"


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_blocks_are_of_known_languages_and_reasons_belong_to_blocks(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = read_blocks(text)
    unknown = [(block.line, block.language) for block in blocks if block.language not in LANGUAGES]
    assert not unknown, f"{page.name}: blocks that no test would run: {unknown}"
    comments = len(re.findall(r"^<!-- not run", text, flags=re.MULTILINE))
    used = sum(block.reason is not None for block in blocks)
    assert comments == used, f"{page.name}: {comments} comments 'not run', {used} stand right before a block"
    silent = [block.line for block in blocks if block.reason and block.language not in ("python", "bash")]
    assert not silent, f"{page.name}: lines {silent}: only python and bash need a reason"
    if page not in RUN_FROM:
        ran = [block.line for block in blocks if block.language in ("python", "bash") and block.reason is None]
        assert not ran, f"{page.name}: lines {ran}: pages outside README and docs are not run, say why"


def test_a_block_that_fails_is_noticed(tmp_path: Path, environment: dict[str, str]) -> None:
    page = "```bash\nfalse | cat\necho reached\n```\n<!-- not run: slow -->\n```bash\nfalse\n```\n"
    page += "```python\n1 / 0\n```\n"
    failing, excused, python = read_blocks(page)
    assert (failing.reason, excused.reason, python.line) == (None, "slow", 9)
    with pytest.raises(AssertionError, match="false"):
        run_block(failing, {}, tmp_path, environment)
    with pytest.raises(ZeroDivisionError):
        run_block(python, {}, tmp_path, environment)


def links(text: str) -> Iterator[str]:
    """Targets of links and pictures that lie in the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(text)):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(page: Path) -> set[str]:
    """Names by which headings are linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page: Path) -> None:
    broken = []
    for target in links(page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.is_file() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken, f"{page.name}: {broken}"


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_no_paths_of_a_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = [line for line in text.splitlines() if MACHINE_PATH.search(line)]
    assert not found, f"{page.name}: {found}"
    assert MACHINE_PATH.search("see /" + "home/me/x")
    assert not MACHINE_PATH.search("runs/work/x")


def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their dotted names, as JSON has them."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(leaves(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = json.loads(json.dumps(value))
    return flat


def recipe_settings(name: str) -> dict[str, Any]:
    """Of a recipe, without those that say where data come from and how the run is watched."""
    left_out = (
        "data.sequences", "data.scenes", "data.pictures", "data.picture_share", "data.render_share",
        "seed", "validation.", "card.",
    )  # fmt: skip
    settings = leaves(config_to_dict(read_config(REPOSITORY / "configs" / name)))
    return {key: value for key, value in settings.items() if not key.startswith(left_out)}


def rows_of_departures(recipes: int) -> dict[str, tuple[Any, ...]]:
    """The rows of docs/method.md that give an option its value in so many recipes."""
    text = (REPOSITORY / "docs" / "method.md").read_text(encoding="utf-8")
    values = r" `([^`]+)` \|" * recipes
    rows = re.findall(rf"^\| `([\w.]+)` \|{values} [^`]", text, flags=re.MULTILINE)
    return {name: tuple(map(json.loads, values)) for name, *values in rows}


@pytest.mark.parametrize(
    "names", [("paper.toml", "cpu.toml", "lean.toml"), ("lean.toml", "lean_descriptor.toml")], ids=["paper", "stage"]
)
def test_the_tables_of_departures_are_what_the_recipes_say(names: tuple[str, ...]) -> None:
    recipes = [recipe_settings(name) for name in names]
    values = {name: tuple(recipe[name] for recipe in recipes) for name in recipes[0]}
    differ = {name: each for name, each in values.items() if any(value != each[0] for value in each)}
    assert rows_of_departures(len(names)) == differ
