"""The scenario repository: what both kinds of it do, each method in a transaction of its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Self
from uuid import uuid4

from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_config.learning.suggestions import CreateScenario, ModifyScenario
from uqueue_worker.learning.errors import ScenarioConflict, ScenarioInvalid, ScenarioNotFound
from uqueue_worker.learning.interfaces import Definition, ScenarioRepositoryInterface
from uqueue_worker.learning.repository import exploration, tags
from uqueue_worker.learning.repository.backend import Backend
from uqueue_worker.learning.repository.calling import Breaker, Calls, Copies, counted
from uqueue_worker.learning.repository.changes import read_modifications
from uqueue_worker.learning.repository.content import behaviour_of, checked, content_hash, definition_of
from uqueue_worker.learning.repository.crafters import FeatureCrafter
from uqueue_worker.learning.repository.filters import MAX_LIMIT, read_filters
from uqueue_worker.learning.repository.identity import derived_id, key_of
from uqueue_worker.learning.repository.naming import counts, focused, renamed, tagged, usable_id
from uqueue_worker.learning.repository.paging import read_request
from uqueue_worker.learning.repository.stored import Change, CraftingRun, ScenarioPage, StoredScenario
from uqueue_worker.learning.repository.suggested import aim_of, created, modified, suggestion_of, with_basis
from uqueue_worker.learning.repository.variation import FocusParameter, sensor_type_of, varied
from uqueue_worker.learning.repository.writing import Writer

_MAX_NAMESAKES = 10_000


class ScenarioRepository(Calls, ScenarioRepositoryInterface):
    """Scenario definitions with their history. Definitions that it returns are immutable; inputs are never changed.

    crafter          makes definitions from features; without one `craft_scenario_from_features` returns None
    focus_parameter  says which parameter a feature depends on, so that variations move it further
    changed_by       goes to the history
    breaker, copies  for a database that fails: see `Calls`

    Look-ups by id find archived scenarios and drafts, too; lists and searches leave them out unless asked.
    """

    def __init__(
        self,
        *,
        crafter: FeatureCrafter | None = None,
        focus_parameter: FocusParameter | None = None,
        changed_by: str | None = None,
        breaker: Breaker | None = None,
        copies: int = 0,
    ) -> None:
        super().__init__(breaker, copies)
        self._crafter = crafter
        self._focus_parameter = focus_parameter
        self._changed_by = changed_by
        self._run = CraftingRun()

    @property
    def crafter(self) -> FeatureCrafter | None:
        """What makes definitions from features, if anything does."""
        return self._crafter

    def in_run(self, run: CraftingRun, crafter: FeatureCrafter | None = None) -> Self:
        """Return this repository as it makes scenarios on behalf of a run, with a crafter of the run's own if one is
        given; the scenarios in it are the same."""
        view = copy.copy(self)
        view._run = run
        view._crafter = crafter or self._crafter
        return view

    def with_copies(self, copies: int) -> Self:
        """Return this repository as it gives what it read again while the database does not answer (see `Calls`)."""
        view = copy.copy(self)
        view._copies = Copies(copies)
        return view

    def get_scenario_by_id(self, scenario_id: str) -> Definition:
        return _definition(self.get_stored(scenario_id))

    def get_stored(self, scenario_id: str) -> StoredScenario | None:
        """Return what is kept of a scenario beyond its definition: origin, weak spots, parent, archived or not."""
        if key_of(scenario_id) is None:
            return None
        return self._read("get", lambda backend: backend.find(scenario_id), scenario_id)

    def get_scenarios_by_category(
        self, category: str, sensor_type: str | None = None, num_to_get: int = 5
    ) -> list[ScenarioDefinition]:
        return self._latest(num_to_get, {"category": category, "sensor_type": sensor_type})

    def get_scenarios_by_class_label(
        self, class_label: str, sensor_type: str | None = None, num_to_get: int = 5
    ) -> list[ScenarioDefinition]:
        return self._latest(num_to_get, {"class_label": class_label, "sensor_type": sensor_type})

    def find_by_weak_spot(self, weakness_id: str) -> list[ScenarioDefinition]:
        """Return the scenarios that were made for a weak spot, the latest update first; drafts are among them."""
        return self._latest(MAX_LIMIT, {"weak_spot_id": weakness_id, "draft": None})

    def create_scenario_variation(
        self,
        base_scenario: Any,
        new_id_suffix: str,
        param_modifications: dict[str, Any],
        sensor_context: dict[str, Any] | None = None,
    ) -> Definition:
        """Store and return a variation of a scenario, or None where it would behave like its base.

        Its id is the base's with the suffix. The same call gives the same variation, which is stored once; another
        run, cycle or index (`in_run`) gives another, whose id then ends with _2, _3, … Raises ScenarioInvalid,
        ScenarioParameterError and UnknownScenarioClass.
        """
        base = definition_of(base_scenario)
        changes = read_modifications(param_modifications)
        kind = sensor_type_of(sensor_context)
        made = varied(base, new_id_suffix, changes, kind, self._run, self._focus_parameter)
        if made is None:
            return None
        origin = {**self._run.origin, **changes.origin, "method": "variation"}
        own_instance = "scenario_instance_id" in changes.fields

        def store(backend: Backend) -> ScenarioDefinition:
            parent = backend.find(base.scenario_definition_id)
            for number in range(1, _MAX_NAMESAKES):
                new_id = derived_id(base.scenario_definition_id, new_id_suffix, number)
                named = renamed(made, new_id, own_instance)
                taken = backend.find(new_id, alone=True)
                if taken is None:
                    told = {"parent": parent and parent.key, "origin": origin, "weak_spot_ids": changes.weak_spot_ids}
                    return self._writer(backend, inserted).insert(named, "variation", **told).definition
                if taken.content_hash == content_hash(named):
                    return taken.definition
            raise ScenarioInvalid(reason=f"there are {_MAX_NAMESAKES} variations of that name already")

        with counted("variation") as inserted:
            return self._write("variation", store)

    def craft_scenario_from_features(
        self,
        features_summary: dict[str, Any],
        base_id: str,
        target_class: str | None = None,
        sensor_type: str | None = None,
    ) -> Definition:
        """Store and return a definition aimed at the features described, or None where no crafter has one.

        One that behaves like a stored scenario is not stored again: that one is returned.
        """
        if self._crafter is None:
            return None
        crafted = self._crafter(
            features_summary=copy.deepcopy(features_summary),
            base_id=base_id,
            target_class=target_class,
            sensor_type=sensor_type,
            repository=self,
        )
        if crafted is None:
            return None
        marked = tagged(crafted.definition, target_class, sensor_type)
        origin = {**self._run.origin, **crafted.origin, "method": "crafting"}
        with counted(str(crafted.origin.get("crafter", "crafting"))) as inserted:
            wanted = checked(marked)
            return self._write("craft", lambda backend: self._once(backend, wanted, origin, base_id, inserted))

    def get_default_exploration_scenario(self, scenario_id: str, sensor_type: str | None = None) -> Definition:
        made = checked(exploration.template(usable_id(scenario_id), sensor_type or None))
        marker = exploration.marker(sensor_type or None)
        origin = {**marker, "method": "exploration"}

        def store(backend: Backend) -> ScenarioDefinition:
            backend.alone(f"exploration/{sensor_type}")
            found = backend.marked(exploration.CATEGORY, marker)
            if found is not None:
                return found.definition
            taken = backend.find(scenario_id, alone=True)
            named = made if taken is None else renamed(made, str(uuid4()))
            return self._writer(backend, inserted).insert(named, "exploration", origin=origin).definition

        with counted("exploration") as inserted:
            return self._write("exploration", store)

    def save_scenario_definition(self, scenario_def: Any) -> str:
        """Insert or replace a definition and return its id, made here if missing.

        Version and time of creation are the repository's; content that is stored already makes no new version. Raises
        ScenarioInvalid, ScenarioParameterError and UnknownScenarioClass.
        """
        if isinstance(scenario_def, Mapping) and not scenario_def.get("scenario_definition_id"):
            scenario_def = {**scenario_def, "scenario_definition_id": str(uuid4())}
        given = definition_of(scenario_def)
        wanted = checked(renamed(given, usable_id(given.scenario_definition_id), own_instance=True))

        def store(backend: Backend) -> str:
            current = backend.find(wanted.scenario_definition_id, alone=True)
            if current is None:
                self._writer(backend, inserted).insert(wanted, "save", origin=self._run.origin)
                return wanted.scenario_definition_id
            return (
                self._writer(backend)
                .replace(current, wanted, Change("update", "save"))
                .definition.scenario_definition_id
            )

        with counted("save") as inserted:
            return self._write("save", store)

    def update_scenario_definition(
        self, scenario_def_id: str, updates: dict[str, Any], expected_version: int | None = None
    ) -> bool:
        """Change some fields, in the keys of a variation (`specific_params` merges); False for an unknown id.

        Raises ScenarioConflict if it is at another version than expected; without one the last writer wins.
        """
        changes = read_modifications(updates, provenance=False)
        if expected_version is not None and not counts(expected_version):
            raise ScenarioInvalid(reason="expected_version: expected a whole number from 1")

        def store(backend: Backend) -> bool:
            current = backend.find(scenario_def_id, alone=True)
            if current is None:
                return False
            if expected_version not in (None, current.definition.version):
                found = current.definition.version
                raise ScenarioConflict(scenario_id=scenario_def_id, found=found, expected=expected_version)
            wanted = checked(changes.applied_to(current.definition))
            self._writer(backend).replace(current, wanted, Change("update", "update"), revive=False)
            return True

        return key_of(scenario_def_id) is not None and self._write("update", store)

    def search(
        self,
        query: str | None = None,
        filters: Any = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ScenarioPage:
        """Return a page of the scenarios that fulfil the filters (`Filters`), the latest update first.

        With a query the best come first, among the latest 1,000 that match it; `ScenarioPage` says if there are more.
        """
        request = read_request(read_filters(filters), query, limit, cursor)
        asked = (request.filters.model_dump_json(), request.query, limit, cursor)
        rows = self._read("search", lambda backend: backend.page(request), asked)
        more = rows[request.limit - 1][1].to_cursor() if len(rows) > request.limit else None
        places = [position for _, position in rows] + ([request.after] if request.after else [])
        shown = tuple(stored.definition for stored, _ in rows[: request.limit])
        return ScenarioPage(shown, more, all(position.ranked_all for position in places))

    def get_history(self, scenario_id: str) -> list[dict[str, Any]]:
        """Return all versions, the oldest first: version, operation, changed_at, changed_by, reason, weak_spot_ids and
        snapshot, whose `definition` holds the fifteen fields; [] for an unknown id."""

        def read(backend: Backend) -> list[dict[str, Any]]:
            found = backend.find(scenario_id)
            return [] if found is None else backend.history(found.key)

        return [] if key_of(scenario_id) is None else copy.deepcopy(self._read("history", read, scenario_id))

    def get_version(self, scenario_id: str, version: int) -> Definition:
        if key_of(scenario_id) is None or not counts(version):
            return None
        asked = (scenario_id, version)
        return self._read("version", lambda backend: _version(backend, backend.find(scenario_id), version), asked)

    def restore_version(self, scenario_id: str, version: int) -> Definition:
        """Make an earlier version's content the latest one, archived or not; None if there is no such version."""

        def store(backend: Backend) -> Definition:
            current = backend.find(scenario_id, alone=True)
            earlier = _version(backend, current, version)
            if current is None or earlier is None:
                return None
            change = Change("restore", f"version {version}")
            return self._writer(backend).replace(current, checked(earlier), change).definition

        return self._write("restore", store) if key_of(scenario_id) is not None and counts(version) else None

    def archive(self, scenario_id: str) -> bool:
        """Take a scenario out of lists and searches; it stays readable by its id. False for an unknown id."""

        def store(backend: Backend) -> bool:
            current = backend.find(scenario_id, alone=True)
            if current is not None and current.archived_at is None:
                gone = replace(current, archived_at=datetime.now(UTC))
                self._writer(backend).put(gone, current, Change("archive", "archive", current.weak_spot_ids))
            return current is not None

        return key_of(scenario_id) is not None and self._write("archive", store)

    def promote(self, scenario_id: str) -> bool:
        """Offer a draft to others: somebody approved it. False for an unknown id."""

        def store(backend: Backend) -> bool:
            current = backend.find(scenario_id, alone=True)
            if current is not None and current.draft:
                origin = {name: value for name, value in current.origin.items() if name != "draft"}
                approved = replace(current, origin=origin)
                self._writer(backend).put(approved, current, Change("update", "promote", current.weak_spot_ids))
            return current is not None

        return key_of(scenario_id) is not None and self._write("promote", store)

    def apply(self, suggestion: ModifyScenario | CreateScenario | dict[str, Any]) -> Definition:
        """Do what a suggestion says and return the scenario that it changed or made; a second time changes nothing.

        A scenario that is to be made is crafted if there is a crafter; without one it is a draft without a family.
        Raises ScenarioNotFound for one that is to be modified and is not there; ScenarioInvalid.
        """
        asked = suggestion_of(suggestion)
        if asked.state == "rejected":
            raise ScenarioInvalid(reason=f"suggestion {asked.suggestion_id} was rejected")
        return self._modify(asked) if isinstance(asked, ModifyScenario) else self._create(asked)

    def _modify(self, suggestion: ModifyScenario) -> ScenarioDefinition:
        target = suggestion.target_scenario_definition_id
        spots = suggestion.originating_weak_spot_ids

        def store(backend: Backend) -> ScenarioDefinition:
            current = backend.find(target, alone=True) if key_of(target) is not None else None
            if current is None:
                raise ScenarioNotFound(scenario_id=target)
            done = list(current.origin.get("suggestions", ()))
            if suggestion.suggestion_id in done:
                return current.definition
            wanted = checked(modified(current.definition, suggestion, self._run))
            known = replace(
                current,
                origin={**current.origin, "suggestions": [*done, suggestion.suggestion_id]},
                weak_spot_ids=tuple(tags.joined(current.weak_spot_ids, spots)),
            )
            change = Change("update", f"suggestion {suggestion.suggestion_id}", spots)
            return self._writer(backend).replace(known, wanted, change, always=True).definition

        return self._write("apply", store)

    def _create(self, suggestion: CreateScenario) -> ScenarioDefinition:
        draft = created(suggestion)
        found = self.get_scenario_by_id(draft.scenario_definition_id)
        if found is not None:
            return found
        told = {**self._run.origin, "method": "suggestion", "suggestions": [suggestion.suggestion_id]}
        spots = suggestion.originating_weak_spot_ids
        aim = aim_of(suggestion)
        crafted = self._crafter(**aim, base_id=draft.scenario_definition_id, repository=self) if self._crafter else None
        if crafted is not None:
            draft, told = with_basis(crafted.definition, suggestion), {**told, **crafted.origin}
        wanted = checked(renamed(draft, usable_id(draft.scenario_definition_id)))

        def store(backend: Backend) -> ScenarioDefinition:
            taken = backend.find(wanted.scenario_definition_id, alone=True)
            if taken is not None:
                return taken.definition
            return (
                self._writer(backend, inserted)
                .insert(wanted, "suggestion", origin=told, weak_spot_ids=spots)
                .definition
            )

        with counted("suggestion") as inserted:
            return self._write("apply", store)

    def _once(
        self,
        backend: Backend,
        wanted: ScenarioDefinition,
        origin: dict[str, Any],
        base_id: str,
        inserted: list[str],
    ) -> ScenarioDefinition:
        """Store what was crafted, unless a scenario that does the same is there."""
        backend.alone(f"behaviour/{behaviour_of(wanted)}")
        alike = backend.alike(behaviour_of(wanted))
        if alike is not None:
            return alike.definition
        for number in range(1, _MAX_NAMESAKES):
            named = renamed(wanted, derived_id(usable_id(base_id), "", number))
            if backend.find(named.scenario_definition_id, alone=True) is None:
                spots = focused(wanted)
                return (
                    self._writer(backend, inserted)
                    .insert(named, "crafting", origin=origin, weak_spot_ids=spots)
                    .definition
                )
        raise ScenarioInvalid(reason=f"there are {_MAX_NAMESAKES} scenarios of that name already")

    def _latest(self, num_to_get: int, asked: dict[str, Any]) -> list[ScenarioDefinition]:
        if isinstance(num_to_get, bool) or not isinstance(num_to_get, int) or num_to_get < 0:
            raise ScenarioInvalid(reason="num_to_get: expected a whole number from 0")
        filters = read_filters({name: value for name, value in asked.items() if value != "" or name == "category"})
        limit = min(num_to_get, MAX_LIMIT)
        found = self._read("list", lambda backend: backend.latest(filters, limit), (filters.model_dump_json(), limit))
        return [stored.definition for stored in found]

    def _writer(self, backend: Backend, inserted: list[str] | None = None) -> Writer:
        return Writer(backend, self._changed_by, inserted)


def _definition(stored: StoredScenario | None) -> Definition:
    return None if stored is None else stored.definition


def _version(backend: Backend, found: StoredScenario | None, version: int) -> Definition:
    if found is None or found.definition.version == version:
        return _definition(found)
    snapshot = backend.version(found.key, version)
    return None if snapshot is None else ScenarioDefinition.read(snapshot["definition"])
