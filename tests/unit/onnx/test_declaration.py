"""What a localization model may declare, and what is refused."""

from __future__ import annotations

import json

import pytest

from uqueue_config.localization import Declaration, ModelCard
from uqueue_worker.artifacts.declaration_file import DeclarationFile


def refused(**members: object) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is what is looked at
        Declaration.read(members)
    return str(caught.value)


def test_what_is_not_declared_falls_back_and_is_named() -> None:
    nothing = Declaration.read({})
    assert nothing.defaulted == (
        "output_encoding",
        "position_encoding",
        "feature_recipe",
        "sample_rate_hz",
        "receivers",
    )
    assert (nothing.output_encoding, nothing.position_encoding) == ("degrees-latlon-sigma", "degrees")
    assert nothing.input_shape == (3, 128, 32)
    assert nothing.recipe().parameters == {"sample_rate_hz": 192_000.0, "receivers": 3}
    assert Declaration.read({"receivers": "3", "sample_rate_hz": "12500.0"}).defaulted == nothing.defaulted[:3]


def test_tags_are_text_and_win_over_the_manifest() -> None:
    tags = {
        "position_encoding": "zscore_offset_m",
        "origin": "52.0, 5.0",
        "mean": "[10, -20.5]",
        "sample_rate_hz": "12500",
        "mlflow.user": "somebody",
    }
    manifest = {"mean": [1, 2], "std": [1000.0, 2000.0], "semver": "1.2.0", "sha256": "AB" * 32, "weights": [1] * 50}
    read = Declaration.read(tags, manifest)
    assert (read.origin, read.mean, read.std) == ((52.0, 5.0), (10.0, -20.5), (1000.0, 2000.0))
    assert (read.sample_rate_hz, read.semver, read.sha256) == (12_500.0, "1.2.0", "ab" * 32)
    assert read.recipe().parameters["sample_rate_hz"] == 12_500.0


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"output_encoding": "metres"}, "output_encoding: input should be 'degrees-latlon-sigma'"),
        ({"position_encoding": "utm"}, "position_encoding: input should be 'degrees', 'offset_m'"),
        ({"output_encoding": "custom"}, "custom needs sigma_units and sigma_order"),
        ({"output_encoding": "custom", "sigma_units": "meters"}, "custom needs sigma_order"),
        ({"output_encoding": "metres-xy-sigma", "sigma_units": "degrees"}, "contradict metres-xy-sigma"),
        ({"position_encoding": "offset_m"}, "offset_m needs origin"),
        ({"position_encoding": "zscore_offset_m", "origin": "1,2"}, "zscore_offset_m needs mean and std"),
        ({"origin": "1"}, "origin: expected two numbers, got '1'"),
        ({"origin": "1,2,3"}, "expected two numbers"),
        ({"origin": "north"}, "expected two numbers"),
        ({"origin": [True, 1]}, "expected two numbers"),
        ({"origin": "91,0"}, "latitude and longitude in degrees"),
        ({"origin": "NaN,0"}, "origin: input should be a finite number"),
        ({"mean": [1e400, 0]}, "mean: input should be a finite number"),
        ({"std": "0,1"}, "std: expected numbers above 0"),
        ({"feature_recipe": "mfcc"}, "there is no feature recipe 'mfcc'; there is envelope-logmel-v1"),
        ({"sample_rate_hz": "-1"}, "sample_rate_hz: input should be greater than 0"),
        ({"sample_rate_hz": "fast"}, "sample_rate_hz: input should be a valid number"),
        ({"sample_rate_hz": True}, "sample_rate_hz: expected a number"),
        ({"receivers": "0"}, "receivers: input should be greater than or equal to 1"),
        ({"receivers": "2.5"}, "receivers: input should be a valid integer"),
        ({"sha256": "beef"}, "sha256: string should match pattern"),
        ({"semver": "1" * 100}, "semver: string should have at most 64 characters"),
    ],
)
def test_what_cannot_be_is_refused_in_words(members: dict[str, object], words: str) -> None:
    said = refused(**members)
    assert words in said
    assert len(said) < 300


def test_all_problems_are_named_at_once() -> None:
    said = refused(output_encoding="x", receivers="y")
    assert "output_encoding" in said
    assert "receivers" in said


def test_a_card_survives_its_way_through_redis() -> None:
    declaration = Declaration.read({"position_encoding": "offset_m", "origin": "52,5"})
    card = ModelCard(name="m", version="3", content="0" * 16, sha256="1" * 64, declaration=declaration)
    assert ModelCard.model_validate_json(card.model_dump_json(exclude_none=True)) == card


def test_the_file_is_canonical_and_bounded() -> None:
    parsed = DeclarationFile.parse(b'{"number": "3", "schema": 1, "declaration": {"origin": [52, 5]}, "other": 1}')
    assert parsed.to_json() == b'{"declaration":{"origin":[52,5]},"number":"3","schema":1}'
    assert DeclarationFile.parse(parsed.to_json()) == parsed
    for data, words in {
        b"": "all of it",
        b"[]": "all of it",
        b"{}": "declaration: Field required",
        b'{"declaration": []}': "declaration: Input should be an object",
        b'{"declaration": {}, "schema": 2}': "schema",
        b'{"declaration": {}, "number": "three"}': "number",
        json.dumps({"declaration": {"a": "x" * 70_000}}).encode(): "more than 65536 bytes",
        b'{"declaration": ' + b'{"a":' * 5000: "all of it",
    }.items():
        with pytest.raises(Exception, match="the declaration of the model cannot be used") as caught:
            DeclarationFile.parse(data)
        assert words in str(caught.value)
