"""What a loaded model is, how it is loaded, and the engines that evaluate it."""

from __future__ import annotations

from uqueue_worker.models.choice import choose_engine
from uqueue_worker.models.engine import Engine, EngineChoice, ForwardMode
from uqueue_worker.models.interval_model import IntervalModel, load_interval_model

__all__ = ["Engine", "EngineChoice", "ForwardMode", "IntervalModel", "choose_engine", "load_interval_model"]
