"""The data generator: scenarios in, labelled samples out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from pydantic import ValidationError

from uqueue_config.learning.problems import problems_of
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.avro import SchemaSet, sample_record, write_samples
from uqueue_worker.learning.dataset_statistics import compute_dataset_statistics
from uqueue_worker.learning.errors import ActiveLearningError, GenerationFailed, ScenarioInvalid
from uqueue_worker.learning.exports import SUFFIXES, check_installed, write_table
from uqueue_worker.learning.scenarios import BaseScenario
from uqueue_worker.learning.simulator import EnvironmentOrchestrator, Imperfections, SensorUnit
from uqueue_worker.learning.simulator.runs import RunReport, Simulator, derived_seed, run, take_samples

Sample = dict[str, Any]
AnyScenario = BaseScenario | ScenarioDefinition | Mapping[str, Any]
Modification = Mapping[str, Any] | Callable[[ScenarioDefinition, np.random.Generator], AnyScenario]
FORMATS = ("list_of_dicts", "avro", *SUFFIXES)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_UNKNOWN_DURATION_SECONDS = 3600.0
_MAX_SAMPLES = 1_000_000
_log = structlog.get_logger("uqueue.learning.generator")


class MLDataGenerator:
    """Runs scenarios in the simulator and takes samples of them.

    The same seed, scenarios and counts give the same samples and, with the same `clock`, the same file. After each
    call `reports` says for each scenario how many samples were requested and generated. A scenario is a BaseScenario,
    a definition or a mapping of one; definitions run if their family is registered.
    """

    data_generator_version = "0.1.0"

    def __init__(
        self,
        grid_guardian: SensorUnit | None = None,
        environment_orchestrator: EnvironmentOrchestrator | None = None,
        simulation_engine_version: str = "0.0.0-unknown",
        default_time_step_seconds: float = 1.0,
        default_output_dir: str | Path = "ml_datasets",
        schema_base_dir: str | Path | None = None,
        *,
        seed: int = 0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.grid_guardian = grid_guardian or SensorUnit()
        self.environment_orchestrator = environment_orchestrator or EnvironmentOrchestrator()
        self.simulation_engine_version = simulation_engine_version
        self.default_time_step_seconds = _step(default_time_step_seconds)
        self.default_output_dir = Path(default_output_dir)
        self.reports: tuple[RunReport, ...] = ()
        self._schemas = SchemaSet(schema_base_dir)
        self._seed = seed
        self._clock = clock

    def generate_training_dataset(
        self,
        scenarios: Sequence[AnyScenario],
        samples_per_scenario: int | Sequence[int],
        output_format: str = "list_of_dicts",
        dataset_name: str = "training",
        imperfection_settings: Imperfections | Mapping[str, Any] | None = None,
        time_step_seconds: float | None = None,
        seed: int | None = None,
    ) -> list[Sample] | str | None:
        """Return raw samples, or the path of a file of them; None if a simulation failed or the file could not be
        written, which is logged.

        Sample times are spread over each scenario's whole duration. Raises ValueError for counts, settings or a format
        that make no sense, and ScenarioInvalid, ScenarioParameterError or UnknownScenarioClass for a scenario that
        cannot be built; nothing has run then. Raises GenerationFailed where the library of a format is not installed.
        """
        counts = _counts(samples_per_scenario, len(scenarios))
        _check_format(output_format)
        _check_name(dataset_name)
        simulator = self._simulator(imperfection_settings, time_step_seconds)
        built = [_built(scenario) for scenario in scenarios]
        start = self._seed if seed is None else seed
        try:
            samples, self.reports = _all_samples(built, counts, start, simulator)
        except GenerationFailed as error:
            _log.error("generation failed", error_code=error.code, message=error.message)
            return None
        return samples if output_format == "list_of_dicts" else self.export(samples, output_format, dataset_name)

    def generate_balanced_dataset(
        self,
        scenarios_and_configs: Sequence[Mapping[str, Any]],
        label_extractor: Callable[[Sample], str | None],
        max_samples_per_scenario_run: int = 10_000,
    ) -> list[Sample]:
        """Return raw samples with so many of each label as asked for, and `extracted_class_label` set.

        Each entry has scenario, target_label_key, target_label_value and samples_needed: that many samples whose
        labels have that value, from at most `max_samples_per_scenario_run`. Fewer are reported in `reports`.
        """
        simulator = self._simulator(None, None)
        found: list[Sample] = []
        reports = []
        for position, entry in enumerate(scenarios_and_configs):
            scenario, needed = _built(entry["scenario"]), _count(entry["samples_needed"])
            seed = derived_seed(self._seed, "balanced", position)
            wanted = (entry["target_label_key"], entry["target_label_value"])
            taken, report = _matching(scenario, wanted, needed, max_samples_per_scenario_run, seed, simulator)
            found += [{**sample, "extracted_class_label": label_extractor(sample)} for sample in taken]
            reports.append(report)
        self._report(reports)
        return found

    def generate_edge_cases(
        self,
        base_scenarios: Sequence[AnyScenario],
        modification_strategies: Mapping[str, Modification],
        target_count_per_strategy: int,
        samples_per_modified_scenario: int = 100,
    ) -> list[Sample]:
        """Return raw samples of modified scenarios; their metadata has `edge_case_strategy`.

        A strategy is a mapping that is merged into the parameters, or a function of the definition and a NumPy
        generator that returns a scenario. Base scenarios take turns until each strategy has its count of samples.
        """
        simulator = self._simulator(None, None)
        bases = [_built(base).to_definition() for base in base_scenarios]
        each = _count(samples_per_modified_scenario)
        if not bases or each == 0:
            raise ValueError("edge cases need a base scenario and at least one sample of each")
        found: list[Sample] = []
        reports: list[RunReport] = []
        for strategy, modification in modification_strategies.items():
            missing, turn = _count(target_count_per_strategy), 0
            while missing > 0:
                seed = derived_seed(self._seed, "edge", strategy, turn)
                base = bases[turn % len(bases)]
                scenario = _built(_modified(base, modification, np.random.Generator(np.random.PCG64(seed))))
                taken, report = _taken(scenario, min(each, missing), seed, simulator)
                reports.append(report)
                found += [_with_metadata(sample, edge_case_strategy=strategy) for sample in taken]
                missing, turn = missing - len(taken), turn + 1
                if not taken and turn >= len(bases):
                    break
        self._report(reports)
        return found

    def generate_temporal_sequences(
        self, scenario: AnyScenario, sequence_length: int, overlap: int = 0, max_total_samples: int = 10_000
    ) -> list[Sample]:
        """Return windows of consecutive samples of one run, one after another in a flat list.

        One sample is taken per time step, at most `max_total_samples`: n of them make 1 + floor((n - L) / (L - o))
        windows of length L with overlap o, none for n < L. Their metadata has sequence_id, sequence_index and
        sequence_total_length. Raises ValueError if the overlap is not smaller than the length.
        """
        length, shared = _count(sequence_length), _count(overlap)
        if shared >= length:
            raise ValueError("overlap must be smaller than sequence_length")
        built = _built(scenario)
        step = self.default_time_step_seconds
        n_samples = min(int(_duration(built) / step + 1e-9), _count(max_total_samples))
        times = [number * step for number in range(n_samples)]
        samples = list(run(built, times, derived_seed(self._seed, "sequence"), self._simulator(None, None)))
        self._report([RunReport(built.scenario_id, n_samples, len(samples), 1)])
        found: list[Sample] = []
        for number, start in enumerate(range(0, len(samples) - length + 1, length - shared)):
            told = {"sequence_id": f"{built.scenario_id}_seq{number}", "sequence_total_length": length}
            window = samples[start : start + length]
            found += [_with_metadata(sample, **told, sequence_index=index) for index, sample in enumerate(window)]
        return found

    def compute_dataset_statistics(
        self, dataset: Iterable[Mapping[str, Any]], label_key: str = "event_type"
    ) -> dict[str, Any]:
        """Return figures of raw or exported samples: see `dataset_statistics`."""
        return compute_dataset_statistics(dataset, label_key)

    def export(self, samples: Sequence[Sample], output_format: str, dataset_name: str) -> list[Sample] | str | None:
        """Return the exported samples, or the path of the file that they were written to, whole or not at all.

        Formats are `list_of_dicts`, `avro`, and the tables `dataframe_csv`, `dataframe_parquet` and `hdf5` (extra
        `learning-export`), which are for other programs: this library reads lists and Avro. Samples whose values
        cannot be are set aside beside the file; more than 5 % of them, or a file that cannot be written, give None and
        a log line. Raises ValueError for a format that there is not, and GenerationFailed for a name that is more than
        a name and for a format whose library is not installed.
        """
        _check_format(output_format)
        _check_name(dataset_name)
        try:
            now = self._clock()
            records = [
                sample_record(sample, seed=self._seed, index=index, generated=now)
                for index, sample in enumerate(samples)
            ]
            if output_format == "list_of_dicts":
                return records
            return self._write(records, output_format, dataset_name)
        except (ActiveLearningError, OSError) as error:
            _log.error("export failed", dataset=dataset_name, reason=str(error))
            return None

    _export_data = export

    def _write(self, records: list[Sample], output_format: str, name: str) -> str:
        told = {
            "uqueue.simulation_engine_version": self.simulation_engine_version,
            "uqueue.data_generator_version": self.data_generator_version,
        }
        folder = self.default_output_dir
        if output_format == "avro":
            report = write_samples(folder / f"{name}.avro", records, schemas=self._schemas, metadata=told)
            path, written, rejected = report.path, report.written, len(report.rejected)
        else:
            table = write_table(folder, name, output_format, records, schemas=self._schemas, metadata=told)
            path, written, rejected = table.path, table.written, table.rejected
        _log.info("data set written", dataset=name, written=written, rejected=rejected)
        return str(path)

    def _simulator(self, imperfections: Any, time_step_seconds: float | None) -> Simulator:
        step = self.default_time_step_seconds if time_step_seconds is None else _step(time_step_seconds)
        settings = None
        if imperfections is not None:
            try:
                settings = Imperfections.model_validate(imperfections)
            except ValidationError as error:
                raise ValueError(f"imperfection_settings: {problems_of(error)}") from None
        return Simulator(self.environment_orchestrator, self.grid_guardian, step, settings)

    def _report(self, reports: Sequence[RunReport]) -> None:
        self.reports = tuple(reports)
        _warn_of_shortage(reports)


def _all_samples(
    scenarios: Sequence[BaseScenario], counts: Sequence[int], seed: int, simulator: Simulator
) -> tuple[list[Sample], tuple[RunReport, ...]]:
    found: list[Sample] = []
    reports = []
    for position, (scenario, count) in enumerate(zip(scenarios, counts, strict=True)):
        taken, report = _taken(scenario, count, derived_seed(seed, position, scenario.scenario_id), simulator)
        found += taken
        reports.append(report)
    _warn_of_shortage(reports)
    return found, tuple(reports)


def _taken(scenario: BaseScenario, count: int, seed: int, simulator: Simulator) -> tuple[list[Sample], RunReport]:
    try:
        return take_samples(scenario, count, _duration(scenario), seed, simulator)
    except Exception as error:  # a family is code that others may register; whatever it raises is this scenario's
        reason = f"scenario {scenario.scenario_id} stopped with {type(error).__name__}: {error}"
        raise GenerationFailed(reason=reason[:500]) from error


def _matching(
    scenario: BaseScenario, wanted: tuple[str, Any], needed: int, limit: int, seed: int, simulator: Simulator
) -> tuple[list[Sample], RunReport]:
    """Return `needed` samples whose labels have the value wanted, in runs of growing size.

    Where a run has more than are missing, they are drawn from all of it and not from its beginning.
    """
    key, value = wanted
    found: list[Sample] = []
    produced, runs, size = 0, 0, needed
    while len(found) < needed and produced < limit:
        run_seed = derived_seed(seed, runs)
        taken, report = _taken(scenario, min(size, limit - produced), run_seed, simulator)
        fitting = [sample for sample in taken if sample["labels"].get(key) == value]
        random = np.random.Generator(np.random.PCG64(run_seed))
        kept = random.permutation(len(fitting))[: needed - len(found)]
        found += [fitting[place] for place in sorted(kept.tolist())]
        produced, runs, size = produced + len(taken), runs + report.runs, max(2 * size, 16)
        if not taken:
            break
    return found, RunReport(scenario.scenario_id, needed, len(found), runs)


def _built(scenario: AnyScenario) -> BaseScenario:
    """Return the scenario that runs; samples of a definition carry the definition's id."""
    if isinstance(scenario, BaseScenario):
        if problems := scenario.validate():
            raise ScenarioInvalid(reason="; ".join(problems))
        return scenario
    built = BaseScenario.from_scenario_definition_dict(scenario)
    built.scenario_id = scenario["scenario_definition_id"]
    return built


def _modified(base: ScenarioDefinition, modification: Modification, random: np.random.Generator) -> AnyScenario:
    if not isinstance(modification, Mapping):
        return modification(base, random)
    return base.replace(specific_params_json=_merged(base.specific_params, modification))


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, change in changes.items():
        below = merged.get(name)
        both = isinstance(below, Mapping) and isinstance(change, Mapping)
        merged[name] = _merged(below, change) if both else change  # type: ignore[arg-type]
    return merged


def _with_metadata(sample: Sample, **told: Any) -> Sample:
    return {**sample, "sample_metadata": {**(sample.get("sample_metadata") or {}), **told}}


def _duration(scenario: BaseScenario) -> float:
    return scenario.expected_duration_seconds or _UNKNOWN_DURATION_SECONDS


def _warn_of_shortage(reports: Sequence[RunReport]) -> None:
    for report in reports:
        if report.generated < report.requested:
            told = {"requested": report.requested, "generated": report.generated, "runs": report.runs}
            _log.warning("fewer samples than requested", scenario_id=report.scenario_id, **told)


def _counts(given: int | Sequence[int], scenarios: int) -> list[int]:
    if isinstance(given, int):
        return [_count(given)] * scenarios
    if len(given) != scenarios:
        raise ValueError(f"samples_per_scenario has {len(given)} entries for {scenarios} scenarios")
    return [_count(count) for count in given]


def _count(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= _MAX_SAMPLES:
        raise ValueError(f"expected a whole number of samples, 0 to {_MAX_SAMPLES}")
    return given


def _step(seconds: float) -> float:
    if isinstance(seconds, bool) or not 0 < seconds < float("inf"):
        raise ValueError("a time step must be above 0 seconds")
    return float(seconds)


def _check_format(name: str) -> None:
    if name not in FORMATS:
        raise ValueError(f"there is no output format {name!r}; there are {', '.join(FORMATS)}")
    if name in SUFFIXES:
        check_installed(name)


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name:
        raise GenerationFailed(
            reason="the name of a data set has letters, digits, '_', '-' and single dots, at most 200, and no path"
        )
