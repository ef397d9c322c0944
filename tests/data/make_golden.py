"""Writes the golden messages. Run only when a *new* schema is added; existing files must never change.

python tests/data/make_golden.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "contract"))
from test_messages import make_prediction

from uqueue_config.arrays import encode_array
from uqueue_config.envelope import celery_message

FOLDER = Path(__file__).parent / "golden"
FEATURES = np.array([[1.0, 2.5], [-3.0, 0.0]], np.float32)

REQUEST = {"schema": 1, "model": "mccp-uq", "seed": 7, "target_dim": 2}
MESSAGES = {
    "request_lists": {**REQUEST, "features": FEATURES.tolist()},
    "request_base64": {**REQUEST, "features": encode_array(FEATURES, "base64")},
    "request_minimal": {"features": FEATURES.tolist()},
    "result_lists": make_prediction(failed_row=1).to_message("lists"),
    "result_base64": make_prediction(failed_row=1).to_message("base64"),
    "envelope": json.loads(celery_message("id-1", "uqueue.predict", REQUEST, queue="predictions", argsrepr="hidden")),
}

if __name__ == "__main__":
    for name, message in MESSAGES.items():
        path = FOLDER / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(message, indent=1) + "\n")
