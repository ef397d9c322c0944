"""The simulated scene, and the arithmetic of calibration and coverage."""

from __future__ import annotations

import numpy as np
import pytest

from uqueue_config.recipes import EnvelopeLogmel
from uqueue_worker.sample.localizer import waveform
from uqueue_worker.sample.localizer.assessment import best_temperature, coverages, squared_distances
from uqueue_worker.sample.localizer.graph import outputs_of
from uqueue_worker.sample.localizer.recordings import degrees
from uqueue_worker.sample.localizer.scene import (
    HALF_SIDE_M,
    ORIGIN,
    POWER_SIGMA_DB,
    RECEIVERS_M,
    Emitter,
    best_guess_m,
    draw_emitter,
    expected_snr_db,
)
from uqueue_worker.sample.localizer.waveform import WINDOW_SAMPLES, draw, hear, record


def test_far_away_power_falls_with_the_fourth_power_of_the_distance() -> None:
    first = np.array(RECEIVERS_M[0])
    near, far = expected_snr_db(first + np.array([[1000.0, 0.0], [2000.0, 0.0]]))[:, 0]
    assert near - far == pytest.approx(40 * np.log10(2), abs=0.05)
    # 17 dBm, 1 km, masts of 15 m and 1 m: (h1 h2 / d^2)^2 is -96.5 dB; noise of 192 kHz is -105.2 dBm.
    assert near == pytest.approx(17 - 96.5 + 105.2, abs=0.2)


def test_errors_are_common_to_all_receivers_and_own_to_each() -> None:
    rng = np.random.default_rng(0)
    emitters = [draw_emitter(rng) for _ in range(4000)]
    positions = np.array([one.position_m for one in emitters])
    errors = np.array([one.snr_db for one in emitters]) - expected_snr_db(positions)
    assert np.abs(positions).max() <= HALF_SIDE_M
    assert errors.std(axis=0) == pytest.approx([2**0.5] * 3, rel=0.06)
    assert np.cov(errors.T)[0, 1] == pytest.approx(POWER_SIGMA_DB**2, rel=0.15)


def test_the_same_seed_draws_the_same_samples_however_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    emitter, samples = draw(3, 1, 70)
    features = EnvelopeLogmel().features(samples)["mel_spectrogram"]
    for chunk in (64, 8):  # one process, and one per core
        monkeypatch.setattr(waveform, "_CHUNK", chunk)
        heard = hear(71, seed=3, stream=1)
        assert np.array_equal(heard.features[70], features[0])
        assert np.array_equal(heard.positions_m[70], emitter.position_m)
    assert samples.shape == (3, WINDOW_SAMPLES)
    assert samples.dtype == np.complex64
    assert not np.array_equal(draw(3, 2, 70)[1], samples)


def test_the_tone_stands_out_more_the_stronger_the_signal() -> None:
    """What the features keep of the power is the contrast between the tone and the noise."""

    def contrast(snr_db: float) -> float:
        emitter = Emitter(np.zeros(2), np.full(3, snr_db))
        features = EnvelopeLogmel().features(record(emitter, np.random.default_rng(5)))["mel_spectrogram"][0, 0]
        tone, noise = np.sort(features, axis=0)[-1], np.median(features, axis=0)
        return float(np.median(tone - noise))

    contrasts = [contrast(snr_db) for snr_db in (0.0, 10.0, 20.0, 30.0)]
    assert contrasts == sorted(contrasts)
    assert contrasts[-1] > contrasts[0] + 1


def test_samples_stay_within_full_scale() -> None:
    for index in range(20):
        assert np.abs(draw(0, 0, index)[1].view(np.float32)).max() < 1


def test_without_errors_the_best_guess_is_right() -> None:
    positions = np.array([[300.0, -200.0], [-640.0, 580.0]])
    assert best_guess_m(expected_snr_db(positions)) == pytest.approx(positions, abs=60)


def test_degrees_are_those_of_the_ellipsoid() -> None:
    from pyproj import Geod

    latitude, longitude = degrees(np.array([800.0, -600.0]))
    azimuth, _, distance = Geod(ellps="WGS84").inv(ORIGIN[1], ORIGIN[0], longitude, latitude)
    assert distance == pytest.approx(1000, abs=0.2)
    assert azimuth == pytest.approx(np.degrees(np.arctan2(800, -600)), abs=0.02)


def test_theta_turns_the_first_axis_counter_clockwise_from_east() -> None:
    errors = np.array([[30.0, 30.0], [30.0, -30.0], [0.0, 10.0]])
    found = squared_distances(errors, np.array([[100.0, 10.0, 45.0]] * 2 + [[10.0, 100.0, 0.0]]))
    assert found == pytest.approx([1800 / 100**2, 1800 / 10**2, 0.01])


@pytest.mark.parametrize("angle", [-170, -90, -20, 0, 45, 90, 179])
def test_outputs_hold_half_the_angle_of_the_direction(angle: float) -> None:
    direction = [np.cos(np.radians(angle)), np.sin(np.radians(angle))]
    _, uncertainties = outputs_of(np.array([[0.0, 0.0, 0.0, 1.0, *direction]]), temperature=2.0)
    assert uncertainties[0, 2] == pytest.approx(angle / 2)
    assert uncertainties[0, 1] / uncertainties[0, 0] == pytest.approx(np.e)


def test_calibrated_sigmas_cover_what_they_promise() -> None:
    rng = np.random.default_rng(1)
    sigmas = rng.uniform(20, 200, (20_000, 2))
    theta = rng.uniform(-90, 90, 20_000)
    along, across = (rng.standard_normal((20_000, 2)) * sigmas * 1.7).T  # the stated sigmas are too small
    cosine, sine = np.cos(np.radians(theta)), np.sin(np.radians(theta))
    errors = np.column_stack([along * cosine - across * sine, along * sine + across * cosine])
    temperature = best_temperature(squared_distances(errors, np.column_stack([sigmas, theta])))
    assert temperature == pytest.approx(1.7, rel=0.02)
    for factor, plausible in ((1.0, False), (temperature, True)):
        found = coverages(squared_distances(errors, np.column_stack([sigmas * factor, theta])), n_calibration=20_000)
        assert [one.level for one in found] == [0.68, 0.95]
        assert [one.inside_band for one in found] == [plausible] * 2
    low, high = found[0].binomial
    assert found[0].band[0] < low < 0.68 * 20_000 < high < found[0].band[1]


def test_the_band_counts_the_chance_in_the_calibration_too() -> None:
    """Simulated: sigmas calibrated with few errors, and the share of others inside; 99 of 100 are in the band."""
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(120):
        temperature = best_temperature(rng.chisquare(2, 300))
        found = coverages(rng.chisquare(2, 3000) / temperature**2, n_calibration=300)
        inside += all(one.inside_band for one in found)
    assert inside >= 113
