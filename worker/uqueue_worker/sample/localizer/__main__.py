"""`python -m uqueue_worker.sample.localizer DIR`: what `uqueue sample-localizer` runs.

Data on stdout, problems on stderr.

Exit codes: 0 done, 1 the coverage is outside its band or the registry refused, 2 wrong arguments or paths, 3 the
registry cannot be reached.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from uqueue_config.errors import SourceError, SourceUnreachable, UqueueError
from uqueue_worker.sample.localizer.registration import ALIAS, look_at, register
from uqueue_worker.sample.localizer.workspace import MODEL, GraphDiffers, Plan, make_localizer
from uqueue_worker.sample.registry_server import ServerStopped, serving

LOCAL: Final = "local"
_LEAST_CALIBRATION: Final = 100


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage text around it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message[:1].upper()}{message[1:]}; see --help.\n")


def _parser() -> argparse.ArgumentParser:
    plan = Plan()
    parser = _Parser(prog="python -m uqueue_worker.sample.localizer", description="A sample localization model.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder to write")
    parser.add_argument("--register", metavar="URL", help=f"the MLflow server, or {LOCAL!r} for one in DIR/mlflow")
    parser.add_argument("--seed", type=_at_least(0), default=0, help="of training and calibration emitters and weights")
    parser.add_argument("--training", type=_at_least(1), default=plan.training, help="emitters to train on")
    parser.add_argument("--calibration", type=_at_least(_LEAST_CALIBRATION), default=plan.calibration)
    parser.add_argument("--held-out", type=_at_least(_LEAST_CALIBRATION), default=plan.held_out)
    parser.add_argument("--recordings", type=_at_least(0), default=plan.recordings, help="held-out emitters to write")
    parser.add_argument("--epochs", type=_at_least(1), default=plan.epochs)
    parser.add_argument("--semver", default="1.0.0", help="what the model calls itself")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


class _at_least:
    def __init__(self, least: int) -> None:
        self.least = least

    def __call__(self, text: str) -> int:
        if not text.isascii() or not text.isdigit() or not self.least <= int(text) < 2**31:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {self.least}")
        return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the model, register it where asked to, and return the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return _make(arguments)
    except UqueueError as error:
        problem, code = error.message, _code(error)
    except ImportError as error:
        problem, code = f"{error.name} is not installed: this takes the extras demo and onnx of uqueue.", 2
    except OSError as error:
        problem, code = f"{error.filename}: {error.strerror}.", 2
    except (GraphDiffers, ServerStopped) as error:
        problem, code = str(error), 1
    sys.stderr.write(f"{problem}\n")
    return code


def _make(arguments: argparse.Namespace) -> int:
    names = ("training", "calibration", "held_out", "recordings", "epochs")
    plan = Plan(**{name: getattr(arguments, name) for name in names})
    with _registry(arguments.register, arguments.folder) as url:
        if url is not None:
            look_at(MODEL, url)
        report = make_localizer(arguments.folder, seed=arguments.seed, plan=plan, semver=arguments.semver)
        if url is not None:
            report["registered"] = {"model": MODEL, "version": register(arguments.folder, MODEL, url), "alias": ALIAS}
    sys.stdout.write(f"{json.dumps(report, indent=2)}\n" if arguments.json else _text(arguments.folder, report))
    return 0 if all(one["inside_band"] for one in report["coverage"]) else 1


@contextlib.contextmanager
def _registry(wanted: str | None, folder: Path) -> Iterator[str | None]:
    if wanted == LOCAL:
        with serving(folder / "mlflow") as url:
            yield url
    else:
        yield wanted


def _code(error: UqueueError) -> int:
    if isinstance(error, SourceUnreachable):
        return 3
    return 1 if isinstance(error, SourceError) else 2


def _text(folder: Path, report: dict[str, Any]) -> str:
    seconds = report["seconds"]
    lines = [
        f"{report['training']} emitters to learn from, {report['calibration']} to calibrate with: simulated in "
        f"{seconds['simulation']:.0f} s, trained in {seconds['training']:.0f} s",
        f"ONNX Runtime and Keras differ by at most {report['onnx_difference']:.1e}",
        f"{report['held_out']} held-out emitters, {_error(report['error_m'])}",
        f"  with the received powers known exactly, {_error(report['error_of_best_guess_m'])}",
        f"  guessing the middle of the square, {_error(report['error_of_the_centre_m'])}",
        *map(_coverage, report["coverage"]),
        f"{folder}: model, declaration, report and {report['recordings']} recordings",
    ]
    if "registered" in report:
        lines.append("registered as version {version} of {model}, alias {alias}".format(**report["registered"]))
    return "".join(f"{line}\n" for line in lines)


def _error(quantiles: dict[str, float]) -> str:
    return "error {median:.0f} m (median), {p68:.0f} m (68 %), {p95:.0f} m (95 %)".format(**quantiles)


def _coverage(one: dict[str, Any]) -> str:
    place = "inside" if one["inside_band"] else "OUTSIDE"
    return (
        f"{one['level']:.0%} ellipses hold {one['inside']}/{one['of']} true positions, {one['share']:.1%}, "
        f"{place} the 99 % band {one['band'][0]}..{one['band'][1]}"
    )


if __name__ == "__main__":
    sys.exit(main())
