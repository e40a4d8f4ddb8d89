"""Where the repository is, and what a command needs of memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lfnet.evaluation.methods.opencv_extractors import OpenCVExtractor

REPOSITORY = Path(__file__).resolve().parents[2]
linux_only = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from Linux's /proc")
MEASURE = """
import sys
from lfnet.cli.main import main
code = main(sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print("peak", int(peak) // 1024, file=sys.stderr)
sys.exit(code)
"""


def peak_megabytes(environment: dict[str, str], command: str, *arguments: object) -> int:
    """The largest resident memory of a command that must end well."""
    words = [sys.executable, "-c", MEASURE, command, *map(str, arguments)]
    process = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return int(process.stderr.split("peak")[-1])


def has(name: str) -> bool:
    """Whether the installed OpenCV has a feature."""
    try:
        OpenCVExtractor(name)
    except ValueError:
        return False
    return True
