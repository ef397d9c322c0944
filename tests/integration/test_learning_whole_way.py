"""The whole way with nothing replaced: a model file, feedback, strategy, PostgreSQL, crafting, the simulator, an Avro
file, a reader that knows nothing of us, retraining, evaluation."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders.feedback import MISCLASSIFIED
from builders.learning_runs import label_of
from builders.learning_scenarios import a_generator
from builders.learning_world import a_crafter, a_manager, a_pool, trained
from builders.postgres import migrated_database, postgres_server
from uqueue_worker.learning.avro import read_samples
from uqueue_worker.learning.errors import RepositoryUnavailable
from uqueue_worker.learning.manager import ActiveLearningManager
from uqueue_worker.learning.repository.connection import Database
from uqueue_worker.learning.repository.embedded import EmbeddedPostgres
from uqueue_worker.learning.repository.postgres import PostgresScenarioRepository

SPOT = {
    "weakness_id": "w1",
    "type": "misclassified_region",
    "priority": 0.5,
    "sensor_id": MISCLASSIFIED["sensor_id"],
    "raw_sample_id": "a",
    "details": {name: MISCLASSIFIED[name] for name in ("original_scenario_id", "sample_features_summary")},
}
READER = """
import collections, json, sys
import fastavro
with open(sys.argv[1], "rb") as file:
    labels = collections.Counter(one["extracted_class_label"] for one in fastavro.reader(file))
assert not [name for name in sys.modules if name.startswith("uqueue")]
print(json.dumps(labels))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with postgres_server() as running:
        yield running


def test_from_a_model_file_to_one_that_misses_less_of_the_weakest_class(
    server: EmbeddedPostgres, tmp_path: Path
) -> None:
    pool = a_pool(tmp_path)
    with migrated_database(server) as dsn, Database(dsn) as database:
        repository = PostgresScenarioRepository(database, **a_crafter())
        manager = a_manager(pool, repository, tmp_path)
        spots = manager.identify_weak_spots(pool.feedback)
        lost = spots[0].model_copy(update={"details": {**spots[0].details, "original_scenario_id": "gone"}})
        path = manager.generate_targeted_samples([lost, *spots[1:]], 4, output_format="avro")
        assert isinstance(path, str)
        crafted = repository.get_stored(f"alm_crafted_{lost.weakness_id}")
        assert crafted is not None
        assert crafted.origin["crafter"] == "template"
        assert crafted.weak_spot_ids == (lost.weakness_id,)
        for one in read_samples(path):
            told = one["sample_metadata"]
            assert repository.get_version(told["scenario_definition_id"], told["scenario_version"]) is not None
    asked = [sys.executable, "-I", "-c", READER, path]
    foreign = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
    assert sum(foreign.values()) == len(read_samples(path))
    new = [{**one, "extracted_class_label": _label(one)} for one in read_samples(path)]
    manifest = trained(tmp_path, [*pool.known, *new], parent="1")
    after = pool.model.get_model_performance_feedback(
        evaluation_dataset=pool.samples, model_version_tag=manifest.version
    )
    assert after.model_version_evaluated != pool.feedback.model_version_evaluated
    assert after.n_samples == pool.feedback.n_samples == 60
    weakest = spots[0].details["true_label"]
    recalls = [one.per_class_metrics[weakest].recall for one in (pool.feedback, after)]
    assert recalls[1] > recalls[0] + 0.1


def test_a_database_that_does_not_answer_ends_it_and_is_no_empty_repository(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        dsn = f"postgresql://nobody@127.0.0.1:{taken.getsockname()[1]}/nothing"
        with Database(dsn, wait_seconds=0.3) as database:
            repository = PostgresScenarioRepository(database, **a_crafter())
            manager = ActiveLearningManager(a_generator(tmp_path), repository, None, None)
            with pytest.raises(RepositoryUnavailable):
                manager.generate_targeted_samples([SPOT], 1)
            with pytest.raises(RepositoryUnavailable):
                manager.suggest_scenario_modifications([SPOT])


def _label(sample: dict[str, Any]) -> str | None:
    return label_of({"labels": sample["ground_truth_labels"]})
