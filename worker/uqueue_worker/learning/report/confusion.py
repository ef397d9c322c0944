"""The fifth part: which classes are taken for which, at the start and at the end, and what changed."""

from __future__ import annotations

from collections.abc import Sequence

from uqueue_worker.learning.report.data import ReportData
from uqueue_worker.learning.report.markup import Html, element, joined

_SHADES = 5


def confusion(data: ReportData) -> Html:
    """Return the section of confusion matrices: the test set where its feedback is known, else the pool."""
    heading = element("h2", "What is taken for what", id="confusion")
    found = _matrices(data, "test") or _matrices(data, "evaluation")
    if found is None:
        empty = element("p", "No feedback has a confusion matrix.", class_="empty")
        return element("section", heading, empty, aria_labelledby="confusion")
    name, classes, first, last = found
    gaps = [[after - before for before, after in zip(*rows, strict=True)] for rows in zip(first, last, strict=True)]
    note = element(
        "p", f"{name}: rows are the true classes, columns what the model says, in percent of the row.", class_="note"
    )
    matrices = [
        _matrix("At the start", classes, first, signed=False),
        _matrix("At the end", classes, last, signed=False),
        _matrix("Difference", classes, gaps, signed=True),
    ]
    return element(
        "section", heading, note, _key(classes), element("div", *matrices, class_="pair"), aria_labelledby="confusion"
    )


Shares = list[list[float]]


def _matrices(data: ReportData, split: str) -> tuple[str, tuple[str, ...], Shares, Shares] | None:
    evaluations = data.in_service(split)
    read = [data.read(one) for one in evaluations[:1] + evaluations[-1:]]
    known = [one for one in read if one is not None and one.confusion_matrix is not None and one.classes is not None]
    if len(known) < 2 or known[0].classes != known[1].classes:
        return None
    first, last = (_shares(one.confusion_matrix or ()) for one in known)
    return {"test": "Frozen test set", "evaluation": "Feedback pool"}[split], known[0].classes or (), first, last


def _shares(matrix: Sequence[Sequence[int]]) -> Shares:
    return [[count / sum(row) if sum(row) else 0.0 for count in row] for row in matrix]


def _key(classes: Sequence[str]) -> Html:
    entries = [element("li", element("b", f"{number} "), name) for number, name in enumerate(classes, 1)]
    return element("ol", *entries, class_="key")


def _matrix(title: str, classes: Sequence[str], shares: Shares, *, signed: bool) -> Html:
    head = element(
        "tr", element("td", ""), *(element("th", str(n), scope="col", title=name) for n, name in enumerate(classes, 1))
    )
    rows = []
    for number, (name, row) in enumerate(zip(classes, shares, strict=True), 1):
        cells = [_cell(share, on_diagonal=place == number, signed=signed) for place, share in enumerate(row, 1)]
        rows.append(element("tr", element("th", str(number), scope="row", title=name), *cells))
    made = element(
        "table", element("caption", title), element("thead", head), element("tbody", joined(rows)), class_="matrix"
    )
    return element("div", made, class_="scroll", tabindex="0", role="region", aria_label=title)


def _cell(share: float, *, on_diagonal: bool, signed: bool) -> Html:
    shown = f"{100 * share:{'+' if signed else ''}.1f}" if abs(share) >= 0.0005 else "·"
    if not signed:
        return element("td", shown, class_=f"shade{round(share * _SHADES)}" if not on_diagonal else "right")
    better = share > 0 if on_diagonal else share < 0
    style = None if abs(share) < 0.005 else ("good" if better else "bad")
    return element("td", shown, class_=style)
