"""The links between weak spots, scenarios and data sets, beside what samples say of themselves."""

from __future__ import annotations

from collections import Counter

from uqueue_config.learning.runs import CycleRecord
from uqueue_worker.learning.engine import Engine
from uqueue_worker.learning.engine.samples import read_registered


def assert_uses_are_those_of_the_samples(engine: Engine, cycle: CycleRecord) -> None:
    """Compare the links of a cycle's data set with what its samples say of themselves, and with the cycle's counts."""
    entry = cycle.dataset
    assert entry is not None
    told = [sample["sample_metadata"] or {} for sample in read_registered(entry.ref)]
    names = ("originating_weak_spot_id", "scenario_definition_id", "scenario_version")
    found = [use for use in engine.store.uses(cycle.run_id) if use.dataset == entry.name]
    counted = {(use.weakness_id, use.scenario.id, use.scenario.version): use.samples for use in found}
    assert len(counted) == len(found)
    assert counted == Counter(tuple(one.get(name) for name in names) for one in told)
    assert sum(counted.values()) == entry.ref.n
    if not entry.name.endswith("_approved"):
        assert entry.ref.n == cycle.samples_generated - cycle.samples_rejected
    for use in found:
        assert use in engine.store.uses_of_scenario(use.scenario.id)
