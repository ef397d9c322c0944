from __future__ import annotations

import base64
import io
import json
import marshal
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from builders.artifacts import h5_bytes, layer, mqnn_h5_bytes, sequential_h5_bytes
from uqueue_config.errors import IncompleteArtifact, ModelInvalid, UnsafeArtifact
from uqueue_worker.artifacts import read_model_file

CODE = base64.b64encode(marshal.dumps(compile("__import__('os').system('touch canary')", "", "eval"))).decode()
LAMBDA = layer("Lambda", function=[CODE, None, None], function_type="lambda")


def with_extra(add: Callable[[Any], object]) -> bytes:
    return sequential_h5_bytes(layer("Dense", units=2), extra=add)


def dense(**config: Any) -> bytes:
    return sequential_h5_bytes(layer("Dense", units=2, **config))


def external_storage(file: Any) -> None:
    file["model_weights"].create_dataset("k", (8,), "f8", external=[("/etc/passwd", 0, 64)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((8,), "f8")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (8,))
    file["model_weights"].create_virtual_dataset("k", layout)


def claim(shape: tuple[int, ...], **settings: Any) -> bytes:
    return with_extra(lambda file: file["model_weights"].create_dataset("k", shape, "f8", **settings))


def gzip_stream_bomb() -> bytes:
    """Return a file whose one chunk claims 64 bytes and unpacks to 64 MB."""

    def add(file: Any) -> None:
        data = file["model_weights"].create_dataset("k", (8,), "f8", chunks=(8,), compression="gzip")
        data.id.write_direct_chunk((0,), zlib.compress(bytes(64_000_000)))

    return with_extra(add)


def deep_groups(file: Any) -> None:
    group = file["model_weights"]
    for _ in range(40):
        group = group.create_group("g")


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", "{}")
    return buffer.getvalue()


def object_reference(file: Any) -> None:
    file.attrs["ref"] = file["model_weights"].ref


def hard_link_loop(file: Any) -> None:
    file["model_weights/loop"] = file["model_weights"]


def nested_config(depth: int) -> str:
    return '{"class_name": "Sequential", "config": {"layers": ' + "[" * depth + "]" * depth + "}}"


UNSAFE = {
    "Lambda": (sequential_h5_bytes(LAMBDA), "Lambda"),
    "Lambda nested in a Sequential": (sequential_h5_bytes(layer("Sequential", layers=[LAMBDA])), "Lambda"),
    "Lambda in a wrapper": (sequential_h5_bytes(layer("TimeDistributed", layer=LAMBDA)), "Lambda"),
    "Lambda as an activation": (dense(activation=LAMBDA), "Lambda"),
    "Lambda as an initializer": (dense(kernel_initializer=LAMBDA), "Lambda"),
    "Lambda as a dtype": (dense(dtype=LAMBDA), "Lambda"),
    "Lambda in a node's arguments": (
        sequential_h5_bytes({**layer("Dense"), "inbound_nodes": [{"args": [LAMBDA]}]}),
        "Lambda",
    ),
    "Lambda as the model": (h5_bytes(LAMBDA), "Lambda"),
    "TFOpLambda": (sequential_h5_bytes(layer("TFOpLambda", function="math.add")), "TFOpLambda"),
    "SlicingOpLambda": (sequential_h5_bytes(layer("SlicingOpLambda")), "SlicingOpLambda"),
    "__lambda__": (dense(activation={"class_name": "__lambda__", "config": {"value": CODE}}), "__lambda__"),
    "a wrapper": (sequential_h5_bytes(layer("TimeDistributed", layer=layer("Dense"))), "TimeDistributed"),
    "registered custom class": (sequential_h5_bytes(layer("pkg>Evil")), "pkg>Evil"),
    "registered class named like a built-in one": (sequential_h5_bytes(layer("pkg>Dense")), "pkg>Dense"),
    "built-in class with a registered name": (
        sequential_h5_bytes({**layer("Dense"), "registered_name": "pkg>Evil"}),
        "pkg>Evil",
    ),
    "module outside keras": (sequential_h5_bytes({**layer("Dense"), "module": "os.path"}), "os.path"),
    "module that only begins like keras": (
        sequential_h5_bytes({**layer("Dense"), "module": "keras_evil"}),
        "keras_evil",
    ),
    "function activation": (
        dense(activation={"module": "builtins", "class_name": "function", "config": "evil", "registered_name": "evil"}),
        "activation function",
    ),
    "registered activation": (dense(activation="pkg>evil"), "pkg>evil"),
    "unknown activation": (dense(activation="system"), "system"),
    "unknown initializer": (dense(kernel_initializer="evil"), "evil"),
    "custom regularizer": (dense(kernel_regularizer={"class_name": "pkg>Reg", "config": {}}), "pkg>Reg"),
    "layer in place of a constraint": (dense(kernel_constraint=layer("Dense")), "kernel_constraint Dense"),
    "__tensor__": (dense(bias={"class_name": "__tensor__", "config": {"value": [1]}}), "__tensor__"),
    "__numpy__": (dense(bias={"class_name": "__numpy__", "config": {"value": [1]}}), "__numpy__"),
    "custom dtype policy": (dense(dtype={"class_name": "pkg>Policy", "config": {}}), "pkg>Policy"),
    "class_name that is no text": (sequential_h5_bytes({"class_name": ["Dense"], "config": {}}), "class_name"),
    "GaussianDropout": (sequential_h5_bytes(layer("GaussianDropout", rate=0.1)), "GaussianDropout"),
    "AlphaDropout": (sequential_h5_bytes(layer("AlphaDropout", rate=0.1)), "AlphaDropout"),
    "dropout without a rate": (sequential_h5_bytes(layer("pkg>MCDropout")), "without a rate"),
    "dropout that drops all": (sequential_h5_bytes(layer("Dropout", rate=1.0)), "rate in [0, 1)"),
    "dropout with a setting of its own": (sequential_h5_bytes(layer("pkg>MCDropout", rate=0.1, hook="x")), "hook"),
    "unlisted layer": (sequential_h5_bytes(layer("LSTM")), "LSTM"),
    "StringLookup reading a file": (
        sequential_h5_bytes(layer("StringLookup", vocabulary="/etc/passwd")),
        "StringLookup",
    ),
    "external link": (
        with_extra(lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/o.h5", "/"))),
        "external link at /x",
    ),
    "soft link": (with_extra(lambda file: file.__setitem__("x", h5py.SoftLink("/model_weights"))), "soft link at /x"),
    "external storage": (with_extra(external_storage), "external storage at /model_weights/k"),
    "virtual dataset": (with_extra(virtual), "virtual dataset at /model_weights/k"),
    "object reference": (with_extra(object_reference), "@ref"),
    "text dataset": (with_extra(lambda file: file.create_dataset("t", data=["a"])), "numbers at /t"),
    "compound dataset": (with_extra(lambda file: file.create_dataset("t", (2,), [("a", "f8")])), "numbers at /t"),
    "named data type": (with_extra(lambda file: file.__setitem__("t", np.dtype("f8"))), "named data type at /t"),
    "filter plugin": (claim((8,), chunks=(8,), compression="lzf"), "storage filter other than gzip"),
}
INVALID = {
    "junk": (bytes(range(1, 200)), "not an HDF5 file"),
    "text": (b"this is no model\n", "not an HDF5 file"),
    "zip (.keras)": (zipped(), "zip archive"),
    "weights only": (h5_bytes(None, {"dense": {"dense/kernel": np.zeros((2, 2))}}), "no model_config"),
    "config is not JSON": (h5_bytes("{"), "not JSON"),
    "config is a list": (h5_bytes("[]"), "does not describe a model"),
    "config without a class": (h5_bytes({"config": {}}), "names no model class"),
    "config is a layer": (h5_bytes(layer("Dense")), "describes a Dense"),
    "config nested 100 deep": (h5_bytes(nested_config(100)), "nested too deeply"),
    "config nested 20,000 deep": (h5_bytes(nested_config(20_000)), "nested too deeply"),
    "config of 5 MB": (h5_bytes(json.dumps({"class_name": "Sequential", "config": {"x": "y" * 5_000_000}})), "4194304"),
    "config of 600,000 values": (
        h5_bytes({"class_name": "Sequential", "config": {"x": [0] * 600_000}}),
        "too many values",
    ),
    "shape of 8 TiB": (claim((2**40,), chunks=(1024,)), "claims"),
    "shape of 8 TiB, compressed": (claim((2**40,), chunks=(1024,), compression="gzip"), "claim more than"),
    "chunks of 1 GiB": (claim((8,), chunks=(2**27,), maxshape=(None,)), "chunks of 1073741824 bytes"),
    "gzip stream bomb": (gzip_stream_bomb(), "unpacks to more"),
    "groups nested 40 deep": (with_extra(deep_groups), "nested more than 16 deep"),
    "hard link loop": (with_extra(hard_link_loop), "second name of another object"),
    "no model_weights": (with_extra(lambda file: file.__delitem__("model_weights")), "no Keras model"),
}
GOOD = mqnn_h5_bytes()
INCOMPLETE = {
    "empty": b"",
    "signature only": GOOD[:8],
    "half a signature": GOOD[:5],
    "zeros, not written yet": bytes(4096),
    "cut in half": GOOD[: len(GOOD) // 2],
    "last byte missing": GOOD[:-1],
}


def refuse(data: bytes, expected: type[ModelInvalid], words: str) -> ModelInvalid:
    started = time.perf_counter()
    with pytest.raises(expected) as caught:
        read_model_file(data)
    assert time.perf_counter() - started < 20  # no hang; 0.2 s on an idle machine: a process starts and imports h5py
    assert words in str(caught.value)
    assert str(caught.value).startswith("model.h5: ")
    return caught.value


@pytest.mark.parametrize("name", UNSAFE)
def test_named_code_is_refused_by_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = refuse(UNSAFE[name][0], UnsafeArtifact, UNSAFE[name][1])
    assert ("Python code" in str(error)) == ("ambda" in error.name or "function" in error.name)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", INVALID)
def test_what_is_no_model_is_refused_with_a_reason(name: str) -> None:
    refuse(INVALID[name][0], ModelInvalid, INVALID[name][1])


@pytest.mark.parametrize("name", INCOMPLETE)
def test_a_half_written_file_says_so(name: str) -> None:
    refuse(INCOMPLETE[name], IncompleteArtifact, "half-written")


def test_control_the_lambda_payload_is_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    eval(marshal.loads(base64.b64decode(CODE)))
    assert (tmp_path / "canary").exists()


def test_a_module_in_the_working_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "h5py.py").write_text("open('canary', 'w')")
    monkeypatch.chdir(tmp_path)
    read_model_file(GOOD)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("offset", [24, 56])
def test_a_file_on_which_hdf5_loops_for_ever_is_ended(offset: int) -> None:
    """Found by mutating real files: HDF5 follows the sizes in a heap of texts without looking where they lead."""
    data = bytearray(GOOD)
    position = data.index(b"GCOL") + offset
    data[position : position + 8] = (2**64 - 16).to_bytes(8, "little")
    refuse(bytes(data), ModelInvalid, "damaged")
