"""The text of the report: tables of medians, and how they came about."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from contenders import LANE

#: Column of the table of contenders: what it is called, the figure, how it is written.
COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("jobs/s", "jobs_per_second", lambda value: f"{value:,.0f}"),
    ("slowest round", "slowest_jobs_per_second", lambda value: f"{value:,.0f}"),
    ("fastest", "fastest_jobs_per_second", lambda value: f"{value:,.0f}"),
    ("× fastest rival", "times_fastest_rival", lambda value: f"{value:.2f}"),
    ("worker CPU per job", "worker_cpu_us", lambda value: f"{value:,.0f} µs"),
    ("Redis CPU per job", "redis_cpu_us", lambda value: f"{value:,.0f} µs"),
    ("round trip p50", "p50_ms", lambda value: f"{value:.2f} ms"),
    ("p95", "p95_ms", lambda value: f"{value:.2f} ms"),
    ("p99", "p99_ms", lambda value: f"{value:.2f} ms"),
    ("submitted/s", "submitted_per_second", lambda value: f"{value:,.0f}"),
    ("idle CPU", "idle_cpu_percent", lambda value: f"{value:.1f} %"),
)
Row = dict[str, Any]


def page(found: Mapping[str, Any]) -> str:
    """Return the whole page for the parts that were measured."""
    sections = [_head(found)]
    sections += [write(found[name]) for name, write in SECTIONS.items() if name in found]
    return "\n\n".join(sections) + "\n"


def _head(found: Mapping[str, Any]) -> str:
    lines = [
        "# Benchmarks",
        _paragraph("""
            `make bench` measures all of this in one go and writes this page, its pictures and the JSON files beside it.
            `python benchmarks/run.py --parts queues` repeats a part, `--quick` only tries whether it works. Compare
            figures of one run; another day, or another machine, gives others.
        """),
    ]
    if any(part["quick"] for part in found.values()):
        lines.append("**A quick run: these figures show that the benchmark works, and nothing else.**")
    if "machine" in found:
        lines.append(_machine(found["machine"]))
    parts = [
        [name, part["date"].replace("+00:00", " UTC"), f"{part['load_before']:.2f}", f"{part['seconds']} s"]
        for name, part in found.items()
    ]
    lines.append(table(["part", "begun", "load average before", "took"], parts))
    return "\n\n".join(lines)


def _machine(found: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return table(
        ["machine", ""],
        [
            ["processor", f"{found['cpu']}, {found['cores']} cores"],
            ["system", found["system"]],
            ["Python, server", f"{found['python']}, {found['redis_server']}"],
            ["packages", versions],
        ],
        numbers=False,
    )


def contender_rows(queues: Mapping[str, Any]) -> list[Row]:
    """Return the medians of each contender over its rounds, in the order of the results."""
    rows = []
    for name, one in queues["contenders"].items():
        figures = {key for turn in one["rounds"] for key in turn if key not in ("broken", "jobs")}
        medians = {key: statistics.median(turn[key] for turn in one["rounds"] if key in turn) for key in figures}
        speeds = [turn["jobs_per_second"] for turn in one["rounds"] if "jobs_per_second" in turn]
        spread = {"slowest_jobs_per_second": min(speeds), "fastest_jobs_per_second": max(speeds)} if speeds else {}
        rows.append({"name": name, "is_uqueue": one["is_uqueue"], **medians, **spread})
    rivals = [row["jobs_per_second"] for row in rows if not row["is_uqueue"] and "jobs_per_second" in row]
    for row in rows:
        if rivals and "jobs_per_second" in row:
            row["times_fastest_rival"] = row["jobs_per_second"] / max(rivals)
    return rows


def trip_rows(rows: Sequence[Row]) -> list[Row]:
    """Return a row per way of waiting for a result; uqueue has two."""
    found = [row for row in rows if "p50_ms" in row]
    stock = [row for row in rows if "stock_p50_ms" in row]
    return found + [
        {
            "name": f"{row['name']}, Celery's AsyncResult",
            "is_uqueue": True,
            **{f"p{percentile}_ms": row[f"stock_p{percentile}_ms"] for percentile in (50, 95, 99)},
        }
        for row in stock
    ]


def _queues(found: Mapping[str, Any]) -> str:
    rows = contender_rows(found)
    ordered = sorted(rows, key=lambda row: -row.get("jobs_per_second", 0))
    body = [[row["name"], *(write(row[key]) if key in row else "–" for _, key, write in COLUMNS)] for row in ordered]
    lines = [
        "## One-row jobs",
        _paragraph(f"""
            Medians of {found["rounds"]} rounds in which the contenders take turns. Everybody has the same model and
            fused kernel, one worker process, results stored, and a fresh Redis of the same kind; Redis, worker and
            client share the machine's cores, and nothing is pinned. Jobs/s: all jobs are queued before the worker
            starts, and time counts from its first stored result to its last. Round trip: one job at a time through the
            contender's own client at an idle worker, {found["trips"]} times. Submitted/s: without a worker, by the
            fastest way its client has. Idle CPU: the worker's, of one core.
        """),
        *_comparison(rows),
        "![Jobs per second](jobs-per-second.png)",
        table(["", *(title for title, _, _ in COLUMNS)], body),
        "![Round trips](round-trip.png)",
    ]
    if stock := [row for row in trip_rows(rows) if "AsyncResult" in row["name"]]:
        lines.append("Round trips of a program that knows uqueue's task and queue by name and nothing but Celery:")
        trips = [[row["name"], *(f"{row[key]:.2f} ms" for key in ("p50_ms", "p95_ms", "p99_ms"))] for row in stock]
        lines.append(table(["", "p50", "p95", "p99"], trips))
    return "\n\n".join([*lines, *_trouble(found), _configurations(found)])


def _comparison(rows: Sequence[Row]) -> list[str]:
    """Return one sentence about the lane and the best of its rivals, where both were measured."""
    lane = next((row for row in rows if row["name"] == LANE.name and "p50_ms" in row), None)
    rivals = [row for row in rows if not row["is_uqueue"] and "p50_ms" in row]
    if lane is None or not rivals:
        return []
    fastest = max(rivals, key=lambda row: row["jobs_per_second"])
    quickest = min(rivals, key=lambda row: row["p50_ms"])
    return [
        _paragraph(f"""
            uqueue's lane answers {lane["jobs_per_second"] / fastest["jobs_per_second"]:.1f} times as many jobs a second
            as the fastest rival ({fastest["name"]}); its median round trip is
            {lane["p50_ms"] / quickest["p50_ms"]:.2f} times that of the quickest ({quickest["name"]}).
        """)
    ]


def _trouble(found: Mapping[str, Any]) -> list[str]:
    """Return who could not be measured, and why."""
    lines = []
    for name, one in found["contenders"].items():
        if one["not_installed"]:
            lines.append(f"- {name}: not installed ({', '.join(one['not_installed'])})")
        reasons = [turn["broken"] for turn in one["rounds"] if "broken" in turn]
        if reasons:
            lines.append(f"- {name}: broken in {len(reasons)} of {len(one['rounds'])} rounds: {reasons[0]}")
    return ["Could not be measured, or not in every round:", "\n".join(lines)] if lines else []


def _configurations(found: Mapping[str, Any]) -> str:
    rows = []
    for name, one in found["contenders"].items():
        versions = ", ".join(f"{package} {version or 'missing'}" for package, version in one["versions"].items())
        jobs = f"{one['rounds'][0]['jobs']:,}" if one["rounds"] else "–"
        settings = " ".join(f"{key}={value}" for key, value in one["environment"].items())
        command = f"`{(settings + ' ') if settings else ''}python {one['command']}`"
        rows.append([name, versions, jobs, "yes" if one["hiredis"] else "no", command, one["about"]])
    titles = ["", "versions", "jobs", "hiredis", "worker", "what it is"]
    return "How each ran:\n\n" + table(titles, rows, numbers=False)


def _service(found: Mapping[str, Any]) -> str:
    bulk, large = found["bulk"], found["large_job"]
    rows = [[f"{one['rows']:,}", f"{one['ms']:.2f} ms", f"{one['worst_ms']:.2f} ms"] for one in found["rows_per_job"]]
    queued = [[f"{one['jobs']:,}", f"{one['per_second']:,.0f}"] for one in found["queued_jobs"]]
    processes = [[str(one["processes"]), f"{one['jobs']:,}", f"{one['per_second']:,.0f}"] for one in found["processes"]]
    return "\n\n".join(
        [
            "## How uqueue's cost grows",
            f"The lane, through `uqueue.Client`; medians of {found['runs']} runs.",
            "![Growth](growth.png)",
            "One job at a time, from submission to the decoded result:",
            table(["rows per job", "median", "slowest"], rows),
            f"A job of {large['rows']:,} rows: {large['ms']:.1f} ms; the slowest of {large['trips']}: "
            f"{large['worst_ms']:.1f} ms.",
            "Emptying a queue of one-row jobs with one worker process:",
            table(["jobs queued", "jobs/s"], queued),
            "The same with more worker processes, which begin together; Redis takes part of a core for itself:",
            table(["worker processes", "jobs queued", "jobs/s"], processes),
            f"Bulk submission of {bulk['jobs']:,} one-row jobs by one `Client.submit_many`: "
            f"{bulk['worker_stopped_per_second']:,.0f} jobs/s without a worker, "
            f"{bulk['worker_running_per_second']:,.0f} jobs/s while one answers them.",
        ]
    )


def _engines(found: Mapping[str, Any]) -> str:
    loop = found["loop"]
    sections = [
        "## Engines",
        _paragraph(f"""
            One core; network 8-128-128-64 with two heads of two targets, about 36 passes per row; medians. The loop is
            what consumers of such a file usually write: Keras `predict` and `clear_session` for each row and pass. It
            reached {loop["rows_per_second"]:.3f} rows/s, timed on {loop["rows_timed"]} rows with
            {loop["passes_per_row"]:.1f} passes each, and does not depend on the number of rows.
        """),
        "![Rows per second](engines.png)",
    ]
    for network, timings in found["networks"].items():
        sections += [f"{network.capitalize()}:", _engine_table(timings["rows"], loop["rows_per_second"])]
    return "\n\n".join(sections)


def _engine_table(timings: Sequence[Row], loop: float) -> str:
    rows = [
        [
            f"{one['n']:,}",
            f"{one['fused']:,}",
            f"{one['microseconds_per_row']:.1f} µs",
            f"{one['passes']:.1f}",
            f"{one['numpy']:,}",
            f"{one['ratio']:.1f}",
            f"{one['fused'] / loop:,.0f}",
        ]
        for one in timings
    ]
    titles = ["rows per call", "fused rows/s", "per row", "passes", "NumPy rows/s", "fused ÷ NumPy", "fused ÷ loop"]
    return table(titles, rows)


def _startup(found: Mapping[str, Any]) -> str:
    rows = [
        [one["engine"], f"{one['ready_s']:.2f} s", f"{one['child_mb']:.0f} MB", f"{one['together_mb']:.0f} MB"]
        for one in found["engines"]
    ]
    return "\n\n".join(
        [
            "## Start and memory of a worker",
            "From the start of `celery worker --concurrency 1` to its acknowledgement that the model is warm, compiled "
            f"kernel cached; medians of {found['runs']} runs.",
            table(["engine", "ready after", "resident, pool process", "together with its parent"], rows),
        ]
    )


def _web(found: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            clients,
            f"{load['per_second']:,.0f}",
            *(f"{load[key]:.2f} ms" for key in ("p50_ms", "p95_ms", "p99_ms")),
            f"{load['server_cpu_us']:,.0f} µs",
        ]
        for name, one in found["contenders"].items()
        for clients, load in one["loads"].items()
    ]
    about = [
        [
            name,
            ", ".join(f"{package} {version or 'not installed'}" for package, version in one["versions"].items()),
            one["about"],
        ]
        for name, one in found["contenders"].items()
    ]
    broken = [f"- {name}: {reason}" for name, one in found["contenders"].items() for reason in one["broken"]]
    return "\n\n".join(
        [
            "## Predictions over HTTP",
            _paragraph(f"""
                One row a request over real HTTP; {found["requests"]:,} requests from so many clients that each wait for
                their answer, a tenth of that from a single one; medians of {found["rounds"]} rounds in turns. Everybody
                has one web process and the same model and kernel; clients and servers share the machine's cores.
            """),
            table(["", "clients", "requests/s", "p50", "p95", "p99", "server's CPU per request"], rows),
            table(["", "versions", "what it is"], about, numbers=False),
            *(["\n".join(broken)] if broken else []),
        ]
    )


def _localization(found: Mapping[str, Any]) -> str:
    sizes, reloads = found["sizes"], found["reloads"]
    rows = []
    for name, load in found["phases"].items():
        statuses = ", ".join(f"{count:,} × {status}" for status, count in load["statuses"].items())
        times = [f"{load[key]:.1f} ms" for key in ("mean_ms", "p50_ms", "p95_ms", "p99_ms")]
        rows.append([name, statuses, f"{load['per_second']:,.0f}", *times])
    return "\n\n".join(
        [
            "## Localization over HTTP",
            _paragraph(f"""
                `python benchmarks/run.py --parts localization`. The sample model ({
                found["model_bytes"] / 1000:.0f} kB), one
                gateway, one worker process, {sizes["receivers"]} × {
                sizes["samples"]:,} samples as base64 a request, and
                {
                sizes["users"]
            } users, all on the machine's cores. *Cold*: every recording another one, no cache. *Warm*:
                {sizes["repeated"]} recordings again and again. Users pause {
                sizes["think_seconds"]:g} s on average before each
                request; *saturated* are those who do not. *Crowd*: {sizes["crowd"]:,} users without a pause, where
                {
                found["in_work"]
            } requests may be in work. *Reload*: 20 users without a pause while the model was replaced
                and reloaded {reloads["done"]} times (asked {reloads["asked"]} times, slowest {
                reloads["slowest_ms"]:.0f} ms).
                Only a 200 with a position and an ellipse counts for the times; {
                sum(load["invalid"] for load in found["phases"].values())
            } were invalid.
            """),
            table(["", "answers", "200s per second", "mean", "p50", "p95", "p99"], rows),
        ]
    )


SECTIONS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "queues": _queues,
    "service": _service,
    "engines": _engines,
    "startup": _startup,
    "web": _web,
    "localization": _localization,
}


def _paragraph(text: str) -> str:
    return " ".join(text.split())


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """Return a Markdown table, all columns but the first aligned to the right where they hold numbers."""
    lines = [titles, ["---", *["---:" if numbers else "---"] * (len(titles) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
