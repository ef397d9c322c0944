"""Ensemble classifiers: ONNX files that give class probabilities of every member.

    classifier.py  a loaded model: features in, probabilities and their uncertainty out
    session.py     the ONNX Runtime session of one process

The numerics are those of `uqueue_worker.learning`, which the local model interface uses as well.
"""

from uqueue_worker.classification.classifier import Classifier, load_classifier
from uqueue_worker.classification.session import EnsembleSession

__all__ = ["Classifier", "EnsembleSession", "load_classifier"]
