"""`lfnet train` as a user runs it: killed midway and resumed, fine-tuned, and refused where it must be."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from lfnet.models.lfnet import LFNet
from lfnet.models.weights import describe_weights
from lfnet.settings import config_to_dict
from lfnet.training.checkpoint import CheckpointError, read_checkpoint, save_checkpoint
from lfnet.training.config import OptimizerConfig, TrainConfig, build_config, default_tables, read_config
from lfnet.training.loop import new_state
from support.commands import linux_only, peak_megabytes
from support.networks import tiny_config
from support.toml_files import write_toml

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]
STEPS, EVERY = 40, 15
PATIENCE = 900
"""Seconds that a run may take on a machine that is busy with other things; it needs ten."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, camera: NDArray, coffee: NDArray) -> Path:
    """A training of a minute fraction: two real pictures, and rendered scenes that wear them."""
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "pictures").mkdir()
    Image.fromarray(camera).save(folder / "pictures" / "camera.png")
    Image.fromarray(coffee).save(folder / "pictures" / "coffee.png")
    return write_toml(
        folder / "tiny.toml",
        {
            "model": config_to_dict(tiny_config()),
            "strategy": {"keypoints": 24, "mask_reach": 4, "positive_jitter": 1.0},
            "data": {"pictures": [folder / "pictures"], "size": 64, "render_share": 0.5},
            "optimizer": {"steps": STEPS, "batch": 1, "schedule": "cosine", "warmup": 5},
            "validation": {"every": EVERY, "pairs": 1, "keypoints": 16},
        },
    )


def start(recipe: Path, output: Path, environment: dict[str, str], *options: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "lfnet.cli.main", "train", str(recipe), "-o", str(output), "--threads", "1"]
    words += options
    return subprocess.Popen(
        words, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    """What the process printed, once it has ended; nothing is left running."""
    try:
        return process.communicate(timeout=PATIENCE)[0]
    finally:
        process.kill()


def rows(output: Path) -> list[tuple[int, str, str]]:
    with open(output / "metrics.csv", newline="", encoding="utf-8") as file:
        return [(int(step), name, value) for step, name, value in list(csv.reader(file))[1:]]


def wait_for_row(output: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        table = output / "metrics.csv"
        if table.exists() and f"\n{step},loss/" in table.read_text(encoding="utf-8").replace("\r", ""):
            return
        if process.poll() is not None:
            pytest.fail(f"training ended before it could be killed: {process.communicate()[0]}")
        time.sleep(0.005)
    process.kill()
    pytest.fail(f"no row of losses within {PATIENCE} s")


def assert_equal_values(first: object, second: object, place: str = "") -> None:
    if isinstance(first, torch.Tensor):
        assert isinstance(second, torch.Tensor)
        assert torch.equal(first, second), place
    elif isinstance(first, dict):
        assert isinstance(second, dict)
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert_equal_values(value, second[key], f"{place}.{key}")
    elif isinstance(first, (list, tuple)):
        for index, (mine, theirs) in enumerate(zip(first, second, strict=True)):  # type: ignore[call-overload]
            assert_equal_values(mine, theirs, f"{place}[{index}]")
    else:
        assert first == second, place


@pytest.fixture(scope="module")
def whole_run(recipe: Path, user_environment: dict[str, str]) -> Path:
    """A run that was never stopped."""
    output = recipe.parent / "whole"
    process = start(recipe, output, user_environment)
    said = finish(process)
    assert process.returncode == 0, said
    assert "best weights" in said
    return output


def test_a_killed_run_goes_on_bit_for_bit(recipe: Path, whole_run: Path, user_environment: dict[str, str]) -> None:
    output = recipe.parent / "killed"
    process = start(recipe, output, user_environment)
    # Step 20 lies after the checkpoint of step 15: its rows must be dropped and come again.
    wait_for_row(output, 20, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert read_checkpoint(output / "last.ckpt")[0]["step"] == EVERY
    with open(output / "metrics.csv", "a", encoding="utf-8") as file:
        file.write("40,loss/im")  # A row that the kill cut off.

    resumed = start(recipe, output, user_environment, "--resume")
    said = finish(resumed)
    assert resumed.returncode == 0, said
    assert f"resuming after step {EVERY}" in said

    expected = rows(whole_run)
    assert {step for step, name, _ in expected if name == "loss/image"} == {20, 40}
    assert {step for step, name, _ in expected if name == "validation/matching_score"} == {15, 30, 40}
    assert rows(output) == expected
    mine, theirs = (read_checkpoint(folder / "last.ckpt")[0] for folder in (output, whole_run))
    assert mine["step"] == STEPS
    assert_equal_values(mine, theirs)
    for name in ("last.safetensors", "best.safetensors"):
        first, second = (LFNet.from_pretrained(folder / name).state_dict() for folder in (output, whole_run))
        assert_equal_values(first, second)


def test_a_run_leaves_what_it_promises(whole_run: Path) -> None:
    names = {name for _, name, _ in rows(whole_run)}
    for term in ("image", "orientation", "scale", "pair", "triplet"):
        assert f"loss/{term}" in names
    for measure in ("visible", "score_peak", "scale_spread", "orientation_spread"):
        assert f"statistics/{measure}" in names
    for measure in ("matching_score", "repeatability", "descriptor_accuracy", "score_peak"):
        assert f"validation/{measure}" in names
    pictures = sorted(path.name for path in (whole_run / "pictures").iterdir())
    assert pictures == ["step_0000015.png", "step_0000030.png", "step_0000040.png"]
    assert Image.open(whole_run / "pictures" / pictures[0]).size == (5 * 64 * 2, 2 * 64 * 2)
    assert describe_weights(whole_run / "last.safetensors")["card"]["steps"] == STEPS
    scores = [float(value) for _, name, value in rows(whole_run) if name == "validation/matching_score"]
    best = describe_weights(whole_run / "best.safetensors")["card"]["validation"]["matching_score"]
    assert best == pytest.approx(max(scores), abs=1e-4)


def assert_one_line(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert result.returncode == code, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("lfnet: error:")]
    assert len(lines) == 1
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in lines[0]


def test_a_folder_with_a_run_is_not_overwritten(recipe: Path, whole_run: Path, run_lfnet: Run) -> None:
    before = (whole_run / "last.ckpt").stat().st_mtime_ns
    assert_one_line(run_lfnet("train", recipe, "-o", whole_run), 1, "holds a run already", "--resume")
    assert (whole_run / "last.ckpt").stat().st_mtime_ns == before
    changed = run_lfnet("train", recipe, "-o", whole_run, "--resume", "--keypoints", 25)
    assert_one_line(changed, 1, "settings [strategy] differ")


def test_training_starts_from_given_weights(recipe: Path, whole_run: Path, tmp_path: Path, run_lfnet: Run) -> None:
    """--init takes weights and architecture; a first step at rate 0 leaves them as they were."""
    weights = whole_run / "last.safetensors"
    options = ("--steps", 1, "--init", weights, "--set", "optimizer.learning_rate=0", "--set", "data.render_share=0")
    output = tmp_path / "tuned"
    result = run_lfnet("train", recipe, "-o", output, *options, "--set", "validation.pairs=1")
    assert result.returncode == 0, result.stderr
    given, tuned = LFNet.from_pretrained(weights), LFNet.from_pretrained(output / "last.safetensors")
    assert tuned.config == given.config
    for (name, before), after in zip(given.named_parameters(), tuned.parameters(), strict=True):
        assert torch.equal(before, after), name
    begun, card = (describe_weights(each)["card"] for each in (weights, output / "last.safetensors"))
    assert card["begun_from"] == {"name": begun["name"], "steps": begun["steps"]}


def test_wrong_settings_give_one_line(recipe: Path, tmp_path: Path, run_lfnet: Run) -> None:
    output = tmp_path / "run"
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(recipe.read_text(encoding="utf-8").replace("mask_reach", "mask_reech"), encoding="utf-8")
    assert_one_line(run_lfnet("train", wrong, "-o", output), 1, "unknown setting strategy.mask_reech")
    assert_one_line(run_lfnet("train", recipe, "-o", output, "--set", "seed"), 2, "NAME=VALUE")
    wrong.write_text("strategy = 3\n[model]\n", encoding="utf-8")
    assert_one_line(run_lfnet("train", wrong, "-o", output, "--init", "lfnet-lean"), 1, str(wrong), "strategy")
    assert not output.exists()


def test_a_full_disk_ends_in_one_line(recipe: Path, tmp_path: Path, user_environment: dict[str, str]) -> None:
    """A limit on the size of files stands in for a full disk: the table fits, weights don't."""
    import resource

    output = tmp_path / "run"
    words = [sys.executable, "-m", "lfnet.cli.main", "train", str(recipe), "-o", str(output), "--steps", "2"]
    process = subprocess.run(
        words,
        env=user_environment,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)),
    )
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert "File too large; make room" in process.stderr.splitlines()[-1]
    assert str(output) in process.stderr.splitlines()[-1]
    assert [path.name for path in output.rglob("*") if path.suffix in (".tmp", ".ckpt", ".safetensors")] == []


@linux_only
def test_the_cpu_recipe_trains_in_little_memory(
    tmp_path: Path, camera: NDArray, user_environment: dict[str, str]
) -> None:
    """Network, crops and precision of the recipe; more pictures add a byte a pixel. A run may take 6 GB in all."""
    for index in range(2):
        Image.fromarray(camera).resize((640, 640)).save(tmp_path / f"{index}.png")
    options = ["--steps", 3, "--set", "validation.pairs=2"]
    peak = peak_megabytes(user_environment, "train", "-o", tmp_path / "run", "--pictures", tmp_path, *options)
    assert peak < 3000


# --- settings and checkpoints, without a process ---


def test_settings_are_checked(recipe: Path, tmp_path: Path) -> None:
    config = read_config(recipe, {"optimizer.steps": 7, "data.geometry.rotation": 30})
    assert config.optimizer.steps == 7
    assert config.data.geometry.rotation == 30.0
    assert config.model == tiny_config()
    assert build_config(config_to_dict(config)) == config
    broken = tmp_path / "broken.toml"
    broken.write_text("[model\n", encoding="utf-8")
    for path, overrides, message in (
        (tmp_path / "missing.toml", {}, "no such file"),
        (broken, {}, "cannot be read"),
        (recipe, {"optimizer.stepz": 3}, "unknown setting optimizer.stepz"),
        (recipe, {"optimizer.steps": "many"}, "expected int"),
        (recipe, {"optimizer.schedule": "steep"}, "'constant', 'cosine'"),
        (recipe, {"data.sequences": [{"folder": "x", "frames": [1]}]}, "past the last"),
    ):
        with pytest.raises(ValueError, match=message):
            read_config(path, overrides)


def test_default_settings_are_complete() -> None:
    tables = default_tables()
    config = build_config(tables)
    assert config.model.orientation.mode == "gradient"
    assert config.model.descriptor.normalize_patches


def test_checkpoints_are_whole_or_not_there(tmp_path: Path) -> None:
    config = TrainConfig(model=tiny_config(), optimizer=OptimizerConfig(steps=5))
    state = new_state(config, torch.device("cpu"))
    path = tmp_path / "run" / "last.ckpt"
    save_checkpoint(path, state, config)
    values, saved = read_checkpoint(path)
    assert saved == config
    assert_equal_values(values["model"], dict(state.model.state_dict()))
    assert [entry.name for entry in path.parent.iterdir()] == ["last.ckpt"]
    content = path.read_bytes()

    class Unsaveable:
        def __reduce__(self) -> str:
            raise OSError("no space left")

    state.step = Unsaveable()  # type: ignore[assignment]
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(path, state, config)
    assert path.read_bytes() == content

    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(path)
    with pytest.raises(CheckpointError, match="no such file"):
        read_checkpoint(tmp_path / "missing.ckpt")
