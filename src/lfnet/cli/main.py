"""The command `lfnet`: picks a subcommand, and turns known errors into one line."""

from __future__ import annotations

import io
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module

from lfnet.errors import UsageError, UserError, one_line

COMMANDS = {
    "extract": "pictures and clips to a features file (HDF5, hloc's layout)",
    "pairs": "list the pairs of pictures that are to be matched",
    "match": "match two pictures, or the pairs of a list on a features file",
    "colmap": "photos to a COLMAP database and a sparse model (extra `sfm`)",
    "info": "what is installed, and what is in a weights or features file",
    "demo": "match a real stereo pair beside RootSIFT and draw it; or a camera, live",
    "export": "weights to an ONNX file, for any runtime or for COLMAP (extra `onnx`)",
    "serve": "a web page on this machine: two images, matched live (extra `serve`)",
    "eval": "measure features beside others': matching score, pose, homography, turns, zooms, cost",
    "prepare": "make scenes to train on, from photos, RGB-D recordings or COLMAP models",
    "train": "train a model from pairs of known geometry",
}
"""Each subcommand and what it does: by `Command` and `run` of the module of that name, but for `MODULES`."""

MODULES = {"eval": "evaluate"}
"""Subcommands whose name Python has a meaning for already."""

_HELP = """usage: lfnet [--version] [--debug] COMMAND [OPTIONS]

LF-Net: local image features that are learned from pairs of pictures with known geometry.

commands:
{commands}

'lfnet COMMAND --help' lists the options of a command.
Exit codes: 0 all is done; 1 an error, or some pictures failed; 2 wrong usage; 130 interrupted.
--debug, or LFNET_DEBUG=1 in the environment, shows where an error came from.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        arguments: of the command line, without the program's name; None: the process's own.

    Returns:
        Exit code: 0 all is done, 1 an error or some pictures failed, 2 wrong usage, 130 interrupted.
    """
    _let_waiting_threads_sleep()
    if arguments is None:
        _tell_errors_of_threads_once()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")  # A terminal of few characters, as cp1252, shows ? for the others.
    try:
        code = _dispatch(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # The reader of our output has gone, as in `lfnet info | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _dispatch(words: list[str]) -> int:
    debug = "--debug" in words or os.environ.get("LFNET_DEBUG", "0") not in ("", "0")
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help(), end="")
        return 0 if words else 2
    if words[0] == "--version":
        from lfnet import __version__

        print(f"lfnet {__version__}")
        return 0
    if words[0] not in COMMANDS:
        return _fail(f"unknown command {words[0]!r}, expected one of {', '.join(COMMANDS)}; see 'lfnet --help'", 2)
    return _run(words[0], words[1:], debug)


SPINS = "1000"
"""Turns of the loop in which a thread of GNU OpenMP waits for work before it sleeps; the library's default is 300,000.

On two idle cores of an AMD EPYC a picture of 320 x 240 took 33 ms with it, 25 ms with ten times as many, 46 ms with
none; beside a busy process 51, 170 and 40 ms, and 480 ms with 50,000.
"""


def _let_waiting_threads_sleep() -> None:
    """Keep threads that wait from taking the cores of those that work, unless told else; before PyTorch is imported."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def _tell_errors_of_threads_once() -> None:
    """What the system refuses a thread is raised again by the call that needs it, as TensorBoard's; then it is told."""
    tell = threading.excepthook
    threading.excepthook = lambda failed: None if isinstance(failed.exc_value, OSError) else tell(failed)


def _run(name: str, words: list[str], debug: bool) -> int:
    try:
        return _call(name, words)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        raise
    except Exception as error:
        message = _explained(name, error)
        if debug or message is None:
            traceback.print_exc()
        usage = isinstance(error, UsageError)
        remedy = f"; see 'lfnet {name} --help'" if usage else ""
        bug = f"{type(error).__name__}: {error} (a bug: please report it with the lines above)"
        return _fail(message + remedy if message else bug, 2 if usage else 1)


def _call(name: str, words: list[str]) -> int:
    from lfnet.cli.parsing import parse

    # Pillow's, on damaged metadata of images that are read all the same; what can't be read is an error.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    module = import_module(f"lfnet.cli.{MODULES.get(name, name)}")
    try:
        command = parse(module.Command, f"lfnet {name}", words)
    except SystemExit:  # The help that was asked for is printed.
        return 0
    code = module.run(command)
    sys.stdout.flush()  # Here, so that a full disk is told as one.
    return code


def _explained(command: str, error: Exception) -> str | None:
    """One line on an error that a user can mend; None for what only a bug of ours can be."""
    if isinstance(error, UserError):
        return one_line(error)
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("lfnet"):
        extra = command if command in ("train", "serve") else "demo"
        return f"'{command}' needs the module {error.name!r}: pip install 'lfnet[{extra}]'"
    if isinstance(error, OSError) and (error.filename or _remedy(error)):
        place = f"{error.filename}: " if error.filename else ""
        return one_line(f"{place}{error.strerror}{_remedy(error)}")
    if isinstance(error, (MemoryError, RuntimeError)):
        from lfnet.file_extraction import is_out_of_memory

        if is_out_of_memory(error):
            return "out of memory; work at a smaller size (--resize), or in smaller batches (--batch-size)"
    return None


def _remedy(error: OSError) -> str:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "; make room and run the same command again (what is finished is kept, nothing is half-written)"
    return ""


def _help() -> str:
    width = max(map(len, COMMANDS))
    return _HELP.format(commands="\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()))


def _fail(message: str, code: int) -> int:
    print(f"lfnet: error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
