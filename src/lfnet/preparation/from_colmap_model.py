"""From a COLMAP reconstruction that the user has to a scene, with its depth maps if they are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lfnet.data.left_out import LeftOut
from lfnet.data.reconstructions.colmap_files import find_model, find_pictures, read_reconstruction, write_reconstruction
from lfnet.data.reconstructions.colmap_model import Reconstruction, RegisteredImage
from lfnet.data.scenes.scene import depth_path
from lfnet.errors import UserError
from lfnet.images import ImageError, image_size
from lfnet.preparation.depth import DepthSettings, each_of, write_depth
from lfnet.preparation.from_photos import SIZE
from lfnet.preparation.imported_depth import find_depth_maps, import_depth
from lfnet.preparation.manifest import Origin, plain
from lfnet.preparation.pairs import PairSettings
from lfnet.preparation.scene_folder import SceneFolder, link_folder, replace_folder, scene_to_make
from lfnet.preparation.sfm import undistort_pictures
from lfnet.preparation.shared_steps import depth_against_points, depth_steps, pair_step
from lfnet.preparation.steps import PreparationError, Step, describe_files, remove, shortened
from lfnet.preparation.target import BYTES_PER_PIXEL, check_room, check_target
from lfnet.progress import Progress, Say
from lfnet.settings import require_at_least

DEPTH_PLACES = ("stereo/depth_maps", "depth_maps", "depths", "depth", ".")
"""Where depth maps are looked for in it."""


@dataclass(frozen=True)
class ModelSettings:
    """How a reconstruction becomes a scene."""

    images: Path | None = None
    """Folder of its pictures; in the usual places in or beside the folder given unless named."""
    depth_maps: Path | None = None
    """Folder of its depth maps (COLMAP .bin, HDF5, OpenMVS .dmap); found in the usual places unless named."""
    measure_depth: bool = False
    """Measure depth even where there are maps."""
    size: int = SIZE
    """Long side of the pictures and depth maps where these have to be made, px."""
    depth: DepthSettings = field(default_factory=DepthSettings)
    pairs: PairSettings = field(default_factory=PairSettings)
    licence: str = "not stated"
    """Of the pictures, noted in the manifest."""

    def __post_init__(self) -> None:
        require_at_least(self, "colmap", {"size": 64})


def prepare_model(
    model: Path, scene: Path, settings: ModelSettings, threads: int, progress: Progress, say: Say
) -> dict[str, Any]:
    """Make a scene of a COLMAP model, or resume one.

    Pinhole pictures that have depth maps, or are no larger than asked, stay where they are; others are undistorted and
    scaled down by pycolmap. Pictures that are missing, broken or without a pose are left out, where they are few.

    Args:
        model: folder of the model, or of a workspace that holds it.
        scene: folder to make.
        settings: where pictures and depth are, and how depth is measured where it isn't there.
        threads: that depth maps are measured with.
        progress: told how far each step is.
        say: told what a person should know.

    Returns:
        The numbers of the manifest.

    Raises:
        ReconstructionError, PreparationError, PycolmapError, PairError, OSError: with the remedy in a line.
    """
    check_target(scene, model)
    source = _Source(model, settings)
    source.check()
    check_room(scene, len(source.names) * settings.size**2 * BYTES_PER_PIXEL, "lower --size")
    with scene_to_make(scene, progress, say) as folder:
        for note in source.usable.notes:
            say(note)
        made = _ModelSteps(source, folder, settings, threads)
        folder.run(made.steps())
        numbers = {
            "registered": len(source.names),
            "depth_maps_imported": len(source.depth_maps),
            "pictures_linked": source.by_reference,
            **({"notes": source.usable.notes} if source.usable.notes else {}),
        }
        return folder.finish(Origin("colmap", model, True, True, settings.licence, plain(settings)), numbers)


class _Source:
    """What the user has: a model, its pictures, perhaps depth maps."""

    def __init__(self, folder: Path, settings: ModelSettings) -> None:
        self._folder = folder
        self._settings = settings
        self.model = find_model(folder)
        self.pictures = settings.images or find_pictures(folder) or folder / "images"

    @cached_property
    def usable(self) -> Reconstruction:
        """The model without pictures that can't be used, and without its points."""
        found = read_reconstruction(self.model, observations=False)
        if not found.images:
            raise PreparationError(f"{self.model}: the model has no pictures")
        remedy = "name their folder by --images"
        missing = LeftOut("pictures are missing", remedy)
        broken = LeftOut("pictures can't be read", remedy)
        strange = LeftOut("pictures are of another size than their cameras", remedy)
        for image in found.images.values():
            path = self.pictures / image.name
            if not path.is_file():
                missing.add(image.name)
                continue
            try:
                size, wanted = image_size(path), found.cameras[image.camera_id].size
            except ImageError as error:
                broken.add(image.name, error)
                continue
            if size != wanted:
                cause = f"{size[0]}x{size[1]}, but its camera has {wanted[0]}x{wanted[1]}"
                strange.add(image.name, ImageError(path, cause, remedy))
        total = len(found.images)
        notes = [note for each in (missing, broken, strange) for note in each.notes(total, f"{self.pictures}")]
        gone = {*missing.names, *broken.names, *strange.names}
        images = {number: image for number, image in found.images.items() if image.name not in gone}
        return replace(found, images=images, notes=[*found.notes, *notes])

    @cached_property
    def names(self) -> list[str]:
        """Of the pictures."""
        return [image.name for image in self.usable.images.values()]

    @cached_property
    def depth_maps(self) -> Mapping[str, Path]:
        """The depth map of each picture that has one; empty where depth is to be measured."""
        if self._settings.measure_depth:
            return {}
        asked = self._settings.depth_maps
        for place in [asked] if asked is not None else [self._folder / place for place in DEPTH_PLACES]:
            found = find_depth_maps(place, self.names)
            if found:
                return found
        if asked is not None:
            name = self.names[0]
            raise PreparationError(
                f"{asked}: no depth map of any picture, as {name}.geometric.bin, {name}.h5 or .dmap"
            )
        return {}

    @cached_property
    def by_reference(self) -> bool:
        """Whether the pictures can stay where they are."""
        cameras = self.usable.cameras.values()
        small = all(max(camera.size) <= self._settings.size for camera in cameras)
        return all(camera.is_pinhole for camera in cameras) and (small or bool(self.depth_maps))

    def check(self) -> None:
        """Raise what is known to be wrong before any work."""
        if self.depth_maps and not self.by_reference:
            raise PreparationError(
                f"{self.model}: has depth maps, but its cameras distort, so they can't belong to its pictures; "
                "name the undistorted model, or measure depth anew by --measure-depth"
            )

    def read(self) -> Reconstruction:
        """The usable pictures of the model, with their points."""
        whole = read_reconstruction(self.model)
        return replace(whole, images={number: whole.images[number] for number in self.usable.images})


class _ModelSteps:
    """The steps of a scene made of a model, in their order."""

    def __init__(self, source: _Source, folder: SceneFolder, settings: ModelSettings, threads: int) -> None:
        self._source = source
        self._folder = folder
        self._settings = settings
        self._threads = threads

    def steps(self) -> list[Step]:
        folder, source, settings = self._folder, self._source, self._settings
        tables = sorted(path.name for path in source.model.iterdir() if path.is_file())
        asked = {
            "model": describe_files(source.model, tables),
            "images": describe_files(source.pictures, source.names),
            "by_reference": source.by_reference,
            "size": None if source.by_reference else settings.size,
        }
        take = self._link_pictures if source.by_reference else self._undistort
        steps = [Step("pictures", asked, (folder.images, folder.model), take)]
        if source.depth_maps:
            maps = {name: [str(path), *_size_and_time(path)] for name, path in source.depth_maps.items()}
            steps.append(Step("depth", {"maps": maps}, (folder.depth,), self._take_depth, ("pictures",)))
        else:
            steps += depth_steps(folder, settings.depth, self._threads, "pictures")
        return [*steps, pair_step(folder, settings.pairs, "depth")]

    def _link_pictures(self) -> dict[str, Any]:
        folder, pictures, model = self._folder, self._source.pictures, self._source.read()
        if not link_folder(pictures, folder.images):
            raise PreparationError(f"{folder.images}: no symbolic link can be made here; copy the pictures there")
        write_reconstruction(folder.model, model)
        return {}

    def _undistort(self) -> dict[str, Any]:
        folder, source = self._folder, self._source
        output, model = folder.work / "undistorted", source.model
        if source.usable.notes:  # COLMAP reads the model itself, and must not meet what is left out.
            model = folder.work / "usable"
            write_reconstruction(model, source.read())
        remove(output)
        undistorted = undistort_pictures(
            model,
            str(source.pictures),
            output,
            self._settings.size,
            len(source.names),
            folder.log,
            folder.counter("pictures"),
        )
        replace_folder(output / "images", folder.images)
        write_reconstruction(folder.model, undistorted)
        return {}

    def _take_depth(self) -> dict[str, Any]:
        folder, model, maps = self._folder, self._source.usable, self._source.depth_maps
        images = list(model.images.values())
        without = [name for name in self._source.names if name not in maps]
        if without:
            folder.say(f"without a depth map: {shortened(without)}")

        broken = LeftOut("depth maps can't be used", "make them again, or measure depth anew by --measure-depth")

        def write(image: RegisteredImage, path: Path | None) -> None:
            camera = model.cameras[image.camera_id]
            write_depth(depth_path(folder.scene, image.name), import_depth(path, camera.size, camera.intrinsics))

        def take(place: int) -> None:
            image = images[place]
            if not depth_path(folder.scene, image.name).exists():
                try:
                    write(image, maps.get(image.name))
                except UserError as error:
                    broken.add(image.name, error)

        each_of(range(len(images)), take, self._threads, folder.counter("depth"))
        for note in broken.notes(len(images), str(self._source.model), PreparationError):
            folder.say(note)
        for image in images:
            if image.name in broken.names:
                write(image, None)
        return depth_against_points(folder)


def _size_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
