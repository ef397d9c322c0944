"""From parameters to the definition of a crafted scenario: its id, its texts and its tags."""

from __future__ import annotations

from typing import Any

from uqueue_worker.learning.crafting.context import CraftingContext
from uqueue_worker.learning.crafting.drafts import Draft
from uqueue_worker.learning.crafting.families import Family
from uqueue_worker.learning.scenarios.parameters import FamilyParameters

CATEGORY = "ACTIVE_LEARNING_TARGETED"
CRAFTED_ID = "alm_crafted_"


def draft(
    context: CraftingContext,
    family: Family,
    parameters: FamilyParameters,
    index: int,
    rationale: str,
    effect: dict[str, Any],
    class_label: str | None = None,
    related: tuple[str, ...] = (),
) -> Draft:
    """Return the `index`-th draft of a spot, from 0. Raises as the family does for parameters that it refuses.

    It is tagged with `class_label`, or else with the class of its family, so that it is found by what it shows.
    """
    number = "" if index == 0 else f"_{index + 1}"
    label = class_label or _label(context, family)
    scenario = family(
        f"{context.base_id}{number}",
        f"{family.__name__} for {context.base_id}{number}"[:500],
        rationale,
        category=CATEGORY,
        tags=_tags(context, label),
        author="ActiveLearningManager",
        related_scenario_ids=list(related),
        **parameters.to_dict(),
    )
    return Draft(scenario.to_definition(), rationale, effect)


def weakness_of(base_id: str) -> str | None:
    """Return the weak spot that `alm_crafted_<weakness id>` is for; None for an id of another form."""
    return base_id[len(CRAFTED_ID) :] if base_id.startswith(CRAFTED_ID) and base_id != CRAFTED_ID else None


def _label(context: CraftingContext, family: Family) -> str:
    shown = context.target_class if context.class_family is family else None
    return shown or context.families.label_of(family)


def _tags(context: CraftingContext, label: str) -> list[str]:
    weakness = weakness_of(context.base_id)
    found = ["alm_generated", f"class_{label}"]
    found += [f"sensor_{context.sensor_type}"] if context.sensor_type else []
    return found + ([f"alm_focus_{weakness}"[:500]] if weakness else [])
