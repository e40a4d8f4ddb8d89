"""`lfnet extract` and `lfnet match` that are killed with SIGKILL end, run again, with the file of a run that never was.

When they are killed is drawn: the same moments in every test, others by `make soak` with another SEED.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lfnet.cli.main import main
from support.contents import arrays, flat

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL"),
]
SOAK = os.environ.get("LFNET_SOAK")
KILLS = 2 if SOAK is None else 30
PICTURES = 24
PATIENCE = 300
"""Seconds that a command may take on a machine that is busy with other things; it needs three."""


@pytest.fixture
def pictures(camera: NDArray[np.uint8], tmp_path: Path) -> Path:
    """Small parts of a photograph."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(PICTURES):
        Image.fromarray(camera[4 * number :][:72, :96]).save(folder / f"{number:02d}.png")
    return folder


def kill(words: Sequence[str], environment: dict[str, str], is_time: Callable[[], bool], delay: float) -> bool:
    """Run a command until it is time and a delay more; False where it had ended by then."""
    command = [sys.executable, "-m", "lfnet.cli.main", *words]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and not is_time():
            assert time.monotonic() < deadline, f"not as far as wanted within {PATIENCE} s"
            time.sleep(0.001)
        time.sleep(delay)
    finally:
        process.kill()
        said = process.communicate()[1].decode(errors="replace")
    assert process.returncode in (0, -signal.SIGKILL), said
    return process.returncode != 0


def has_grown_to(limit: float, folder: Path) -> bool:
    """Whether a file that is being written has so many bytes."""
    try:
        return any(path.stat().st_size >= limit for path in folder.glob(".*.tmp"))
    except FileNotFoundError:  # It took its name in between.
        return True


def content(path: Path) -> Any:
    return flat(arrays(path))


def assert_ends_well(words: Sequence[str], output: Path, expected: Any) -> None:
    """The same command makes what an undisturbed one makes, and nothing else is left."""
    assert main(words) == 0
    assert content(output) == expected
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def options(weights: Path) -> list[str]:
    return ["--weights", str(weights), "--max-keypoints", "64", "--threads", "1"]


def test_extract(pictures: Path, tiny_weights: Path, tmp_path: Path, user_environment: dict[str, str]) -> None:
    """Each run goes on with what those killed before it left, and is killed further on."""
    draw = random.Random(SOAK or "extract")
    out = tmp_path / "out" / "f.h5"
    words = ["extract", str(pictures), *options(tiny_weights), "-o", str(out)]
    assert main(words) == 0
    expected = content(out)
    out.unlink()
    parts = out.with_name("f.h5.parts")
    killed = 0
    for number in sorted(draw.randint(1, PICTURES) for _ in range(KILLS)):
        killed += kill(
            words,
            user_environment,
            lambda number=number: len(list(parts.glob("[0-9]*.h5"))) >= number,
            draw.uniform(0, 0.02),
        )
        assert not out.exists() or content(out) == expected
        if out.exists():
            out.unlink()  # It was faster than the kill: the next begins again.
    assert killed
    assert_ends_well(words, out, expected)


def test_match(pictures: Path, tiny_weights: Path, tmp_path: Path, user_environment: dict[str, str]) -> None:
    """Its file is written beside the name that it takes at the end, and begun again after a kill."""
    draw = random.Random(SOAK or "match")
    features, pairs, out = tmp_path / "f.h5", tmp_path / "pairs.txt", tmp_path / "out" / "m.h5"
    assert main(["extract", str(pictures), *options(tiny_weights), "-o", str(features)]) == 0
    names = [f"{number:02d}.png" for number in range(PICTURES)]
    pairs.write_text("".join(f"{a} {b}\n" for a in names for b in names if a < b))
    words = ["match", str(features), "--pairs", str(pairs), "--threads", "1", "-o", str(out)]
    assert main(words) == 0
    size, expected = out.stat().st_size, content(out)
    out.unlink()
    killed = 0
    for _ in range(KILLS):
        limit = draw.uniform(0, 0.9) * size
        killed += kill(
            words,
            user_environment,
            lambda limit=limit: has_grown_to(limit, out.parent),
            draw.uniform(0, 0.01),
        )
        assert not out.exists() or content(out) == expected
    assert killed
    assert_ends_well(words, out, expected)
