"""Messages that no honest program sends: a corpus of named classes, and random mutations of a good message.

A class is a function of a `Target`, so that each message has an id of its own and can be accounted for afterwards.
"""

from __future__ import annotations

import base64
import copy
import json
import pickle
import random
import re
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uqueue_config.envelope import celery_message
from uqueue_config.names import DEFAULT_MODEL, Queue, Task

ROW = [0.98, 514.5, 294.0, 110.25, 7.0, 2.0, 0.0, 0.0]
ABSENT = object()
_ID = re.compile(rb'"id": ?"([A-Za-z0-9_.:-]{1,128})"')


@dataclass(frozen=True)
class Target:
    """Where a message goes: the queue decides which task a good one would name."""

    queue: str
    canary: Path = Path("/nonexistent/canary")
    job_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def task(self) -> Task:
        return Task.POLL_ARTIFACTS if self.queue == Queue.CONTROL else Task.PREDICT

    @property
    def other_task(self) -> Task:
        return Task.PREDICT if self.task is Task.POLL_ARTIFACTS else Task.POLL_ARTIFACTS

    @property
    def kwargs(self) -> dict[str, Any]:
        return {"model": DEFAULT_MODEL} if self.task is Task.POLL_ARTIFACTS else {"features": [ROW]}

    def envelope(self) -> dict[str, Any]:
        """Return a good message, to be spoiled."""
        message: dict[str, Any] = json.loads(
            celery_message(self.job_id, self.task, self.kwargs, queue=self.queue, argsrepr="")
        )
        return message

    def good(self) -> bytes:
        return as_bytes(self.envelope())

    def changed(self, path: str, value: Any) -> bytes:
        """Return a good message with one member (`headers.task`) replaced, or left out if the value is ABSENT."""
        envelope = self.envelope()
        *parents, last = path.split(".")
        owner = envelope
        for parent in parents:
            owner = owner[parent]
        owner[last] = value
        if value is ABSENT:
            del owner[last]
        return as_bytes(envelope)

    def with_body(self, *parts: Any) -> bytes:
        """Return a good envelope around a body of these parts."""
        return self.changed("body", json.dumps(parts))

    def with_kwargs(self, **kwargs: Any) -> bytes:
        return self.with_body([], kwargs, None)

    def encoded(self, body: bytes, content_type: str = "application/json") -> bytes:
        """Return an envelope whose body is base64 of these bytes."""
        envelope = self.envelope()
        envelope["content-type"] = content_type
        envelope["properties"]["body_encoding"] = "base64"
        envelope["body"] = base64.b64encode(body).decode()
        return as_bytes(envelope)


def as_bytes(envelope: Any) -> bytes:
    return json.dumps(envelope, separators=(",", ":")).encode()


def named_id(message: bytes) -> str | None:
    """Return the id that uqueue takes a message for, if it names one."""
    found = _ID.search(message)
    return found[1].decode() if found else None


Hostile = Callable[[Target], bytes]


class _Touch:
    """Unpickled, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _yaml(target: Target) -> bytes:
    return f"!!python/object/apply:os.system ['touch {target.canary}']".encode()


def _deep(levels: int) -> str:
    return "[" * levels + "]" * levels


def _spliced(target: Target, member: str, text: str) -> bytes:
    """Return a good message with JSON text put in place of a member's value, whatever it is."""
    mark = "5d9f7a61"
    return target.changed(member, mark).replace(f'"{mark}"'.encode(), text.encode())


def _twice(target: Target, member: str, value: str) -> bytes:
    """Return a good message in which a header is named again, with another value, behind the first."""
    return target.good().replace(b'"headers":{', b'"headers":{"%s":"%s",' % (member.encode(), value.encode()), 1)


def _protocol_1(target: Target, **more: Any) -> bytes:
    body = {"task": target.task, "id": target.job_id, "args": [], "kwargs": target.kwargs, "retries": 0, **more}
    return as_bytes({**target.envelope(), "headers": {}, "body": json.dumps(body)})


def _forged_by_escape(target: Target) -> bytes:
    """Two ids, of which scripts that search the text find one and a JSON parser the other."""
    return target.good().replace(b'"id":"', b'"id":"some-other-job","\\u0069d":"', 1)


def _bomb(target: Target) -> bytes:
    envelope = json.loads(target.encoded(zlib.compress(b"[" * 50_000_000)))
    envelope["headers"]["compression"] = "application/x-gzip"
    return as_bytes(envelope)


TEXTS: dict[str, Hostile] = {
    "empty": lambda t: b"",
    "blank": lambda t: b"  \r\n ",
    "truncated": lambda t: t.good()[:-20],
    "truncated early": lambda t: t.good()[:70],
    "trailing garbage": lambda t: t.good() + b"}",
    "two messages": lambda t: t.good() + t.good(),
    "binary": lambda t: bytes(range(256)),
    "bare pickle": lambda t: pickle.dumps(_Touch(t.canary)),
    "bare yaml": _yaml,
    "invalid utf-8": lambda t: t.good().replace(b"uqueue.", b"uqueue\xff", 1),
    "utf-16": lambda t: t.good().decode().encode("utf-16"),
    "byte order mark": lambda t: b"\xef\xbb\xbf" + t.good(),
    "null": lambda t: b"null",
    "true": lambda t: b"true",
    "a number": lambda t: b"7",
    "a text": lambda t: b'"uqueue.predict"',
    "a list": lambda t: b"[1,2,3]",
    "a list of messages": lambda t: b"[" + t.good() + b"]",
    "nothing in it": lambda t: b"{}",
    "only an id": lambda t: as_bytes({"id": t.job_id}),
    "single quotes": lambda t: t.good().replace(b'"', b"'"),
    "NaN in the envelope": lambda t: _spliced(t, "properties.priority", "NaN"),
    "NaN in the body": lambda t: t.changed("body", '[[],{"model":NaN,"features":[[NaN]]},null]'),
    "infinity in the body": lambda t: t.changed("body", '[[],{"model":-Infinity},null]'),
    "integer of 5,000 digits": lambda t: _spliced(t, "headers.retries", "9" * 5000),
    "integer of 5,000 digits in the body": lambda t: t.changed("body", '[[],{"model":' + "9" * 5000 + "},null]"),
    "lone surrogate": lambda t: _spliced(t, "headers.argsrepr", r'"\ud800"'),
    "id named twice": lambda t: _twice(t, "id", "some-other-job"),
    "id named twice by escape": _forged_by_escape,
    "headers named twice": lambda t: t.good()[:-1] + b',"headers":[]}',
    "deep envelope": lambda t: (b'{"a":' * 10_000) + b"1" + b"}" * 10_000,
    "deep list": lambda t: b"[" * 100_000,
    "deep headers": lambda t: _spliced(t, "headers", _deep(10_000)),
    "deep header": lambda t: _spliced(t, "headers.timelimit", _deep(10_000)),
    "deep unknown header": lambda t: _spliced(t, "headers.more", _deep(10_000)),
    "deep body": lambda t: t.changed("body", _deep(10_000)),
    "deep kwargs": lambda t: t.changed("body", '[[],{"features":' + _deep(10_000) + "},null]"),
    "protocol 1": _protocol_1,
    "protocol 1 with an eta": lambda t: _protocol_1(t, eta="9999-01-01T00:00:00"),
    "protocol 1 without an id": lambda t: _protocol_1(t, id=None),
    "protocol 1 of a built-in": lambda t: _protocol_1(t, task="celery.backend_cleanup"),
    "5 MB of known header": lambda t: t.changed("headers.argsrepr", "x" * 5_000_000),
    "5 MB of unknown header": lambda t: t.changed("headers.more", "x" * 5_000_000),
    "5 MB of unknown member": lambda t: t.changed("more", "x" * 5_000_000),
    "zlib bomb": _bomb,
    "pickle": lambda t: t.encoded(pickle.dumps(_Touch(t.canary)), "application/x-python-serialize"),
    "pickle said to be JSON": lambda t: t.encoded(pickle.dumps(_Touch(t.canary))),
    "pickled arguments": lambda t: t.encoded(pickle.dumps([[], t.kwargs, None]), "application/x-python-serialize"),
    "yaml": lambda t: t.encoded(_yaml(t), "application/x-yaml"),
    "yaml said to be JSON": lambda t: t.encoded(_yaml(t)),
    "msgpack": lambda t: t.encoded(b"\x93\x90\x80\xc0", "application/x-msgpack"),
    "bytes": lambda t: t.encoded(b"[[],{},null]", "application/data"),
    "body of utf-16": lambda t: t.encoded(json.dumps([[], t.kwargs, None]).encode("utf-16")),
    "body of broken utf-8": lambda t: t.encoded(b'[[],{"model":"\xff"},null]'),
    "empty base64": lambda t: t.encoded(b""),
}

#: One member of a good message, replaced.
CHANGES: dict[str, tuple[str, Any]] = {
    **{f"no {name}": (name, ABSENT) for name in ("body", "headers", "properties", "content-type", "content-encoding")},
    **{f"no headers.{name}": (f"headers.{name}", ABSENT) for name in ("task", "id")},
    **{f"no {name}": (f"properties.{name}", ABSENT) for name in ("delivery_tag", "delivery_info")},
    "no exchange": ("properties.delivery_info.exchange", ABSENT),
    "no routing key": ("properties.delivery_info.routing_key", ABSENT),
    "headers null": ("headers", None),
    "headers a list": ("headers", [1]),
    "headers a text": ("headers", "task"),
    "properties null": ("properties", None),
    "properties a list": ("properties", []),
    "properties a text": ("properties", "x"),
    "body null": ("body", None),
    "body a number": ("body", 5),
    "body a list": ("body", [[], {}, None]),
    "body an object": ("body", {"args": []}),
    "body empty": ("body", ""),
    "body not JSON": ("body", "nope"),
    "body a JSON number": ("body", "1"),
    "body a JSON object": ("body", '{"args": [], "kwargs": {}}'),
    "content type null": ("content-type", None),
    "content type a list": ("content-type", ["application/json"]),
    "content type unknown": ("content-type", "application/x-unknown"),
    "content type with charset": ("content-type", "application/json; charset=utf-8"),
    "content encoding a number": ("content-encoding", 8),
    "content encoding unknown": ("content-encoding", "no-such-codec"),
    "content encoding utf-16": ("content-encoding", "utf-16"),
    "content encoding binary": ("content-encoding", "binary"),
    "task null": ("headers.task", None),
    "task a number": ("headers.task", 5),
    "task a list": ("headers.task", ["uqueue.predict"]),
    "task an object": ("headers.task", {"name": "uqueue.predict"}),
    "task of 5 KB": ("headers.task", "uqueue." + "x" * 5000),
    "id null": ("headers.id", None),
    "id a number": ("headers.id", 5),
    "id a list": ("headers.id", ["x"]),
    "id an object": ("headers.id", {}),
    "id empty": ("headers.id", ""),
    "id with line ends": ("headers.id", "a\r\nDEL x"),
    "id with a null byte": ("headers.id", "a\0b"),
    "id of 5 KB": ("headers.id", "x" * 5000),
    "id of 5 MB": ("headers.id", "x" * 5_000_000),
    "id beyond ASCII": ("headers.id", "jöb-✓"),
    "id with a space": ("headers.id", "x y"),
    "root id a list": ("headers.root_id", [1]),
    "parent id an object": ("headers.parent_id", {}),
    "eta in the year 9999": ("headers.eta", "9999-12-31T23:59:59+00:00"),
    "eta negative": ("headers.eta", "-0001-01-01T00:00:00"),
    "eta a number": ("headers.eta", 1e18),
    "eta a list": ("headers.eta", []),
    "eta no date": ("headers.eta", "tomorrow"),
    "eta in an hour": ("headers.eta", "2999-01-01T00:00:00"),
    "expires a number": ("headers.expires", 5),
    "expires a list": ("headers.expires", [1]),
    "expires no date": ("headers.expires", "soon"),
    "expires on no day": ("headers.expires", "2030-02-31T00:00:00"),
    "expires in the year 1": ("headers.expires", "0001-01-01T00:00:00+14:00"),
    "expires in the year 9999": ("headers.expires", "9999-12-31T23:59:59-14:00"),
    "retries a text": ("headers.retries", "three"),
    "retries negative": ("headers.retries", -1),
    "retries huge": ("headers.retries", 10**30),
    "retries true": ("headers.retries", True),
    "retries a fraction": ("headers.retries", 0.5),
    "time limit a number": ("headers.timelimit", 5),
    "time limit a text": ("headers.timelimit", "ab"),
    "time limit of one": ("headers.timelimit", [1]),
    "time limit of three": ("headers.timelimit", [1, 2, 3]),
    "time limit negative": ("headers.timelimit", [-5, None]),
    "time limit of nothing": ("headers.timelimit", [1e-9, 1e-9]),
    "time limit of texts": ("headers.timelimit", ["1", "1"]),
    "time limit endless": ("headers.timelimit", [1e300, 1e300]),
    "group": ("headers.group", "5b8b5d0c"),
    "group a list": ("headers.group", [1]),
    "compression unknown": ("headers.compression", "application/x-unknown"),
    "compression a list": ("headers.compression", ["zlib"]),
    "shadow a list": ("headers.shadow", ["x"]),
    "arguments shown as a list": ("headers.argsrepr", [1]),
    "keyword arguments shown as an object": ("headers.kwargsrepr", {"a": 1}),
    "ignore result a text": ("headers.ignore_result", "yes"),
    "delivery tag null": ("properties.delivery_tag", None),
    "delivery tag a number": ("properties.delivery_tag", 5),
    "delivery tag a list": ("properties.delivery_tag", ["x"]),
    "delivery tag an object": ("properties.delivery_tag", {}),
    "delivery info null": ("properties.delivery_info", None),
    "delivery info a list": ("properties.delivery_info", ["", "predictions"]),
    "delivery info a text": ("properties.delivery_info", "predictions"),
    "exchange an object": ("properties.delivery_info.exchange", {}),
    "routing key a number": ("properties.delivery_info.routing_key", 7),
    "redelivered a text": ("properties.delivery_info.redelivered", "no"),
    "priority a text": ("properties.priority", "high"),
    "priority a list": ("properties.priority", [9]),
    "priority negative": ("properties.priority", -1),
    "priority huge": ("properties.priority", 10**12),
    "reply to an object": ("properties.reply_to", {"queue": "control"}),
    "correlation id a list": ("properties.correlation_id", [1]),
    "body encoding a list": ("properties.body_encoding", ["base64"]),
    "body encoding unknown": ("properties.body_encoding", "rot13"),
    "body encoding without its body": ("properties.body_encoding", "base64"),
}

#: Tasks that are not uqueue's, some of which every Celery worker knows.
TASKS = (
    "",
    "os.system",
    "uqueue.predict\r\n",
    "uqueue.PREDICT",
    "celery.backend_cleanup",
    "celery.chord_unlock",
    "celery.chain",
    "celery.starmap",
    "celery.accumulate",
)

_CALL = {"task": "celery.backend_cleanup", "args": [], "kwargs": {}, "options": {}, "subtask_type": None}
#: The parts of a body, given good keyword arguments.
BODIES: dict[str, Callable[[dict[str, Any]], list[Any]]] = {
    "no part": lambda kwargs: [],
    "one part": lambda kwargs: [[]],
    "four parts": lambda kwargs: [[], kwargs, None, None],
    "positional arguments": lambda kwargs: [[1], kwargs, None],
    "positional arguments a text": lambda kwargs: ["ab", kwargs, None],
    "positional arguments null": lambda kwargs: [None, kwargs, None],
    "keyword arguments a list": lambda kwargs: [[], [kwargs], None],
    "keyword arguments a text": lambda kwargs: [[], "features", None],
    "keyword arguments null": lambda kwargs: [[], None, None],
    "successors a list": lambda kwargs: [[], kwargs, [1]],
    "successors a text": lambda kwargs: [[], kwargs, "chain"],
    "successors with another id": lambda kwargs: [[], kwargs, {"id": "some-other-job"}],
    "successors with arguments": lambda kwargs: [[], kwargs, {"kwargs": {"features": []}, "args": [1]}],
    "callback": lambda kwargs: [[], kwargs, {"callbacks": [_CALL]}],
    "errback": lambda kwargs: [[], kwargs, {"errbacks": [_CALL]}],
    "chain": lambda kwargs: [[], kwargs, {"chain": [_CALL]}],
    "chord": lambda kwargs: [[], kwargs, {"chord": _CALL}],
    "callbacks a number": lambda kwargs: [[], kwargs, {"callbacks": 5}],
    "argument named self": lambda kwargs: [[], {**kwargs, "self": 1}, None],
    "typed bytes": lambda kwargs: [[], {"model": {"__type__": "bytes", "__value__": "x"}}, None],
    "typed and broken": lambda kwargs: [[], {"model": {"__type__": "uuid", "__value__": 5}}, None],
    "typed and unknown": lambda kwargs: [[], {"model": {"__type__": "os.system", "__value__": "x"}}, None],
}

#: Well-formed messages whose keyword arguments make no job: it fails, with an error that says why.
BAD_JOBS: dict[str, dict[str, Any]] = {
    "no features": {},
    "features a text": {"features": "all of them"},
    "features ragged": {"features": [[1, 2], [3]]},
    "features of texts": {"features": [["1"] * 8]},
    "features of truth values": {"features": [[True] * 8]},
    "features of nulls": {"features": [[None] * 8]},
    "features beyond float": {"features": [[10**400] * 8]},
    "features too narrow": {"features": [[1.0]]},
    "features too deep": {"features": [[[[1.0]]]]},
    "features of no row": {"features": []},
    "features of no such shape": {"features": {"dtype": "<f4", "shape": [10**9, 10**9], "data": ""}},
    "features of objects": {"features": {"dtype": "|O", "shape": [1, 8], "data": "AAAA"}},
    "model a path": {"features": [ROW], "model": "../../etc"},
    "model unknown": {"features": [ROW], "model": "nobody"},
    "seed negative": {"features": [ROW], "seed": -1},
    "seed a text": {"features": [ROW], "seed": "x"},
    "schema of tomorrow": {"features": [ROW], "schema": 99},
    "argument unknown": {"features": [ROW], "surprise": 1},
}

#: Odd, but nothing in it is acted upon: the job is answered as if it were not there.
HARMLESS: dict[str, tuple[str, Any]] = {
    "reply to control": ("properties.reply_to", "control"),
    "routing key of another list": ("properties.delivery_info.routing_key", "dead"),
    "exchange nobody declared": ("properties.delivery_info.exchange", "nowhere"),
    "delivery tag of many": ("properties.delivery_tag", "the-same"),
    "an unknown header": ("headers.is_eager", True),
    "a header over a method": ("headers.update", 5),
    "a header over the request": ("headers.properties", {"a": 1}),
    "language unknown": ("headers.lang", ["cobol"]),
    "result not wanted": ("headers.ignore_result", True),
    "a stamp": ("headers.stamped_headers", ["x"]),
    "an unknown member": ("more", {"a": [1]}),
}


def _changing(path: str, value: Any) -> Hostile:
    return lambda target: target.changed(path, value)


def _around(parts: Callable[[dict[str, Any]], list[Any]]) -> Hostile:
    return lambda target: target.changed("body", json.dumps(parts(target.kwargs)))


def _asking(kwargs: dict[str, Any]) -> Hostile:
    return lambda target: target.with_kwargs(**kwargs)


#: What is no message of Celery's protocol 2, or asks for what uqueue does not do.
ILL_FORMED: dict[str, Hostile] = {
    **TEXTS,
    **{name: _changing(*change) for name, change in CHANGES.items()},
    **{f"body: {name}": _around(parts) for name, parts in BODIES.items()},
}
#: Proper messages that are none of this service's business.
STRANGERS: dict[str, Hostile] = {
    **{f"task {name!r}": _changing("headers.task", name) for name in TASKS},
    "task of another queue": lambda target: target.changed("headers.task", target.other_task),
    "5 MB of body": lambda target: target.with_kwargs(model="x" * 5_000_000),
}
#: No worker takes these for a job.
HOSTILE: dict[str, Hostile] = {**ILL_FORMED, **STRANGERS}
#: Predictions that fail.
FAILING: dict[str, Hostile] = {name: _asking(kwargs) for name, kwargs in BAD_JOBS.items()}
#: Jobs that are answered.
ANSWERED: dict[str, Hostile] = {name: _changing(*change) for name, change in HARMLESS.items()}

_OTHER_TYPES: tuple[Any, ...] = (None, True, 0, -1, 2**70, 1e300, "", "x", "\0", [], [1], {}, {"a": 1}, [[]], "9" * 400)


def mutations(seed: int, count: int, queue: str) -> Iterator[bytes]:
    """Yield good messages with random damage; the same seed gives the same messages."""
    rng = random.Random(seed)
    for _ in range(count):
        target = Target(queue, job_id=str(uuid.UUID(int=rng.getrandbits(128), version=4)))
        yield rng.choice((_flipped, _cut, _patched, _dropped, _retyped, _exchanged, _damaged_body))(rng, target)


def _flipped(rng: random.Random, target: Target) -> bytes:
    message = bytearray(target.good())
    for _ in range(rng.randint(1, 8)):
        message[rng.randrange(len(message))] = rng.randrange(256)
    return bytes(message)


def _cut(rng: random.Random, target: Target) -> bytes:
    message = target.good()
    start, end = sorted(rng.sample(range(len(message)), 2))
    return message[:start] + message[end:]


def _patched(rng: random.Random, target: Target) -> bytes:
    """Insert or repeat a stretch of the message somewhere."""
    message = target.good()
    start, end, place = (rng.randrange(len(message)) for _ in range(3))
    stretch = message[start:end] if rng.random() < 0.5 else rng.randbytes(rng.randint(1, 30))
    return message[:place] + stretch + message[place:]


def _members(value: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) below a JSON value."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [pair for key in keys for pair in [(value, key), *_members(value[key])]]


def _dropped(rng: random.Random, target: Target) -> bytes:
    envelope = target.envelope()
    owner, key = rng.choice(_members(envelope))
    del owner[key]
    return as_bytes(envelope)


def _retyped(rng: random.Random, target: Target) -> bytes:
    envelope = target.envelope()
    for _ in range(rng.randint(1, 3)):
        owner, key = rng.choice(_members(envelope))
        owner[key] = copy.deepcopy(rng.choice(_OTHER_TYPES))
    return as_bytes(envelope)


def _exchanged(rng: random.Random, target: Target) -> bytes:
    """Exchange the values of two members, unless one lies in the other."""
    envelope = target.envelope()
    parts = [pair for part in ("headers", "properties") for pair in _members(envelope[part])]
    leaves = [(owner, key) for owner, key in parts if not isinstance(owner[key], dict)]
    (one, a), (other, b) = rng.sample(leaves, 2)
    one[a], other[b] = other[b], one[a]
    return as_bytes(envelope)


def _damaged_body(rng: random.Random, target: Target) -> bytes:
    body = json.loads(target.envelope()["body"])
    for _ in range(rng.randint(1, 3)):
        owner, key = rng.choice(_members(body))
        owner[key] = copy.deepcopy(rng.choice(_OTHER_TYPES))
    return target.changed("body", json.dumps(body))
