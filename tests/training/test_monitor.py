"""What a run leaves to be looked at, on a disk that is full."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from lfnet.training.monitor import Monitor

gfile = pytest.importorskip("tensorboard.compat.tensorflow_stub.io.gfile")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("fails_from", [1, 2, 4])
def test_events_that_cannot_be_written_name_their_folder(
    fails_from: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorBoard writes in a thread of its own, whose error says nothing of where."""
    written: list[str] = []
    original = gfile.LocalFileSystem._write

    def write(system: object, filename: str, content: bytes, mode: str) -> None:
        written.append(filename)
        if len(written) >= fails_from:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(system, filename, content, mode)

    monkeypatch.setattr(gfile.LocalFileSystem, "_write", write)

    def watch_a_run() -> None:
        monitor = Monitor(tmp_path, 0)
        monitor.validation(1, {"score": 0.5})
        monitor.close()

    with pytest.raises(OSError, match="No space left") as raised:
        watch_a_run()
    assert raised.value.filename == str(tmp_path / "tensorboard")
