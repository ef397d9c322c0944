"""The list of models: what a file may say, what it must not, and which jobs a canary answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqueue_config.catalog import Catalog, ModelSpec
from uqueue_config.errors import SettingsError
from uqueue_config.settings import Settings

TWO_MODELS = """
[models.energy]
source = "s3://models/team/a?version=@stable"
target_unit = "kWh"
target_scale = [2.0]
nominal_coverage = 0.9

[models.energy.canary]
source = "s3://models/team/a?version=@canary"
share = 0.25

[models.energy.shadow]
source = "/srv/next"

[models.heating]
load = "on-demand"
forward_mode = "deterministic"
memory_limit_bytes = 1000000
"""


def catalog(folder: Path, text: str, **settings: object) -> Catalog:
    path = folder / "models.toml"
    path.write_text(text)
    return Catalog.load(Settings.load({"UQUEUE_MODELS": str(path)}, **settings))


def test_without_a_file_there_is_one_model_as_the_settings_say() -> None:
    settings = Settings.load({"UQUEUE_FORWARD_MODE": "deterministic", "UQUEUE_TARGET_UNIT": "kWh"})
    [spec] = Catalog.load(settings).models.values()
    assert (spec.name, spec.forward_mode, spec.target_unit, spec.source) == ("mccp-uq", "deterministic", "kWh", None)
    assert list(spec.tracks) == [("mccp-uq", None)]


def test_what_an_entry_leaves_out_is_as_the_settings_say(tmp_path: Path) -> None:
    found = catalog(tmp_path, TWO_MODELS, target_unit="MWh", artifact_source="/srv/models")
    energy, heating = found.models.values()
    assert found.tracks == ("energy", "energy@canary", "energy@shadow", "heating")
    assert dict(energy.tracks)["energy@shadow"] == "/srv/next"
    assert (energy.target_unit, energy.target_scale, energy.nominal_coverage) == ("kWh", (2.0,), 0.9)
    assert (heating.source, heating.target_unit, heating.on_demand) == ("/srv/models", "MWh", True)
    assert (heating.forward_mode, heating.memory_limit_bytes) == ("deterministic", 1_000_000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "models: Field required"),
        ("models = 3", "models: Input should be a valid dictionary"),
        ("[models]", "models: Dictionary should have at least 1 item"),
        ("[models.energy", "it is not TOML"),
        ("[models.energy]\nsauce = 1", "models.energy.sauce: no such setting"),
        ("[models.energy]\nsource = 'gopher://x'", "models.energy.source: expected an absolute path"),
        ("[models.energy]\nforward_mode = 'mean'", "models.energy.forward_mode: Input should be 'dropout'"),
        ("[models.energy]\ntarget_scale = [0]", "models.energy.target_scale: expected numbers above 0"),
        ("[models.energy]\nnominal_coverage = 1.5", "models.energy.nominal_coverage: Input should be less than 1"),
        ("[models.energy.canary]\nsource = '/a'", "models.energy.canary.share: Field required"),
        ("[models.energy.canary]\nsource = '/a'\nshare = 1", "models.energy.canary.share: Input should be less than 1"),
        ("[models.'en ergy']", "models.en ergy: String should match"),
        ("[models.energy]\nsource = 'models:/energy@a'", "set UQUEUE_MLFLOW_TRACKING_URL"),
        ("x = " + "[" * 5000, "it is not TOML"),
        ("#" * 2_000_000, "it has more than"),
    ],
)
def test_a_wrong_file_is_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        catalog(tmp_path, text)
    assert said in caught.value.message
    assert "models.toml (UQUEUE_MODELS)" in caught.value.message


def test_all_problems_come_at_once_and_a_missing_file_is_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        catalog(tmp_path, "[models.a]\nx = 1\n[models.b]\nengine = 'jax'")
    assert len(caught.value.problems) == 2
    with pytest.raises(SettingsError, match="cannot be read"):
        Catalog.load(Settings.load({"UQUEUE_MODELS": str(tmp_path / "none.toml")}))


def spec_with(share: float) -> ModelSpec:
    return ModelSpec("energy", None, "dropout", "auto", (), (), None, canary_source="/a", canary_share=share)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.99])
def test_the_share_of_keys_lies_in_its_binomial_band(share: float) -> None:
    keys = 10_000
    canaries = sum(spec_with(share).is_canary(f"customer {number}") for number in range(keys))
    deviation = (keys * share * (1 - share)) ** 0.5
    assert abs(canaries - keys * share) < 4 * deviation


@given(st.text(), st.floats(0.001, 0.5), st.floats(0.5, 0.999))
def test_a_key_stays_where_it_is_and_a_larger_share_only_adds(key: str, small: float, large: float) -> None:
    assert spec_with(small).is_canary(key) == spec_with(small).is_canary(key)
    assert not spec_with(small).is_canary(key) or spec_with(large).is_canary(key)
    assert not spec_with(0.0).is_canary(key)
