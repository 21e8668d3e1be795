"""Measures have known values on known clouds."""

import inspect
import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy import linalg, stats

from minit2i import evaluate
from minit2i.evaluate import (
    arc_coverage,
    bootstrap,
    curve_distance,
    frechet,
    mode_coverage,
    over_seeds,
    sliced_wasserstein,
)
from minit2i.worlds import digits
from minit2i.worlds.plane import SwissRoll, grid25


def cloud(n=4000, seed=0, d=2):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TestSlicedWasserstein:
    def test_zero_for_the_same_cloud_in_any_order(self):
        x = cloud()
        assert sliced_wasserstein(x, x[torch.randperm(len(x))]) < 1e-12

    def test_a_shift_costs_its_length_over_root_d(self):
        x = cloud(50, d=3)
        # W_2 along θ is |θ·v|, and E (θ·v)² = |v|²/d
        got = sliced_wasserstein(x, x + torch.tensor([3.0, 0.0, 4.0]), directions=20_000)
        assert abs(got - 5 / 3**0.5) < 0.05

    def test_scaling_a_gaussian(self):
        got = sliced_wasserstein(cloud(100_000, 0), 2 * cloud(100_000, 1), directions=16)
        assert abs(got - 1) < 0.02  # W_2(N(0, 1), N(0, 4)) = 1 in every direction

    def test_equals_scipys_in_one_dimension(self):
        a, b = cloud(500, 0, 1), cloud(500, 1, 1) ** 2
        exact = np.sqrt(((np.sort(a[:, 0]) - np.sort(b[:, 0])) ** 2).mean())
        assert abs(sliced_wasserstein(a, b) - exact) < 1e-9

    def test_unequal_counts_and_symmetry(self):
        a, b = cloud(4000, 0), cloud(1000, 1) + 1
        assert abs(sliced_wasserstein(a, b) - sliced_wasserstein(b, a)) < 1e-9
        assert abs(sliced_wasserstein(a, b) - 1) < 0.1

    @pytest.mark.parametrize("bad", [torch.zeros(0, 2), torch.full((3, 2), math.nan)])
    def test_bad_clouds(self, bad):
        with pytest.raises(ValueError, match="cloud of finite points"):
            sliced_wasserstein(bad.double(), cloud())
        with pytest.raises(ValueError, match="2 and 3 dimensions"):
            sliced_wasserstein(cloud(), cloud(d=3))


class TestFrechet:
    def with_moments(self, n, variances, mean, seed):
        """n points of exactly this mean and these variances, uncorrelated."""
        x = cloud(n, seed, len(variances))
        flat = torch.linalg.qr(x - x.mean(0)).Q * (n - 1) ** 0.5
        return flat * torch.tensor(variances).double().sqrt() + mean

    def test_eight_for_the_worked_example(self):
        a, b = self.with_moments(9, (1, 4, 9), 0, 0), self.with_moments(30, (4, 4, 1), 1, 1)
        assert frechet(a, b) == pytest.approx(8, rel=1e-12)
        turn = torch.linalg.qr(cloud(3, 2, 3)).Q
        assert frechet(a @ turn, b @ turn) == pytest.approx(8, rel=1e-12)
        assert frechet(3 * a, 3 * b) == pytest.approx(72, rel=1e-12)

    def test_equals_the_formula_with_scipys_matrix_root(self):
        a, b = cloud(50, 0, 6) @ cloud(6, 1, 6), cloud(40, 2, 6) @ cloud(6, 3, 6) + 0.3
        s, t = np.cov(a.T), np.cov(b.T)
        root = np.trace(linalg.sqrtm(s @ t).real)
        expected = (a.mean(0) - b.mean(0)).square().sum() + np.trace(s + t) - 2 * root
        assert frechet(a, b) == pytest.approx(float(expected), rel=1e-9)
        assert frechet(b, a) == pytest.approx(frechet(a, b), rel=1e-12)

    def test_in_one_dimension_it_compares_means_and_deviations(self):
        a, b = cloud(30, 0, 1), 3 * cloud(20, 1, 1) + 1
        expected = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
        assert frechet(a, b) == pytest.approx(expected.item(), rel=1e-12)

    @pytest.mark.parametrize("n", [2, 5, 40])
    def test_singular_covariances(self, n):
        a, b = cloud(n, 0, 20), cloud(n + 1, 1, 20)
        assert 0 <= frechet(a, a) < 1e-12
        assert frechet(a, a + 2) == pytest.approx(80, rel=1e-12)
        wide = [torch.nn.functional.pad(x, (0, 30)) for x in (a, b)]  # 30 features that are 0
        assert frechet(*wide) == pytest.approx(frechet(a, b), rel=1e-10)
        limit = [torch.linalg.cholesky(np_cov(x) + 1e-12 * torch.eye(20)) for x in (a, b)]
        shared = torch.linalg.svdvals(limit[0].T @ limit[1]).sum()
        total = np_cov(a).trace() + np_cov(b).trace() + (a.mean(0) - b.mean(0)).square().sum()
        assert frechet(a, b) == pytest.approx(float(total - 2 * shared), abs=1e-4)

    def test_single_precision_far_from_zero_loses_nothing(self):
        a, b = (1000 + cloud(50, seed, 4).float() for seed in (0, 1))
        assert frechet(a, b) == pytest.approx(frechet(a.double() - 1000, b.double() - 1000))

    def test_the_bias_of_two_samples_of_one_law(self):
        d, n = 16, 2000
        found = [frechet(cloud(n, 2 * i, d), cloud(n, 2 * i + 1, d)) for i in range(60)]
        error = np.std(found) / len(found) ** 0.5
        assert abs(np.mean(found) - (2 * d + d * (d + 1) / 2) / n) < 4 * error < 0.01

    def test_bad_clouds(self):
        with pytest.raises(ValueError, match="cloud of finite points"):
            frechet(torch.full((3, 2), math.inf), cloud())
        with pytest.raises(ValueError, match="2 and 3 dimensions"):
            frechet(cloud(), cloud(d=3))
        with pytest.raises(ValueError, match="at least two points, got clouds of 1 and 9"):
            frechet(cloud(1), cloud(9))


def np_cov(x):
    return torch.from_numpy(np.cov(x.T))


class TestRoll:
    roll = SwissRoll()

    def test_data_cover_the_arc_and_lie_on_the_curve(self):
        x = self.roll.sample(5000, np.random.default_rng(0))
        coverage = arc_coverage(x, self.roll)
        assert coverage.share == 1 and coverage.ks < 1.95 / 5000**0.5
        assert abs(curve_distance(x, self.roll).mean() - 0.02 * (2 / math.pi) ** 0.5) < 1e-3

    def test_half_the_arc_is_half_the_coverage(self):
        u = np.random.default_rng(0).uniform(0, 0.5, 5000)
        coverage = arc_coverage(torch.from_numpy(self.roll.place(u)).float(), self.roll)
        assert abs(coverage.share - 0.5) < 0.02 and abs(coverage.ks - 0.5) < 0.01

    def test_points_off_the_curve_cover_nothing(self):
        assert arc_coverage(torch.full((100, 2), 9.0), self.roll) == evaluate.ArcCoverage(0.0, 1.0)

    def test_points_off_the_curve_count_in_the_due_of_each_piece(self):
        x = self.roll.sample(5000, np.random.default_rng(0))
        assert arc_coverage(torch.cat([x, torch.full((45_000, 2), 9.0)]), self.roll).share == 0

    def test_known_offsets(self):
        u = np.linspace(0.3, 0.9, 50)
        at, ahead = self.roll.place(u), self.roll.place(u + 1e-6)
        tangent = (ahead - at) / np.linalg.norm(ahead - at, axis=1, keepdims=True)
        off = at + 0.05 * tangent @ np.array([[0, 1], [-1, 0]])
        assert abs(curve_distance(torch.from_numpy(off).float(), self.roll) - 0.05).max() < 1e-3


class TestModes:
    def test_data_reach_all_25(self):
        x = grid25().sample(5000, np.random.default_rng(0))
        coverage = mode_coverage(x, grid25())
        assert coverage.modes == 25
        assert abs(coverage.high_quality - stats.chi2.cdf(16, 2)) < 5e-3

    def test_missing_modes_are_missed(self):
        x, y = grid25().sample_labelled(5000, np.random.default_rng(0))
        assert mode_coverage(x[y < 7], grid25()).modes == 7

    def test_bridges_are_no_modes(self):
        between = (grid25().means[:-1] + grid25().means[1:]) / 2
        assert mode_coverage(between, grid25()) == evaluate.ModeCoverage(0, 0.0)

    def test_other_dimensions_are_refused(self):
        with pytest.raises(ValueError, match="3 dimensions, the mixture 2"):
            mode_coverage(cloud(d=3), grid25())
        with pytest.raises(ValueError, match=r"\(n, 2\), got shape \(4000, 3\)"):
            inspect.unwrap(SwissRoll.project)(SwissRoll(), cloud(d=3))  # behind the type check


class TestIntervals:
    def test_bootstrap_agrees_with_theory(self):
        x = cloud(400, 3, 1)[:, 0] + 2
        got = bootstrap(x)
        half = 1.96 * x.std() / 400**0.5
        assert got.mean == pytest.approx(x.mean().item())
        assert abs(got.high - got.mean - half) < 0.15 * half
        assert abs(got.mean - got.low - half) < 0.15 * half
        assert bootstrap(x) == got

    def test_over_seeds_equals_scipys_t_interval(self):
        values = [1.0, 2.5, 3.0, 2.0, 1.5]
        low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
        got = over_seeds(values)
        assert (got.low, got.high) == pytest.approx((low, high))
        assert str(got) == f"2 [{low:.3g}, {high:.3g}]"

    def test_coverage_of_the_interval_over_seeds(self):
        draws = np.random.default_rng(0).normal(size=(2000, 3))
        hits = np.mean([(i := over_seeds(d.tolist())).low <= 0 <= i.high for d in draws])
        assert abs(hits - 0.95) < 4 * (0.95 * 0.05 / 2000) ** 0.5

    def test_a_proportion_of_one_still_has_a_width(self):
        got = evaluate.proportion(torch.ones(100, dtype=torch.bool))
        z2 = 1.959964**2
        assert got.mean == 1 and got.low == pytest.approx(100 / (100 + z2), rel=1e-5)
        mixed = evaluate.proportion(torch.arange(200) < 150)
        assert mixed.mean == 0.75 and mixed.low < 0.75 < mixed.high < 0.81
        with pytest.raises(ValueError, match="at least one trial"):
            evaluate.proportion(torch.zeros(0, dtype=torch.bool))

    def test_one_value_has_no_interval(self):
        with pytest.raises(ValueError, match="at least two"):
            bootstrap([1.0])
        with pytest.raises(ValueError, match="at least two"):
            over_seeds([1.0])


def test_neighbourhoods_reach_to_the_kth_neighbour():
    real = 10.0 ** torch.arange(6)[:, None]  # each point's nearest is the one before it
    just_short = real[1:] - 0.95 * (real[1:] - real[:-1])
    assert evaluate.neighbour_coverage(just_short[:1], real, k=1) == 2 / 6
    assert evaluate.neighbour_coverage(real[:1] - 1e6, real, k=1) == 0
    assert evaluate.neighbour_coverage(real, real, k=1) == 1


def test_the_judge_has_seen_the_held_out_digits_only():
    judge, shares = evaluate.digit_judge(), {}
    for split in ("held_out", "train"):
        data = digits.load(split)
        shares[split] = (judge(data["x"]) == data["y"]).double().mean().item()
    assert shares["held_out"] == 1 > shares["train"] > 0.95


def test_every_drawn_digit_has_a_seed_of_its_own():
    class Recorder:
        seeds: ClassVar[list[int]] = []

        def draw(self, prompts, seed, guidance):
            self.seeds += range(seed, seed + len(prompts))
            return torch.rand(len(prompts), 3, 8, 8)

    evaluate.evaluate_digits(Recorder(), 1.0, per_digit=6, seed=40)
    assert Recorder.seeds == list(range(40, 100))
