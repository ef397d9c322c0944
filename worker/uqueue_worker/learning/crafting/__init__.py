"""Crafting: new scenarios aimed at what a model is weak at."""

from __future__ import annotations

from uqueue_worker.learning.crafting.context import CraftingContext, CraftingLimits, CraftingStrategy
from uqueue_worker.learning.crafting.crafter import ScenarioCrafter
from uqueue_worker.learning.crafting.drafts import Crafted, Draft, FeatureCrafter, RepositoryView
from uqueue_worker.learning.crafting.families import ClassFamilies
from uqueue_worker.learning.crafting.forward import ForwardModel
from uqueue_worker.learning.crafting.strategies import CRAFTERS, make_crafters, register_crafter

__all__ = [
    "CRAFTERS",
    "ClassFamilies",
    "Crafted",
    "CraftingContext",
    "CraftingLimits",
    "CraftingStrategy",
    "Draft",
    "FeatureCrafter",
    "ForwardModel",
    "RepositoryView",
    "ScenarioCrafter",
    "make_crafters",
    "register_crafter",
]
