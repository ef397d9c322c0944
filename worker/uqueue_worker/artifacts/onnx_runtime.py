"""The one place that imports ONNX Runtime, when it is needed and never in a process that forks."""

from __future__ import annotations

from typing import Any

from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts.onnx_ports import Port

CPU = ("CPUExecutionProvider",)


def open_session(data: bytes, *, file: str, providers: tuple[str, ...] = CPU, threads: int = 1) -> Any:
    """Return an InferenceSession of this model. Raises ModelInvalid saying why there is none."""
    runtime = _runtime(file)
    unknown = [name for name in providers if name not in runtime.get_available_providers()]
    if unknown:
        there = ", ".join(runtime.get_available_providers())
        raise ModelInvalid(file=file, reason=f"UQUEUE_ONNX_PROVIDERS names {unknown[0][:80]}; here there is {there}")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # what fails is raised; its log would only say it again
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other processes need the cores
    try:
        return runtime.InferenceSession(data, options, providers=list(providers))
    except Exception as error:  # its classes have no common one
        raise ModelInvalid(file=file, reason=f"ONNX Runtime cannot load it ({said(error)})") from error


def ports_of(session: Any) -> tuple[list[Port], list[Port]]:
    """Return what a session says of its inputs and outputs."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    return ([Port(one.name, one.type, one.shape) for one in ports] for ports in (inputs, outputs))  # type: ignore[return-value]


def said(error: Exception) -> str:
    """Return what ONNX Runtime says, in one short line without its own prefix."""
    text = " ".join(str(error).split())
    return text.rpartition("[ONNXRuntimeError] : ")[2][:200].rstrip(". ") or type(error).__name__


def _runtime(file: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        reason = 'onnxruntime is not installed here: pip install "uqueue[worker,onnx]"'
        raise ModelInvalid(file=file, reason=reason) from error
    return onnxruntime
