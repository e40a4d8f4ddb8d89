"""`lfnet serve` as a user runs it: it tells its address, answers there, and ends by Ctrl+C without a trace."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request

import pytest


@pytest.mark.slow
def test_it_serves_until_interrupted(user_environment: dict[str, str]) -> None:
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-m", "lfnet", "serve", "--port", "0", "--threads", "1", "--device", "cpu"]
    process = subprocess.Popen(command, env=user_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            assert told.startswith("The page is at http://127.0.0.1:"), process.stderr and process.stderr.read()
            address = told.split()[4]
            with urllib.request.urlopen(address, timeout=60) as answer:
                assert b"<title>LF-Net" in answer.read()
            process.send_signal(signal.SIGINT)
            _, complaints = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (process.returncode, complaints) == (0, "")


def test_without_its_extra_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lfnet.cli.main import main

    for name in ("starlette", "uvicorn"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("lfnet.app.server")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["serve"]) == 1
    assert "pip install 'lfnet[serve]'" in capsys.readouterr().err
    assert main(["serve", "--port", "70000"]) == 2
    assert "--port: expected a number in [0, 65535]" in capsys.readouterr().err
