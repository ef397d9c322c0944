"""ONNX files that lead elsewhere, are no localization model, or harm whoever runs them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from builders.onnx_models import SHAPE, model_bytes, tiny_localizer
from uqueue_config.errors import ModelInvalid, UnsafeArtifact
from uqueue_worker.artifacts.onnx_child import try_onnx
from uqueue_worker.artifacts.onnx_probe import probe_onnx
from uqueue_worker.artifacts.onnx_structure import check_onnx_structure

INPUT = {"mel_spectrogram": ["batch", *SHAPE]}
FLAT = helper.make_node("Flatten", ["mel_spectrogram"], ["flat"], axis=1)


def refused(data: bytes, kind: type[ModelInvalid] = ModelInvalid) -> str:
    with pytest.raises(kind) as caught:
        try_onnx(data, SHAPE, file="model.onnx")
    assert type(caught.value) is kind
    assert len(caught.value.message) < 700
    return caught.value.message


def external(name: str = "weights.bin") -> Any:
    tensor = numpy_helper.from_array(np.zeros((12288, 2), np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=name)
    return tensor


def edited(change: Any) -> bytes:
    model = onnx.load_from_string(tiny_localizer())
    change(model)
    return bytes(model.SerializeToString())


def branch(tensor: Any) -> Any:
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=tensor)],
        "branch",
        [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, None)],
    )
    condition = helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True), "yes"))
    return [condition, helper.make_node("If", ["yes"], ["unused"], then_branch=graph, else_branch=graph)]


def in_a_function(model: Any) -> None:
    node = helper.make_node("Constant", [], ["o"], value=external())
    model.functions.append(helper.make_function("local", "f", [], ["o"], [node], [helper.make_opsetid("", 14)]))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.graph.initializer.append(external("/etc/passwd")),
        lambda model: model.graph.node.insert(0, helper.make_node("Constant", [], ["k"], value=external())),
        lambda model: model.graph.node.extend(branch(external())),
        lambda model: model.graph.sparse_initializer.add(dims=[2]).values.CopyFrom(external()),
        lambda model: model.training_info.add().initialization.initializer.append(external()),
        in_a_function,
    ],
    ids=["initializer", "constant", "branch", "sparse", "training", "function"],
)
def test_weights_in_other_files_are_refused_wherever_they_hide(change: Any) -> None:
    said = refused(edited(change), UnsafeArtifact)
    assert "another file for its weights" in said
    assert "save_as_external_data=False" in said


def test_only_one_of_two_marks_of_another_file_is_enough() -> None:
    def only_location(model: Any) -> None:
        tensor = external()
        tensor.ClearField("external_data")
        model.graph.initializer.append(tensor)

    def only_data(model: Any) -> None:
        tensor = external()
        tensor.ClearField("data_location")
        model.graph.initializer.append(tensor)

    for change in (only_location, only_data):
        assert "another file" in refused(edited(change), UnsafeArtifact)


def test_custom_operators_are_refused_also_in_branches_and_functions() -> None:
    node = helper.make_node("PyOp", ["t"], ["x"], domain="ai.onnx.contrib")
    assert "operators of the domain 'ai.onnx.contrib'" in refused(
        edited(lambda model: model.graph.node.append(node)), UnsafeArtifact
    )
    assert "'com.microsoft'" in refused(
        edited(lambda model: model.graph.node.append(helper.make_node("Gelu", ["t"], ["x"], domain="com.microsoft"))),
        UnsafeArtifact,
    )

    def function(model: Any) -> None:
        node = helper.make_node("Evil", [], ["o"], domain="evil")
        model.functions.append(helper.make_function("local", "f", [], ["o"], [node], [helper.make_opsetid("evil", 1)]))

    assert "'evil'" in refused(edited(function), UnsafeArtifact)


def test_functions_of_its_own_are_allowed() -> None:
    def function(model: Any) -> None:
        opsets = [helper.make_opsetid("", 14)]
        model.functions.append(
            helper.make_function("local", "same", ["i"], ["o"], [helper.make_node("Identity", ["i"], ["o"])], opsets)
        )
        model.opset_import.append(helper.make_opsetid("local", 1))
        model.graph.node.append(helper.make_node("same", ["t"], ["t2"], domain="local"))

    try_onnx(edited(function), SHAPE, file="model.onnx")


@pytest.mark.parametrize("cut", [0, 1, 7, 100, 40_000, -1])
def test_cut_files(cut: int) -> None:
    refused(tiny_localizer()[:cut])


@pytest.mark.parametrize(
    "data", [b"\x89HDF\r\n\x1a\n" + bytes(500), b"PK\x03\x04" + bytes(100), b"\xff" * 1000, b"hello", bytes(64)]
)
def test_other_files(data: bytes) -> None:
    refused(data)


def test_damaged_bytes_never_do_more_than_raise() -> None:
    good = tiny_localizer()
    generator = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(good)
        for at in generator.integers(0, 300, 3):
            data[at] = generator.integers(0, 256)
        try:
            check_onnx_structure(bytes(data), file="model.onnx")
        except ModelInvalid:
            continue


def test_nesting_without_end_is_refused() -> None:
    inner = b""
    for _ in range(200):  # a graph in an attribute of a node of a graph …
        for field in (6, 5, 1):
            inner = bytes([field << 3 | 2]) + _varint(len(inner)) + inner
    assert "damaged" in refused(bytes([7 << 3 | 2]) + _varint(len(inner)) + inner)


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: tiny_localizer(shape=("batch", 3, 64, 32)), "is tensor(float) ['batch', 3, 64, 32], expected float32"),
        (lambda: tiny_localizer(shape=("batch", 3 * 128 * 32)), "expected float32 [batch, 3, 128, 32]"),
        (lambda: tiny_localizer(shape=(1, *SHAPE)), "has a batch axis of 1; export the model with a dynamic one"),
        (
            lambda: model_bytes([FLAT], {}, INPUT, {"positions": ["batch", 2]}, dtype=TensorProto.DOUBLE),
            "ONNX Runtime cannot load it",
        ),
        (lambda: model_bytes([FLAT], {}, INPUT, {"flat": ["batch", 12288]}), "for positions is ['batch', 12288]"),
        (
            lambda: model_bytes(
                [helper.make_node("Add", ["mel_spectrogram", "b"], ["x"]), FLAT],
                {},
                {**INPUT, "b": [1]},
                {"flat": ["batch", 12288]},
            ),
            "expected one input, it has 2 (mel_spectrogram, b)",
        ),
        (lambda: tiny_localizer(position=(np.nan, 0.0)), "output positions is not finite"),
    ],
)  # fmt: skip
def test_what_is_no_localization_model(data: Any, words: str) -> None:
    assert words in refused(data())


def test_a_shape_that_the_file_does_not_state_is_found_by_trying() -> None:
    nodes = [
        FLAT,
        helper.make_node("Shape", ["flat"], ["s"]),
        helper.make_node("Reshape", ["flat", "s"], ["positions"]),
    ]
    said = refused(model_bytes(nodes, {}, INPUT, {"positions": ["batch", "any"]}))
    assert "output positions has the shape (1, 12288), expected (1, 2)" in said


def test_other_names_and_places_of_outputs_and_a_flat_confidence() -> None:
    named = {"positions": "position", "uncertainties": "uncertainty", "mel_spectrogram": "x"}
    for data in (
        tiny_localizer(names=named),
        tiny_localizer(names={"positions": "a", "uncertainties": "b", "confidence": "c"}, confidence=0.5),
        tiny_localizer(confidence=0.5, flat_confidence=True, theta=3.0),
        tiny_localizer(sigma=None),
    ):
        try_onnx(data, SHAPE, file="model.onnx")


def endless() -> bytes:
    """A model that counts to 2^62 before it answers."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["more"], ["go_on"]), helper.make_node("Add", ["a", "a"], ["b"])],
        "body",
        [value("i", TensorProto.INT64, []), value("more", TensorProto.BOOL, []), value("a", TensorProto.FLOAT, [1])],
        [value("go_on", TensorProto.BOOL, []), value("b", TensorProto.FLOAT, [1])],
    )
    nodes = [
        FLAT,
        helper.make_node("MatMul", ["flat", "w"], ["p"]),
        helper.make_node("Loop", ["times", "true", "zero"], ["end"], body=body),
        helper.make_node("Add", ["p", "end"], ["positions"]),
    ]
    constants = {"times": np.array(2**62), "true": np.array(True), "zero": np.zeros(1, np.float32)}
    constants["w"] = np.zeros((12288, 2), np.float32)
    return model_bytes(nodes, constants, INPUT, {"positions": ["batch", 2]})


def greedy() -> bytes:
    """A model that makes an array of 4 TB."""
    nodes = [
        FLAT,
        helper.make_node("MatMul", ["flat", "w"], ["p"]),
        helper.make_node("ReduceSum", ["p"], ["s"], keepdims=0),
        helper.make_node("Expand", ["s", "huge"], ["e"]),
        helper.make_node("ReduceMax", ["e"], ["top"], keepdims=0),
        helper.make_node("Add", ["p", "top"], ["positions"]),
    ]
    constants = {"w": np.zeros((12288, 2), np.float32), "huge": np.array([10**12], np.int64)}
    return model_bytes(nodes, constants, INPUT, {"positions": ["batch", 2]})


def test_harm_is_done_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    probe_onnx(tiny_localizer(), SHAPE, file="model.onnx")
    with pytest.raises(ModelInvalid, match="a trial run of 1 rows failed"):
        probe_onnx(greedy(), SHAPE, file="model.onnx")
    # The child's own limit is 20 s of computing; here it is ended sooner, as it is where it does not even compute.
    monkeypatch.setattr("uqueue_worker.artifacts.first_reading.START_SECONDS", 2.0)
    with pytest.raises(ModelInvalid, match="a trial run does not end"):
        probe_onnx(endless(), SHAPE, file="model.onnx")
