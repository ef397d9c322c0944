"""Submit one job, wait for it, print its intervals. Needs a running service: `uqueue up --workspace DIR`."""

from __future__ import annotations

import uqueue

HOUSES = [
    [0.98, 514.5, 294.0, 110.25, 7.0, 2.0, 0.0, 0.0],
    [0.62, 808.5, 367.5, 220.5, 3.5, 5.0, 0.4, 5.0],
]

with uqueue.Client() as client:
    prediction = client.submit(HOUSES).result(timeout=30)
    for row, (lower, upper) in enumerate(zip(prediction.lower, prediction.upper, strict=True)):
        for target in range(len(lower)):
            print(f"house {row}, target {target}: {lower[target]:.2f} to {upper[target]:.2f}")
    print(f"nominal coverage {prediction.nominal_coverage:.0%} per target, passes {prediction.passes_used.tolist()}")
