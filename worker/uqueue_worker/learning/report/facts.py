"""The eighth part: everything that somebody needs to do the same again."""

from __future__ import annotations

from collections.abc import Iterator

from uqueue_worker.learning.report.data import ReportData
from uqueue_worker.learning.report.markup import Html, element, folded, table


def facts(data: ReportData) -> Html:
    """Return the section of versions, seeds, fingerprints and commands."""
    parts: list[Html | None] = [
        element("h2", "Doing it again", id="facts"),
        *(element("pre", element("code", command)) for command in data.commands),
        _pairs(data),
        folded("Data sets", table("Data sets and their fingerprints", _DATA_HEAD, list(_datasets(data)))),
        folded("Cycles", table("Seeds, models and promotions", _CYCLE_HEAD, list(_cycles(data)))),
        folded("Configuration", element("pre", element("code", data.run.config.model_dump_json(indent=1)))),
    ]
    return element("section", *parts, aria_labelledby="facts")


_DATA_HEAD = ("name", "role", "cycle", "samples", "content (SHA-256)", "file (SHA-256)", "schema")
_CYCLE_HEAD = ("cycle", "state", "model before", "candidate", "promoted", "because", "seeds")


def _pairs(data: ReportData) -> Html:
    versions = next((cycle.code_versions for cycle in reversed(data.cycles) if cycle.code_versions), {})
    rows = [
        ("Run", data.run.run_id),
        *((("Continues run", data.run.config.continues),) if data.run.config.continues else ()),
        ("Configuration (SHA-256)", data.run.config_hash),
        ("Random seed", data.run.config.random_seed),
        ("Started", data.run.created_at_utc.isoformat(timespec="seconds")),
        *((f"{name}", version) for name, version in versions.items()),
        *((name, value) for name, value in data.machine.items()),
    ]
    return element(
        "dl", *(element("div", element("dt", name), element("dd", value)) for name, value in rows), class_="facts"
    )


def _datasets(data: ReportData) -> Iterator[list[object]]:
    for one in (*data.run.datasets, *data.field_sets):
        cycle = "–" if one.cycle is None else one.cycle + 1
        shas = (_sha(one.content_sha256), _sha(one.ref.sha256))
        yield [one.name, one.role, cycle, one.ref.n, *shas, element("code", one.ref.schema_fingerprint)]


def _cycles(data: ReportData) -> Iterator[list[object]]:
    for cycle in data.cycles:
        seeds = ", ".join(f"{name} {seed}" for name, seed in cycle.seeds.items())
        yield [
            cycle.cycle + 1,
            cycle.state,
            cycle.model_before.version if cycle.model_before else "–",
            cycle.candidate.version if cycle.candidate else "–",
            {True: "yes", False: "no", None: "–"}[cycle.promoted],
            cycle.promotion_reason or "–",
            element("code", seeds or "–"),
        ]


def _sha(digest: str) -> Html:
    return element("code", f"{digest[:16]}…", title=digest)
