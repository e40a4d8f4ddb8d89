"""By what the content of a file is told from another's."""

from __future__ import annotations

import hashlib
from pathlib import Path


def checksum(*paths: Path) -> str:
    """SHA-256 of a file, or of several one after another, in hexadecimal.

    Raises:
        OSError: one can't be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
