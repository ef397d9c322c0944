"""`python -m uqueue_worker.sample make DIR` and `... coverage DIR ANSWERS.json`. Data on stdout, problems on stderr.

Exit codes: 0 done, 1 coverage outside its band, 2 wrong arguments or paths.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from uqueue_config.errors import InvalidMessage, UqueueError
from uqueue_worker.sample.workspace import CoverageAnswer, make_sample, measure_coverage


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage text around it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message[:1].upper()}{message[1:]}; see --help.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m uqueue_worker.sample", description="A sample model to try uqueue with.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="make|coverage")
    make = commands.add_parser("make", help="train and calibrate a small model, and write fresh rows to try it on")
    make.add_argument("folder", type=Path, metavar="DIR", help="the workspace to write")
    make.add_argument("--seed", type=_at_least(0), default=0, help="of training and calibration rows, and weights")
    make.add_argument("--forward-mode", choices=("dropout", "deterministic"), default="dropout")
    make.add_argument("--epochs", type=_at_least(1), default=30)
    make.set_defaults(run=_make)
    coverage = commands.add_parser("coverage", help="compare answers about the first fresh rows with the truth")
    coverage.add_argument("folder", type=Path, metavar="DIR", help="the workspace that `make` wrote")
    coverage.add_argument("answers", type=Path, metavar="ANSWERS.json", help="a result message")
    coverage.add_argument("--json", action="store_true", help="print JSON")
    coverage.set_defaults(run=_coverage)
    return parser


class _at_least:
    def __init__(self, least: int) -> None:
        self.least = least

    def __call__(self, text: str) -> int:
        if not text.isascii() or not text.isdigit() or not self.least <= int(text) < 2**32:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {self.least}")
        return int(text)


def _make(arguments: argparse.Namespace) -> int:
    manifest = make_sample(
        arguments.folder, seed=arguments.seed, forward_mode=arguments.forward_mode, epochs=arguments.epochs
    )
    sys.stdout.write(f"{arguments.folder}: model version {manifest['version']}, q_hat {manifest['q_hat']}\n")
    return 0


def _coverage(arguments: argparse.Namespace) -> int:
    message = json.loads(arguments.answers.read_text())
    if not isinstance(message, dict):
        raise InvalidMessage(reason="a result is a JSON object")
    answers = measure_coverage(arguments.folder, message)
    if arguments.json:
        sys.stdout.write(json.dumps([asdict(answer) for answer in answers]) + "\n")
    else:
        sys.stdout.writelines(f"{_sentence(answer)}\n" for answer in answers)
    return 0 if all(answer.inside_band for answer in answers) else 1


def _sentence(answer: CoverageAnswer) -> str:
    place = "inside" if answer.inside_band else "OUTSIDE"
    return (
        f"{answer.target}: {answer.covered}/{answer.rows} covered, {answer.share:.1%} (nominal {answer.nominal:.1%}), "
        f"{place} the 99 % band {answer.low}..{answer.high}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except (UqueueError, ImportError, OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        sys.stderr.write(f"{_problem(error)}\n")
        return 2
    return code


def _problem(error: Exception) -> str:
    if isinstance(error, UqueueError):
        return error.message
    if isinstance(error, ImportError):
        return f"{error.name} is not installed: a sample is trained with the tensorflow extra of uqueue."
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}."
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return "A file that should hold JSON does not."
    return f"The files do not fit together: {error}."


if __name__ == "__main__":
    sys.exit(main())
