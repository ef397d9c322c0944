"""Evaluating a classifier through the queue, beside what the lane answers of the same chunks by itself.

    python benchmarks/learning_queue.py [--quick] [--samples 100000] [--trees 120] [--processes 1]

lane        all chunks wait in the queue, and a worker answers them: nobody reads, nobody evaluates
first       an evaluation of an Avro file that is not known yet: its samples are decoded, which is most of what the
            evaluating program does
again       an evaluation of another version on the same file, whose columns were kept; so are all later ones of a
            campaign
unchanged   the first evaluation once more: all results are there already

Every evaluation but the last is computed: each asks a version of its own. By default the worker has one process, so
that on two cores the evaluating program does not take from it what it measures. `peak_mb` is how much the memory of
the evaluating program grew meanwhile.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import uqueue
from contenders import LANE
from drain import drain
from part import measure_part, parser, say
from processes import Bench, bench
from startup import wait_until_ready
from uqueue_config.learning.model_manifest import Feature
from uqueue_config.names import result_key
from uqueue_worker.learning.avro.writing import write_samples
from uqueue_worker.learning.models.datasets import open_dataset
from uqueue_worker.learning.models.features import FeatureSpec
from uqueue_worker.learning.models.queue import Progress, QueueBackedModelInterface
from uqueue_worker.learning.models.queue.chunks import chunks_of
from uqueue_worker.learning.models.training import ForestSettings, train
from uqueue_worker.learning.models.writing import set_alias, write_forest

MODEL = "bench"
CLASSES = ("normal", "smouldering", "combustion", "arcing", "corona", "overheating")
VOC = tuple(
    f"voc_channel_{name}_ppb" for name in ("1_formaldehyde", "4_phenol", "6_guaiacol", "7_general", "8_general")
)
PM = tuple(f"mass_concentration_pm{size}_micrograms_per_m3" for size in ("2_5", "10_0"))
SCALARS = ("U21_SHT85__air_temperature_celsius", "U21_SHT85__relative_humidity_percent", "U24_FT205__wind_speed_mps")
READING = "sensor_readings_map.readings"
FEATURES = tuple(
    Feature(path=path)
    for path in (
        *(f"{READING}.U19_TFSGS.{name}" for name in VOC),
        *(f"{READING}.U20_SPS30.{name}" for name in PM),
        f"{READING}.U29_TFEMF.ac_field_strength_microteslas",
        f"{READING}.U29_TFEMF.dominant_frequency_hz",
        f"{READING}.U27_SPU0410HR5H.sound_pressure_level_db",
        f"{READING}.U27_SPU0410HR5H.dominant_frequency_hz",
        *(f"sample_metadata.{name}" for name in SCALARS),
    )
)
START = datetime(2026, 1, 1, tzinfo=UTC)


def samples(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield labelled samples with the fourteen features, as the data generator exports them."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        kind = number % len(CLASSES)
        v = np.abs(generator.normal(10 + 3 * kind, 5, len(FEATURES))).tolist()
        moment = START + timedelta(seconds=number)
        yield {
            "sample_id": f"{seed:04d}-{number:08d}",
            "scenario_id": f"scenario-{number % 97}",
            "scenario_timestep_seconds": float(number),
            "generation_timestamp_utc": moment,
            "sensor_readings_map": {
                "map_timestamp_utc": moment,
                "readings": {
                    "U19_TFSGS": _reading("voc", "TFSGS_MULTI2_ENV", "U19_TFSGS", moment, zip(VOC, v[:5], strict=True)),
                    "U20_SPS30": _reading(
                        "pm", "SENSIRION_SPS30", "U20_SPS30", moment, zip(PM, sorted(v[5:7]), strict=True)
                    ),
                    "U29_TFEMF": _reading(
                        "emf",
                        "TF_EMF_PWR1",
                        "U29_TFEMF",
                        moment,
                        (("ac_field_strength_microteslas", v[7]), ("dominant_frequency_hz", 1 + v[8])),
                    ),
                    "U27_SPU0410HR5H": _reading(
                        "acoustic",
                        "KNOWLES_SPU0410HR5H",
                        "U27_SPU0410HR5H",
                        moment,
                        (("sound_pressure_level_db", v[9]), ("dominant_frequency_hz", 1 + v[10])),
                    ),
                },
            },
            "ground_truth_labels": {
                "label_timestamp_utc": moment,
                "scenario_id": f"scenario-{number % 97}",
                "event_type": CLASSES[kind],
                "event_subtype": None,
                "is_anomaly": kind > 0,
                "anomaly_severity_score": None,
                "anomaly_tags": [],
                "scenario_specific_details": None,
                "sensor_specific_ground_truth": None,
            },
            "extracted_class_label": CLASSES[kind],
            "sample_metadata": dict(zip(SCALARS, v[11:], strict=True)),
        }


def _reading(kind: str, model: str, sensor: str, moment: datetime, values: Any) -> dict[str, Any]:
    base = {"sensor_id": sensor, "sensor_type_general": kind, "timestamp_sensor_local": moment, "status_flags": []}
    base |= {"reading_quality_score": 1.0, "reading_confidence": 1.0}
    own = {f"{kind}_sensor_type_specific": model, f"{kind}_status_flags_specific": []}
    return {"base_data": base, **own, **dict(values)}


class QueueTest:
    """Measures with a folder of models and one data set."""

    def __init__(self, folder: Path, count: int, trees: int, processes: int, runs: int) -> None:
        self._folder = folder
        self._count = count
        self._processes = processes
        self._runs = runs
        say(f"training {2 * runs} forests of {trees} trees")
        known = list(samples(600, seed=1))
        for version in range(2 * runs):
            fitted = train(known, FEATURES, CLASSES, seed=version, settings=ForestSettings(trees))
            written = write_forest(folder / "models", MODEL, fitted, key=f"run-{version}")
        set_alias(folder / "models", MODEL, "production", written.version)
        say(f"writing {count} samples")
        write_samples(folder / "pool.avro", samples(count, seed=2))

    def measure(self) -> dict[str, Any]:
        (self._folder / "models.toml").write_text(
            f'[models.{MODEL}]\nengine = "onnx-classifier"\nsource = "{self._folder / "models"}"\n'
        )
        environment = {**LANE.environment, "UQUEUE_MODELS": str(self._folder / "models.toml")}
        with (
            bench(environment, workspace=self._folder, hiredis=LANE.has_hiredis) as here,
            here.worker(f"{LANE.worker} --concurrency {self._processes}") as worker,
            uqueue.Client(uqueue.Settings.load(here.environment)) as client,
        ):
            wait_until_ready(client, worker, self._processes)
            versions = self._interface(client).list_versions()
            lanes = [self._drained(here, worker, client) for _ in range(self._runs)]
            phases = [("first", version) for version in versions[::2]] + [("again", one) for one in versions[1::2]]
            found: dict[str, list[dict[str, float]]] = {"first": [], "again": [], "unchanged": []}
            for phase, version in [*phases, ("unchanged", versions[0])]:
                columns = f"columns-{version}" if phase == "first" else f"columns-{versions[0]}"
                found[phase].append(self._evaluated(here, phase, version, columns))
        lane = statistics.median(lanes)
        rates = {phase: statistics.median(one["samples_per_second"] for one in some) for phase, some in found.items()}
        return {
            "samples": self._count,
            "processes": self._processes,
            "runs": self._runs,
            "lane_samples_per_second": round(lane),
            "evaluations": {
                phase: {
                    "samples_per_second": round(rate),
                    "share_of_lane": round(rate / lane, 3),
                    "peak_mb": round(max(one["peak_mb"] for one in found[phase]), 1),
                }
                for phase, rate in rates.items()
            },
        }

    def _drained(self, here: Bench, worker: Any, client: uqueue.Client) -> float:
        """Return the rows per second of the lane for all chunks of the data set."""
        say("the lane by itself")
        manifest_spec = FeatureSpec(FEATURES)
        dataset = open_dataset(self._folder / "pool.avro", [self._folder])
        with worker.paused():
            keys = [
                result_key(client.submit(table.matrix, MODEL).id)
                for table in chunks_of(dataset, manifest_spec, 128, None).tables
            ]
        per_second = drain(here, worker, keys, processes=self._processes)["jobs_per_second"]
        return per_second * self._count / len(keys)

    def _evaluated(self, here: Bench, phase: str, version: str, columns: str) -> dict[str, float]:
        """Return how an evaluation in a process of its own went."""
        say(f"evaluating, {phase}")
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        arguments = (self._folder, here.environment, version, columns, self._count, results)
        process = context.Process(target=evaluate, args=arguments)
        process.start()
        found: dict[str, float] = results.get(timeout=1800)
        process.join()
        return found

    def _interface(self, client: uqueue.Client) -> QueueBackedModelInterface:
        return QueueBackedModelInterface(root=self._folder / "models", name=MODEL, client=client)


def evaluate(folder: Path, environment: dict[str, str], version: str, columns: str, count: int, results: Any) -> None:
    """Evaluate once, show how far it is, and put samples per second and growth of memory into `results`."""
    shown, program = [0], psutil.Process()
    held = [program.memory_info().rss]

    def show(progress: Progress) -> None:
        held.append(program.memory_info().rss)
        if progress.samples_done - shown[0] >= count / 10 and not progress.explaining:
            shown[0] = progress.samples_done
            say(f"  {progress.samples_done} samples, {progress.jobs_in_flight} jobs in flight")

    with uqueue.Client(uqueue.Settings.load(environment)) as client:
        interface = QueueBackedModelInterface(
            root=folder / "models",
            name=MODEL,
            client=client,
            data_roots=[folder],
            columns_folder=folder / columns,
            on_progress=show,
        )
        # A version is loaded for its first job; the lane by itself had it loaded, too.
        client.submit(
            np.zeros((1, len(FEATURES)), np.float32), MODEL, version=interface.pinned(version).content
        ).result()
        held = [program.memory_info().rss]
        began = time.perf_counter()
        found = interface.get_model_performance_feedback(
            evaluation_dataset=folder / "pool.avro", model_version_tag=version
        )
        seconds = time.perf_counter() - began
    if found.n_samples != count or found.n_failed:
        sys.exit(f"{found.n_samples} samples, {found.n_failed} failed: {json.dumps(found.warnings)}")
    results.put({"samples_per_second": count / seconds, "peak_mb": (max(held) - held[0]) / 1e6})


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--samples", type=int, help="how many; 100,000 unless quick")
    options.add_argument("--trees", type=int, default=120, help="of the forest")
    options.add_argument("--processes", type=int, default=1, help="of the worker")
    given = options.parse_args()
    count = given.samples or (3_000 if given.quick else 100_000)

    def measure() -> dict[str, Any]:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            runs = 1 if given.quick else 3
            return QueueTest(Path(folder), count, given.trees, given.processes, runs).measure()

    measure_part("learning_queue", given, measure)


if __name__ == "__main__":
    main()
