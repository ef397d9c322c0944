"""Model servers that others make, each in a virtual environment of its own, as child processes on free ports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from builders.s3_server import free_port, wait_for

HERE = Path(__file__).parent
SERVED = HERE / "served"
#: A folder in which the environments stay for the next time; a temporary one unless set.
ENVIRONMENTS = "SERVERS_VENVS"
_READY = "/v2/models/airguard/ready"
_SHARED_MEMORY = Path("/dev/shm")  # where Triton's Python backend leaves something when it is killed


class ModelServer:
    """One server. `weights` are the files that it serves, the newest version last; `folder` is its own."""

    def __init__(self, kind: str, python: Path, folder: Path, weights: Sequence[Path], classes: Sequence[str]) -> None:
        self._folder = folder
        self.ports = [free_port() for _ in range(3)]
        self._command = _COMMANDS[kind](python, folder, self.ports, weights, classes)
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            "PATH": f"{python.parent}:{os.environ['PATH']}",
            "HOME": str(folder),  # where Triton and Matplotlib keep things
            "PYTHONPATH": str(SERVED),
            "WATCHED": str(folder),
            # Triton's Python backend loads libpython, and has to find the one that the environment belongs to.
            "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def calls(self) -> int:
        """How often it predicted."""
        calls = self._folder / "calls"
        return calls.stat().st_size if calls.exists() else 0

    @property
    def runs(self) -> bool:
        return self._process is not None

    def slow(self, on: bool) -> None:
        """Let each prediction take longer, or not."""
        if on:
            (self._folder / "slow").touch()
        else:
            (self._folder / "slow").unlink(missing_ok=True)

    def start(self) -> None:
        """Start it and wait until it serves."""
        log = self._folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=output, stderr=output, cwd=self._folder
            )
        wait_for(self.url + _READY, self._process, log)

    def kill(self) -> None:
        """End it and its children at once, as a crash does."""
        if self._process is None:
            return
        family: list[psutil.Process] = []
        if self._process.poll() is None:
            own = psutil.Process(self._process.pid)
            family = [own, *own.children(recursive=True)]
        # Python's tracker of shared memory ends by itself, after it has removed what the others left.
        ended = [one for one in family if not _is_tracker(one)]
        for one in ended:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self._process.wait(10)
        psutil.wait_procs(family, timeout=10)
        for one in ended:
            for left in _SHARED_MEMORY.glob(f"pytrtion{one.pid}-*"):
                left.unlink()
        self._process = None


def _is_tracker(process: psutil.Process) -> bool:
    try:
        return any("resource_tracker" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


@contextmanager
def model_server(kind: str, python: Path, weights: Sequence[Path], classes: Sequence[str]) -> Iterator[ModelServer]:
    """Run a server in a temporary folder; it may be killed and started again meanwhile."""
    with tempfile.TemporaryDirectory(prefix=f"uqueue-{kind}-", ignore_cleanup_errors=True) as folder:
        server = ModelServer(kind, python, Path(folder), weights, classes)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def environment(kind: str) -> Iterator[Path]:
    """Make a virtual environment with exactly what `<kind>.txt` says; return its Python."""
    kept = os.environ.get(ENVIRONMENTS)
    with tempfile.TemporaryDirectory(prefix=f"uqueue-{kind}-venv-", ignore_cleanup_errors=True) as temporary:
        folder = Path(kept or temporary).resolve() / kind
        python, wanted, made = folder / "bin" / "python", HERE / f"{kind}.txt", folder / "made.txt"
        if not made.exists() or made.read_text() != wanted.read_text():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps"]
            subprocess.run([*pip, "--requirement", str(wanted)], check=True)
            made.write_text(wanted.read_text())
        yield python


def _kserve(python: Path, folder: Path, ports: Sequence[int], weights: Sequence[Path], _: Sequence[str]) -> list[str]:
    return [str(python), str(SERVED / "kserve_app.py"), str(ports[0]), str(weights[-1])]


def _triton(python: Path, folder: Path, ports: Sequence[int], weights: Sequence[Path], _: Sequence[str]) -> list[str]:
    return [str(python), str(SERVED / "triton_app.py"), *map(str, ports), str(weights[-1])]


def _mlserver(
    python: Path, folder: Path, ports: Sequence[int], weights: Sequence[Path], classes: Sequence[str]
) -> list[str]:
    """Serve each file as a version of `airguard`, and the last one's first member as scikit-learn's `linear`."""
    names = dict(zip(("http_port", "grpc_port", "metrics_port"), ports, strict=True))
    (folder / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "parallel_workers": 0, **names}))
    for file in weights:
        version = file.stem
        parameters = {"version": version, "uri": str(file)}
        _describe(folder / f"airguard-{version}", "airguard", "mlserver_models.Classifier", parameters)
    joblib = folder / "linear.joblib"
    command = [str(python), str(SERVED / "as_sklearn.py"), str(weights[-1]), str(joblib), ",".join(classes)]
    subprocess.run(command, check=True, cwd=folder)
    _describe(folder / "linear", "linear", "mlserver_sklearn.SKLearnModel", {"uri": str(joblib)})
    return [str(python.with_name("mlserver")), "start", str(folder)]


def _describe(folder: Path, name: str, implementation: str, parameters: dict[str, str]) -> None:
    folder.mkdir()
    facts = {"name": name, "implementation": implementation, "parameters": parameters}
    (folder / "model-settings.json").write_text(json.dumps(facts))


_COMMANDS: dict[str, Callable[..., list[str]]] = {"kserve": _kserve, "triton": _triton, "mlserver": _mlserver}
