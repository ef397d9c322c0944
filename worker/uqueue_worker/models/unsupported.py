"""The internal signal that a graph needs TensorFlow."""

from __future__ import annotations


class UnsupportedGraph(Exception):
    """The NumPy engine cannot evaluate this model, for the reason given; TensorFlow may. Never leaves this package."""
