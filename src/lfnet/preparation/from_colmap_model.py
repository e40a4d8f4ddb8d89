"""From a COLMAP reconstruction that the user has to a scene, with its depth maps if they are there."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lfnet.data.reconstructions.colmap_files import find_model, find_pictures, read_reconstruction, write_reconstruction
from lfnet.data.scenes.scene import depth_path
from lfnet.images import image_size
from lfnet.integrations.pycolmap_process import run_pycolmap
from lfnet.preparation.depth import DepthSettings, each_of, write_depth
from lfnet.preparation.from_photos import BYTES_PER_PIXEL, SIZE
from lfnet.preparation.from_recording import link_folder
from lfnet.preparation.imported_depth import find_depth_maps, import_depth
from lfnet.preparation.manifest import check_room, check_target, plain
from lfnet.preparation.pairs import PairSettings
from lfnet.preparation.scene_steps import SceneMaker, replace_folder
from lfnet.preparation.sfm import shortened
from lfnet.preparation.steps import LOG, PreparationError, Step, describe_tree, remove
from lfnet.progress import Progress, Say
from lfnet.settings import ConfigError

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
        if self.size < 64:
            raise ConfigError(f"size: expected at least 64 px, got {self.size}")


def prepare_model(
    folder: Path, scene: Path, settings: ModelSettings, threads: int, progress: Progress, say: Say
) -> dict[str, Any]:
    """Make a scene of a COLMAP model, or resume one.

    Pinhole pictures that have depth maps, or are no larger than asked, stay where they are; others are undistorted and
    scaled down by pycolmap.

    Args:
        folder: of the model, or of a workspace that holds it.
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
    check_target(scene, folder)
    return _Model(folder, scene, settings, threads, progress, say).make()


class _Model(SceneMaker):
    """The steps of a scene made of a model."""

    def __init__(
        self, folder: Path, scene: Path, settings: ModelSettings, threads: int, progress: Progress, say: Say
    ) -> None:
        self._folder = folder
        self._source_model = find_model(folder)
        self._pictures = settings.images or find_pictures(folder) or folder / "images"
        self._settings = settings
        self._reconstruction = read_reconstruction(self._source_model, observations=False)
        self._check_pictures()
        self._imported = {} if settings.measure_depth else self._find_imported()
        super().__init__(scene, settings.depth, settings.pairs, threads, progress, say)

    def _check_pictures(self) -> None:
        names = [image.name for image in self._reconstruction.images.values()]
        if not names:
            raise PreparationError(f"{self._source_model}: the model has no pictures")
        missing = [name for name in names if not (self._pictures / name).is_file()]
        if missing:
            raise PreparationError(
                f"{self._pictures}: {len(missing)} of the model's {len(names)} pictures are missing "
                f"({shortened(missing)}); name their folder by --images"
            )

    def _find_imported(self) -> dict[str, Path]:
        """The depth map of each picture, where there are any."""
        asked = self._settings.depth_maps
        places = [asked] if asked is not None else [self._folder / place for place in DEPTH_PLACES]
        names = [image.name for image in self._reconstruction.images.values()]
        for place in places:
            found = find_depth_maps(place, names)
            if found:
                return found
        if asked is not None:
            raise PreparationError(
                f"{asked}: no depth map of any picture, as {names[0]}.geometric.bin, {names[0]}.h5 or .dmap"
            )
        return {}

    @cached_property
    def _by_reference(self) -> bool:
        """Whether the pictures can stay where they are."""
        cameras = self._reconstruction.cameras.values()
        small = all(max(camera.size) <= self._settings.size for camera in cameras)
        return all(camera.is_pinhole for camera in cameras) and (small or bool(self._imported))

    def _make(self) -> dict[str, Any]:
        if self._imported and not self._by_reference:
            raise PreparationError(
                f"{self._source_model}: has depth maps, but its cameras distort, so they can't belong to its pictures; "
                "name the undistorted model, or measure depth anew by --measure-depth"
            )
        if not (self.scene / "manifest.json").exists():
            count = len(self._reconstruction.images)
            check_room(self.scene, count * self._settings.size**2 * BYTES_PER_PIXEL, "lower --size")
        tables = sorted(path.name for path in self._source_model.iterdir() if path.is_file())
        names = [image.name for image in self._reconstruction.images.values()]
        asked = {
            "model": describe_tree(self._source_model, tables),
            "images": describe_tree(self._pictures, names),
            "by_reference": self._by_reference,
            "size": None if self._by_reference else self._settings.size,
        }
        steps = [Step("pictures", asked, self.picture_outputs, self._take_pictures)]
        if self._imported:
            listed = {name: [str(path), *_size_and_time(path)] for name, path in self._imported.items()}
            steps.append(Step("depth", {"maps": listed}, (self.depth,), self._take_depth, ("pictures",)))
        else:
            steps += self.depth_steps("pictures")
        steps.append(self.pair_step("depth"))
        self.run(steps)
        return self.finish(
            "colmap",
            self._folder,
            own_pictures=True,
            own_depth=True,
            licence=self._settings.licence,
            settings=plain(self._settings),
            numbers={
                "registered": len(names),
                "depth_maps_imported": len(self._imported),
                "pictures_linked": self._by_reference,
                **self.measured(),
            },
        )

    def _take_pictures(self) -> dict[str, Any]:
        if self._by_reference:
            model = read_reconstruction(self._source_model)
            for image in model.images.values():
                size, wanted = image_size(self._pictures / image.name), model.cameras[image.camera_id].size
                if size != wanted:
                    raise PreparationError(
                        f"{self._pictures / image.name}: {size[0]}x{size[1]}, but its camera has "
                        f"{wanted[0]}x{wanted[1]}; name the folder of the pictures that it was made of by --images"
                    )
            if not link_folder(self._pictures, self.images):
                raise PreparationError(f"{self.images}: no symbolic link can be made here; copy the pictures there")
            write_reconstruction(self.model, model)
            return {}
        output = self.work / "undistorted"
        remove(output)
        output.mkdir(parents=True)
        run_pycolmap(
            "undistort",
            self.work / LOG,
            self.counter("pictures"),
            model=str(self._source_model),
            images=str(self._pictures),
            output=str(output),
            size=self._settings.size,
            masks="",
            total=len(self._reconstruction.images),
        )
        replace_folder(output / "images", self.images)
        write_reconstruction(self.model, read_reconstruction(output / "sparse"))
        return {}

    def _take_depth(self) -> dict[str, Any]:
        model = self._reconstruction
        images = list(model.images.values())
        without = [image.name for image in images if image.name not in self._imported]
        if without:
            self.say(f"without a depth map: {shortened(without)}")

        def take(place: int) -> None:
            image = images[place]
            target = depth_path(self.scene, image.name)
            if not target.exists():
                camera = model.cameras[image.camera_id]
                path = self._imported.get(image.name)
                write_depth(target, import_depth(path, camera.size, camera.intrinsics))

        each_of(range(len(images)), take, self._threads, self.counter("depth"))
        return asdict(self.agreement())


def _size_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
