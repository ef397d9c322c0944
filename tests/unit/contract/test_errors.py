"""Errors keep class, message and facts across pickling and the wire."""

from __future__ import annotations

import inspect
import json
import pickle

import pytest

from uqueue_config import errors
from uqueue_config.errors import JobFailed, JobNotFinished, UqueueError, all_errors, by_code, from_wire
from uqueue_config.learning import errors as learning_errors


def test_codes_are_unique_and_every_error_is_in_the_tree() -> None:
    codes = [cls.code for cls in all_errors()]
    assert len(codes) == len(set(codes)) == len(by_code())
    for cls in all_errors():
        assert cls.__name__ in f"{errors.__doc__}{learning_errors.__doc__}"


@pytest.mark.parametrize("cls", list(all_errors()), ids=lambda cls: cls.__name__)
def test_round_trips(cls: type[UqueueError]) -> None:
    names = cls._template().replace("!r", "").split("{")[1:]
    facts = {name.split("}")[0]: "x" for name in names}
    error = cls(**facts)
    assert "{" not in str(error)
    assert inspect.cleandoc(cls.__doc__ or "")
    for copy in (pickle.loads(pickle.dumps(error)), from_wire(json.loads(json.dumps(error.to_wire())))):
        assert type(copy) is cls
        assert str(copy) == str(error)
        assert copy.facts == facts


def test_facts_are_attributes() -> None:
    error = JobNotFinished(job_id="j", state="queued", timeout_seconds=2)
    assert error.job_id == "j"
    assert isinstance(error, TimeoutError)
    with pytest.raises(AttributeError, match="no fact 'nothing'"):
        _ = error.nothing


def test_an_unknown_code_is_a_failed_job() -> None:
    error = from_wire({"code": "from_the_future", "message": "No.", "facts": {"n": 1}})
    assert type(error) is JobFailed
    assert (str(error), error.n) == ("No.", 1)
