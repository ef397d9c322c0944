"""The trained network as an ONNX file, written node by node: a worker needs neither Keras nor TensorFlow for it.

Input `mel_spectrogram` float32 (batch, 3, 128, 32). Outputs `positions` (batch, 2), in units of `SCALE_M` east and
north; `uncertainties` (batch, 3), two sigmas in metres and the angle of their axes in degrees.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from uqueue_worker.sample.localizer.network import CONVOLUTIONS, LOG_SIGMA, SCALE_M, Weights
from uqueue_worker.sample.localizer.scene import Floats

OPSET: Final = 14
_IR_VERSION: Final = 8


def outputs_of(raw: Floats, *, temperature: float) -> tuple[Floats, Floats]:
    """Return what the graph makes of the network's numbers (n, 6): positions (n, 2) and uncertainties (n, 3)."""
    sigmas = np.exp(np.clip(raw[:, 2:4], *LOG_SIGMA)) * SCALE_M * temperature
    theta = np.degrees(np.arctan2(raw[:, 5], raw[:, 4])) / 2
    return raw[:, :2], np.column_stack([sigmas, theta])


def onnx_bytes(weights: Weights, *, temperature: float) -> bytes:
    """Return the file. The sigmas are multiplied with `temperature`, which calibration found."""
    from onnx import TensorProto, checker, helper

    graph = _Graph()
    hidden = "mel_spectrogram"
    for index, (_, _, strides) in enumerate(CONVOLUTIONS):
        kernel = weights.kernels[index].transpose(3, 2, 0, 1)  # ONNX has channels first
        inputs = [hidden, graph.constant(kernel), graph.constant(weights.biases[index])]
        hidden = graph.node("Relu", [graph.node("Conv", inputs, strides=list(strides))])
    dense, last = _flattened(weights), weights.kernels[-1]
    hidden = graph.node("Flatten", [hidden], axis=1)
    inputs = [hidden, graph.constant(dense), graph.constant(weights.biases[-2])]
    hidden = graph.node("Relu", [graph.node("Gemm", inputs)])
    raw = graph.node("Gemm", [hidden, graph.constant(last), graph.constant(weights.biases[-1])])
    graph.node("Identity", [graph.columns(raw, 0, 2)], output="positions")
    sigmas = graph.node("Clip", [graph.columns(raw, 2, 4), *(graph.constant(bound) for bound in LOG_SIGMA)])
    sigmas = graph.node("Mul", [graph.node("Exp", [sigmas]), graph.constant(SCALE_M * temperature)])
    graph.node("Concat", [sigmas, _theta(graph, raw)], axis=1, output="uncertainties")
    shapes: dict[str, list[str | int | None]] = {"positions": ["batch", 2], "uncertainties": ["batch", 3]}
    made = helper.make_graph(
        graph.nodes,
        "localizer",
        [helper.make_tensor_value_info("mel_spectrogram", TensorProto.FLOAT, ["batch", 3, 128, 32])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        graph.constants,
    )
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION, producer_name="uqueue"
    )
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _flattened(weights: Weights) -> NDArray[np.float32]:
    """Return the first dense kernel with its rows as ONNX flattens: Keras has the channels last, ONNX first."""
    height, width = 128, 32
    for _, size, strides in CONVOLUTIONS:
        height, width = (height - size[0]) // strides[0] + 1, (width - size[1]) // strides[1] + 1
    kernel = weights.kernels[-2]
    channels, units = len(kernel) // (height * width), kernel.shape[1]
    return kernel.reshape(height, width, channels, units).transpose(2, 0, 1, 3).reshape(-1, units)


def _theta(graph: _Graph, raw: str) -> str:
    """Add half the angle of the vector (u, v): ONNX has no arctan of two arguments, but half of it needs only one.

    tan(angle / 2) is v / (r + u), and (r - u) / v; whichever loses no digits is taken.
    """
    u, v = graph.columns(raw, 4, 5), graph.columns(raw, 5, 6)
    squares = graph.node("Add", [graph.node("Mul", [u, u]), graph.node("Mul", [v, v])])
    length = graph.node("Sqrt", [squares])
    right = graph.node("Div", [v, graph.node("Add", [length, u])])
    left = graph.node("Div", [graph.node("Sub", [length, u]), v])
    is_right = graph.node("GreaterOrEqual", [u, graph.constant(0.0)])
    angle = graph.node("Atan", [graph.node("Where", [is_right, right, left])])
    return graph.node("Mul", [angle, graph.constant(180 / np.pi)])


class _Graph:
    """Nodes and constants under construction, named by a running number."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype=dtype, order="C"), name))
        return name

    def node(self, kind: str, inputs: list[str], *, output: str | None = None, **attributes: Any) -> str:
        from onnx import helper

        name = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def columns(self, name: str, first: int, last: int) -> str:
        places = [self.constant([value], np.int64) for value in (first, last, 1)]
        return self.node("Slice", [name, *places])
