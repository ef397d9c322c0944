"""The repository as a run uses it: what it makes there says so, and is a draft where a person must approve it."""

from __future__ import annotations

from uqueue_config.learning.runs import RunConfig, RunRecord
from uqueue_worker.learning.crafting import ScenarioCrafter
from uqueue_worker.learning.interfaces import ScenarioRepositoryInterface
from uqueue_worker.learning.repository.crafters import FeatureCrafter
from uqueue_worker.learning.repository.repository import ScenarioRepository
from uqueue_worker.learning.repository.stored import CraftingRun


def on_behalf(repository: ScenarioRepositoryInterface, run: RunRecord) -> ScenarioRepositoryInterface:
    """Return the repository as it makes scenarios for a run's current cycle, with crafters in the run's order; one of
    another kind as it is."""
    if not isinstance(repository, ScenarioRepository):
        return repository
    config = run.config
    return repository.in_run(
        CraftingRun(
            run_id=run.run_id,
            cycle=run.cycle,
            seed=config.random_seed,
            jitter_sigma=config.jitter_sigma,
            draft=not config.auto_apply,
        ),
        _crafter(repository, config),
    )


def _crafter(repository: ScenarioRepository, config: RunConfig) -> FeatureCrafter | None:
    crafter = repository.crafter
    if isinstance(crafter, ScenarioCrafter):
        return crafter.in_order(config.crafter_order, config.random_seed)
    return crafter


def is_draft(repository: ScenarioRepositoryInterface, scenario_id: str) -> bool:
    """Tell whether a scenario waits for approval."""
    stored = repository.get_stored(scenario_id) if isinstance(repository, ScenarioRepository) else None
    return stored is not None and stored.draft


def promote(repository: ScenarioRepositoryInterface, scenario_id: str) -> None:
    """Offer a draft to others; nothing else has drafts."""
    if isinstance(repository, ScenarioRepository):
        repository.promote(scenario_id)
