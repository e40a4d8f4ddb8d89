"""The site builds strictly, without network, and its figure shows a pair whose geometry is true."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch

from lfnet.geometry.sampling import sample
from support.commands import REPOSITORY

NOWHERE = "http://127.0.0.1:9"
"""A proxy that nobody listens at: whoever asks for the network fails."""


@pytest.mark.slow
def test_the_site_builds_strictly_without_network(tmp_path: Path) -> None:
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    environment = {**os.environ, "http_proxy": NOWHERE, "https_proxy": NOWHERE, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    warp = (tmp_path / "api" / "lfnet.geometry.warp.html").read_text(encoding="utf-8")
    assert "Map from pixels of view a to pixels of view b." in warp
    method = (tmp_path / "method.html").read_text(encoding="utf-8")
    targets = [unquote(target) for target in re.findall(r'href="([^"#:]+)[#"]', method)]
    assert "api/lfnet.training.branches.html" in targets
    missing = [target for target in targets if not (tmp_path / target).exists()]
    assert not missing, missing


def test_the_figure_of_the_two_branches_shows_a_pair_whose_warp_is_true() -> None:
    pytest.importorskip("skimage.data")
    script = runpy.run_path(str(REPOSITORY / "docs" / "figures" / "two_branches.py"))
    pair = script["real_pair"]()
    warped = pair.warp().grid()
    edge = (script["SIZE"] - script["SHOWN"]) // 2
    shown = slice(edge, edge + script["SHOWN"])
    visible = warped.visible.view(pair.a.image.shape)[..., shown, shown]
    brought = sample(pair.b.image, warped.points).view(pair.a.image.shape)
    difference = (brought - pair.a.image).abs()[..., shown, shown][visible]
    assert visible.float().mean() > 0.8
    assert difference.median() < 0.02, "grey values of one place"
    assert torch.median((pair.b.image - pair.a.image).abs()) > 0.08, "the views alone do not agree"
    assert np.isfinite(difference.numpy()).all()
