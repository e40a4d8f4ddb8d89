"""A function as ONNX, run by onnxruntime."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor, nn


@contextmanager
def shapes_unchecked() -> Iterator[None]:
    """While a function is traced its sizes are tensors, which no check of shapes can compare."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def as_onnx(function: Callable[..., Any], example: Tensor) -> Callable[[Tensor], list[np.ndarray]]:
    """Trace a function of a batch of maps, and give what runs it on maps of any height and width.

    What the trace would make a constant of, with a warning, is an error.
    """
    onnxruntime = pytest.importorskip("onnxruntime")

    class Module(nn.Module):
        def forward(self, maps: Tensor) -> Any:
            return function(maps)

    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad(), shapes_unchecked():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", torch.jit.TracerWarning)
        torch.onnx.export(
            Module(),
            (example,),
            file,
            dynamo=False,
            opset_version=18,
            input_names=["maps"],
            dynamic_axes={"maps": {2: "height", 3: "width"}},
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
        )
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    return lambda maps: session.run(None, {"maps": maps.numpy()})
