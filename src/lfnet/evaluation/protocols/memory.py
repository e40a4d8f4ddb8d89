"""A fresh process that makes a method, extracts once, and says the largest memory it took.

Run as `python -m lfnet.evaluation.protocols.memory TASK` by `lfnet.evaluation.protocols.cost` alone; the task is JSON.
Only what the method needs is imported: PyTorch not for OpenCV's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from lfnet.evaluation.methods.extractors import make_methods
from lfnet.evaluation.methods.feature_files import FeatureFile


def main() -> int:
    """Do the task in the first argument; print bytes."""
    task = json.loads(sys.argv[1])
    cv2.setNumThreads(task["threads"]["opencv"])
    picture = np.load(task["picture"])
    (method,) = make_methods([task["origin"]], task["device"])
    assert not isinstance(method, FeatureFile), "those can't be run"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(task["threads"]["torch"])
    method(picture, max_keypoints=task["budget"])
    print(peak())
    return 0


def peak() -> int:
    """Largest resident memory of this process so far, bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    # Bytes on macOS; Linux, where it counts the parent's too, is read above.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())
