"""PyTorch files that are broken, or made to harm whoever opens them: each is refused by a sentence, nothing runs."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.torch_files import (
    FORWARD,
    SPEC_LAYERS,
    Call,
    Instance,
    Name,
    Persistent,
    TorchWriter,
    end_record,
    script_file,
    spec,
    spec_file,
    state_file,
    weights,
    zipped,
)
from uqueue_config.errors import IncompleteArtifact, ModelInvalid, UnsafeArtifact
from uqueue_worker.artifacts.model_file import read_any_model_file
from uqueue_worker.artifacts.torch_file import read_torch_file

RUN = "touch canary"
LAST = "    return (torch.linear(h0, self.w1), torch.linear(h0, self.w1))\n"
HEAD = "    h0 = torch.linear(x, self.w0, self.b0)\n"


def top(value: Any, **more: Any) -> bytes:
    return state_file({"uqueue_spec": json.dumps(spec()), "state_dict": {"w": value}, **more})


def tensor(**settings: Any) -> bytes:
    writer = TorchWriter()
    call = writer.tensor(np.ones((2, 3), "f4"), **settings)
    return state_file({"uqueue_spec": "{}", "state_dict": {"w": call}}, writer=writer)


def raw_pickle(data: bytes) -> bytes:
    return zipped({"data.pkl": data, "byteorder": b"little"})


def without_storage() -> bytes:
    writer = TorchWriter()
    pickled = writer.pickled({"w": writer.tensor(np.ones(3, "f4"))})
    return zipped({"data.pkl": pickled})


def twice() -> bytes:
    data = zipped({"data.pkl": b"\x80\x02}.", "data.pk_": b"\x80\x02}."})
    return data.replace(b"data.pk_", b"data.pkl")


def directory_changed(change: Callable[[bytearray, int], None]) -> bytes:
    """Return a good file after a change of the first entry of its directory."""
    data = bytearray(spec_file())
    change(data, data.find(b"PK\x01\x02"))
    return bytes(data)


def overlapping() -> bytes:
    data = bytearray(spec_file())
    first = data.find(b"PK\x01\x02")
    second = data.find(b"PK\x01\x02", first + 4)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    return bytes(data)


def encrypted(data: bytearray, at: int) -> None:
    data[at + 8] |= 1


def larger(data: bytearray, at: int) -> None:
    size = struct.unpack_from("<I", data, at + 24)[0]
    struct.pack_into("<I", data, at + 24, size + 1000)


def wrong_checksum(data: bytearray, at: int) -> None:
    data[at + 16] ^= 255


def elsewhere(data: bytearray, at: int) -> None:
    struct.pack_into("<I", data, at + 42, 7)


def bomb_in_code() -> bytes:
    """Return a file whose code unpacks to 64 MB and claims a thousand bytes."""
    big = bytearray(script_file(FORWARD, code={"code/big.py": "#" * 64_000_000}))
    at = big.rfind(b"archive/code/big.py") - 46
    struct.pack_into("<I", big, at + 24, 1000)
    return bytes(big)


def doubled(key: str) -> bytes:
    """Return a pickled dict that has, under this key, a tuple that doubled itself sixty times through the memo."""
    chain = b"](" + b")q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"e"
    named = [b"X" + struct.pack("<I", len(name)) + name.encode() for name in ("chain", key)]
    return raw_pickle(b"\x80\x02}(" + named[0] + chain + named[1] + b"h\x00u.")


def layers(*more: dict[str, Any]) -> bytes:
    return spec_file(layers=[*SPEC_LAYERS, *more])


def body(text: str, **settings: Any) -> bytes:
    return script_file(text + LAST, **settings)


ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut in half": (lambda: spec_file()[: len(spec_file()) // 2], "has no end.*half-written"),
    "only the signature": (lambda: b"PK\x03\x04", "has no end.*half-written"),
    "before PyTorch 1.6": (lambda: b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "before PyTorch 1.6"),
    "a Keras archive": (
        lambda: zipped({"config.json": b"{}", "metadata.json": b"{}"}, root=""),
        "it is a .keras file; save the model as .h5",
    ),
    "some other archive": (lambda: zipped({"a.txt": b"a"}), "neither torch.save nor torch.jit.save"),
    "two folders": (lambda: zipped({"a/data.pkl": b".", "b/x": b""}, root=""), "neither torch.save"),
    "claims many entries": (lambda: end_record(spec_file(), count=65000), "claims 65000 entries"),
    "claims a huge directory": (lambda: end_record(spec_file(), size=1 << 31), "claims 13 entries in 2147483648"),
    "a directory elsewhere": (lambda: end_record(spec_file(), offset=1 << 30), "overlaps another entry|is not where"),
    "encrypted": (lambda: directory_changed(encrypted), "encrypted or packed in an unknown way"),
    "a size it does not hold": (lambda: directory_changed(larger), r"claims \d+ bytes and holds"),
    "a wrong checksum": (lambda: directory_changed(wrong_checksum), "does not have its size or checksum"),
    "an entry elsewhere": (lambda: directory_changed(elsewhere), "is not where the directory says"),
    "overlapping": (overlapping, "overlaps another entry"),
    "the same name twice": (twice, "data.pkl is there twice"),
    "weights compressed": (
        lambda: zipped({"data.pkl": b"\x80\x02}."}, deflated=["data.pkl"]),
        "compressed, which torch does not do",
    ),
    "a bomb in the code": (bomb_in_code, "does not have its size or checksum"),
    "much code": (lambda: script_file(FORWARD, code={"code/a.py": "#" * 2_000_000}), "at most 1048576 are read"),
    "code that is not text": (
        lambda: script_file(FORWARD, extra={"code/b.py": b"\xff\xfe"}),
        "is not text",
    ),
    "big-endian": (lambda: state_file({}, byteorder=b"big"), "big-endian"),
}
PICKLES: dict[str, tuple[Callable[[], bytes], str]] = {
    "os.system": (lambda: top(Call(Name("os", "system"), (RUN,))), r"names os\.system"),
    "posix.system": (lambda: top(Call(Name("posix", "system"), (RUN,))), r"names posix\.system"),
    "eval": (lambda: top(Call(Name("builtins", "eval"), ("open('canary','w')",))), r"names builtins\.eval"),
    "torch.load": (lambda: top(Call(Name("torch", "load"), ("x",))), r"names torch\.load"),
    "a hub": (lambda: top(Call(Name("torch.hub", "load"), ("a", "b"))), r"names torch\.hub\.load"),
    "a dotted name": (lambda: top(Name("torch", "storage.os.system")), r"names torch\.storage\.os\.system"),
    "NumPy's reconstruct": (lambda: top(Name("numpy.core.multiarray", "_reconstruct")), "_reconstruct"),
    "a whole module": (lambda: state_file(Name("__main__", "Net")), r"names __main__\.Net.*state_dict with a spec"),
    "a script class in a state": (lambda: state_file(Name("__torch__", "Net")), r"names __torch__\.Net"),
    "os in a script": (
        lambda: script_file(FORWARD, attributes={"a": Call(Name("os", "system"), (RUN,))}),
        r"names os\.system",
    ),
    "a call of a storage": (lambda: top(Call(Name("torch", "FloatStorage"), (1 << 40,))), "a call of torch.FloatSt"),
    "a call of a script class": (
        lambda: script_file(FORWARD, attributes={"a": Call(Name("__torch__", "Net"), ())}),
        r"a call of __torch__\.Net",
    ),
    "INST": (lambda: raw_pickle(b"\x80\x02(ios\nsystem\n."), r"names os\.system"),
    "an extension code": (lambda: raw_pickle(b"\x80\x02\x82\x01."), "an extension code"),
    "another persistent id": (lambda: top(Persistent(("module", 1))), "a persistent id that is not a storage"),
    "text as a persistent id": (lambda: raw_pickle(b"\x80\x02Pabc\n."), "a persistent id"),
    "a pickle cut off": (lambda: raw_pickle(b"\x80\x02}q"), "data.pkl is damaged"),
    "an empty pickle": (lambda: raw_pickle(b""), "data.pkl is damaged"),
    "a large pickle": (lambda: raw_pickle(bytes(5 << 20)), "at most 4194304 are read"),
    "a doubled tuple": (lambda: doubled("weights"), "holds weights and no uqueue_spec"),
    "a doubled tuple as spec": (lambda: doubled("uqueue_spec"), "not JSON text"),
    "a storage that is missing": (without_storage, "data/0 is missing"),
    "a storage that is too short": (lambda: tensor(count=1 << 30, size=(1 << 30,), strides=(1,)), "more numbers than"),
    "a tensor beyond its storage": (lambda: tensor(offset=4), "reaches beyond its storage"),
    "strides beyond its storage": (lambda: tensor(strides=(300, 100)), "reaches beyond its storage"),
    "a repeating tensor": (lambda: tensor(size=(1 << 30,), strides=(0,)), "more numbers than its storage holds"),
    "a negative stride": (lambda: tensor(strides=(-3, 1)), "a tensor of an unknown form"),
    "a tensor of many axes": (lambda: tensor(size=(1,) * 40, strides=(0,) * 40), "a tensor of an unknown form"),
    "a size that is text": (lambda: tensor(size=("a", "b")), "a tensor of an unknown form"),
    "an unknown storage": (lambda: tensor(kind="ComplexFloatStorage"), r"names torch\.ComplexFloatStorage"),
    "only weights": (lambda: state_file(weights()), "holds weights and no uqueue_spec"),
    "a list": (lambda: state_file([1, 2]), "holds weights and no uqueue_spec"),
}
SPECS: dict[str, tuple[Callable[[], bytes], str]] = {
    "no JSON": (lambda: state_file({"uqueue_spec": "{", "state_dict": {}}), "is not JSON"),
    "deep JSON": (lambda: state_file({"uqueue_spec": "[" * 500_000, "state_dict": {}}), "is not JSON"),
    "an endless number": (lambda: state_file({"uqueue_spec": "9" * 10_000, "state_dict": {}}), "is not JSON"),
    "long JSON": (lambda: state_file({"uqueue_spec": " " * (1 << 21)}), "at most 1048576 characters"),
    "no text": (lambda: state_file({"uqueue_spec": {"format": "uqueue-mqnn/1"}}), r"not JSON text \(json.dumps\)"),
    "no state_dict": (lambda: state_file({"uqueue_spec": json.dumps(spec())}), "holds no state_dict"),
    "another format": (lambda: spec_file(format="uqueue-mqnn/9"), "has not the format 'uqueue-mqnn/1'"),
    "an unknown key": (lambda: spec_file(optimizer="sgd"), "the unknown key 'optimizer'"),
    "an unknown layer": (lambda: layers({"type": "Lambda", "code": RUN}), "layer 6 has the type 'Lambda', expected"),
    "a layer that is text": (lambda: spec_file(layers=["ReLU"]), "layer 0 has the type None"),
    "an unknown setting": (lambda: layers({"type": "ReLU", "call": RUN}), "the unknown setting 'call'"),
    "everything dropped": (lambda: layers({"type": "Dropout", "p": 1}), "drops the share 1, expected"),
    "a NaN share": (lambda: layers({"type": "Dropout", "p": float("nan")}), "drops the share nan"),
    "an endless slope": (lambda: layers({"type": "ELU", "alpha": 10**400}), "layer 6 .ELU. has alpha 1000"),
    "always_on as text": (lambda: layers({"type": "Dropout", "always_on": "yes"}), "expected true or false"),
    "a missing weight": (lambda: layers({"type": "Linear", "name": "x"}), "has no weight 'x.weight'"),
    "a Linear without name": (lambda: layers({"type": "Linear"}), 'has no "name"'),
    "another width": (lambda: spec_file(n_features=7), "8 values of mean for 7 columns"),
    "no width": (lambda: spec_file(n_features=...), "n_features is None, expected"),
    "a width that is true": (lambda: spec_file(n_features=True), "n_features is True, expected"),
    "layers that do not fit": (
        lambda: spec_file(layers=[{"type": "Linear", "name": "body.0"}] * 2),
        "8 columns are expected of values of shape",
    ),
    "many layers": (lambda: spec_file(layers=[{"type": "ReLU"}] * 257), "at most 256 layers"),
    "three heads": (lambda: spec_file(heads=["q0", "q1", "q0"]), "one or two names"),
    "an odd head": (lambda: spec_file({**weights(targets=3)}, heads=["q0"]), "its one head has 3 units"),
    "a negative variance": (
        lambda: layers({"type": "Normalization", "mean": [0.0], "variance": [-1.0]}),
        "has a negative variance",
    ),
    "a weight that is not finite": (
        lambda: spec_file({**weights(), "q0.bias": np.array([1, np.nan], "f4")}),
        r"the weight q0\.bias holds values that are not finite",
    ),
}
SCRIPTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "from_file": (lambda: body("    h0 = torch.from_file('/etc/passwd')\n"), r"the operation torch\.from_file"),
    "save": (lambda: body(HEAD + "    ops.aten.save(h0, 'canary')\n"), r"the operation ops\.aten\.save"),
    "a custom operation": (lambda: body("    h0 = ops.mylib.evil(x)\n"), r"the operation ops\.mylib\.evil"),
    "a call back into Python": (lambda: body("    h0 = ops.prim.PythonOp(x)\n"), r"the operation ops\.prim\.PythonOp"),
    "an operation in a method that nobody calls": (
        lambda: script_file(FORWARD + "  def evil(self):\n    torch.from_file('x')\n"),
        r"the operation torch\.from_file",
    ),
    "an import": (
        lambda: script_file(FORWARD, code={"code/a.py": "import os\nos.system('touch canary')"}),
        "import of",
    ),
    "__import__": (
        lambda: body("    h0 = __import__('os').system('touch canary')\n"),
        "the function __import__",
    ),
    "open": (lambda: body("    h0 = open('canary', 'w')\n"), "the function open"),
    "exec": (lambda: body("    h0 = exec('open(\\'canary\\', \\'w\\')')\n"), "the function exec"),
    "a default that runs": (
        lambda: (
            script_file(FORWARD).replace(b"", b"")
            and script_file("    return __torch__.f(x, )\n", code={"code/__torch__.py": _evil_default()})
        ),
        "the function open",
    ),
    "a decorator that runs": (
        lambda: script_file("", code={"code/__torch__.py": "@open('canary', 'w')\nclass Other(Module):\n  pass\n"}),
        "the code of its class __torch__.Net is missing",
    ),
    "an attribute of a value": (
        lambda: body("    h0 = x.__class__\n"),
        "reads __class__ of something that is not a mod",
    ),
    "an attribute of the module": (lambda: body("    h0 = self.__class__\n"), "has no attribute __class__"),
    "getattr of the module": (lambda: body("    h0 = getattr(self, '__dict__')\n"), "has no attribute __dict__"),
    "getattr of torch": (
        lambda: body("    h0 = getattr(torch, 'load')('x')\n"),
        "neither a module, a function nor an op",
    ),
    "torch by itself": (lambda: body("    h0 = torch\n"), "uses the name torch, which is not there"),
    "a lambda": (lambda: body("    h0 = (lambda: x)()\n"), "neither a module, a function nor an operation"),
    "a comprehension": (lambda: body("    h0 = [x for _ in 'abc']\n"), r"not followed here \(ListComp\)"),
    "an f-string": (lambda: body("    h0 = f'{x}'\n"), r"not followed here \(JoinedStr\)"),
    "an endless loop": (lambda: body("    while True:\n      h0 = x\n"), r"not followed here \(While\)"),
    "a loop": (lambda: body("    for i in range(9):\n      h0 = x\n"), r"not followed here \(For\)"),
    "recursion": (lambda: body("    h0 = (self).forward(x, )\n"), "calls more than 32 deep"),
    "a tower of calls": (
        lambda: script_file("    return __torch__.f.f19(x, )\n", code={"code/__torch__/f.py": _tower()}),
        "more than 4096 steps",
    ),
    "calls that do nothing": (
        lambda: script_file(
            "    return __torch__.f.f19(x, )\n",
            code={"code/__torch__/f.py": _tower().replace("torch.relu(x)", "x")},
        ),
        "takes too long",
    ),
    "numbers that grow": (
        lambda: body("    n = 9\n" + "    n = torch.mul(n, n)\n" * 60),
        "gives something that is not served",
    ),
    "weights that unfold": (
        lambda: body(
            "    h0 = torch.mul(torch.unsqueeze(self.big, 1), self.big)\n", attributes={"big": np.ones(1 << 14, "f4")}
        ),
        "its weights unfold to more than",
    ),
    "many steps": (lambda: body(HEAD + "    h0 = torch.relu(h0)\n" * 5000), "more than 4096 steps"),
    "many values": (
        lambda: script_file(
            HEAD
            + "".join(f"    h0 = torch.cat([{'h0, ' * 256}], 1)\n" for _ in range(2))
            + "    h0 = torch.relu(h0)\n" * 20
            + "    return (h0, h0)\n"
        ),
        "a row takes 5506055 values",
    ),
    "many multiplications": (
        lambda: script_file(
            "    h0 = torch.linear(x, self.w)\n"
            + "    h0 = torch.linear(h0, self.w)\n" * 1030
            + "    return (h0, h0)\n",
            attributes={"w": np.zeros((512, 512), "f4")},
        ),
        "270270464 multiplications, which is too much",
    ),
    "deep brackets": (lambda: body("    h0 = " + "(" * 5000 + "x" + ")" * 5000 + "\n"), "nested more than 64 deep"),
    "a long sign": (
        lambda: body("    h0 = " + "-" * 50_000 + "1\n"),
        "is not TorchScript|not followed|nested too deeply",
    ),
    "a long path": (lambda: body("    h0 = x" + ".a" * 50_000 + "\n"), "is not TorchScript|nested too deeply"),
    "no syntax": (lambda: body("    h0 = = x\n"), r"is not TorchScript \(SyntaxError\)"),
    "no forward": (
        lambda: script_file("    pass\n", code={"code/__torch__.py": "class Net(Module):\n  pass\n"}),
        "has no method forward",
    ),
    "a constant that is missing": (lambda: body("    h0 = CONSTANTS.c7\n"), "its constant 7 is missing"),
    "a name that is missing": (lambda: body("    h0 = y\n"), "the name y, which is not there"),
    "no module": (lambda: _data_pickle([1]), "holds no TorchScript module"),
    "another class": (lambda: _data_pickle(Instance(Name("posix", "system"), {})), r"names posix\.system"),
    "rows mixed by softmax": (lambda: body(HEAD + "    h0 = torch.softmax(h0, 0)\n"), "would mix rows"),
    "rows mixed by cat": (lambda: body(HEAD + "    h0 = torch.cat([h0, h0], 0)\n"), "would mix rows"),
    "rows mixed by statistics": (
        lambda: body(HEAD + "    h0 = torch.batch_norm(h0, None, None, None, None, True, 0.1, 1e-05, True)\n"),
        "takes its statistics from the rows of a request",
    ),
    "a fixed number of rows": (
        lambda: body(HEAD + "    h0 = torch.view(h0, [5, 4])\n"),
        "which does not keep the rows",
    ),
    "a branch on values": (
        lambda: body("    if bool(x):\n      h0 = x\n    else:\n      h0 = x\n"),
        "takes a number or a truth value from values",
    ),
    "an error that it raises": (
        lambda: body("    ops.prim.RaiseException('no', 'builtins.ValueError')\n"),
        "its code raises an error: no",
    ),
    "dropout only while training": (
        lambda: body(HEAD + "    if self.training:\n      h0 = torch.dropout(h0, 0.5, True)\n    else:\n      pass\n"),
        "only while training",
    ),
    "everything dropped by a script": (
        lambda: body(HEAD + "    h0 = torch.dropout(h0, 1., True)\n"),
        "drops the share 1.0",
    ),
    "weights overwritten": (lambda: body("    h0 = torch.add_(self.w0, 1)\n"), "does not depend on the features"),
    "a view overwritten": (
        lambda: body(HEAD + "    v = torch.select(h0, 1, 0)\n    w = torch.relu_(h0)\n"),
        "overwrites a value that others share",
    ),
    "outputs in a dict": (lambda: script_file('    return {"low": x}\n'), "gives its outputs in a dict"),
    "text as output": (lambda: script_file('    return "x"\n'), "expected two heads or one table"),
    "two tables as input": (lambda: _two_inputs(), "with other arguments than it has; one table is served"),
    "another type": (lambda: body("    h0 = torch.to(x, 7)\n"), "another type than float32"),
    "a width that never shows": (
        lambda: script_file("    return (x, x)\n"),
        "does not show how many features it takes",
    ),
    "a wrong width beside it": (
        lambda: script_file(FORWARD, extra={"extra/uqueue.json": b'{"n_features": -1}'}),
        "does not say",
    ),
    "a width that does not fit": (
        lambda: script_file(FORWARD, extra={"extra/uqueue.json": b'{"n_features": 9}'}),
        "3 columns are expected",
    ),
}


def _evil_default() -> str:
    call = "class Net(Module):\n  def forward(self, x):\n    return __torch__.f(x, )\n"
    return call + "def f(x, y=open('canary', 'w')):\n  return (x, x)\n"


def _tower() -> str:
    parts = ["def f0(x):\n  return torch.relu(x)\n"]
    parts += [
        f"def f{n}(x):\n  y = __torch__.f.f{n - 1}(x, )\n  return __torch__.f.f{n - 1}(y, )\n" for n in range(1, 20)
    ]
    return "".join(parts)


def _two_inputs() -> bytes:
    return script_file(
        "", code={"code/__torch__.py": "class Net(Module):\n  def forward(self, x, y):\n    return (x, y)\n"}
    )


def _data_pickle(value: Any) -> bytes:
    writer = TorchWriter()
    return zipped({"data.pkl": writer.pickled(value), "constants.pkl": writer.pickled(())})


ALL = {**ARCHIVES, **PICKLES, **SPECS, **SCRIPTS}


@pytest.mark.parametrize("name", ALL)
def test_hostile_files_are_refused_by_a_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make, sentence = ALL[name]
    data = make()
    with pytest.raises(ModelInvalid) as caught:
        read_torch_file(data, file="model.pt")
    assert re.search(sentence, str(caught.value)), str(caught.value)
    assert str(caught.value).startswith("model.pt: ")
    assert list(tmp_path.iterdir()) == []


def test_what_names_code_is_unsafe_and_what_is_cut_off_is_incomplete() -> None:
    for name in ("os.system", "eval", "a whole module", "from_file", "a custom operation", "open"):
        with pytest.raises(UnsafeArtifact):
            read_torch_file(ALL[name][0](), file="model.pt")
    with pytest.raises(IncompleteArtifact):
        read_torch_file(ALL["cut in half"][0](), file="model.pt")


@pytest.mark.parametrize("name", ["os.system", "open", "a long sign", "cut in half", "a bomb in the code"])
def test_the_process_that_reads_first_gives_the_same_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, sentence = ALL[name]
    with pytest.raises(ModelInvalid, match=sentence):
        read_any_model_file(make())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("good", [spec_file(), script_file(FORWARD)], ids=["spec", "script"])
def test_a_damaged_file_is_read_or_refused_and_nothing_else(good: bytes) -> None:
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(400):
        damaged = bytearray(good)
        for at in rng.integers(4, len(good), 3):
            damaged[at] = rng.integers(256)
        try:
            read_torch_file(bytes(damaged), file="model.pt")
        except ModelInvalid:
            refused += 1
    assert refused > 200
