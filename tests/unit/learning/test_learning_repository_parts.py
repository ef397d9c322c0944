"""The pure parts of the repositories: ids, hashes, modifications, terms, comparing JSON values."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.scenario_rows import a_definition
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.breaker import BreakerRules, CircuitBreaker
from uqueue_worker.learning.errors import CircuitOpen, RepositoryUnavailable, ScenarioConflict, ScenarioInvalid
from uqueue_worker.learning.observability.metrics import metrics
from uqueue_worker.learning.repository import MemoryScenarioRepository, open_database
from uqueue_worker.learning.repository.changes import read_modifications
from uqueue_worker.learning.repository.content import behaviour_of, checked, content_hash, storable
from uqueue_worker.learning.repository.identity import derived_id, key_of
from uqueue_worker.learning.repository.jsonvalues import contains, same
from uqueue_worker.learning.repository.stored import CraftingRun
from uqueue_worker.learning.repository.terms import Term, alternatives
from uqueue_worker.learning.repository.variation import varied

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.floats(-5, 5) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)


def read(**changes: Any) -> ScenarioDefinition:
    return ScenarioDefinition.read(a_definition(**changes))


def test_ids_and_keys() -> None:
    text = "6F9619FF-8B86-D011-B42D-00C04FC964FF"
    assert key_of(text) == UUID(text)
    assert key_of("scenario_heat_event") == key_of("scenario_heat_event") != key_of("scenario_heat_event2")
    assert key_of("{6f9619ff-8b86-d011-b42d-00c04fc964ff}").version == 5
    assert [key_of(wrong) for wrong in ("", "a" * 501, "a\x00", "\ud800", None, 1)] == [None] * 6
    assert (derived_id("a", "_v"), derived_id("a", "_v", 3)) == ("a_v", "a_v_3")
    assert len(derived_id("a" * 490, "b" * 20)) == 36


def test_a_content_hash_is_of_what_a_user_sees() -> None:
    base = read()
    assert content_hash(base) == content_hash(read(version=5, creation_timestamp_utc=7))
    assert content_hash(base) == content_hash(base.replace(scenario_definition_id="another"))
    for changed in ({"name": "x"}, {"tags": []}, {"author": None}, {"specific_params_json": {}}):
        assert content_hash(read(**changed)) != content_hash(base)
    assert behaviour_of(read(specific_params_json={"emf_strength_v_m": 50})) == behaviour_of(
        read(specific_params_json={})
    )


@given(JSON)
def test_stored_values_come_back_through_decimal_notation(value: Any) -> None:
    kept = storable(value)
    assert same(kept, value)
    assert json.loads(json.dumps(kept), parse_float=float) == kept


@given(JSON, JSON)
def test_containing_is_reflexive_and_agrees_with_equality(one: Any, other: Any) -> None:
    assert contains(one, one)
    assert same(one, other) is same(other, one)
    if same(one, other):
        assert contains(one, other)


@pytest.mark.parametrize(
    ("holder", "part", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [{"c": 2}]}}, True),
        ([1, 2], [2, 1, 1], True),
        ([1, 2], 1, False),
        ("ab", "a", False),
        ({}, [], False),
        ([[1, 2]], [[1]], True),
    ],
)
def test_containing_is_that_of_jsonb(holder: Any, part: Any, expected: bool) -> None:
    assert contains(holder, part) is expected


def test_modifications_merge_nest_and_name_all_that_is_wrong() -> None:
    asked = {
        "specific_params": {"a": {"x": 1}, "list": [1]},
        "specific_params.b.c": 2,
        "name": "New",
        "alm_focus_feature": "some.feature",
    }
    changes = read_modifications(asked)
    base = ScenarioDefinition.read(
        {"scenario_definition_id": "s", "name": "n", "specific_params_json": {"a": {"x": 0, "y": 0}, "list": [1, 2]}}
    )
    changed = changes.applied_to(base)
    assert changed.specific_params == {"a": {"x": 1, "y": 0}, "list": [1], "b": {"c": 2}}
    assert (changed.name, base.name) == ("New", "n")
    assert changes.explicit() == ["a.x", "list", "b.c"]
    assert changes.origin == {"focus_feature": "some.feature"}
    with pytest.raises(ScenarioInvalid, match=r"other: .*; version: .*; alm_focus_feature: expected text"):
        read_modifications({"other": 1, "version": 2, "alm_focus_feature": ""})
    with pytest.raises(ScenarioInvalid, match=r"specific_params\.list: has no parts"):
        read_modifications({"specific_params.list.x": 1}).applied_to(base)


def test_the_parameter_in_focus_moves_twice_as_far() -> None:
    path = "environment.relative_humidity_percent"
    base = read(specific_params_json={"environment": {"relative_humidity_percent": 55}})

    def humidity(focus: str | None, parameter: str | None = None) -> float:
        changes = read_modifications({"alm_focus_feature": focus} if focus else {})
        made = varied(base, "_v", changes, None, CraftingRun(seed=3), lambda feature, scenario: parameter)
        return made.specific_params["environment"]["relative_humidity_percent"] - 55

    assert humidity(path) == pytest.approx(2 * humidity(None))
    assert humidity("sensor.x", path) == pytest.approx(2 * humidity(None))
    assert humidity("sensor.x") == pytest.approx(humidity(None))


def test_checking_tags_a_class_only_where_none_is_named() -> None:
    assert checked(read(tags=[])).tags == ("class_corona_discharge",)
    assert checked(read(tags=["target_class_X"])).tags == ("target_class_X",)


def test_queries_are_taken_apart() -> None:
    found = alternatives('humid "fire_Precursor now" -wind OR arc -- "" !')
    assert found == [
        [Term(("humid",)), Term(("fire", "precursor", "now")), Term(("wind",), negated=True)],
        [Term(("arc",))],
    ]
    assert alternatives("or - ''") == []


class Failing(MemoryScenarioRepository):
    """A repository whose database can be down."""

    down = False

    def _reading(self, work: Any) -> Any:
        return super()._reading(self._up(work))

    def _writing(self, work: Any) -> Any:
        return super()._writing(self._up(work))

    def _up(self, work: Any) -> Any:
        if self.down:
            raise RepositoryUnavailable(reason="it is down")
        return work


def test_while_the_database_is_down_copies_are_read_and_nothing_is_written(caplog: pytest.LogCaptureFixture) -> None:
    repository = Failing(copies=2)
    repository.save_scenario_definition(a_definition())
    known = repository.get_scenario_by_id("corona-1")
    listed = repository.get_scenarios_by_class_label("corona_discharge")
    repository.down = True
    assert repository.get_scenario_by_id("corona-1") == known
    assert repository.get_scenarios_by_class_label("corona_discharge") == listed == [known]
    assert "answered from a copy" in caplog.text
    for work in (
        lambda: repository.get_scenario_by_id("never read"),
        lambda: repository.get_scenarios_by_class_label("corona_discharge", num_to_get=1),
        lambda: repository.search(),
        lambda: repository.get_history("corona-1"),
        lambda: repository.save_scenario_definition(a_definition("other")),
        lambda: repository.update_scenario_definition("corona-1", {"name": "x"}),
    ):
        with pytest.raises(RepositoryUnavailable):
            work()
    repository.down = False
    repository.save_scenario_definition(a_definition("one more"))
    repository.get_scenario_by_id("one more")
    repository.down = True
    with pytest.raises(RepositoryUnavailable):  # two are kept, and this was read before both
        repository.get_scenario_by_id("corona-1")


def test_every_kind_of_look_up_is_answered_from_a_copy_and_what_was_not_there_is_not() -> None:
    repository = Failing(copies=10)
    repository.save_scenario_definition(a_definition())
    repository.update_scenario_definition("corona-1", {"name": "Second"})
    asked = {
        "search": lambda: repository.search(
            "corona", {"parameters": [{"path": "wind", "op": "exists", "value": False}]}
        ),
        "history": lambda: repository.get_history("corona-1"),
        "version": lambda: repository.get_version("corona-1", 1),
    }
    before = {name: work() for name, work in asked.items()}
    before_changed = before["history"][0].pop("reason")
    assert repository.get_scenario_by_id("later") is None
    repository.down = True
    assert asked["search"]() == before["search"]
    assert asked["version"]() == before["version"]
    assert asked["history"]()[0]["reason"] == before_changed  # nobody changes the copy
    with pytest.raises(RepositoryUnavailable):
        repository.get_scenario_by_id("later")


def test_copies_are_of_so_many_scenarios_and_belong_to_one_view() -> None:
    repository = Failing()
    view = repository.with_copies(3)
    for number in range(4):
        repository.save_scenario_definition(a_definition(f"s{number}", name=f"Number {number}"))
    assert len(view.search().scenarios) == 4  # more than may be kept
    assert len(view.get_scenarios_by_category("electrical_fault", num_to_get=2)) == 2
    view.get_scenario_by_id("s0")
    for _ in range(2):
        view.get_scenario_by_id("s1")
    repository.down = view.down = True
    assert [view.get_scenario_by_id(name).name for name in ("s0", "s1")] == ["Number 0", "Number 1"]
    for work in (
        view.search,
        lambda: view.get_scenarios_by_category("electrical_fault", num_to_get=2),
        lambda: repository.get_scenario_by_id("s0"),
    ):
        with pytest.raises(RepositoryUnavailable):
            work()


def test_a_breaker_keeps_calls_from_a_database_that_fails() -> None:
    now = [0.0]
    breaker = CircuitBreaker("repository_test", rules=BreakerRules(failures_in_a_row=2), clock=lambda: now[0])
    repository = Failing(breaker=breaker)
    repository.save_scenario_definition(a_definition())
    for _ in range(3):  # what is refused says that somebody answered
        with pytest.raises(ScenarioConflict):
            repository.update_scenario_definition("corona-1", {"name": "x"}, expected_version=9)
    repository.down = True
    for expected in (RepositoryUnavailable, RepositoryUnavailable, CircuitOpen):
        with pytest.raises(expected):
            repository.get_scenario_by_id("corona-1")
    repository.down = False
    now[0] = 31.0
    assert repository.get_scenario_by_id("corona-1") is not None


def test_calls_and_new_scenarios_are_counted() -> None:
    def figures() -> dict[str, float]:
        lines = metrics().text().decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    before = figures()
    repository = Failing()
    repository.create_scenario_variation(read(), "_v", {})
    repository.create_scenario_variation(read(), "_v", {})
    repository.down = True
    with pytest.raises(RepositoryUnavailable):
        repository.create_scenario_variation(read(), "_v", {})
    after = figures()

    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert grown('alm_scenarios_created_total{method="variation",outcome="stored"}') == 1
    assert grown('alm_scenarios_created_total{method="variation",outcome="failed"}') == 1
    assert grown('alm_repository_seconds_count{op="variation",outcome="ok"}') == 2
    assert grown('alm_repository_seconds_count{op="variation",outcome="failed"}') == 1


def test_the_driver_is_loaded_on_use_and_its_absence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys; import uqueue_worker.learning.repository as r; r.MemoryScenarioRepository(); "
        "print([name for name in ('psycopg', 'psycopg_pool', 'celery', 'redis') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
    monkeypatch.setitem(sys.modules, "uqueue_worker.learning.repository.connection", None)
    with pytest.raises(RepositoryUnavailable, match=r'pip install "uqueue\[worker,learning\]"'):
        open_database("postgresql://x/y")
