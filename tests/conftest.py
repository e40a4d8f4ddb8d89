"""What several tests share: a small network, real pictures, and whole commands run as a user runs them."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray
from PIL import Image

from support import shape_checks

# Shapes in annotations are checked at run time, in the tests only. The package names jaxtyping for type checkers alone,
# so that it need not be installed to use lfnet; here the names are lent to it.
for _name in ("Bool", "Float", "Int", "UInt8"):
    setattr(builtins, _name, getattr(jaxtyping, _name))
jaxtyping.install_import_hook("lfnet", f"{shape_checks.__name__}.shapes_alone")

from lfnet.models.lfnet import LFNet  # noqa: E402
from lfnet.models.weights import save_weights  # noqa: E402
from support.commands import REPOSITORY  # noqa: E402
from support.networks import tiny_config  # noqa: E402

# Few examples, and the same in every run: a failure here is a failure everywhere.
settings.register_profile("few", max_examples=25, derandomize=True, database=None, deadline=None)
settings.load_profile("few")


@pytest.fixture(scope="session")
def tiny_model() -> LFNet:
    """An untrained small network, the same in every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LFNet(tiny_config()).eval()


@pytest.fixture(scope="session")
def tiny_weights(tiny_model: LFNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network's weights in a file."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, tiny_model.config, tiny_model.state_dict(), {"licence": "Apache-2.0"})
    return path


@pytest.fixture(scope="session")
def camera() -> NDArray[np.uint8]:
    """A real grey photograph, 256x256, that scikit-image brings along."""
    data = pytest.importorskip("skimage.data")
    return np.ascontiguousarray(data.camera()[::2, ::2])


@pytest.fixture(scope="session")
def coffee() -> NDArray[np.uint8]:
    """A real colour photograph, 300x200, that scikit-image brings along."""
    data = pytest.importorskip("skimage.data")
    return np.ascontiguousarray(data.coffee()[::2, ::2])


@pytest.fixture
def folder(tmp_path: Path, camera: NDArray[np.uint8], coffee: NDArray[np.uint8]) -> Path:
    """Three real pictures, one of them in a subfolder."""
    root = tmp_path / "pictures"
    (root / "inside").mkdir(parents=True)
    Image.fromarray(camera).save(root / "camera.png")
    Image.fromarray(coffee).save(root / "coffee.jpg")
    Image.fromarray(camera[::-1].copy()).save(root / "inside" / "turned.png")
    return root


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data beside the repository; the test is skipped where it isn't there."""
    path = REPOSITORY.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("no ../shared/data beside the repository")
    return path


@pytest.fixture(scope="session")
def user_environment() -> dict[str, str]:
    """The environment of a command started by a test: this source, one thread."""
    source = str(REPOSITORY / "src")
    paths = [source, os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else [source]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def run_lfnet(user_environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `lfnet` as a process of its own, and give back what it printed."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lfnet.cli.main", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, env=user_environment, timeout=300, check=False, **options
        )

    return run
