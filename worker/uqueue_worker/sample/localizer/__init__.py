"""A sample localization model: trained on simulated emitters, exported to ONNX, registered in MLflow.

Three receivers on the shore hear a distress beacon on the water. `scene` states the physics, `waveform` makes the
samples, `network` learns from them, `graph` writes the ONNX file, `assessment` says how good it is.
"""

from __future__ import annotations
