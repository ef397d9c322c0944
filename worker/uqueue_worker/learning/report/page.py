"""The page: one HTML file with pictures inside, for any browser, without network and without scripts."""

from __future__ import annotations

from pathlib import Path

from uqueue_worker.learning.report.confusion import confusion
from uqueue_worker.learning.report.curves import curves
from uqueue_worker.learning.report.data import ReportData
from uqueue_worker.learning.report.facts import facts
from uqueue_worker.learning.report.headline import headline
from uqueue_worker.learning.report.lineage import anchors_of, lineage
from uqueue_worker.learning.report.markup import Html, element, joined
from uqueue_worker.learning.report.region_map import region_map
from uqueue_worker.learning.report.spot_table import spot_table
from uqueue_worker.learning.report.spots import positions_of, told_spots
from uqueue_worker.learning.report.timeline import timeline

#: The browser then asks nobody for anything and runs nothing, whatever a name may hold.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_PARTS = (
    ("headline", "Result"),
    ("curves", "Curves"),
    ("map", "Map"),
    ("spots", "Weak spots"),
    ("confusion", "Confusion"),
    ("lineage", "Scenarios"),
    ("timeline", "Time"),
    ("facts", "Doing it again"),
)


def render_page(data: ReportData) -> str:
    """Return the report of a run as one HTML document."""
    positions = positions_of(data)
    told = told_spots(data, positions)
    anchors = anchors_of(data)
    main = element(
        "main",
        headline(data),
        curves(data),
        region_map(data, positions, told),
        spot_table(data, told, anchors),
        confusion(data),
        lineage(data, positions, told, anchors),
        timeline(data),
        facts(data),
    )
    links = element("nav", *(element("a", words, href=f"#{name}") for name, words in _PARTS), aria_label="Parts")
    about = f"Model {data.run.config.model}, run {data.run.run_id}, {data.run.status}"
    header = element("header", element("h1", "Active learning report"), element("p", about), links)
    return document(f"Active learning: {data.run.config.model}", joined([header, main]))


def document(title: str, body: Html) -> str:
    """Return a whole HTML document around a body."""
    style = Html((Path(__file__).parent / "page.css").read_text(encoding="utf-8"))
    head = element(
        "head",
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("title", title),
        element("style", style),
    )
    return f"<!doctype html>\n{element('html', head, element('body', body), lang='en')}\n"
