"""Earlier home of what `extractors` and its neighbours hold."""

from __future__ import annotations

from lfnet.evaluation.extractors import Extractor
from lfnet.evaluation.extractors import make_methods as make_extractors
from lfnet.evaluation.lfnet_extractor import LFNetExtractor
from lfnet.evaluation.opencv_extractors import PATCH_PER_SIFT_SIGMA, OpenCVExtractor, root_normalised

__all__ = [
    "PATCH_PER_SIFT_SIGMA",
    "Extractor",
    "LFNetExtractor",
    "OpenCVExtractor",
    "make_extractors",
    "root_normalised",
]
