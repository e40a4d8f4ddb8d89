"""A network as an ONNX file: one graph for images of any size, with what is known of the weights in its metadata."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import torch

from lfnet.errors import UserError
from lfnet.export.graph import INPUTS, ColmapGraph, RuntimeGraph
from lfnet.files.atomic import write_bytes
from lfnet.models.network import Network
from lfnet.settings import config_to_dict

if TYPE_CHECKING:
    import onnx

Client = Literal["runtime", "colmap"]
"""Whose inputs and outputs the file has: any program that runs ONNX, or COLMAP."""

OPSET = 18
"""Version of ONNX's operators: the first in which `ScatterElements` takes the largest of several."""


def import_extra(name: str) -> ModuleType:
    """A module of the extra `onnx`.

    Raises:
        UserError: it is not installed.
    """
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"export needs the module {error.name!r}: pip install 'lfnet[onnx]'") from error


def make_graph(network: Network, client: Client) -> RuntimeGraph:
    """The module whose `forward` the file holds."""
    return ColmapGraph(network) if client == "colmap" else RuntimeGraph(network)


def export_onnx(
    network: Network, path: str | Path, client: Client = "runtime", *, card: dict[str, Any], half: bool = False
) -> None:
    """Write a network as an ONNX file, whole or not at all.

    Args:
        network: in evaluation mode, on the CPU.
        path: the file wanted; one that is there is replaced.
        client: whose inputs and outputs it has.
        card: facts of the training, anything that JSON holds; `licence` becomes a line of its own.
        half: store weights in 16 bits, which halves their bytes; the arithmetic stays in 32 bits.

    Raises:
        UserError: the module `onnx` is not installed.
        OSError: the file can't be written.
    """
    onnx = import_extra("onnx")
    graph = make_graph(network, client).eval()
    model = onnx.load_from_string(_traced(graph))
    _name_axes(model, graph)
    if half:
        _halve_weights(model)
    facts = {
        "format": f"lfnet-onnx-1 for {client}",
        "config": json.dumps(config_to_dict(network.config)),
        "card": json.dumps(card, ensure_ascii=False),
        "licence": str(card.get("licence", "not known")),
        "opset": str(OPSET),
        "weights": "16 bits" if half else "32 bits",
    }
    onnx.helper.set_model_props(model, facts)
    model.producer_name = "lfnet"
    onnx.checker.check_model(model)
    write_bytes(path, model.SerializeToString())


def _traced(graph: RuntimeGraph) -> bytes:
    """The graph as PyTorch writes it: nothing folded, since its folding makes constants of sizes that are free."""
    image = torch.rand(1, 3, 128, 160, generator=torch.Generator().manual_seed(0))
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        # A value that would become a constant, and be wrong for other images, is our bug.
        warnings.simplefilter("error", torch.jit.TracerWarning)  # pyright: ignore[reportPrivateImportUsage]
        torch.onnx.export(
            graph,
            (image, torch.tensor(64), torch.tensor(0.0)),
            file,  # pyright: ignore[reportArgumentType]
            dynamo=False,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=list(graph.outputs),
            dynamic_axes={"image": {2: "height", 3: "width"}, **{name: {1: "keypoints"} for name in graph.outputs}},
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
        )
    return file.getvalue()


def _name_axes(model: onnx.ModelProto, graph: RuntimeGraph) -> None:
    """State the shape of every output, and of nothing between: shapes in between are those of the example."""
    del model.graph.value_info[:]
    last = {"keypoints": (2,), "descriptors": (graph.dimension,)}
    for output in model.graph.output:
        shape = output.type.tensor_type.shape
        del shape.dim[:]
        for side in (1, "keypoints", *last.get(output.name, ())):
            dim = shape.dim.add()
            if isinstance(side, int):
                dim.dim_value = side
            else:
                dim.dim_param = side


def _halve_weights(model: onnx.ModelProto) -> None:
    """Store weights in 16 bits, and cast them to 32 where they are used; runtimes do this once, when they load."""
    onnx = import_extra("onnx")
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        name = tensor.name
        values = onnx.numpy_helper.to_array(tensor).astype("float16")
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
