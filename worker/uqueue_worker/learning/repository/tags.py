"""Tags that say what a scenario is for: written in one form, read in the older ones, too."""

from __future__ import annotations

from collections.abc import Iterable

GENERATED = "alm_generated"
_FOCUS = "alm_focus_"
_CLASS_FORMS = ("class_{}", "target_class_{}")
_SENSOR_FORMS = ("sensor_{}", "target_sensor_{}", "variation_for_sensor_{}", "exploration_sensor_{}", "type_{}")


def class_tag(label: str) -> str:
    return _CLASS_FORMS[0].format(label)


def sensor_tag(sensor_type: str) -> str:
    return _SENSOR_FORMS[0].format(sensor_type)


def focus_tag(weakness_id: str) -> str:
    return f"{_FOCUS}{weakness_id}"


def class_forms(label: str) -> list[str]:
    """Return the tags of which any says that a scenario is of this class."""
    return [form.format(label) for form in _CLASS_FORMS]


def sensor_forms(sensor_type: str) -> list[str]:
    """Return the tags of which any says that a scenario is for this type of sensor."""
    return [form.format(sensor_type) for form in _SENSOR_FORMS]


def names_a_class(tags: Iterable[str]) -> bool:
    prefixes = tuple(form.format("") for form in _CLASS_FORMS)
    return any(tag.startswith(prefixes) for tag in tags)


def without_focus(tags: Iterable[str]) -> list[str]:
    """Return the tags without those that name the weak spots of another scenario."""
    return [tag for tag in tags if not tag.startswith(_FOCUS)]


def joined(*groups: Iterable[str]) -> list[str]:
    """Return all tags in order, each once."""
    return list(dict.fromkeys(tag for group in groups for tag in group))


def focused(tags: Iterable[str]) -> list[str]:
    """Return the weak spots that tags name."""
    return [tag.removeprefix(_FOCUS) for tag in tags if tag.startswith(_FOCUS) and tag != _FOCUS]
