"""The demo's classifier as what a learning worker learns about, unless a setting names something else."""

from __future__ import annotations

from uqueue_worker.learning.crafting.families import ClassFamilies
from uqueue_worker.learning.demo.drawing import story_distribution, story_generator
from uqueue_worker.learning.demo.story import CLASS_OF_EVENT, CLASSES, FEATURE_SPEC, NAME
from uqueue_worker.learning.subject import Subject


def fire_precursors() -> Subject:
    """Return the classifier of fire precursors, whose start model has three blind spots (`story.unseen`)."""
    generator = story_generator()
    return Subject(
        model=NAME,
        name=NAME,
        classes=CLASSES,
        features=FEATURE_SPEC,
        generator=generator,
        deployment=story_distribution("deployment", generator),
        start=story_distribution("start", generator),
        families=ClassFamilies.of_events(CLASS_OF_EVENT),
    )
