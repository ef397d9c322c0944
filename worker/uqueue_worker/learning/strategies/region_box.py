"""Whether a region of one cycle is that of an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def same_region(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> bool:
    """Tell whether the true class agrees and the later spot's medoid lies in the earlier spot's box, edges included.

    Spots without a box, or of other parameters than each other, are not the same region.
    """
    box, position = earlier["details"].get("region"), later["details"].get("medoid_position")
    if not box or not position or earlier["details"].get("true_label") != later["details"].get("true_label"):
        return False
    return box.keys() == position.keys() and all(
        bounds["min"] <= position[name] <= bounds["max"] for name, bounds in box.items()
    )
