"""The plain environment names of the localization service's deployment, read where UQUEUE_* say nothing.

REDIS_HOST, REDIS_PORT, REDIS_PASSWORD, REDIS_DB                 UQUEUE_BROKER_URL
MLFLOW_MODEL_NAME, and _ALIAS, _STAGE or _VERSION                UQUEUE_ARTIFACT_SOURCE, with UQUEUE_ENGINE=onnx
MLFLOW_TRACKING_URI, where it is a plain http(s) address          UQUEUE_MLFLOW_TRACKING_URL
ONNXRUNTIME_PROVIDERS                                            UQUEUE_ONNX_PROVIDERS

Only REDIS_HOST and MLFLOW_MODEL_NAME say what is served and from where: platforms set the others of their kind for
reasons of their own. The last two change nothing by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

_SOURCES = ("UQUEUE_MODELS", "UQUEUE_ARTIFACT_SOURCE", "UQUEUE_WORKSPACE_ROOT")
_TRACKING_URI = "http://mlflow:5000"


def with_plain_names(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with the UQUEUE_* values that plain names stand for, where it has none of its own."""
    return {**_broker(environ), **_inference(environ), **_model(environ), **environ}


def _broker(environ: Mapping[str, str]) -> dict[str, str]:
    host = environ.get("REDIS_HOST")
    if not host:
        return {}
    password = environ.get("REDIS_PASSWORD")
    user = f":{quote(password, safe='')}@" if password else ""
    port = environ.get("REDIS_PORT", "")
    port = port if port.isdecimal() else "6379"  # Kubernetes writes tcp://10.0.0.1:6379 for a service called redis
    return {"UQUEUE_BROKER_URL": f"redis://{user}{host}:{port}/{environ.get('REDIS_DB') or 0}"}


def _inference(environ: Mapping[str, str]) -> dict[str, str]:
    found = {}
    uri, providers = environ.get("MLFLOW_TRACKING_URI", ""), environ.get("ONNXRUNTIME_PROVIDERS")
    if uri.startswith(("http://", "https://")) and "@" not in uri:
        found["UQUEUE_MLFLOW_TRACKING_URL"] = uri
    if providers:
        found["UQUEUE_ONNX_PROVIDERS"] = providers
    return found


def _model(environ: Mapping[str, str]) -> dict[str, str]:
    name = environ.get("MLFLOW_MODEL_NAME")
    if not name or any(environ.get(source) for source in _SOURCES):
        return {}
    version, stage = environ.get("MLFLOW_MODEL_VERSION"), environ.get("MLFLOW_MODEL_STAGE")
    alias = environ.get("MLFLOW_MODEL_ALIAS")
    if alias is None and (stage or version):
        source = f"models:/{name}/{stage or version}"
    else:
        source = f"models:/{name}@{alias or 'production'}"
    uri = environ.get("MLFLOW_TRACKING_URI") or _TRACKING_URI
    return {"UQUEUE_ARTIFACT_SOURCE": source, "UQUEUE_ENGINE": "onnx", "UQUEUE_MLFLOW_TRACKING_URL": uri}
