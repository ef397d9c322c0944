"""Files from anywhere are read in bounds, or refused with a sentence."""

from __future__ import annotations

import io
import json
import random
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pytest

from builders.learning_scenarios import CLOCK, raw_samples
from uqueue_worker.learning.avro import (
    ReadLimits,
    SchemaSet,
    iter_samples,
    read_samples,
    sample_record,
    write_samples,
)
from uqueue_worker.learning.errors import DatasetFormat, DatasetNotFound

MARK = b"0123456789abcdef"
MEBIBYTE = 1 << 20


def number(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def text(value: bytes) -> bytes:
    return number(len(value)) + value


def header(schema: Any = None, codec: str = "deflate", extra: bytes = b"") -> bytes:
    """Return a container's header, by default one with the schema of samples."""
    schema = schema if schema is not None else SchemaSet().parsed("MLDataSample")
    plain = json.dumps({key: value for key, value in schema.items() if not key.startswith("__")})
    entries = text(b"avro.schema") + text(plain.encode()) + text(b"avro.codec") + text(codec.encode())
    return b"Obj\x01" + number(2) + entries + extra + number(0) + MARK


def deflated(data: bytes) -> bytes:
    packing = zlib.compressobj(9, wbits=-15)
    return packing.compress(data) + packing.flush()


def block(data: bytes, count: int = 1, size: int | None = None) -> bytes:
    return number(count) + number(len(data) if size is None else size) + data + MARK


def bomb() -> bytes:
    packing = zlib.compressobj(9, wbits=-15)
    return b"".join(packing.compress(bytes(MEBIBYTE)) for _ in range(96)) + packing.flush()


def a_null_schema() -> dict[str, Any]:
    return {"type": "record", "name": "Bomb", "fields": [{"name": "a", "type": {"type": "array", "items": "null"}}]}


def nested(depth: int) -> bytes:
    schema = b'{"type":"array","items":' * depth + b'"int"' + b"}" * depth
    return b"Obj\x01" + number(1) + text(b"avro.schema") + text(schema) + number(0) + MARK


#: What evaluations read as it is meant.
TEXTS = ("sample_id", "scenario_id", "extracted_class_label", "event_type")

HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "no container": (lambda: b"PK\x03\x04" + bytes(100), "not an Avro container"),
    "empty": (lambda: b"", "not an Avro container"),
    "a block that unpacks to a hundred times its limit": (lambda: header() + block(bomb()), "unpacks to more than"),
    "a block that claims a terabyte": (lambda: header() + block(b"x", size=1 << 40), "claims 1099511627776 bytes"),
    "a block that claims less than nothing": (lambda: header() + block(b"x", size=-5), "claims -5 bytes"),
    "more records than bytes": (lambda: header() + block(deflated(b"abc"), count=10**12), "claims to hold 10000"),
    "fewer records than none": (lambda: header() + block(deflated(b"abc"), count=-2), "claims to hold -2"),
    "records free of charge": (lambda: header(a_null_schema()) + block(deflated(bytes(9))), "fingerprint"),
    "another schema": (
        lambda: header({"type": "record", "name": "x", "fields": []}),
        "MLDataSample is 0585824cf339b390",
    ),
    "a schema nested ten thousand deep": (lambda: nested(10_000), "no schema that can be read"),
    "a schema that is no JSON": (
        lambda: b"Obj\x01" + number(1) + text(b"avro.schema") + text(b"{") + number(0) + MARK,
        "no schema",
    ),
    "no schema": (lambda: b"Obj\x01" + number(0) + MARK, "no schema"),
    "a header without an end": (lambda: b"Obj\x01" + number(10**9), "too many entries"),
    "a header of gigabytes": (lambda: b"Obj\x01" + number(1) + number(1 << 33), "claims 8589934592 bytes"),
    "another codec": (lambda: header(codec="snappy"), "codec is 'snappy'"),
    "no deflate data": (lambda: header() + block(b"\xff\xff\xff"), "cannot be unpacked"),
    "data after the deflate stream": (lambda: header() + block(deflated(b"") + b"more", count=0), "cannot be unpacked"),
    "data after the records": (lambda: header() + block(deflated(b"more"), count=0), "more than its records"),
    "a wrong mark": (
        lambda: header() + (block(deflated(b""), count=0)[:-16] + bytes(16)),
        "does not end with the mark",
    ),
    "a number without end": (lambda: header() + b"\xff" * 50, "too long"),
    "an end in the middle": (lambda: header()[:2000], "claims|ends early"),
    "a text that claims two exbibytes": (lambda: header() + block(deflated(number(1 << 61))), "cannot be decoded"),
    "a text of negative length": (
        lambda: header() + block(deflated(number(-(1 << 40)) + bytes(50))),
        "cannot be decoded",
    ),
    "a text that is not UTF-8": (
        lambda: header() + block(deflated(text(b"\xff\xfe") + bytes(90))),
        "cannot be decoded",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_in_bounds(tmp_path: Path, case: str):
    made, said = HOSTILE[case]
    (tmp_path / "data.avro").write_bytes(made())
    tracemalloc.start()
    try:
        with pytest.raises(DatasetFormat, match=said) as refused:
            read_samples(tmp_path / "data.avro")
        assert tracemalloc.get_traced_memory()[1] < 32 * MEBIBYTE
    finally:
        tracemalloc.stop()
    with pytest.raises(DatasetFormat, match=said) as lean:
        list(iter_samples(tmp_path / "data.avro", wanted=TEXTS))
    assert str(lean.value) == str(refused.value)
    assert refused.value.code == "dataset_format"
    assert refused.value.dataset == "data.avro"
    assert str(tmp_path) not in refused.value.message


def test_the_header_of_these_cases_is_a_good_one(tmp_path: Path):
    (tmp_path / "data.avro").write_bytes(header())
    assert read_samples(tmp_path / "data.avro") == []


def sample_bytes(folder: Path) -> tuple[list[dict[str, Any]], bytes]:
    raws = raw_samples(folder, 2)
    given = [sample_record(raw, seed=0, index=index, generated=CLOCK) for index, raw in enumerate(raws)]
    write_samples(folder / "good.avro", given)
    return given, (folder / "good.avro").read_bytes()


def test_damaged_files_give_samples_or_a_sentence(tmp_path: Path):
    _, good = sample_bytes(tmp_path)
    start = good.index(b"avro.codec")
    chance = random.Random(6)
    refused = 0
    for _ in range(150):
        damaged = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(start, len(good))] = chance.randrange(256)
        (tmp_path / "bad.avro").write_bytes(damaged[: chance.choice([len(good), chance.randrange(start, len(good))])])
        try:
            read_samples(tmp_path / "bad.avro")
        except DatasetFormat:
            refused += 1
    assert refused > 125


def test_damage_below_the_compression_is_met_as_well(tmp_path: Path):
    given, _ = sample_bytes(tmp_path)
    schema = SchemaSet().parsed("MLDataSample")
    plain = io.BytesIO()
    refused_lean = 0
    tagged = [{**sample, "sensor_readings_map": {**sample["sensor_readings_map"], "readings": {}}} for sample in given]
    for sample in tagged:
        fastavro.schemaless_writer(plain, schema, sample)
    chance = random.Random(7)
    refused = 0
    for _ in range(150):
        damaged = bytearray(plain.getvalue())
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        (tmp_path / "bad.avro").write_bytes(header() + block(deflated(bytes(damaged)), count=len(tagged)))
        try:
            found = read_samples(tmp_path / "bad.avro")
        except DatasetFormat:
            refused += 1
            found = []
        try:
            lean = list(iter_samples(tmp_path / "bad.avro", wanted=TEXTS))
        except DatasetFormat:
            refused_lean += 1
            assert found == []
        else:
            ids = [sample["sample_id"] for sample in lean]
            assert found == [] or ids == [sample["sample_id"] for sample in found]
    assert 12 < refused_lean <= refused < 150


def test_limits_of_records_and_bytes_hold(tmp_path: Path):
    given, _ = sample_bytes(tmp_path)
    assert len(read_samples(tmp_path / "good.avro", limits=ReadLimits(records=4))) == len(given) == 4
    with pytest.raises(DatasetFormat, match="more than the 3 records"):
        read_samples(tmp_path / "good.avro", limits=ReadLimits(records=3))
    with pytest.raises(DatasetFormat, match="and 100 bytes that are read"):
        read_samples(tmp_path / "good.avro", limits=ReadLimits(total_bytes=100))
    with pytest.raises(DatasetFormat, match="1000 are allowed"):
        read_samples(tmp_path / "good.avro", limits=ReadLimits(block_bytes=1000))


def test_a_sample_too_large_to_be_read_is_not_written(tmp_path: Path):
    given, _ = sample_bytes(tmp_path)
    given[0]["sample_metadata"]["text"] = "x" * (MEBIBYTE)
    report = write_samples(tmp_path / "large.avro", given, max_rejected_fraction=1)
    assert "bytes; 1048576 are allowed" in str(report.rejected[given[0]["sample_id"]])
    assert len(read_samples(tmp_path / "large.avro")) == 3


def test_what_is_no_file_is_not_found_or_not_read(tmp_path: Path):
    with pytest.raises(DatasetNotFound):
        read_samples(tmp_path / "none.avro")
    with pytest.raises(DatasetFormat):
        read_samples(tmp_path)


def test_a_sample_of_half_a_million_empty_rows_stays_in_bounds(tmp_path: Path):
    given, _ = sample_bytes(tmp_path)
    heat = given[0]["sensor_readings_map"]["readings"]["U26_Lepton35"]
    heat["thermal_image_celsius"] = [[]] * (MEBIBYTE // 2)
    plain = io.BytesIO()
    fastavro.schemaless_writer(plain, SchemaSet().parsed("MLDataSample"), given[0])
    (tmp_path / "rows.avro").write_bytes(header() + block(deflated(plain.getvalue())))
    tracemalloc.start()
    try:
        assert len(read_samples(tmp_path / "rows.avro")) == 1
        assert tracemalloc.get_traced_memory()[1] < 64 * MEBIBYTE
    finally:
        tracemalloc.stop()


def test_what_is_no_sample_is_set_aside(tmp_path: Path):
    report = write_samples(tmp_path / "odd.avro", [None, {}, {"sample_id": "x", ("a",): 1}], max_rejected_fraction=1)  # type: ignore[list-item]
    assert report.written == 0
    assert len((tmp_path / "odd.avro.rejected.jsonl").read_text().splitlines()) == 3
