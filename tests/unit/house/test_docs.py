"""The reference pages are what the code says, and the pages that people write name what exists."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from uqueue_config.messages import Acknowledgement
from uqueue_config.names import JobState

ROOT = Path(__file__).parents[3]


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["settings.md", "errors.md", "cli.md"])
def test_reference_pages_are_up_to_date(page: str) -> None:
    written = (ROOT / "docs/reference" / page).read_text()
    assert written == load_generator().PAGES[page](), "run: python docs/generate.py"


def test_concepts_explain_every_state() -> None:
    text = (ROOT / "docs/concepts.md").read_text()
    states = [state.value for state in JobState]
    states += list(Acknowledgement.model_fields["state"].annotation.__args__)  # type: ignore[union-attr]
    assert [state for state in states if f"`{state}`" not in text] == []


PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), f"{page} links to {target}"


def test_documents_name_only_settings_that_exist() -> None:
    from uqueue_config.learning.settings import LearningSettings
    from uqueue_config.settings import Settings

    known = {f"UQUEUE_{name.upper()}" for name in Settings.model_fields} | {"UQUEUE_LEARNING"}
    known |= {f"UQUEUE_LEARNING_{name.upper()}" for name in LearningSettings.model_fields}
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        named = set(re.findall(r"UQUEUE_[A-Z_]+[A-Z]", page.read_text()))
        assert named <= known | {"UQUEUE_EXTRAS"}, page


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150
