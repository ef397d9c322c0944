"""`uqueue localize`: where the emitter of a SigMF recording is, as GeoJSON and as an annotation."""

from __future__ import annotations

import json as json_text
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from uqueue.cli.asking import ask_gateway, ask_queue
from uqueue.cli.failures import UsageProblem
from uqueue.cli.output import print_json, say, stdout, table
from uqueue.cli.recording import METADATA, Opened, Window, open_recording, write_atomically
from uqueue.cli.service import require
from uqueue.localization import annotated, annotation, position_feature

WINDOW_SAMPLES = 16_384
MOST_WINDOWS = 1000


def localize(
    recording: Annotated[Path, typer.Argument(metavar="RECORDING.sigmf-meta", help="Its data file lies beside it.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the GeoJSON here, not to stdout.")
    ] = None,
    annotate: Annotated[
        bool, typer.Option("--annotate", help="Annotate the recording itself, not a copy of its metadata.")
    ] = False,
    copy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The annotated copy; NAME.localized.sigmf-meta unless set.")
    ] = None,
    no_annotation: Annotated[bool, typer.Option("--no-annotation", help="Write no annotation at all.")] = False,
    windows: Annotated[int, typer.Option(min=1, max=MOST_WINDOWS, help="Ask about so many parts, spread evenly.")] = 1,
    window_samples: Annotated[int, typer.Option(min=2048, help="Samples of a part, per receiver.")] = WINDOW_SAMPLES,
    url: Annotated[str | None, typer.Option(metavar="URL", help="Ask this gateway, not the queue.")] = None,
    key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --url: the file that holds an API key.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model to ask; the only localization model unless set.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Wait at most this many seconds.")] = 30.0,
    json: Annotated[bool, typer.Option("--json", help="Print the answers as one JSON document.")] = False,
) -> None:
    """Localize the emitter of a recording; print GeoJSON, and annotate a copy of the metadata.

    The samples are never resampled: a recording at another rate than the model's is refused.
    """
    require("localization", "pyproj")
    if url is not None and model is not None:
        raise UsageProblem("--model: a gateway has its own; leave out one of --url and --model")
    target = _annotation_target(recording, annotate=annotate, copy=copy, none=no_annotation)
    if output is not None and not output.absolute().parent.is_dir():
        raise UsageProblem(f"--output: there is no folder {output.absolute().parent}")
    opened = open_recording(recording)
    _warn(opened)
    parts = opened.windows(windows, window_samples)
    if url is None:
        rate, answers = _ask_queue(opened, parts, model, timeout)
    else:
        rate, answers = opened.recording.sample_rate_hz, _ask_gateway(opened, parts, url, key_file, timeout)
    if target is not None:
        _annotate(target, opened, parts, answers, rate)
    geojson = _geojson(parts, answers)
    if output is not None:
        _write(output, (json_text.dumps(geojson, indent=2) + "\n").encode())
        say(f"GeoJSON: {output}")
    if json:
        placed = [_placed(*pair) for pair in zip(parts, answers, strict=True)]
        print_json({"recording": str(recording), "answers": placed})
    elif output is None:
        print_json(geojson)
    else:
        stdout().print(_table(parts, answers))


def _annotation_target(recording: Path, *, annotate: bool, copy: Path | None, none: bool) -> Path | None:
    if (annotate, copy is not None, none).count(True) > 1:
        raise UsageProblem("--annotate, --copy and --no-annotation: give one of them")
    if none:
        return None
    if annotate:
        return recording
    target = copy or recording.with_name(f"{recording.name.removesuffix(METADATA)}.localized{METADATA}")
    if target.suffix != METADATA:
        raise UsageProblem(f"--copy: expected a {METADATA} file, got {target}")
    if target.parent.resolve() != recording.parent.resolve():
        raise UsageProblem("--copy: it has to lie beside the recording, whose data it describes")
    return target


def _warn(opened: Opened) -> None:
    if opened.recording.sample_rate_hz is None:
        say("warning: the metadata do not state core:sample_rate; it is taken to be the model's")
    if not opened.recording.sha512_checked:
        say("warning: the metadata hold no core:sha512; whether the data are whole was not checked")


def _ask_queue(
    opened: Opened, parts: Sequence[Window], model: str | None, timeout: float
) -> tuple[float | None, list[dict[str, Any]]]:
    rate = opened.recording.sample_rate_hz
    declared, answers = ask_queue([part.samples for part in parts], rate, model=model, timeout=timeout)
    return rate or declared, answers


def _ask_gateway(
    opened: Opened, parts: Sequence[Window], url: str, key_file: Path | None, timeout: float
) -> list[dict[str, Any]]:
    try:
        key = None if key_file is None else key_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem(f"--key-file: {key_file} cannot be read as text") from error
    samples, frequencies = [part.samples for part in parts], [part.frequency_hz for part in parts]
    return ask_gateway(url, samples, opened.recording.sample_rate_hz, frequencies, timeout=timeout, key=key)


def _annotate(
    target: Path, opened: Opened, parts: Sequence[Window], answers: Sequence[dict[str, Any]], rate: float | None
) -> None:
    marks = [
        annotation(answer, start=part.start, count=part.count, sample_rate_hz=rate, frequency_hz=part.frequency_hz)
        for part, answer in zip(parts, answers, strict=True)
    ]
    dataset = None if target.resolve() == opened.path.resolve() else opened.data_path.name
    _write(target, annotated(opened.metadata, marks, dataset=dataset))
    say(f"annotated: {target}")


def _geojson(parts: Sequence[Window], answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return, per window, the position as a point and the ellipse."""
    features = []
    for part, answer in zip(parts, answers, strict=True):
        at, spread = answer["position"], answer["uncertainty"]
        point = position_feature(
            at["latitude"],
            at["longitude"],
            sigma_x=spread["sigma_x"],
            sigma_y=spread["sigma_y"],
            theta=spread["theta"],
        )
        about = {
            "sample_start": part.start,
            "sample_count": part.count,
            "confidence": answer["confidence"],
            "model_version": answer["model_version"],
        }
        for feature in (point, answer["ellipse"]["feature"]):
            features.append({**feature, "properties": {**feature["properties"], **about}})
    return {"type": "FeatureCollection", "features": features}


def _placed(part: Window, answer: dict[str, Any]) -> dict[str, Any]:
    return {"sample_start": part.start, "sample_count": part.count, **answer}


def _table(parts: Sequence[Window], answers: Sequence[dict[str, Any]]) -> Any:
    columns = ["from sample", "latitude", "longitude", "ellipse", "semi-axes (m)", "turned", "confidence", "model"]
    lines = []
    for part, answer in zip(parts, answers, strict=True):
        at, ellipse = answer["position"], answer["ellipse"]
        lines.append(
            [
                part.start,
                f"{at['latitude']:.6f}",
                f"{at['longitude']:.6f}",
                f"{ellipse['confidence_level']:.0%}",
                f"{ellipse['semi_major_axis_m']:.0f} × {ellipse['semi_minor_axis_m']:.0f}",
                f"{ellipse['rotation_degrees']:.0f}°",
                f"{answer['confidence']:.2f}",
                answer["model_version"],
            ]
        )
    return table(columns, lines)


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:
        raise UsageProblem(f"{path} cannot be written: {error.strerror or type(error).__name__}") from error


COMMANDS: dict[str, Callable[..., None]] = {"localize": localize}
