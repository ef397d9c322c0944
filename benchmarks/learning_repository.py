"""How long the scenario repository takes on a PostgreSQL with 50,000 scenarios.

    python benchmarks/learning_repository.py [--quick] [--folder FOLDER]

Medians and 95th percentiles of whole calls, one after the other: the query, its rows as checked definitions, the
transaction around them. `writers` is 32 threads that change one scenario, each until its change is in.
"""

from __future__ import annotations

import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from builders.many_scenarios import COUNT, RARE_LABEL, RARE_SITE, RARE_WORD, WORDS, load_many
from builders.scenario_rows import a_definition
from contenders import installed_version
from part import measure_part, parser, say
from uqueue_worker.learning.errors import ScenarioConflict
from uqueue_worker.learning.repository import ScenarioRepository, migrate, open_database, postgres_repository
from uqueue_worker.learning.repository.embedded import start_postgres

WRITERS = 32


def queries(repository: ScenarioRepository) -> dict[str, Callable[[], Any]]:
    """Return what is measured, by what it asks for."""

    def compared(operator: str, value: Any, path: str = "emf_strength_v_m") -> Callable[[], Any]:
        asked = {"parameters": [{"path": path, "op": operator, "value": value}]}
        return lambda: repository.search(filters=asked)

    half, eighth = ({"parameters": [{"path": "emf_strength_v_m", "op": "ge", "value": value}]} for value in (50, 88))
    second = repository.search("humid").cursor
    behind = second
    for _ in range(6):
        behind = repository.search("humid", limit=500, cursor=behind).cursor
    return {
        "by id": lambda: repository.get_scenario_by_id("bulk-777"),
        "5 of a class, rare": lambda: repository.get_scenarios_by_class_label(RARE_LABEL),
        "5 of a class, a fifth of all": lambda: repository.get_scenarios_by_class_label("FIRE", "EMFSensor"),
        "5 of a category": lambda: repository.get_scenarios_by_category("category_7"),
        "word that 50 have": lambda: repository.search(RARE_WORD),
        "three words, 50 candidates": lambda: repository.search(f"{RARE_WORD} humid -street"),
        "word that a quarter of all have": lambda: repository.search("humid"),
        "word that all have": lambda: repository.search("scenario"),
        "two words of a quarter each": lambda: repository.search("humid early"),
        "phrase of two such words, 256": lambda: repository.search('"early humid"'),
        "phrase that a fifth have": lambda: repository.search("class_FIRE"),
        "phrase of words of all, none": lambda: repository.search('"conditions scenario"'),
        "one or the other of two words": lambda: repository.search("humid or early"),
        "a word without another": lambda: repository.search("humid -early"),
        "without a word that all have": lambda: repository.search("-scenario"),
        "common word, half of a parameter": lambda: repository.search("humid", half),
        "word of all, half of a parameter": lambda: repository.search("scenario", half),
        "word of all, 6,000 of a parameter": lambda: repository.search("scenario", eighth),
        "word of all, filter that none fulfil": lambda: repository.search("scenario", {"author": "nobody"}),
        "common word, page 2": lambda: repository.search("humid", cursor=second),
        "common word, 3,000 behind": lambda: repository.search("humid", cursor=behind),
        "14 words, one or another": lambda: repository.search(" or ".join(WORDS)),
        "tag that 50 have": lambda: repository.search(filters={"tags": [f"class_{RARE_LABEL}"]}),
        "two tags": lambda: repository.search(filters={"tags": ["class_FIRE", "batch_7"]}),
        "parameter equal, 50 have it": compared("eq", RARE_SITE, "site"),
        "parameters contain, 50 do": lambda: repository.search(filters={"contains": {"site": RARE_SITE}}),
        "parameter above, 50 are": compared("ge", 99.9),
        "parameter above, half are": compared("ge", 50),
        "weak spot": lambda: repository.find_by_weak_spot("ws_77"),
        "latest page of 50": lambda: repository.search(),
    }


def measure(quick: bool) -> dict[str, Any]:
    repetitions = 20 if quick else 200
    with start_postgres() as server, open_database(server.dsn) as database:
        migrate(server.dsn)
        say(f"loading {COUNT} scenarios")
        load_many(database)
        repository = postgres_repository(database)
        found = {name: _timed(work, repetitions) for name, work in queries(repository).items()}
        version = database.read(lambda connection: connection.execute("show server_version").fetchone())
        return {
            "machine": {
                "cpu": _processor(),
                "system": platform.platform(),
                "python": platform.python_version(),
                "postgresql": version["server_version"] if version else "",
                "psycopg": installed_version("psycopg"),
            },
            "scenarios": COUNT,
            "repetitions": repetitions,
            "milliseconds": found,
            "update_milliseconds": _timed(_update(repository), repetitions),
            "writers": _writers(repository),
        }


def _timed(work: Callable[[], Any], repetitions: int) -> dict[str, float]:
    work()
    taken = []
    for _ in range(repetitions):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1000)
    return {"median": round(statistics.median(taken), 2), "p95": round(statistics.quantiles(taken, n=20)[-1], 2)}


def _update(repository: ScenarioRepository) -> Callable[[], Any]:
    repository.save_scenario_definition(a_definition())
    names = iter(range(10**6))
    return lambda: repository.update_scenario_definition("corona-1", {"name": f"Name {next(names)}"})


def _writers(repository: ScenarioRepository) -> dict[str, Any]:
    repository.save_scenario_definition(a_definition("shared", tags=["class_x"]))
    conflicts: list[int] = []

    def add(number: int) -> None:
        while True:
            current = repository.get_scenario_by_id("shared")
            assert current is not None
            try:
                tags = [*current.tags, f"writer_{number}"]
                repository.update_scenario_definition("shared", {"tags": tags}, expected_version=current.version)
                return
            except ScenarioConflict:
                conflicts.append(number)

    started = time.perf_counter()
    threads = [threading.Thread(target=add, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    versions = [entry["version"] for entry in repository.get_history("shared")]
    final = repository.get_scenario_by_id("shared")
    return {
        "threads": WRITERS,
        "seconds": round(seconds, 2),
        "conflicts": len(conflicts),
        "lost_updates": WRITERS - sum(tag.startswith("writer_") for tag in final.tags) if final else WRITERS,
        "history_gapless": versions == list(range(1, WRITERS + 2)),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def text(found: dict[str, Any]) -> str:
    """Return the figures as lines for a terminal."""
    about = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    rows = [f"{name:38} {one['median']:8.2f} {one['p95']:8.2f}" for name, one in found["milliseconds"].items()]
    update, writers = found["update_milliseconds"], found["writers"]
    return "\n".join(
        [
            about,
            f"{found['scenarios']} scenarios, {found['repetitions']} calls each",
            f"{'milliseconds':38} {'median':>8} {'p95':>8}",
            *rows,
            f"{'an update, waiting for the disk':38} {update['median']:8.2f} {update['p95']:8.2f}",
            f"{writers['threads']} writers to one scenario: {writers['seconds']} s, {writers['conflicts']} conflicts, "
            f"{writers['lost_updates']} lost, history {'gapless' if writers['history_gapless'] else 'WITH GAPS'}",
        ]
    )


def main() -> None:
    given = parser(__doc__ or "").parse_args()

    def measured() -> dict[str, Any]:
        found = measure(given.quick)
        print(text(found))
        return found

    measure_part("learning_repository", given, measured)


if __name__ == "__main__":
    main()
