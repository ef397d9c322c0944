"""What MLServer serves beside its own runtime for scikit-learn."""

from __future__ import annotations

from ensemble import Ensemble
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri


class Classifier(MLModel):
    async def load(self) -> bool:
        self._ensemble = Ensemble(await get_model_uri(self.settings))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer the probabilities of the members."""
        rows = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        output = NumpyCodec.encode_output("members", self._ensemble.watched(rows))
        return InferenceResponse(model_name=self.name, model_version=self.version, id=payload.id, outputs=[output])
