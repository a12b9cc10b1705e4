"""Fits find the constants that made the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autocomp.hardware_models import device
from autocomp.hardware_models.fitting.fit import Measured, Observation, changed, fit, left_out, observe
from autocomp.hardware_models.rates import Rates
from autocomp.search_spaces import SearchSpace
from tests.hardware_models.networks import Builder, mixed

FREE = ("macs_per_s.float", "dram_bytes_per_s", "inference_s")


def networks() -> list[SearchSpace]:
    spaces = [mixed(8), mixed(32)]
    for channels, pixels in ((64, 56), (256, 14), (512, 7)):
        b = Builder(channels, pixels)
        x = b.conv(0, channels)
        b.conv(b.conv(x, 2 * channels, 1), channels)
        spaces.append(b.space())
    return spaces


def observed(truth: Rates, noise: float = 0.0) -> list[Observation]:
    chip = device("ascend")
    rng = np.random.default_rng(0)
    found = []
    for i, space in enumerate(networks()):
        for batch in (1, 8, 64):
            workload = space.workload(np.zeros((1, len(space.knobs)), int), batch)
            one = observe(chip, workload, 1.0, f"network {i}")
            seconds = float(Measured.of([one]).predicted(truth)[0])
            found.append(replace(one, seconds=seconds * np.exp(noise * rng.normal())))
    return found


def test_observed_demand_gives_the_latency_of_the_device() -> None:
    chip = device("ascend")
    space = mixed()
    workload = space.workload(np.zeros((1, len(space.knobs)), int), 8)
    measured = Measured.of([observe(chip, workload, 1.0, "mixed")] * 2)
    expected = chip.costs(workload)[0].latency_ms / 1e3
    assert measured.predicted(chip.rates) == pytest.approx([expected, expected])


def test_a_fit_finds_the_constants_that_made_the_data() -> None:
    truth = device("ascend").rates
    start = changed(truth, {"macs_per_s.float": 1.5, "dram_bytes_per_s": 0.7, "inference_s": 2.0})
    observations = observed(truth)
    before = np.abs(np.log(Measured.of(observations).predicted(start) / Measured.of(observations).seconds))
    fitted = fit(start, observations, FREE)
    after = np.abs(np.log(Measured.of(observations).predicted(fitted) / Measured.of(observations).seconds))
    assert after.mean() < 0.02 < before.mean()
    assert fitted.inference_s == pytest.approx(truth.inference_s, rel=0.05)
    assert fitted.cache_bytes_per_s == truth.cache_bytes_per_s


def test_no_constant_grows_beyond_its_bound() -> None:
    truth = device("ascend").rates
    start = changed(truth, {"macs_per_s.float": 0.5})
    observations = observed(truth)
    assert fit(start, observations, FREE).macs_per_s["float"] > 1.5 * start.macs_per_s["float"]
    bounded = fit(start, observations, FREE, {"macs_per_s.float": 1.25})
    assert bounded.macs_per_s["float"] == pytest.approx(1.25 * start.macs_per_s["float"], rel=1e-3)
    errors = left_out(start, observations, FREE, {"macs_per_s.float": 1.25})
    assert np.abs(errors).mean() > 2 * np.abs(left_out(start, observations, FREE)).mean()


def test_one_wild_row_does_not_move_a_fit_far() -> None:
    truth = device("ascend").rates
    observations = observed(truth)
    observations[7] = replace(observations[7], seconds=observations[7].seconds * 10)
    fitted = fit(truth, observations, FREE)
    assert fitted.macs_per_s["float"] == pytest.approx(truth.macs_per_s["float"], rel=0.15)


def test_a_left_out_network_is_not_seen() -> None:
    truth = device("ascend").rates
    observations = observed(truth, noise=0.02)
    strange = [replace(one, seconds=one.seconds * 3) if one.group == "network 2" else one for one in observations]
    errors = left_out(truth, strange, FREE)
    mask = np.array([one.group == "network 2" for one in strange])
    assert np.all(errors[mask] < -0.5)


def test_factors_name_constants() -> None:
    rates = device("ascend").rates
    new = changed(rates, {"macs_per_s.int8": 2.0, "inference_s": 3.0})
    assert new.macs_per_s["int8"] == 2 * rates.macs_per_s["int8"]
    assert new.macs_per_s["float"] == rates.macs_per_s["float"]
    assert new.inference_s == 3 * rates.inference_s
