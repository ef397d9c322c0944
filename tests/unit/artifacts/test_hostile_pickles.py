from __future__ import annotations

import pickle
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from builders.artifacts import write_state_pickle
from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts import read_calibration_state

COMMAND = "touch canary"
MCCP = b"cmccp_lib.mccp.mccp\nMCCP\n"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def state(payload: bytes) -> bytes:
    """Return a protocol 2 pickle of an MCCP object that has `payload` as its q_hat."""
    rest = pickle.dumps({"patience": 2, "delta": 5e-4, "max_mc": 50}, 2)[2:-1]
    return b"\x80\x02" + MCCP + b")\x81" + rest + text("q_hat") + payload + b"sb."


def reduce_(module: str, name: str, *arguments: str) -> bytes:
    return f"c{module}\n{name}\n(".encode() + b"".join(map(text, arguments)) + b"tR"


def doubling(start: bytes, count: int) -> bytes:
    return start + b"q\x01" + b"h\x01\x86q\x01" * count


def doubled_list(count: int) -> list[object]:
    doubled: list[object] = []
    for _ in range(count):
        doubled = [doubled, doubled]
    return doubled


PYTHON = "import os; os.system('touch canary')"
EXECUTES = {
    "os.system REDUCE": (state(reduce_("os", "system", COMMAND)), "os.system"),
    "posix.system REDUCE": (state(reduce_("posix", "system", COMMAND)), "posix.system"),
    "subprocess.getoutput": (state(reduce_("subprocess", "getoutput", COMMAND)), "subprocess.getoutput"),
    "os.system INST": (b"(S'" + COMMAND.encode() + b"'\nios\nsystem\n.", "os.system"),
    "os.system OBJ": (b"(cos\nsystem\n" + text(COMMAND) + b"o.", "os.system"),
    "STACK_GLOBAL": (b"\x80\x04" + text("os") + text("system") + b"\x93" + text(COMMAND) + b"\x85R.", "os.system"),
    "STACK_GLOBAL from the memo": (
        b"\x80\x04(" + text("os") + b"\x94" + text("system") + b"\x94h\x00h\x01\x93" + text(COMMAND) + b"\x85Rt.",
        "os.system",
    ),
    "dotted name": (
        b"\x80\x04" + text("logging") + text("os.system") + b"\x93" + text(COMMAND) + b"\x85R.",
        "logging.os.system",
    ),
    "builtins.eval": (state(reduce_("builtins", "eval", f"__import__('os').system('{COMMAND}')")), "builtins.eval"),
    "builtins.exec": (state(reduce_("builtins", "exec", PYTHON)), "builtins.exec"),
    "__builtin__.eval": (
        state(reduce_("__builtin__", "eval", f"__import__('os').system('{COMMAND}')")),
        "__builtin__.eval",
    ),
    "builtins.__import__ then getattr": (
        state(
            b"cbuiltins\ngetattr\n("
            + reduce_("builtins", "__import__", "os")
            + text("system")
            + b"tR"
            + text(COMMAND)
            + b"\x85R"
        ),
        "builtins.getattr",
    ),
    "numpy gadget runstring": (
        state(
            b"cnumpy.testing._private.utils\nrunstring\n(" + text(PYTHON) + b"}tR",
        ),
        "numpy.testing._private.utils.runstring",
    ),
    "the payload in an unknown attribute of a good state": (
        write_state_pickle(protocol=2)[:-2] + text("extra") + reduce_("os", "system", COMMAND) + b"sb.",
        "os.system",
    ),
    "functools.partial": (
        state(b"cfunctools\npartial\n(cos\nsystem\n" + text(COMMAND) + b"tR)R"),
        "functools.partial",
    ),
    "in place of the top object": (b"cos\nsystem\n(" + text(COMMAND) + b"tR.", "os.system"),
    "before a good state": (
        b"cos\nsystem\n(" + text(COMMAND) + b"tR0" + write_state_pickle(protocol=2),
        "os.system",
    ),
}

ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text("b") + b"tR"


def array_state(shape: bytes, dtype: bytes, data: bytes = b"C\x00") -> bytes:
    return ARRAY + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"


def dtype(code: str, state: bytes = b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb") -> bytes:
    return b"cnumpy\ndtype\n(" + text(code) + b"\x89\x88tR" + state


OBJECTS = np.empty(1, dtype=object)
STRUCTURED = np.zeros(2, dtype=[("a", "f8")])
BROKEN = {
    "NEWOBJ_EX": (
        b"\x80\x04csubprocess\nPopen\n(" + text("touch") + text("canary") + b"l\x85}" + b"\x92.",
        "subprocess.Popen",
    ),
    "copyreg.__newobj__": (
        state(b"ccopyreg\n__newobj__\n(csubprocess\nPopen\n(" + text("touch") + text("canary") + b"ltR"),
        "copyreg.__newobj__",
    ),
    "BUILD with __setstate__": (
        b"\x80\x02ccodecs\nStreamReader\n)\x81}" + text("stream") + b"Nsb.",
        "codecs.StreamReader",
    ),
    "BUILD of a global": (state(b"cnumpy\nndarray\n}" + text("__setstate__") + b"Nsb"), "cannot have them"),
    "a call of numpy.ndarray for 8 TiB": (
        state(b"cnumpy\nndarray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85\x85R"),
        "a call of numpy.ndarray",
    ),
    "an 8 TiB array by _reconstruct": (
        state(array_state(b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85", dtype("f8"))),
        "length that is not in 0..4096",
    ),
    "4097 elements": (state(array_state(b"M\x01\x10\x85", dtype("f8"))), "length that is not in 0..4096"),
    "65536 elements in two dimensions": (state(array_state(b"M\x00\x01M\x00\x01\x86", dtype("f8"))), "65536 elements"),
    "four dimensions": (
        state(array_state(b"(K\x01K\x01K\x01K\x01t", dtype("f8"), b"C\x08" + bytes(8))),
        "3 dimensions",
    ),
    "too few bytes": (state(array_state(b"K\x02\x85", dtype("f8"), b"C\x08" + bytes(8))), "2 elements with 8 bytes"),
    "a negative length": (state(array_state(b"J\xff\xff\xff\xff\x85", dtype("f8"))), "length that is not"),
    "object array": (write_state_pickle(q_hat=OBJECTS), "kinds f, i, u and b"),
    "structured dtype": (write_state_pickle(q_hat=STRUCTURED), "kinds f, i, u and b"),
    "a float dtype turned into a structured one": (
        state(array_state(b"K\x01\x85", dtype("f8", b"(K\x03" + text("<") + b"N\x8c\x01a\x85}K\x08K\x01K\x00tb"))),
        "structured dtype",
    ),
    "16-byte floats": (state(array_state(b"K\x01\x85", dtype("f16"))), "kinds f, i, u and b"),
    "text array": (write_state_pickle(q_hat=np.array(["0.1"])), "kinds f, i, u and b"),
    "array without dtype": (state(array_state(b"K\x01\x85", b"N")), "without a plain dtype"),
    "array without state": (state(ARRAY), "q_hat must be a number"),
    "codecs with another encoding": (
        state(b"c_codecs\nencode\n(" + text("x") + text("rot13") + b"tR"),
        "encoding other than latin1",
    ),
    "codecs.decode": (state(reduce_("_codecs", "decode", "x", "hex")), "_codecs.decode"),
    "persistent id": (b"\x80\x02" + text("x") + b"Q.", "persistent id"),
    "persistent id, protocol 0": (b"Px\n.", "persistent id"),
    "EXT1": (b"\x80\x02\x82\x01.", "extension code"),
    "EXT2": (b"\x80\x02\x83\x01\x01.", "extension code"),
    "EXT4": (b"\x80\x02\x84\x01\x00\x00\x00.", "extension code"),
    "out-of-band buffer": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "a base other than object": (
        state(b"ccopyreg\n_reconstructor\n(" + MCCP + b"cnumpy\nndarray\nNtR"),
        "something else than object",
    ),
    "object.__new__ of ndarray": (state(b"cnumpy\nndarray\n)\x81"), "an object of numpy.ndarray"),
    "memo index 2**31": (b"\x80\x02Nr\x00\x00\x00\x80.", "neither an MCCP object nor a dict"),
    "memo index that is not there": (b"\x80\x02h\x07.", "do not fit together"),
    "memo bomb of latin1 text": (
        state(
            b"c_codecs\nencode\nq\x01"
            + text("x" * 40000)
            + b"q\x02"
            + text("latin1")
            + b"\x86q\x03"
            + b"R"
            + b"h\x01h\x03R" * 100
            + b"l"
        ),
        "1048576 bytes",
    ),
    "BINBYTES8 of 2**62 bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.", "ends too early"),
    "LONG4 of 2 GiB": (b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01.", "ends too early"),
    "LONG4 of a negative length": (b"\x80\x02\x8b" + struct.pack("<i", -5) + b".", "long4 byte count < 0"),
    "FRAME of 2**63 bytes": (b"\x80\x04\x95" + struct.pack("<Q", 2**63) + b"N.", "neither an MCCP object nor a dict"),
    "60,000 digits": (b"I" + b"9" * 60000 + b"\n.", "not a calibration pickle"),
    "doubled tuple as q_hat": (state(doubling(b")", 200)), "q_hat must be a scalar"),
    "doubled list as q_hat": (write_state_pickle(q_hat=doubled_list(100)), "q_hat must be a scalar"),
    "doubled tuple as a dict key": (state(b"}" + doubling(b")", 200) + b"Ns"), "q_hat must be a number"),
    "30,000 nested tuples": (state(b")" + b"\x85" * 30000), "q_hat must be a scalar"),
    "30,000 marks": (b"(" * 30000 + b".", "a mark where a value belongs"),
    "stack underflow": (b"\x80\x02R.", "do not fit together"),
    "truncated": (write_state_pickle()[:-10], "ends too early"),
    "trailing bytes": (write_state_pickle() + b"\x00", "bytes follow its end"),
    "two objects": (b"NN.", "more than one object"),
    "empty": (b"", "is empty"),
    "65 KiB": (write_state_pickle(pad=b"x" * 65 * 1024), "at most 65536"),
    "text": (b"q_hat: 0.3\npatience: 2\n", "not a calibration pickle"),
    "zeros": (bytes(100), "not a calibration pickle"),
    "JSON": (b'{"q_hat": 0.3}', "not a calibration pickle"),
    "a list": (pickle.dumps([0.3]), "neither an MCCP object nor a dict"),
    "an int": (pickle.dumps(3), "neither an MCCP object nor a dict"),
    "a plain object": (pickle.dumps(object()), "neither an MCCP object nor a dict"),
    "MCCP class, not an object": (b"\x80\x02" + MCCP + b".", "neither an MCCP object nor a dict"),
    "MCCP without state": (b"\x80\x02" + MCCP + b")\x81.", "q_hat is missing"),
    "empty dict": (b"\x80\x02}.", "q_hat is missing"),
    "another class of the library": (b"\x80\x02cmccp_lib.mccp.mccp\nOther\n)\x81.", "mccp_lib.mccp.mccp.Other"),
    "sklearn scaler": (
        state(b"csklearn.preprocessing._data\nStandardScaler\n)\x81"),
        "sklearn.preprocessing._data.StandardScaler",
    ),
}


def refuse(payload: bytes, expected: str) -> str:
    started = time.process_time()
    with pytest.raises(ModelInvalid) as caught:
        read_calibration_state(payload)
    assert time.process_time() - started < 5, "no file takes for ever"
    assert expected in str(caught.value)
    assert str(caught.value).startswith("mccp_state.pkl: ")
    assert len(str(caught.value)) < 500
    return str(caught.value)


@pytest.mark.parametrize("name", EXECUTES)
def test_code_is_refused_by_name_and_not_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    payload, expected = EXECUTES[name]
    monkeypatch.chdir(tmp_path)
    refuse(payload, expected)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", EXECUTES)
def test_control_plain_pickle_runs_it(name: str, tmp_path: Path) -> None:
    """The payloads above are live: Python's own unpickler creates the canary."""
    (tmp_path / "payload").write_bytes(EXECUTES[name][0])
    code = (
        "import pickle, sys, types\n"
        "for name in ('mccp_lib', 'mccp_lib.mccp', 'mccp_lib.mccp.mccp'): sys.modules[name] = types.ModuleType(name)\n"
        "sys.modules[name].MCCP = type('MCCP', (), {})\n"
        "pickle.load(open('payload', 'rb'))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    for _ in range(100):  # Popen payloads do not wait for their child
        if (tmp_path / "canary").exists():
            break
        time.sleep(0.02)
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", BROKEN)
def test_broken_or_oversized_state_is_refused(name: str) -> None:
    refuse(*BROKEN[name])


def test_a_scaler_says_what_it_means() -> None:
    assert "inputs may need scaling" in refuse(*BROKEN["sklearn scaler"])
