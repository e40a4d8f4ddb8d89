"""The package builds, its metadata is what an index takes, and what is installed runs."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import lfnet
from support.commands import REPOSITORY


def run(*command: object, **options: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_wheel_and_source_are_whole(tmp_path: Path) -> None:
    for tool in ("build", "twine", "hatchling"):
        pytest.importorskip(tool)
    dist = tmp_path / "dist"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, REPOSITORY)
    wheel, source = next(dist.glob("*.whl")), next(dist.glob("*.tar.gz"))
    assert "WARNING" not in run(sys.executable, "-m", "twine", "check", "--strict", wheel, source)
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"CITATION.cff", "LICENSE", "examples/match_two_pictures.py", "tests/conftest.py"} <= names
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    for weights in lfnet.list_pretrained():
        assert (tmp_path / "installed" / "lfnet" / "weights" / f"{weights}.safetensors").is_file()
    for file in ("page/index.html", "page/page.js", "page/page.css", "page/icon.svg"):
        assert (tmp_path / "installed" / "lfnet" / "app" / file).is_file()
    code = f"import lfnet; print(lfnet.__file__, lfnet.list_pretrained() == {lfnet.list_pretrained()})"
    out = run(sys.executable, "-c", code, env={"PYTHONPATH": str(tmp_path / "installed"), "PATH": ""})
    assert out.split() == [str(tmp_path / "installed" / "lfnet" / "__init__.py"), "True"]


def test_the_citation_names_this_version() -> None:
    text = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", text, flags=re.MULTILINE) == [lfnet.__version__]
    assert "arXiv:1805.09662" in text
