"""The folder of a scene while it is made: held against others, its steps run, its manifest written at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lfnet.files.atomic import held, make_folder
from lfnet.preparation.manifest import MANIFEST, Origin, missing_files, says_already, write_manifest
from lfnet.preparation.steps import LOG, RECORD, WORK, Record, Step, remove, run_steps
from lfnet.progress import Counter, Progress, Say

KEPT = (RECORD, LOG, "models", "scene_masks")
"""What stays in the folder of work once a scene is finished, since it is small; a change of settings makes anew what
else it needs."""


class SceneFolder:
    """Where things are in the folder of a scene, and what of them is made.

    Args:
        scene: the folder.
        progress: told how far each step is.
        say: told what a person should know.
    """

    def __init__(self, scene: Path, progress: Progress, say: Say) -> None:
        self.scene = scene
        self.work = scene / WORK
        self.images = scene / "images"
        self.model = scene / "model"
        self.depth = scene / "depth"
        self.pairs = scene / "pairs.h5"
        self.log = self.work / LOG
        self.progress = progress
        self.say = say
        self.record = Record(scene)

    @property
    def masks(self) -> Path | None:
        """Folder of the pictures' masks, NAME.png, where they have some."""
        folder = self.work / "scene_masks"
        return folder if folder.is_dir() else None

    def counter(self, step: str) -> Counter:
        """Progress of one step."""
        return partial(self.progress, step)

    def run(self, steps: Sequence[Step]) -> None:
        """Do the steps that aren't done."""
        manifest = self.scene / MANIFEST
        missing = missing_files(self.scene)
        done = run_steps(self.scene, steps, self.record, self.say, lambda: remove(manifest), missing)
        if not done and manifest.exists():
            self.say(f"{self.scene} is finished already, with these settings; nothing is done again")

    def finish(self, origin: Origin, numbers: dict[str, Any]) -> dict[str, Any]:
        """Write the manifest unless it says all this already, and clear away what only the making needed.

        Returns:
            The numbers, with those of depth and pairs.
        """
        numbers = {**numbers, "pairs": self.record.result("pairs")}
        if self.record.knows("depth"):
            numbers["depth"] = self.record.result("depth")
        if not says_already(self.scene, origin):
            write_manifest(self.scene, origin, numbers, self.record.seconds())
        for path in self.work.iterdir():
            if path.name not in KEPT:
                remove(path)
        return numbers


@contextmanager
def scene_to_make(scene: Path, progress: Progress, say: Say) -> Iterator[SceneFolder]:
    """The folder of a scene, made or gone on with, while no other process works on it.

    Raises:
        OSError: another process does, or it can't be written.
    """
    make_folder(scene / WORK)
    with held(scene / MANIFEST):
        folder = SceneFolder(scene, progress, say)
        for path in scene.rglob(".*.tmp"):  # What processes that were killed were writing.
            path.unlink(missing_ok=True)
        yield folder


def replace_folder(source: Path, target: Path) -> None:
    """Put a folder in the place of another."""
    remove(target)
    if source.is_dir():
        source.rename(target)


def link_folder(target: Path, link: Path) -> bool:
    """Lay a symbolic link to a folder, for tools that look for pictures beside a model; False where links can't be."""
    remove(link)
    try:
        link.symlink_to(target.resolve(), target_is_directory=True)
    except OSError:
        return False
    return True
