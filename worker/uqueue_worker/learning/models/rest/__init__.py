"""Models behind HTTP: one interface for five ways of speaking to them."""

from __future__ import annotations

from uqueue_worker.learning.models.rest.auth import ApiKey, Auth, Basic, Bearer, ClientCredentials, NoAuth
from uqueue_worker.learning.models.rest.endpoint import Endpoint
from uqueue_worker.learning.models.rest.interface import ApiBasedModelInterface

__all__ = ["ApiBasedModelInterface", "ApiKey", "Auth", "Basic", "Bearer", "ClientCredentials", "Endpoint", "NoAuth"]
