"""What a large image costs in tiles: seconds of the processor, seconds on the clock and peak memory of `lfnet extract`.

    python benchmarks/large_image.py --megapixels 200 --weights lfnet-lean

The image is made for it, by rows: cut from fractal noise, so that every tile has structure at all sizes. Each run is a
process of its own. Needs rasterio (extra `large`).
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

MEASURE = """
import json, resource, sys, time
from lfnet.cli.main import main
began = time.perf_counter()
code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(json.dumps({"clock": time.perf_counter() - began, "processor": used.ru_utime + used.ru_stime,
                  "megabytes": int(peak) // 1024}))
sys.exit(code)
"""


@dataclass(frozen=True)
class Options:
    """What to measure."""

    megapixels: float = 200.0
    """Of the image, whose sides are as 4 to 3."""
    weights: tuple[str, ...] = ("lfnet-lean",)
    """Packaged weights by name, or paths."""
    format: Literal["tiff", "jpeg"] = "tiff"
    """Of the file: tiled and deflated TIFF, or JPEG."""
    tile: int = 1024
    """Side of tiles in pixels; 0 works at full size without tiles."""
    threads: int = 1
    """Of PyTorch and OpenCV."""


def noise(rows: int, columns: int, draw: np.random.Generator) -> np.ndarray:
    """(rows, columns) uint8: the mean of noise at steps of 1, 2, 4 … 64 pixels."""
    total = np.zeros((rows, columns), np.float32)
    for step in (1, 2, 4, 8, 16, 32, 64):
        coarse = draw.random((-(-rows // step), -(-columns // step)), np.float32)
        total += np.kron(coarse, np.ones((step, step), np.float32))[:rows, :columns]
    return ((total - total.min()) / np.ptp(total) * 255).astype(np.uint8)


def write_image(path: Path, width: int, height: int, driver: str) -> None:
    """Write it by rows, RGB."""
    import rasterio
    from rasterio.windows import Window

    draw = np.random.default_rng(0)
    options = {"tiled": True, "compress": "deflate", "blockxsize": 512, "blockysize": 512} if driver == "GTiff" else {}
    target = path if driver == "GTiff" else path.with_suffix(".tif")
    with rasterio.open(
        target, "w", driver="GTiff", width=width, height=height, count=3, dtype="uint8", photometric="RGB", **options
    ) as file:
        for start in range(0, height, 512):
            rows = min(512, height - start)
            block = noise(rows, width, draw)
            file.write(np.stack([block, block // 2 + 40, 255 - block]), window=Window(0, start, width, rows))  # pyright: ignore[reportCallIssue]
    if driver != "GTiff":
        import rasterio.shutil

        rasterio.shutil.copy(target, path, driver=driver)
        target.unlink()


def main(options: Options) -> None:
    """Make the image, and print a row of a table for each weights."""
    height = round((options.megapixels * 1e6 * 3 / 4) ** 0.5)
    width = round(options.megapixels * 1e6 / height)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image.tif" if options.format == "tiff" else "image.jpg")
        write_image(path, width, height, "GTiff" if options.format == "tiff" else "JPEG")
        size = f"{path.stat().st_size / 1e6:.0f} MB"
        print(f"{width} x {height}, {options.format} of {size}; {options.threads} threads, {platform.machine()}")
        how = ["--tile", str(options.tile)] if options.tile else ["--resize", "0", "--max-megapixels", "1000"]
        print("| weights | processor, s | clock, s | peak, MB |\n| --- | --- | --- | --- |")
        for weights in options.weights:
            words = ["extract", path, "-o", Path(folder, f"{Path(weights).stem}.h5"), "--weights", weights, *how]
            command = [sys.executable, "-c", MEASURE, *map(str, words), "--threads", str(options.threads)]
            environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            row = json.loads(done.stdout.splitlines()[-1])
            print(f"| {weights} | {row['processor']:.0f} | {row['clock']:.0f} | {row['megabytes']} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
