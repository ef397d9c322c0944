"""Every error about a source or its checks has its place in docs/troubleshooting.md, with a message of its form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from uqueue_config.errors import (
    ArtifactMismatch,
    CalibrationMismatch,
    CoverageTooLow,
    GoldenMismatch,
    IncompleteArtifact,
    InvalidChecks,
    InvalidManifest,
    NothingPublished,
    SourceError,
    UqueueError,
    VersionTaken,
)

TEXT = (Path(__file__).parents[3] / "docs/troubleshooting.md").read_text()
KINDS = [
    *(SourceError, *SourceError.__subclasses__()),
    *(ArtifactMismatch, IncompleteArtifact, InvalidManifest, NothingPublished, VersionTaken),
    *(CalibrationMismatch, CoverageTooLow, GoldenMismatch, InvalidChecks),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_every_error_is_there_with_its_message(kind: type[UqueueError]) -> None:
    section = TEXT.partition(f"## `{kind.code}`\n")[2].partition("\n## ")[0]
    form = "(.+?)".join(re.escape(part) for part in re.split(r"\{\w+\}", kind._template()))
    messages = re.findall(r"^> (.+)$", section, flags=re.MULTILINE)
    assert messages
    assert [message for message in messages if not re.fullmatch(form, message)] == []
