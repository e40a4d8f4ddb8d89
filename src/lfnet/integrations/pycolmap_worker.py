"""The process that pycolmap runs in: one task read from stdin, its news written as lines of JSON.

Run as `python -m lfnet.integrations.pycolmap_worker`, by `lfnet.integrations.pycolmap_process` alone. pycolmap's wheel
brings a zlib of its own which, loaded before Python's, breaks gzip, PNG writing and `savez_compressed` in the process;
and a failed check of COLMAP's ends the process. Here neither can harm the caller.

Works with pycolmap 3.12 (the first with rigs and frames) and later: names of options that moved are looked up.
"""

from __future__ import annotations

import json
import os
import sys
import zlib  # noqa: F401  (before pycolmap, which would otherwise put its own in the place of Python's)
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pycolmap

from lfnet.progress import repeated

Report = Callable[..., None]
"""Called with keyword arguments: a line of JSON for the caller."""

MAX_MASK_PIXELS = 500_000_000
"""Largest mask: photos of any size that COLMAP takes may have one."""
FEATURE_BATCH = 8
"""Pictures whose features are extracted by one call, between two reports of progress."""


def configured(options: Any, **values: Any) -> Any:
    """Options with values set, wherever this version of pycolmap has them: on themselves or on their part `sift`.

    Raises:
        AttributeError: no such option in this version.
    """
    for name, value in values.items():
        owners = [owner for owner in (options, getattr(options, "sift", None)) if owner is not None]
        owner = next((owner for owner in owners if hasattr(owner, name)), None)
        if owner is None:
            raise AttributeError(f"pycolmap {pycolmap.__version__}: {type(options).__name__} has no option {name}")
        setattr(owner, name, value)
    return options


def with_seed(options: Any, seed: int) -> Any:
    """Options with the seed set, in versions that have one; earlier ones start from a fixed seed."""
    return configured(options, random_seed=seed) if hasattr(options, "random_seed") else options


def versions(task: dict[str, Any], report: Report) -> None:
    """Version of pycolmap, and whether it was built with CUDA."""
    report(version=pycolmap.__version__, has_cuda=bool(pycolmap.has_cuda))


def register_pictures(task: dict[str, Any], report: Report) -> None:
    """Add pictures to a database, new or not, group by group, each with one camera or one a picture."""
    modes = {"single": pycolmap.CameraMode.SINGLE, "per-picture": pycolmap.CameraMode.PER_IMAGE}
    _database(task["database"]).close()
    for group in task["groups"]:
        options = configured(
            pycolmap.ImageReaderOptions(), camera_model=task["camera_model"], camera_params=group["parameters"]
        )
        pycolmap.import_images(
            task["database"], task["images"], modes[group["cameras"]], image_names=group["names"], options=options
        )


def extract_features(task: dict[str, Any], report: Report) -> None:
    """SIFT of every picture that has none yet."""
    with _database(task["database"]) as database:
        images = {image.name: image.image_id for image in database.read_all_images()}
        done = {
            name for name, number in images.items()
            if database.exists_keypoints(number) and database.exists_descriptors(number)
        }
    reader = pycolmap.ImageReaderOptions()
    if task["masks"]:
        configured(reader, mask_path=task["masks"])
    kind = getattr(pycolmap, "FeatureExtractionOptions", pycolmap.SiftExtractionOptions)
    options = configured(
        kind(),
        use_gpu=False,
        num_threads=task["threads"],
        max_image_size=task["max_side"],
        max_num_features=task["max_features"],
    )
    place = "extraction_options" if hasattr(pycolmap, "FeatureExtractionOptions") else "sift_options"
    left = [name for name in task["names"] if name not in done]
    report(progress=len(done), total=len(task["names"]))
    for start in range(0, len(left), FEATURE_BATCH):
        batch = left[start : start + FEATURE_BATCH]
        pycolmap.extract_features(
            task["database"],
            task["images"],
            batch,
            reader_options=reader,
            device=pycolmap.Device.cpu,
            **{place: options},
        )
        report(progress=len(done) + min(start + FEATURE_BATCH, len(left)), total=len(task["names"]))
    with _database(task["database"]) as database:
        cameras = {camera.camera_id: camera for camera in database.read_all_cameras()}
        guessed = [
            image.name
            for image in database.read_all_images()
            if not cameras[image.camera_id].has_prior_focal_length
        ]
        keypoints = sum(database.num_keypoints_for_image(number) for number in images.values())
    report(cameras=len(cameras), keypoints=keypoints, guessed_focal_lengths=sorted(guessed))


def match_features(task: dict[str, Any], report: Report) -> None:
    """Match and verify the pairs that the chosen way of pairing proposes and the database doesn't hold yet."""
    kinds = {
        "exhaustive": ("match_exhaustive", "Exhaustive", {"block_size": task["block"]}),
        "sequential": ("match_sequential", "Sequential", {"overlap": task["neighbours"], "loop_detection": False}),
        "spatial": ("match_spatial", "Spatial", {"max_num_neighbors": task["neighbours"]}),
        "vocabulary": (
            "match_vocabtree",
            "VocabTree",
            {"vocab_tree_path": task["vocabulary_tree"], "num_images": task["neighbours"]},
        ),
    }
    function, prefix, values = kinds[task["pairing"]]
    if task["pairing"] == "sequential" and task["vocabulary_tree"]:
        values = {**values, "loop_detection": True, "vocab_tree_path": task["vocabulary_tree"]}
    modern = hasattr(pycolmap, "FeatureMatchingOptions")
    kind = pycolmap.FeatureMatchingOptions if modern else pycolmap.SiftMatchingOptions
    matching = configured(kind(), use_gpu=False, num_threads=task["threads"])
    pairing_kind = getattr(pycolmap, f"{prefix}PairingOptions" if modern else f"{prefix}MatchingOptions")
    pairing = configured(pairing_kind(), **values)
    verification = pycolmap.TwoViewGeometryOptions()
    with_seed(verification.ransac, task["seed"])
    if modern:
        options = {"matching_options": matching, "pairing_options": pairing}
    else:
        options = {"sift_options": matching, "matching_options": pairing}
    getattr(pycolmap, function)(
        task["database"], verification_options=verification, device=pycolmap.Device.cpu, **options
    )
    with _database(task["database"]) as database:
        counts = {name: getattr(database, f"num_{name}_image_pairs") for name in ("matched", "verified")}
        report(**{name: _number(count) for name, count in counts.items()})


def verify_matches(task: dict[str, Any], report: Report) -> None:
    """Two-view geometry of every pair of pictures that has matches."""
    options = pycolmap.TwoViewGeometryOptions()
    with_seed(options.ransac, task["seed"])
    if hasattr(pycolmap, "geometric_verification"):
        verifier = configured(pycolmap.GeometricVerifierOptions(), num_threads=task["threads"])
        pycolmap.geometric_verification(
            task["database"], verifier_options=verifier, two_view_geometry_options=options
        )
    else:
        _verify_listed(task["database"], Path(task["pairs"]), options)
    with _database(task["database"]) as database:
        report(verified=_number(database.num_verified_image_pairs))


def _verify_listed(database: str, pairs: Path, options: Any) -> None:
    """Verification in versions that want the pairs by name, in a file."""
    with _database(database) as opened:
        images = opened.read_all_images()
        listed = [
            (a.name, b.name)
            for number, a in enumerate(images)
            for b in images[number + 1 :]
            if opened.exists_matches(a.image_id, b.image_id)
        ]
    strange = [name for pair in listed for name in pair if len(name.split()) != 1]
    if strange:
        version = pycolmap.__version__
        raise ValueError(f"pycolmap {version} takes no names with blanks ({strange[0]!r}); a newer one does")
    if listed:
        pairs.write_text("".join(f"{a} {b}\n" for a, b in listed))
        pycolmap.verify_matches(database, str(pairs), options)


def _number(count: Any) -> int:
    """A count of a database's: a property in 3.12, a method later."""
    value: Any = count() if callable(count) else count
    return int(value)


def map_pictures(task: dict[str, Any], report: Report) -> None:
    """Incremental structure from motion: models 0, 1, ... in a new folder, and what each holds."""
    options = configured(
        pycolmap.IncrementalPipelineOptions(),
        num_threads=task["threads"],
        min_model_size=task["min_pictures"],
        ba_use_gpu=False,
    )
    for part, values in task["demands"].items():
        configured(getattr(options, part), **values)
    if task.get("fixed_cameras"):
        configured(options, ba_refine_focal_length=False, ba_refine_extra_params=False)
    with_seed(options, task["seed"])
    registered = 0

    def count(step: int) -> None:
        nonlocal registered
        registered += step
        report(progress=min(registered, task["total"]), total=task["total"])

    models = pycolmap.incremental_mapping(
        task["database"],
        task["images"],
        task["output"],
        options,
        initial_image_pair_callback=lambda: count(2),
        next_image_callback=lambda: count(1),
    )
    found = []
    for number, model in models.items():
        found.append(
            {
                "model": number,
                "names": sorted(image.name for image in _registered(model)),
                "points": model.num_points3D(),
                "observations": model.compute_num_observations(),
                "reprojection_error": model.compute_mean_reprojection_error(),
                "track_length": model.compute_mean_track_length(),
            }
        )
    report(models=found)


def undistort(task: dict[str, Any], report: Report) -> None:
    """Pinhole pictures of at most a given side, with their model, and masks drawn the same way."""
    options = configured(pycolmap.UndistortCameraOptions(), max_image_size=task["size"], blank_pixels=0.0)
    takes_quality = "jpeg_quality" in (pycolmap.undistort_images.__doc__ or "")
    quality: dict[str, Any] = {"jpeg_quality": 95} if takes_quality else {}
    output = Path(task["output"])
    with _counted(output / "images", task["total"], report):
        pycolmap.undistort_images(output, task["model"], task["images"], undistort_options=options, **quality)
    if not task["masks"]:
        return
    from PIL import Image

    from lfnet.masks import Masks, read_mask

    before, after = pycolmap.Reconstruction(task["model"]), pycolmap.Reconstruction(output / "sparse")
    names = {image.name: image.camera_id for image in _registered(before)}
    masks = Masks(task["masks"])
    for image in _registered(after):
        source = masks.of(image.name)
        if source is None:
            continue
        mask = read_mask(source, MAX_MASK_PIXELS)
        drawn = _draw_mask(mask, before.cameras[names[image.name]], after.cameras[image.camera_id])
        target = output / "masks" / f"{image.name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn).save(target)


def _draw_mask(mask: np.ndarray, source: Any, target: Any) -> np.ndarray:
    """A mask of the stored picture as the undistorted camera sees it, by nearest pixel."""
    y, x = np.mgrid[0 : target.height, 0 : target.width] + 0.5
    rays = np.atleast_2d(target.cam_from_img(np.stack((x.ravel(), y.ravel()), 1)))[:, :2]
    rays = np.concatenate((rays, np.ones((len(rays), 1))), 1)
    places = np.asarray(source.img_from_cam(rays))[:, :2]
    places = np.floor(places * (mask.shape[1] / source.width, mask.shape[0] / source.height)).astype(int)
    inside = ((places >= 0) & (places < (mask.shape[1], mask.shape[0]))).all(1)
    drawn = np.zeros(len(places), np.uint8)
    drawn[inside] = mask[places[inside, 1], places[inside, 0]] * np.uint8(255)
    return drawn.reshape(target.height, target.width)


def patch_match(task: dict[str, Any], report: Report) -> None:
    """COLMAP's PatchMatch stereo on an undistorted workspace; needs a build with CUDA."""
    if not pycolmap.has_cuda:
        raise RuntimeError(f"pycolmap {pycolmap.__version__} was built without CUDA; install pycolmap-cuda12")
    options = configured(pycolmap.PatchMatchOptions(), max_image_size=task["size"], geom_consistency=True)
    pattern = "*.geometric.bin"
    with _counted(Path(task["workspace"]) / "stereo" / "depth_maps", task["total"], report, pattern):
        pycolmap.patch_match_stereo(task["workspace"], options=options)


def _registered(model: Any) -> Iterator[Any]:
    return (image for image in model.images.values() if image.has_pose)


def _database(path: str) -> Any:
    """A database, open: opening one is a static method in some versions, and a method of an empty one in others."""
    if isinstance(pycolmap.Database.__dict__.get("open"), staticmethod):
        return pycolmap.Database.open(path)
    database = pycolmap.Database()
    database.open(path)
    return database


@contextmanager
def _counted(folder: Path, total: int, report: Report, pattern: str = "*") -> Iterator[None]:
    """Progress of what writes files: those of a folder, at any depth."""

    def look() -> None:
        found = sum(path.is_file() for path in folder.rglob(pattern)) if folder.is_dir() else 0
        report(progress=min(found, total), total=total)

    with repeated(look):
        yield


TASKS = {
    function.__name__: function
    for function in (
        versions,
        register_pictures,
        extract_features,
        match_features,
        verify_matches,
        map_pictures,
        undistort,
        patch_match,
    )
}
"""What the process can be asked for, by name."""


def _end_with_caller() -> None:
    """End this process when its caller ends: the same command, run again, must not meet it at the same database.

    The caller keeps its end of stdin open for as long as it waits; reading the descriptor itself holds no lock that
    Python's own end would wait for.
    """
    os.read(0, 1)
    os._exit(1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the task in stdin's first line. News goes to the stdout this process was given, COLMAP's prints to stderr."""
    news = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    task = json.loads(sys.stdin.readline())
    Thread(target=_end_with_caller, daemon=True).start()

    def report(**values: Any) -> None:
        news.write(json.dumps(values) + "\n")

    try:
        TASKS[task["task"]](task, report)
    except Exception as error:  # Whatever it is, the caller says it, in one line.
        report(error=f"{type(error).__name__}: {error}")
        return 1
    report(done=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
