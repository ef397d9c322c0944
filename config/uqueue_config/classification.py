"""What an ensemble classifier of the catalog answers, as it travels: class probabilities and how uncertain they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from uqueue_config.arrays import Encoding, decode_array, encode_array
from uqueue_config.errors import InvalidMessage
from uqueue_config.prediction import ModelIdentity

#: What the member `kind` of a classification's message says; an interval prediction has none.
KIND: Final = "classification"
#: The engine of such models in the catalog.
ENGINE: Final = "onnx-classifier"
#: The parts of the uncertainty, as `uqueue_worker.learning.uncertainty` defines them.
PARTS: Final = ("total", "epistemic", "aleatoric", "disagreement")
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Classification:
    """Which classes `rows` inputs are of.

    classes        in the order of the columns of `probabilities`
    probabilities  float64 (rows, classes), means over the members; rows sum to 1
    total          float64 (rows,) within [0, 1]; so are the other three, which are None for a single model
    method         where the uncertainty comes from: `ensemble:120`, `mc_dropout:30`, `single_model`
    model_version  the name of the version that answered; `model.version` names its content
    """

    classes: tuple[str, ...]
    probabilities: FloatArray
    total: FloatArray
    epistemic: FloatArray | None
    aleatoric: FloatArray | None
    disagreement: FloatArray | None
    method: str
    model: ModelIdentity
    model_version: str
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def labels(self) -> list[str]:
        """The most probable class of each row; of equal ones the first."""
        return [self.classes[number] for number in self.probabilities.argmax(axis=1).tolist()]

    def to_message(self, encoding: Encoding = "lists") -> dict[str, Any]:
        """Return the JSON form (schema 1), with arrays in the encoding asked for (see `uqueue_config.arrays`)."""
        parts = {name: getattr(self, name) for name in PARTS}
        return {
            "schema": 1,
            "kind": KIND,
            "classes": list(self.classes),
            "probabilities": encode_array(self.probabilities, encoding),
            **{name: None if array is None else encode_array(array, encoding) for name, array in parts.items()},
            "method": self.method,
            "model": self.model.to_message(),
            "model_version": self.model_version,
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Classification:
        """Read what `to_message` wrote. Raises InvalidMessage when it is of another schema or not complete."""
        if message.get("schema") != 1 or message.get("kind") != KIND:
            raise InvalidMessage(reason="the result is no classification of schema 1")
        try:
            parts = {name: None if message[name] is None else decode_array(message[name], "<f8") for name in PARTS}
            found = cls(
                classes=tuple(map(str, message["classes"])),
                probabilities=decode_array(message["probabilities"], "<f8"),
                **parts,  # type: ignore[arg-type]  # `total` is checked with the shapes
                method=str(message["method"]),
                model=ModelIdentity.from_message(message["model"]),
                model_version=str(message["model_version"]),
                warnings=tuple(message["warnings"]),
            )
            found._check_shapes()
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidMessage(reason=f"the result cannot be read ({error!r})") from error
        return found

    def _check_shapes(self) -> None:
        rows = len(self.probabilities)
        if self.probabilities.shape != (rows, len(self.classes)):
            raise ValueError(f"probabilities: expected (rows, {len(self.classes)}), got {self.probabilities.shape}")
        for name in PARTS:
            array = getattr(self, name)
            if (array is None and name == "total") or (array is not None and array.shape != (rows,)):
                raise ValueError(f"{name}: expected the shape ({rows},)")
