"""What is printed for a result: CSV and tables."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from uqueue.cli.classified import print_classification, print_classification_csv
from uqueue.cli.output import interval_cells, print_csv, print_prediction
from uqueue_config.classification import Classification
from uqueue_config.prediction import FileFingerprint, IntervalPrediction, ModelIdentity

FILE = FileFingerprint("0" * 64, 1, 1)


def _prediction(rows: int) -> IntervalPrediction:
    lower = np.arange(2.0 * rows).reshape(rows, 2)
    upper = lower + 1.0
    upper[0, 1] = lower[0, 1] - 1.0
    lower[1] = upper[1] = np.nan
    return IntervalPrediction(
        lower=lower,
        upper=upper,
        passes_used=np.full(rows, 7, dtype=np.int32),
        converged=np.arange(rows) != 2,
        failed=np.arange(rows) == 1,
        pass_std=np.zeros((rows, 2, 2), dtype=np.float32),
        q_hat=np.zeros(2),
        seed=1,
        stochastic=True,
        forward_mode="dropout",
        nominal_coverage=0.9,
        model=ModelIdentity("mccp-uq", "abcdef0123456789", "0" * 64, "0" * 64, FILE, FILE, None, "numpy"),
        unit="kWh",
    )


def test_flags_name_what_to_know_about_a_row() -> None:
    prediction = _prediction(4)
    assert [interval_cells(prediction, row)[-1] for row in range(4)] == ["crossed", "failed", "not converged", ""]


def test_csv_holds_every_row_and_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_csv(_prediction(50))
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(lines) == 50
    assert (lines[1]["lower_0"], lines[1]["failed"]) == ("", "1")
    assert (float(lines[3]["lower_1"]), float(lines[3]["upper_1"]), lines[3]["passes_used"]) == (7.0, 8.0, "7")


@pytest.mark.parametrize(("rows", "every_row", "shown"), [(20, False, 20), (21, False, 15), (21, True, 21)])
def test_long_tables_are_abbreviated_and_say_so(
    rows: int, every_row: bool, shown: int, capsys: pytest.CaptureFixture[str]
) -> None:
    print_prediction(_prediction(rows), every_row=every_row)
    captured = capsys.readouterr()
    lines = [line for line in captured.out.splitlines() if line.startswith("│") and "…" not in line]
    assert len(lines) == shown
    assert ("rows are left out" in captured.err) == (shown < rows)
    assert "90% coverage per target" in captured.err


def _classification(rows: int, *, is_single: bool = False) -> Classification:
    part = None if is_single else np.full(rows, 0.25)
    return Classification(
        classes=("NORMAL", "ARCING"),
        probabilities=np.tile([0.25, 0.75], (rows, 1)),
        total=np.full(rows, 0.5),
        epistemic=part,
        aleatoric=part,
        disagreement=part,
        method="ensemble:5",
        model=ModelIdentity("airguard", "abcdef0123456789", "0" * 64, "0" * 64, FILE, FILE, None, "onnx-classifier"),
        model_version="7",
    )


def test_classes_are_shown_with_how_sure_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_classification(_classification(30))
    shown = capsys.readouterr()
    assert shown.out.count("ARCING") == 15
    assert "0.7500" in shown.out
    assert "15 of 30 rows are left out" in shown.err
    assert "model airguard 7 (ensemble:5, onnx-classifier)" in shown.err
    print_classification_csv(_classification(2, is_single=True))
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [line["class"] for line in lines] == ["ARCING", "ARCING"]
    assert lines[1] | {"p_ARCING": "0.75", "total": "0.5", "epistemic": ""} == lines[1]
