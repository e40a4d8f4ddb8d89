"""`lfnet match`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from lfnet.cli.options import UsageError

if TYPE_CHECKING:
    from lfnet.file_matching import MatchSettings, PictureMatch


def match(
    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="A B | FEATURES")],
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="PATH")] = None,
    pairs: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    geometry: Annotated[
        Literal["homography", "fundamental", "essential"] | None,
        tyro.conf.arg(metavar="homography|fundamental|essential"),
    ] = None,
    threshold: float = 3.0,
    intrinsics: Annotated[
        tuple[float, float, float, float] | None, tyro.conf.arg(metavar="FX FY CX CY")
    ] = None,
    ratio: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None,
    max_distance: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None,
    weights: str = "lfnet-cpu",
    max_keypoints: int = 1024,
    min_score: float = 0.0,
    min_distance: float = 0.0,
    resize: int = 1600,
    upright: bool = False,
    single_scale: bool = False,
    max_megapixels: float = 100.0,
    device: str = "auto",
    threads: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
) -> int:
    """Match two pictures, or the pairs of a list on a features file.

    lfnet match A.jpg B.jpg -o matches.png draws what two pictures have in common, each turned upright by its
    EXIF orientation. lfnet match features.h5 --pairs pairs.txt -o matches.h5 writes hloc's matches0 and
    matching_scores0. Matches are mutual nearest neighbours.

    Args:
        inputs: Two pictures, or one features file.
        output: Picture of the matches (two pictures; optional), or matches file (features file).
        pairs: Text file with two names of pictures a line, for a features file.
        geometry: Keep only matches that one homography, fundamental or essential matrix explains (MAGSAC++).
        threshold: Largest error of such a match, in pixels.
        intrinsics: fx fy cx cy of both cameras in pixels, for an essential matrix.
        ratio: Lowe's ratio test, such as 0.9; the authors of LF-Net warn against it.
        max_distance: Largest distance of descriptors, in [0, 2].
        weights: Name of packaged weights, or a safetensors file.
        max_keypoints: Most keypoints of a picture.
        min_score: Leave out keypoints of a lower score, in [0, 1].
        min_distance: Leave out keypoints nearer than this to a better one, in pixels of the size worked at.
        resize: Long side that larger pictures are worked at, in pixels; 0 works at full size.
        upright: Keep every orientation at 0, for pictures that are never turned.
        single_scale: Keep every scale at that of its octave, for pictures taken from like distances.
        max_megapixels: Largest picture that is decoded.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads; all unless given.
    """
    from lfnet.file_matching import MatchSettings

    settings = MatchSettings(ratio, max_distance, geometry, threshold, intrinsics)
    if geometry == "essential" and intrinsics is None:
        raise UsageError("--geometry essential needs --intrinsics fx fy cx cy; without them use fundamental")
    if len(inputs) == 1:
        if pairs is None or output is None:
            raise UsageError("one input is a features file and needs --pairs pairs.txt and -o matches.h5")
        return _match_file(inputs[0], pairs, output, settings)
    if len(inputs) != 2 or pairs is not None:
        raise UsageError("expected two pictures, or one features file with --pairs")
    from lfnet.cli.options import check_output, keypoint_limits, load_model, long_side, pick_device, pixel_limit
    from lfnet.file_matching import match_pictures
    from lfnet.models.config import ExtractionSettings

    keypoint_limits(max_keypoints, min_score, min_distance)
    if output is not None:
        check_output(output, inputs)
    _check_drawing(output)
    model = load_model(weights, pick_device(device, threads))
    result = match_pictures(
        model,
        inputs[0],
        inputs[1],
        ExtractionSettings(
            max_keypoints, min_score, upright=upright, single_scale=single_scale, min_distance=min_distance
        ),
        settings,
        resize=long_side(resize),
        max_pixels=pixel_limit(max_megapixels),
    )
    for path, features in zip(inputs, (result.features_a, result.features_b), strict=True):
        note = "" if len(features) else " (blank, or too small)"
        print(f"{path}: {len(features)} keypoints{note}")
    print(f"{len(result.mutual)} mutual nearest neighbours")
    if geometry is not None:
        model_name = geometry if geometry == "homography" else f"{geometry} matrix"
        print(f"{len(result.matches)} of them agree with one {model_name} within {threshold:g} px")
    if output is not None:
        _draw(result, output)
        print(f"Drawn in {output}")
    return 0


def _match_file(features: Path, pairs: Path, output: Path, settings: MatchSettings) -> int:
    from tqdm import tqdm

    from lfnet.cli.options import check_output
    from lfnet.file_matching import match_feature_file
    from lfnet.integrations.hloc import read_pairs

    check_output(output, (features, pairs))
    listed = read_pairs(pairs)
    if not listed:
        raise ValueError(f"{pairs}: no pairs in it; expected two names of pictures a line")
    with tqdm(total=len(listed), unit="pair", disable=None, file=sys.stderr) as bar:
        total = match_feature_file(features, listed, output, settings, progress=bar.update)
    print(f"{output}: {total} matches in {len(listed)} pairs")
    return 0


def _check_drawing(output: Path | None) -> None:
    import cv2

    if output is not None and not (output.suffix and cv2.haveImageWriter(str(output))):
        raise UsageError(f"{output}: not a kind of picture that can be written; end the name in .png or .jpg")


def _draw(result: PictureMatch, output: Path) -> None:
    import cv2

    from lfnet.files.atomic import write_bytes
    from lfnet.reports.drawing import draw_matches

    drawing = draw_matches(
        result.image_a, result.image_b, result.features_a, result.features_b, result.matches
    )
    encoded, content = cv2.imencode(output.suffix, cv2.cvtColor(drawing, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise ValueError(f"{output}: the drawing can't be stored in this kind of picture; try .png")
    write_bytes(output, content.tobytes())
