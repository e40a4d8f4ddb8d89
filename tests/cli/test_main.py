"""The command as a user runs it: on pictures of every kind, and on everything that can go wrong."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import lfnet
from lfnet.cli.main import COMMANDS, main
from lfnet.features import Features, Matches
from lfnet.file_matching import MatchSettings, match_in_batches
from lfnet.integrations import hloc
from lfnet.matching import mutual_nearest_neighbours
from lfnet.models.lfnet import LFNet
from lfnet.reports.drawing import GREEN, RED, draw_matches
from support.commands import REPOSITORY
from support.made_features import some_features
from support.pictures import png_header

Capture = pytest.CaptureFixture[str]


def run(capture: Capture, *arguments: object) -> tuple[int, str, str]:
    """Exit code, what was printed, and what was complained of."""
    capture.readouterr()
    code = main([str(argument) for argument in arguments])
    printed = capture.readouterr()
    return code, printed.out, printed.err


def only_line(error: str) -> str:
    """The one line of an error, progress bars left out."""
    lines = [
        line for line in error.replace("\r", "\n").splitlines() if line.strip() and "picture/s" not in line
    ]
    assert len(lines) == 1, error
    return lines[0]


@pytest.fixture
def kinds(tmp_path: Path, camera: NDArray[np.uint8], coffee: NDArray[np.uint8]) -> Path:
    """A folder with a picture of every kind that must work."""
    root = tmp_path / "kinds"
    root.mkdir()
    Image.fromarray(camera.astype(np.uint16) * 257).save(root / "sixteen.png")
    Image.fromarray(np.dstack([camera, np.full_like(camera, 9)])).save(root / "alpha.png")
    Image.fromarray(coffee).quantize(64).save(root / "palette.png")
    Image.fromarray(coffee).convert("CMYK").save(root / "cmyk.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(coffee).save(root / "turned.jpg", exif=exif, quality=95)
    Image.fromarray(np.full((120, 160), 77, np.uint8)).save(root / "blank.png")
    Image.fromarray(camera[:, :1]).save(root / "thin.png")
    return root


def test_pictures_of_every_kind_are_extracted(
    capsys: Capture,
    kinds: Path,
    tmp_path: Path,
    tiny_weights: Path,
    tiny_model: LFNet,
    camera: NDArray[np.uint8],
) -> None:
    output = tmp_path / "f.h5"
    code, out, err = run(
        capsys, "extract", kinds, "-o", output, "--weights", tiny_weights, "--max-keypoints", 80
    )
    assert code == 0, err
    with h5py.File(output, "r") as file:
        found = {name: hloc.read_features(file, name) for name in hloc.list_names(file)}
        assert file.attrs["frame"] == b"raw"
    empty = {name for name, features in found.items() if len(features) == 0}
    assert empty == {"blank.png", "thin.png"}
    assert "No keypoints in 2 pictures:\n  blank.png: blank\n  thin.png: 1x256 pixels are too few\n" in out
    assert len(found) == 7
    assert found["turned.jpg"].image_size == (300, 200), "the raw frame, not the upright one"
    plain = tiny_model.extract([camera])[0].top(80)
    for name in ("sixteen.png", "alpha.png"):
        assert np.allclose(found[name].keypoints, plain.keypoints, atol=1e-2), name


def test_match_turns_pictures_upright(
    capsys: Capture, kinds: Path, tmp_path: Path, tiny_weights: Path
) -> None:
    drawing = tmp_path / "m.png"
    code, out, err = run(
        capsys, "match", kinds / "turned.jpg", kinds / "palette.png", "-o", drawing, "--weights", tiny_weights
    )
    assert code == 0, err
    assert "mutual nearest neighbours" in out
    assert str(drawing) in out
    height, width = np.array(Image.open(drawing)).shape[:2]
    assert (height, width) == (300, 200 + 8 + 300)


def test_match_says_which_picture_has_nothing(capsys: Capture, kinds: Path, tiny_weights: Path) -> None:
    code, out, _ = run(capsys, "match", kinds / "blank.png", kinds / "thin.png", "--weights", tiny_weights)
    assert code == 0
    assert out.count(": 0 keypoints (blank, or too small)") == 2
    assert "0 mutual nearest neighbours" in out


def test_a_shifted_picture_is_matched_and_verified(
    capsys: Capture, tmp_path: Path, tiny_weights: Path, camera: NDArray[np.uint8]
) -> None:
    Image.fromarray(camera[:200, :200]).save(tmp_path / "a.png")
    Image.fromarray(camera[8:208, 16:216]).save(tmp_path / "b.png")
    for geometry, extra in (
        ("homography", ()),
        ("fundamental", ()),
        ("essential", ("--intrinsics", 200, 200, 100, 100)),
    ):
        pair = tmp_path / "a.png", tmp_path / "b.png"
        code, out, err = run(
            capsys, "match", *pair, "--weights", tiny_weights, "--geometry", geometry, *extra
        )
        assert code == 0, err
        words = out.splitlines()[-1].split()
        assert int(words[0]) > 30, out
        named = [geometry] if geometry == "homography" else [geometry, "matrix"]
        assert words[4:] == ["with", "one", *named, "within", "3", "px"]


def test_match_on_a_features_file_writes_what_hloc_reads(
    capsys: Capture, folder: Path, tmp_path: Path, tiny_weights: Path
) -> None:
    features, matches, pairs = tmp_path / "f.h5", tmp_path / "m.h5", tmp_path / "pairs.txt"
    assert run(capsys, "extract", folder, "-o", features, "--weights", tiny_weights, "--half")[0] == 0
    pairs.write_text("camera.png inside/turned.png\ncamera.png camera.png\n")
    code, out, err = run(capsys, "match", features, "--pairs", pairs, "-o", matches)
    assert code == 0, err
    with h5py.File(matches, "r") as file:
        itself = file["camera.png/camera.png/matches0"][()]
        assert np.array_equal(itself, np.arange(len(itself)))
        assert np.allclose(file["camera.png/camera.png/matching_scores0"][()], 1, atol=1e-2)
        other = file["camera.png/inside-turned.png/matches0"][()]
        assert 0 < (other >= 0).sum() < len(other)
    total = (other >= 0).sum() + len(itself)
    assert f"{total} matches in 2 pairs" in out
    pairs.write_text("camera.png elsewhere.png\n")
    code, _, err = run(capsys, "match", features, "--pairs", pairs, "-o", tmp_path / "no.h5")
    assert code == 1
    assert "1 pictures of the list are not in it: elsewhere.png" in only_line(err)
    assert not (tmp_path / "no.h5").exists()


def test_queries_are_matched_with_a_reference_of_another_file(capsys: Capture, tmp_path: Path) -> None:
    """Both files may have a picture of one name; a pair turned round is another pair."""
    found = {name: some_features(30, seed=seed) for seed, name in enumerate(("q", "r", "q again"))}
    query, reference, matches = (tmp_path / name for name in ("query.h5", "reference.h5", "m.h5"))
    for path, pictures in ((query, {"q": "q", "r": "r"}), (reference, {"q": "r", "r": "q again"})):
        with h5py.File(path, "w") as file:
            for name, source in pictures.items():
                hloc.write_features(file, name, found[source])
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("q r\nr q\n")
    code, out, err = run(capsys, "match", query, reference, "--pairs", pairs, "-o", matches)
    assert code == 0, err
    assert "matches in 2 pairs" in out
    for names, sides in ((("q", "r"), ("q", "q again")), (("r", "q"), ("r", "r"))):
        expected = mutual_nearest_neighbours(found[sides[0]], found[sides[1]]).indices
        assert np.array_equal(lfnet.read_matches(matches, *names).indices, expected)
    for words, message in (
        ((query, reference), "is a features file, not a picture"),
        ((query, pairs, "--pairs", pairs, "-o", matches), "is a features file, not a picture"),
        ((query, reference, "--pairs", pairs, "-o", reference), "is one of the inputs"),
    ):
        code, _, err = run(capsys, "match", *words)
        assert code == 2
        assert message in only_line(err)
    with h5py.File(reference, "a") as file:
        del file["q"]
    assert "reference.h5: 1 pictures of the list are not in it: q" in only_line(
        run(capsys, "match", query, reference, "--pairs", pairs, "-o", matches)[2]
    )


def test_filtered_matches_are_fewer_and_their_file_is_not_gone_on_with_unfiltered(
    capsys: Capture, tmp_path: Path, tiny_weights: Path, camera: NDArray[np.uint8], folder: Path
) -> None:
    Image.fromarray(camera[:200, :200]).save(tmp_path / "a.png")
    Image.fromarray(camera[8:208, 16:216]).save(tmp_path / "b.png")
    words = ("match", tmp_path / "a.png", tmp_path / "b.png", "--weights", tiny_weights, "--filter")
    code, out, err = run(capsys, *words)
    assert code == 0, err
    mutual, agreeing = (int(line.split()[0]) for line in out.splitlines()[-2:])
    assert "agree with the matches around them" in out
    assert 30 < agreeing < mutual
    features, matches = tmp_path / "f.h5", tmp_path / "m.h5"
    assert run(capsys, "extract", folder, "-o", features, "--weights", tiny_weights)[0] == 0
    pair = [("camera.png", "coffee.jpg")]
    assert match_in_batches(features, pair, matches, MatchSettings()) == 1
    with h5py.File(matches) as file:
        assert "filter" not in json.loads(file.attrs["settings"])  # As files from before there was a filter.
    with pytest.raises(hloc.FeatureFileError, match=r"filter None \(now True\)"):
        match_in_batches(features, pair, matches, MatchSettings(filter=True))


def test_broken_pictures_are_listed_and_all_others_written(
    capsys: Capture, folder: Path, tmp_path: Path, tiny_weights: Path, coffee: NDArray[np.uint8]
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(coffee).save(buffer, "JPEG")
    (folder / "cut.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    (folder / "letter.jpg").write_text("Dear reader")
    (folder / "huge.png").write_bytes(png_header(20_000, 20_000))
    Image.fromarray(np.full((80, 80), np.nan, np.float32)).save(folder / "nan.tif")
    missing = folder / "missing.jpg"
    code, out, err = run(
        capsys, "extract", folder, missing, "-o", tmp_path / "f.h5", "--weights", tiny_weights
    )
    assert code == 1
    assert "3 pictures with" in out
    assert "Traceback" not in err
    for name, cause in (
        ("cut.jpg", "damaged or cut short"),
        ("letter.jpg", "not a picture in any known format"),
        ("huge.png", "20000x20000 pixels are more than the limit of 100 megapixels"),
        ("nan.tif", "holds NaN or infinity"),
        ("missing.jpg", "no such file"),
    ):
        lines = [line for line in err.splitlines() if name in line]
        assert len(lines) == 1, err
        assert cause in lines[0]
    with h5py.File(tmp_path / "f.h5", "r") as file:
        assert set(hloc.list_names(file)) == {"camera.png", "coffee.jpg", "inside/turned.png"}


@pytest.fixture
def bad_weights(tmp_path: Path, tiny_weights: Path) -> dict[str, Path]:
    """Weights that can't be used, each for another reason."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    text = tmp_path / "text.safetensors"
    text.write_text("these are no weights")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(tiny_weights.read_bytes()[:-1000])
    with safe_open(str(tiny_weights), framework="pt") as file:
        header = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    config = json.loads(header["config"])
    config["descriptor"]["dimension"] = 128
    other = tmp_path / "other.safetensors"
    save_file(tensors, str(other), {**header, "config": json.dumps(config)})
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, str(foreign))
    return {
        "text": text,
        "cut": cut,
        "other": other,
        "foreign": foreign,
        "missing": tmp_path / "none.safetensors",
    }


@pytest.mark.parametrize("kind", ["text", "cut", "other", "foreign", "missing"])
def test_unusable_weights_get_one_line(
    capsys: Capture, folder: Path, tmp_path: Path, bad_weights: dict[str, Path], kind: str
) -> None:
    output = tmp_path / "f.h5"
    code, _, err = run(capsys, "extract", folder, "-o", output, "--weights", bad_weights[kind])
    assert code == 1
    line = only_line(err)
    assert line.startswith("lfnet: error: ")
    assert str(bad_weights[kind]) in line
    assert not output.exists()


def test_inputs_are_not_overwritten(capsys: Capture, folder: Path, tmp_path: Path, tiny_weights: Path) -> None:
    features, pairs = tmp_path / "f.h5", tmp_path / "pairs.txt"
    assert run(capsys, "extract", folder, "-o", features, "--weights", tiny_weights)[0] == 0
    names = run(capsys, "info", features, "--names")[1].split()
    pairs.write_text(f"{names[0]} {names[1]}\n")
    before = {path: path.read_bytes() for path in (features, pairs, folder / names[0], folder / names[1])}
    (tmp_path / "taken.h5").mkdir()
    for words, message in (
        (["match", features, "--pairs", pairs, "-o", features], "is one of the inputs"),
        (["match", features, "--pairs", pairs, "-o", pairs], "is one of the inputs"),
        (["match", folder / names[0], folder / names[1], "-o", folder / names[0]], "is one of the inputs"),
        (["extract", folder, "-o", folder / names[0], "--overwrite"], "is one of the inputs"),
        (["extract", folder, "-o", tmp_path / "taken.h5"], "is a folder"),
    ):
        code, _, err = run(capsys, *words)
        assert code == 2, words
        assert message in only_line(err)
    code, _, err = run(capsys, "extract", folder, "-o", pairs, "--overwrite", "--weights", tiny_weights)
    assert code == 1
    assert "not an HDF5 file, so it is not overwritten" in only_line(err)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--max-megapixels", "inf"], 2, "--max-megapixels: expected a number above 0"),
        (["--device", "meta"], 1, "neither a CPU nor a CUDA device"),
    ],
)
def test_options_that_cannot_be_meant(
    words: list[str], code: int, message: str, capsys: Capture, folder: Path, tmp_path: Path, tiny_weights: Path
) -> None:
    result = run(capsys, "extract", folder, "-o", tmp_path / "f.h5", "--weights", tiny_weights, *words)
    assert result[0] == code
    assert message in only_line(result[2])


def test_info_on_another_programs_file(capsys: Capture, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["numbers"] = np.arange(3)
    for words in ([], ["--names"]):
        code, _, err = run(capsys, "info", tmp_path / "foreign.h5", *words)
        assert code == 1
        assert "neither features nor matches" in only_line(err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["match", "{a}", "{missing}"], "missing.png: no such file"),
        (["match", "{a}"], "needs --pairs"),
        (["match", "{a}", "{a}", "{a}"], "expected two pictures"),
        (["match", "{a}", "{a}", "-o", "{folder}/m.xyz"], "not a kind of picture"),
        (["match", "{a}", "{a}", "--geometry", "essential"], "needs intrinsics"),
        (["extract", "-o", "{folder}/f.h5"], "no pictures given"),
        (
            ["extract", "{a}", "-o", "{folder}/f.h5", "--max-keypoints", "0"],
            "--max-keypoints: expected at least 1",
        ),
        (["extract", "{a}", "-o", "{folder}/f.h5", "--min-score", "2"], "--min-score: expected a height in [0, 1]"),
        (["extract", "{a}", "-o", "{folder}/f.h5", "--batch-size", "0"], "--batch-size: expected at least 1"),
        (["extract", "{a}", "-o", "{folder}/f.h5", "--masks", "{missing}"], "no such folder"),
        (["extract", "{a}", "-o", "{folder}/f.h5", "--device", "cuda:99"], "CUDA devices"),
        (["extract", "{a}", "-o", "{folder}/f.h5", "--device", "abacus"], "no such device"),
        (["extract", "{folder}", "-o", "{a}/f.h5"], "Not a directory"),
        (["info", "{missing}"], "no such file"),
        (["wander"], "unknown command 'wander'"),
    ],
)
def test_wrong_usage_gets_one_line_and_no_traceback(
    capsys: Capture, folder: Path, tiny_weights: Path, arguments: list[str], message: str
) -> None:
    places = {"a": folder / "camera.png", "missing": folder / "missing.png", "folder": folder}
    words = [word.format(**places) for word in arguments]
    if words[0] in ("extract", "match"):
        words += ["--weights", str(tiny_weights)]
    code, _, err = run(capsys, *words)
    assert code in (1, 2)
    line = only_line(err)
    assert line.startswith("lfnet: error: ")
    assert message in line


def test_exit_codes_tell_usage_from_errors(capsys: Capture, folder: Path) -> None:
    assert run(capsys, "--help")[0] == 0
    assert run(capsys)[0] == 2
    assert run(capsys, "wander")[0] == 2
    assert run(capsys, "extract", "--no-such-option")[0] == 2
    assert run(capsys, "match", folder / "camera.png")[0] == 2
    assert run(capsys, "info", folder / "none.h5")[0] == 1


def test_debug_shows_where_an_error_came_from(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    assert "Traceback" in run(capsys, "--debug", "info", folder / "none.h5")[2]
    monkeypatch.setenv("LFNET_DEBUG", "1")
    assert "Traceback" in run(capsys, "info", folder / "none.h5")[2]
    monkeypatch.setenv("LFNET_DEBUG", "0")
    assert "Traceback" not in run(capsys, "info", folder / "none.h5")[2]


def test_info_tells_what_is_there(capsys: Capture, folder: Path, tmp_path: Path, tiny_weights: Path) -> None:
    code, out, _ = run(capsys, "info")
    assert code == 0
    assert "packaged weights:" in out
    assert "Apache-2.0" in run(capsys, "info", tiny_weights)[1]
    run(capsys, "extract", folder, "-o", tmp_path / "f.h5", "--weights", tiny_weights)
    out = run(capsys, "info", tmp_path / "f.h5")[1]
    assert "3 pictures" in out
    assert "EXIF orientation not applied" in out


def test_the_process_itself_helps_quickly_and_returns_its_code(
    run_lfnet: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    helped = run_lfnet("--help")
    assert helped.returncode == 0
    assert all(f"  {name}" in helped.stdout for name in COMMANDS)
    assert run_lfnet("--version").stdout.startswith("lfnet 0.")
    failed = run_lfnet("info", tmp_path / "none.h5")
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["extract", "match", "train", "info"])
def test_help_of_a_command_loads_no_network_library(command: str, user_environment: dict[str, str]) -> None:
    import sys

    code = (
        "import sys; from lfnet.cli.main import main; code = main(sys.argv[1:]);"
        "print('torch' in sys.modules); sys.exit(code)"
    )
    out = subprocess.check_output(
        [sys.executable, "-c", code, command, "--help"], env=user_environment, text=True
    )
    assert "--" in out
    assert out.splitlines()[-1] == "False"


def test_a_full_disk_while_matching_ends_in_one_line(
    folder: Path, tmp_path: Path, tiny_weights: Path, capsys: Capture, user_environment: dict[str, str]
) -> None:
    """A limit on the size of files stands in for a full disk; HDF5 alone would crash on it."""
    import resource
    import sys

    features, pairs, output = tmp_path / "f.h5", tmp_path / "pairs.txt", tmp_path / "m.h5"
    for index in range(8):
        shutil.copy(folder / "camera.png", folder / f"copy{index}.png")
    assert run(capsys, "extract", folder, "-o", features, "--weights", tiny_weights)[0] == 0
    pairs.write_text("".join(f"copy{a}.png copy{b}.png\n" for a in range(8) for b in range(a)))
    words = ["match", str(features), "--pairs", str(pairs), "-o", str(output)]
    process = subprocess.run(
        [sys.executable, "-m", "lfnet.cli.main", *words],
        env=user_environment,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert process.returncode == 1
    assert "File too large" in process.stderr.splitlines()[-1]
    assert "Traceback" not in process.stderr
    assert list(tmp_path.glob("*m.h5*")) == []


def test_drawings_show_matches_where_they_are(camera: NDArray[np.uint8]) -> None:
    black = np.zeros((100, 100), np.uint8)
    features = Features([[20, 30], [60, 70]], [1, 1], [0, np.pi / 2], [1, 1], np.eye(2), (100, 100))
    matches = Matches([[0, 0], [1, 1]], [1, 1])
    drawing = draw_matches(black, black, features, features, matches, [True, False])
    assert drawing.shape == (100, 208, 3)
    assert np.allclose(drawing[30, 80], GREEN, atol=24)
    assert np.allclose(drawing[70, 120], RED, atol=24)
    small = draw_matches(np.zeros((400, 800, 3), np.uint8), black, features, features, matches, long_side=200)
    assert small.shape == (100, 200 + 8 + 100, 3)
    with pytest.raises(ValueError, match=r"correct must have shape \(2,\)"):
        draw_matches(black, black, features, features, matches, [True])


def test_errors_of_threads_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk that a library's thread meets is told by the command; a bug in a thread keeps its traceback."""
    told: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda failed: told.append(failed.exc_value))
    monkeypatch.setattr(sys, "argv", ["lfnet", "--version"])
    assert main() == 0

    def fail(error: Exception) -> None:
        raise error

    bug = ValueError("a bug")
    for error in (OSError(28, "No space left on device"), bug):
        thread = threading.Thread(target=fail, args=(error,))
        thread.start()
        thread.join()
    assert told == [bug]


def test_waiting_threads_sleep_unless_told_else() -> None:
    code = "import os, sys, lfnet.cli.main as cli; cli.main(['--version'])"
    code += "; print(*map(os.environ.get, ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT'))); print('torch' in sys.modules)"
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    clean["PYTHONPATH"] = str(REPOSITORY / "src")
    for given, expected in ({}, "passive 1000"), ({"OMP_WAIT_POLICY": "active"}, "active None"):
        done = subprocess.run([sys.executable, "-c", code], env={**clean, **given}, capture_output=True, text=True)
        assert done.stdout.splitlines()[1:] == [expected, "False"], done.stderr


@pytest.mark.parametrize(("option", "value"), [("--min-distance", "-1"), ("--min-distance", "nan")])
def test_distances_that_are_none_are_refused(
    run_lfnet: Callable[..., subprocess.CompletedProcess[str]], folder: Path, tmp_path: Path, option: str, value: str
) -> None:
    done = run_lfnet("extract", folder, "-o", tmp_path / "f.h5", option, value)
    assert done.returncode == 2
    assert "--min-distance: expected at least 0" in done.stderr
    assert not (tmp_path / "f.h5").exists()
