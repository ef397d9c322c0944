"""What `uqueue doctor` says about folders with models."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.artifacts import write_workspace
from builders.ensembles import NAME, point, write_version
from uqueue.cli.sources import examine
from uqueue_config.settings import Settings


def finding(root: Path) -> tuple[str, str]:
    [found] = examine(Settings(workspace_root=root))
    return found.level, found.found


@pytest.mark.parametrize("name", ["model.h5", "model.pt"])
def test_a_model_of_either_kind_with_its_calibration_is_well(tmp_path: Path, name: str) -> None:
    model, state = write_workspace(tmp_path, model=b"not looked into")
    model.rename(model.with_name(name))
    assert finding(tmp_path) == ("ok", f"{tmp_path} holds a model and its calibration")
    state.unlink()
    assert finding(tmp_path) == ("fail", f"missing: {state}")


def test_two_models_are_one_too_many(tmp_path: Path) -> None:
    model, _ = write_workspace(tmp_path, model=b"not looked into")
    model.with_name("model.pt").write_bytes(b"another")
    assert finding(tmp_path) == ("fail", f"{model.parent} holds model.h5 and model.pt")


def test_a_file_that_lists_no_models_is_a_finding(tmp_path: Path) -> None:
    [found] = examine(Settings(models=tmp_path / "none.toml"))
    assert (found.level, "cannot be read" in found.found) == ("fail", True)


def test_the_version_of_a_classifier_that_is_to_be_served(tmp_path: Path) -> None:
    def looked_at(source: str) -> tuple[str, str]:
        models.write_text(f'[models.{NAME}]\nengine = "onnx-classifier"\nsource = "{source}"\n')
        [found] = examine(Settings(models=models))
        return found.level, found.found

    models, root = tmp_path / "models.toml", tmp_path / "classifiers"
    assert looked_at(str(root))[0] == "fail"
    write_version(root, "1", aliases=["production"])
    assert looked_at(str(root)) == ("ok", f"{root / NAME} holds version 1")
    assert looked_at(f"{root}?version=@latest") == ("ok", f"{root / NAME} holds 1 versions")
    point(root, "production", "2")
    level, said = looked_at(str(root))
    assert (level, said.count(f"{root / NAME / '2'}/")) == ("fail", 2)
