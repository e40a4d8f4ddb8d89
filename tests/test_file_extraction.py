"""Pictures to a features file: the same however it is run, resumable, never half-written, bounded."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lfnet.cli.main import main
from lfnet.errors import UserError
from lfnet.features import Features
from lfnet.file_extraction import FileSettings, extract_files, extract_frames, name_images
from lfnet.files.atomic import held
from lfnet.images import ImageError, read_image
from lfnet.integrations import hloc
from lfnet.models.config import ExtractionSettings
from lfnet.models.lfnet import LFNet
from support.clips import turned_and_zoomed, write_clip
from support.commands import linux_only, peak_megabytes

pytestmark = pytest.mark.slow

SETTINGS = FileSettings(ExtractionSettings(max_keypoints=60))


def contents(path: Path) -> dict[str, Features]:
    with h5py.File(path, "r") as file:
        return {name: hloc.read_features(file, name) for name in hloc.list_names(file)}


def assert_same(one: Path, other: Path, tolerance: float = 0.0) -> None:
    first, second = contents(one), contents(other)
    assert first.keys() == second.keys()
    for name, features in first.items():
        for key in ("keypoints", "scales", "orientations", "scores", "descriptors"):
            assert np.allclose(getattr(features, key), getattr(second[name], key), atol=tolerance, rtol=0), (
                name
            )


def many_pictures(folder: Path, picture: NDArray[np.uint8], count: int, side: int = 96) -> Path:
    folder.mkdir()
    for index in range(count):
        x, y = 7 * index % 150, 11 * index % 140
        Image.fromarray(picture[y : y + side, x : x + side]).save(folder / f"{index}.png")
    return folder


def test_every_picture_is_in_the_file_under_its_name(tiny_model: LFNet, folder: Path, tmp_path: Path) -> None:
    report = extract_files(tiny_model, name_images([folder]), tmp_path / "f.h5", SETTINGS)
    found = contents(tmp_path / "f.h5")
    assert set(found) == {"camera.png", "coffee.jpg", "inside/turned.png"}
    assert (report.written, report.skipped, report.failures) == (3, 0, [])
    assert report.keypoints == sum(map(len, found.values())) > 100
    direct = tiny_model.extract([read_image(folder / "coffee.jpg")], settings=SETTINGS.extraction)[0]
    assert np.allclose(found["coffee.jpg"].keypoints, direct.keypoints, atol=1e-3)
    assert not (tmp_path / "f.h5.parts").exists()


def test_batches_give_the_same_as_one_at_a_time(tiny_model: LFNet, folder: Path, tmp_path: Path) -> None:
    images = name_images([folder])
    extract_files(tiny_model, images, tmp_path / "one.h5", SETTINGS, batch_size=1)
    extract_files(tiny_model, images, tmp_path / "all.h5", SETTINGS, batch_size=8)
    assert_same(tmp_path / "one.h5", tmp_path / "all.h5", 1e-4)


def test_keypoints_are_in_original_pixels_whatever_the_size_worked_at(
    tiny_model: LFNet, tmp_path: Path, camera: NDArray[np.uint8]
) -> None:
    """A picture enlarged twice and worked at its first size: places are those of the small one, times two."""
    small, large = tmp_path / "small", tmp_path / "large"
    for folder, picture in ((small, camera), (large, np.kron(camera, np.ones((2, 2), np.uint8)))):
        folder.mkdir()
        Image.fromarray(picture).save(folder / "a.png")
    settings = FileSettings(ExtractionSettings(max_keypoints=60), resize=256)
    for folder in (small, large):
        extract_files(tiny_model, name_images([folder]), folder / "f.h5", settings)
    one, two = contents(small / "f.h5")["a.png"], contents(large / "f.h5")["a.png"]
    assert two.image_size == (512, 512)
    assert len(one) == len(two) > 20
    assert np.allclose(two.keypoints, (one.keypoints + 0.5) * 2 - 0.5, atol=1e-2)
    assert np.allclose(two.scales, one.scales * 2, atol=1e-3)


def test_masks_keep_keypoints_away(tiny_model: LFNet, folder: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    (masks / "inside").mkdir(parents=True)
    left = np.zeros((256, 256), np.uint8)
    left[:, :128] = 255
    Image.fromarray(left).save(masks / "camera.png")
    Image.fromarray(np.zeros_like(left)).save(masks / "inside" / "turned.png")
    Image.fromarray(np.full((200, 300), 255, np.uint8)).save(masks / "coffee.jpg.png")
    settings = FileSettings(ExtractionSettings(max_keypoints=60), masks=masks)
    report = extract_files(tiny_model, name_images([folder]), tmp_path / "f.h5", settings)
    found = contents(tmp_path / "f.h5")
    assert len(found["camera.png"]) > 10
    assert found["camera.png"].keypoints[:, 0].max() < 128
    assert len(found["coffee.jpg"]) == 60
    assert report.without_keypoints == [("inside/turned.png", "the mask leaves nothing")]


def test_masks_that_are_missing_or_of_another_size_fail_that_picture_alone(
    tiny_model: LFNet, folder: Path, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(np.full((10, 20), 255, np.uint8)).save(masks / "camera.png")
    Image.fromarray(np.full((200, 300), 255, np.uint8)).save(masks / "coffee.png")
    report = extract_files(tiny_model, name_images([folder]), tmp_path / "f.h5", FileSettings(masks=masks))
    assert set(contents(tmp_path / "f.h5")) == {"coffee.jpg"}
    errors = dict(report.failures)
    assert "its mask is 20x10, the picture 256x256" in errors["camera.png"]
    assert "no mask for image 'inside/turned.png'" in errors["inside/turned.png"]


def test_a_second_run_does_only_what_is_missing(tiny_model: LFNet, folder: Path, tmp_path: Path) -> None:
    images = name_images([folder])
    first = dict(list(images.items())[:2])
    extract_files(tiny_model, first, tmp_path / "f.h5", SETTINGS)
    report = extract_files(tiny_model, images, tmp_path / "f.h5", SETTINGS)
    assert (report.written, report.skipped) == (1, 2)
    extract_files(tiny_model, images, tmp_path / "whole.h5", SETTINGS)
    assert_same(tmp_path / "f.h5", tmp_path / "whole.h5")


def test_other_settings_do_not_mix_into_one_file(tiny_model: LFNet, folder: Path, tmp_path: Path) -> None:
    images = name_images([folder])
    extract_files(tiny_model, images, tmp_path / "f.h5", SETTINGS, weights="one")
    with pytest.raises(
        hloc.FeatureFileError, match=r"max_keypoints 60 \(now 1024\), weights one \(now two\)"
    ):
        extract_files(tiny_model, images, tmp_path / "f.h5", FileSettings(), weights="two")
    extract_files(tiny_model, images, tmp_path / "f.h5", FileSettings(), weights="two", overwrite=True)
    assert max(map(len, contents(tmp_path / "f.h5").values())) > 60
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a.jpg/keypoints"] = np.zeros((1, 2))
    with pytest.raises(hloc.FeatureFileError, match="by another program"):
        extract_files(tiny_model, images, tmp_path / "other.h5", SETTINGS)


def test_two_runs_do_not_share_an_output(tiny_model: LFNet, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "f.h5"
    with held(output), pytest.raises(OSError, match="another process is writing it"):
        extract_files(tiny_model, name_images([folder]), output)
    assert extract_files(tiny_model, name_images([folder]), output).written > 0
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_replacement_that_was_stopped_goes_on(tiny_model: LFNet, folder: Path, tmp_path: Path) -> None:
    """With --overwrite again or without it; and what is replaced is not taken for what replaces it."""
    images, output = name_images([folder]), tmp_path / "f.h5"
    extract_files(tiny_model, images, output)

    class Stop(Exception):
        pass

    def stop_after_one(count: int) -> None:
        if count:
            raise Stop

    for again in (True, False):
        with pytest.raises(Stop):
            extract_files(tiny_model, images, output, overwrite=True, progress=stop_after_one)
        report = extract_files(tiny_model, images, output, overwrite=again)
        assert (report.skipped, report.written) == (1, len(images) - 1)
        assert len(contents(output)) == len(images)


def test_a_name_is_not_a_picture_and_a_folder(tiny_model: LFNet, camera: NDArray[np.uint8], tmp_path: Path) -> None:
    for name in ("one/x.jpg", "two/x.jpg/y.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        Image.fromarray(camera[:80, :80]).save(path)
    output = tmp_path / "f.h5"
    with pytest.raises(ImageError, match=r"its folder 'x\.jpg' has the name of a picture"):
        extract_files(tiny_model, name_images([tmp_path / "one", tmp_path / "two"]), output)
    extract_files(tiny_model, name_images([tmp_path / "one"]), output)
    with pytest.raises(ImageError, match="has the name of a picture"):
        extract_files(tiny_model, name_images([tmp_path / "two"]), output)


def test_a_name_that_is_no_utf8_fails_that_picture_alone(
    tiny_model: LFNet, camera: NDArray[np.uint8], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(camera[:80, :80]).save(folder / "good.png")
    shutil.copy(folder / "good.png", os.fsencode(folder) + b"/\xff\xe9.png")
    report = extract_files(tiny_model, name_images([folder]), tmp_path / "f.h5")
    assert report.written == 1
    assert "not UTF-8" in report.failures[0][1]
    assert list(contents(tmp_path / "f.h5")) == ["good.png"]


def test_names_follow_folders_and_the_root(folder: Path) -> None:
    assert list(name_images([folder / "inside", folder / "coffee.jpg"])) == ["turned.png", "coffee.jpg"]
    assert list(name_images([folder / "inside"], folder)) == ["inside/turned.png"]
    with pytest.raises(ImageError, match="outside the root"):
        name_images([folder], folder / "inside")
    (folder / "inside" / "camera.png").write_bytes((folder / "camera.png").read_bytes())
    with pytest.raises(ImageError, match=r"has the same name 'camera\.png'"):
        name_images([folder / "camera.png", folder / "inside" / "camera.png"])


def test_links_keep_their_names_below_a_root(folder: Path, tmp_path: Path) -> None:
    """Resolved, the two links would have one name, and the linked folder would lie outside."""
    album = tmp_path / "album"
    album.mkdir()
    for name in ("a.png", "b.png"):
        (album / name).symlink_to(folder / "camera.png")
    (album / "trip").symlink_to(folder / "inside")
    expected = ["a.png", "b.png", "trip/turned.png"]
    assert list(name_images([album], album)) == expected
    assert list(name_images([album / "b.png", album / "trip"], album)) == expected[1:]
    (tmp_path / "way").symlink_to(album)
    assert list(name_images([tmp_path / "way"], album)) == expected
    assert list(name_images([album], tmp_path / "way")) == expected
    assert list(name_images([album / "trip"], tmp_path)) == ["album/trip/turned.png"]


def test_one_mask_for_all_pictures(tiny_model: LFNet, folder: Path, tmp_path: Path) -> None:
    mask = np.zeros((256, 256, 3), np.uint8)
    mask[:, 128:, 2] = 1
    Image.fromarray(mask).save(tmp_path / "mask.PNG")
    settings = FileSettings(ExtractionSettings(max_keypoints=60), masks=tmp_path / "mask.PNG")
    report = extract_files(tiny_model, name_images([folder]), tmp_path / "f.h5", settings)
    found = contents(tmp_path / "f.h5")
    assert set(found) == {"camera.png", "inside/turned.png"}
    assert min(features.keypoints[:, 0].min() for features in found.values()) > 127
    ((name, message),) = report.failures
    assert name == "coffee.jpg"
    assert "its mask is 256x256, the picture 300x200" in message


def test_broken_links_fail_and_what_is_passed_over_is_told(
    folder: Path, tmp_path: Path, tiny_weights: Path, run_lfnet: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    for name in ("notes.txt", "raw.NEF"):
        (folder / name).touch()
    told = run_lfnet("extract", folder, "--weights", tiny_weights, "-o", tmp_path / "f.h5")
    assert told.returncode == 1
    assert set(contents(tmp_path / "f.h5")) == {"camera.png", "coffee.jpg", "inside/turned.png"}
    for line in ("notes.txt: no ending of an image", "raw.NEF: a camera's raw file", "nowhere.jpg, which is not there"):
        assert line in told.stderr
    assert "Traceback" not in told.stderr


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "lfnet.cli.main", "extract", *map(str, arguments)]


def test_killed_midway_it_goes_on_and_ends_with_the_same_file(
    tmp_path: Path, camera: NDArray[np.uint8], tiny_weights: Path, user_environment: dict[str, str]
) -> None:
    pictures = many_pictures(tmp_path / "pictures", camera, 150)
    arguments = [pictures, "--weights", tiny_weights, "--max-keypoints", 50, "--threads", 1, "-o"]
    output, parts = tmp_path / "killed.h5", tmp_path / "killed.h5.parts"
    process = subprocess.Popen(command(*arguments, output), env=user_environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(parts.glob("0*.h5"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    assert not output.exists()
    done = [name for part in sorted(parts.glob("0*.h5")) for name in contents(part)]
    assert 3 <= len(done) < 150
    again = subprocess.run(command(*arguments, output), env=user_environment, capture_output=True, text=True)
    assert f"{150 - len(done)} pictures" in again.stdout
    assert f"{len(done)} were there already" in again.stdout
    assert list(tmp_path.glob("killed*")) == [output]
    subprocess.run(
        command(*arguments, tmp_path / "whole.h5"), env=user_environment, check=True, capture_output=True
    )
    assert_same(output, tmp_path / "whole.h5")


def test_a_disk_that_takes_no_more_ends_in_one_line_and_loses_nothing(
    tmp_path: Path, camera: NDArray[np.uint8], tiny_weights: Path, user_environment: dict[str, str]
) -> None:
    """A limit on the size of files stands in for a full disk: parts fit, their sum does not."""
    pictures = many_pictures(tmp_path / "pictures", camera, 12)
    output = tmp_path / "f.h5"
    arguments = command(pictures, "--weights", tiny_weights, "--max-keypoints", 50, "-o", output)

    def limit_file_size() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    failed = subprocess.run(
        arguments, env=user_environment, capture_output=True, text=True, preexec_fn=limit_file_size
    )
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith(f"lfnet: error: {output}: File too large; make room")
    assert "Traceback" not in failed.stderr
    assert not output.exists()
    assert len(list((tmp_path / "f.h5.parts").glob("*.h5"))) == 12
    assert not list(tmp_path.glob(".*.tmp"))
    again = subprocess.run(arguments, env=user_environment, capture_output=True, text=True, check=True)
    assert "12 were there already" in again.stdout
    assert len(contents(output)) == 12


@linux_only
def test_memory_does_not_grow_with_the_number_of_pictures(
    tmp_path: Path, camera: NDArray[np.uint8], tiny_weights: Path, user_environment: dict[str, str]
) -> None:
    arguments = ["--weights", tiny_weights, "--max-keypoints", 100, "--threads", 1, "-o"]
    few = many_pictures(tmp_path / "few", camera, 40)
    many = many_pictures(tmp_path / "many", camera, 400)
    peak_few = peak_megabytes(user_environment, "extract", few, *arguments, tmp_path / "few.h5")
    peak_many = peak_megabytes(user_environment, "extract", many, *arguments, tmp_path / "many.h5")
    assert peak_many - peak_few < 20, f"{peak_few} MB for 40 pictures, {peak_many} MB for 400"


@linux_only
def test_the_paper_s_network_takes_a_photograph_in_little_memory(
    tmp_path: Path, coffee: NDArray[np.uint8], user_environment: dict[str, str]
) -> None:
    from lfnet.models.weights import save_weights

    model = LFNet()
    save_weights(tmp_path / "paper.safetensors", model.config, model.state_dict())
    Image.fromarray(coffee).resize((1024, 768)).save(tmp_path / "a.png")
    arguments = [tmp_path / "a.png", "--weights", tmp_path / "paper.safetensors", "-o", tmp_path / "f.h5"]
    assert peak_megabytes(user_environment, "extract", *arguments) < 1500


def test_tiles_give_the_keypoints_of_the_whole_picture(
    tiny_model: LFNet, folder: Path, tmp_path: Path, coffee: NDArray[np.uint8]
) -> None:
    masks = tmp_path / "masks"
    (masks / "inside").mkdir(parents=True)
    for name, shape in (("camera.png", (256, 256)), ("coffee.png", (200, 300)), ("inside/turned.png", (256, 256))):
        mask = np.full(shape, 3, np.uint8)
        mask[:90, 50:120] = 0
        Image.fromarray(mask).save(masks / name)
    extraction = ExtractionSettings(max_keypoints=60)
    looks: list[tuple[int, int]] = []
    tiled = FileSettings(extraction, masks=masks, tile=96)
    extract_files(
        tiny_model,
        name_images([folder]),
        tmp_path / "t.h5",
        tiled,
        look=lambda done, count: looks.append((done, count)),
    )
    extract_files(tiny_model, name_images([folder]), tmp_path / "w.h5", FileSettings(extraction, masks=masks, resize=0))
    assert_same_places(tmp_path / "t.h5", tmp_path / "w.h5")
    assert looks[-1] == (18, 18)
    # What a run with tiles began, one without may continue.
    report = extract_files(
        tiny_model, name_images([folder]), tmp_path / "t.h5", FileSettings(extraction, masks=masks, resize=0)
    )
    assert report.skipped == 3


def assert_same_places(one: Path, other: Path) -> None:
    first, second = contents(one), contents(other)
    assert first.keys() == second.keys()
    for name, features in first.items():
        apart = np.linalg.norm(features.keypoints[:, None] - second[name].keypoints[None], axis=-1)
        assert len(features) == len(second[name]) > 20
        assert apart.min(0).max() < 1e-2, name


def test_one_that_fails_in_tiles_does_not_stop_the_others(
    tiny_model: LFNet, folder: Path, tmp_path: Path
) -> None:
    (folder / "broken.png").write_bytes((folder / "camera.png").read_bytes()[:3000])
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(np.full((10, 20), 255, np.uint8)).save(masks / "camera.png")
    Image.fromarray(np.zeros((200, 300), np.uint8)).save(masks / "coffee.png")
    Image.fromarray(np.full((10, 20), 255, np.uint8)).save(masks / "broken.png")
    report = extract_files(
        tiny_model, name_images([folder]), tmp_path / "f.h5", FileSettings(masks=masks, tile=128)
    )
    assert report.without_keypoints == [("coffee.jpg", "nothing stands out where the mask allows")]
    errors = dict(report.failures)
    assert "its mask is 20x10, the picture 256x256" in errors["camera.png"]
    assert "no mask for image" in errors["inside/turned.png"]
    assert "broken.png" in errors["broken.png"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"overlap": 50}, "give --tile too"),
        ({"tile": 10}, "at least 64"),
        ({"tile": 256, "resize": 800}, "tiles are worked at full size"),
    ],
)
def test_tile_settings_that_do_not_go_together_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        FileSettings(**settings)  # pyright: ignore[reportArgumentType]


@linux_only
def test_memory_of_tiles_does_not_grow_with_the_height(
    tmp_path: Path, camera: NDArray[np.uint8], tiny_weights: Path, user_environment: dict[str, str]
) -> None:
    pytest.importorskip("rasterio")
    arguments = ["--weights", tiny_weights, "--tile", 256, "--threads", 1, "-o"]
    peaks = []
    for count in (2, 16):
        Image.fromarray(np.tile(camera, (count, 4))).save(tmp_path / f"{count}.tif", compression="tiff_deflate")
        peaks.append(
            peak_megabytes(user_environment, "extract", tmp_path / f"{count}.tif", *arguments, tmp_path / f"{count}.h5")
        )
    assert peaks[1] - peaks[0] < 25, f"{peaks[0]} MB for 0.5 megapixels, {peaks[1]} MB for 4"


def test_frames_of_a_clip_are_named_by_their_numbers_and_resumed(
    tiny_model: LFNet, folder: Path, tmp_path: Path, coffee: NDArray[np.uint8]
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", turned_and_zoomed(coffee, 7, 30.0, 1.0))
    output = tmp_path / "f.h5"
    extract_files(tiny_model, name_images([folder / "coffee.jpg"]), output, SETTINGS)
    report = extract_frames(tiny_model, clip, output, SETTINGS, every=3)
    assert (report.written, report.skipped, report.failures) == (3, 0, [])
    found = contents(output)
    assert set(found) == {"coffee.jpg", "clip.mp4/000000", "clip.mp4/000003", "clip.mp4/000006"}
    assert all(features.image_size == (300, 200) and len(features) == 60 for features in found.values())
    more = extract_frames(tiny_model, clip, output, SETTINGS, every=2)
    assert (more.written, more.skipped) == (2, 2)
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    failed = extract_frames(tiny_model, tmp_path / "broken.mp4", output, SETTINGS)
    assert failed.written == 0
    assert "not a clip" in failed.failures[0][1]
    with pytest.raises(UserError, match="leave --tile out"):
        extract_frames(tiny_model, clip, output, FileSettings(tile=256))


def test_clips_and_pictures_go_into_one_file_by_command(
    run_lfnet, tiny_weights: Path, folder: Path, tmp_path: Path, coffee: NDArray[np.uint8]
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", turned_and_zoomed(coffee, 5, 30.0, 1.0))
    words = ("extract", clip, folder / "coffee.jpg", "--weights", tiny_weights, "-o", tmp_path / "f.h5")
    done = run_lfnet(*words, "--every", 2, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert "4 pictures with" in done.stdout
    assert set(contents(tmp_path / "f.h5")) == {"coffee.jpg", *(f"clip.mp4/{number:06d}" for number in (0, 2, 4))}
    refused = run_lfnet("extract", folder, "-o", tmp_path / "g.h5", "--every", 2)
    assert refused.returncode == 2
    assert "--every: is for clips" in refused.stderr


def test_a_clip_that_is_broken_does_not_stop_the_pictures(
    tiny_weights: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    words = ["extract", tmp_path / "broken.mp4", folder / "coffee.jpg", "--weights", tiny_weights]
    assert main([*map(str, words), "-o", str(tmp_path / "f.h5")]) == 1
    assert "broken.mp4: not a clip" in capsys.readouterr().err
    assert set(contents(tmp_path / "f.h5")) == {"coffee.jpg"}
