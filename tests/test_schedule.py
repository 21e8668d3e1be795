"""Laws of the noise schedules and of the forward process."""

from itertools import pairwise

import pytest
import torch

from minit2i.schedule import SCHEDULES, Schedule, cosine, flow, jsd, linear, make

ALL = [linear(), linear(100), cosine(), cosine(50), jsd(40), flow(1000), flow(7)]
VP = [s for s in ALL if abs(s.signal[1] ** 2 + s.noise[1] ** 2 - 1) < 1e-12]


def assert_close(got, expected, tol=1e-12):
    got, expected = torch.as_tensor(got).double(), torch.as_tensor(expected).double()
    assert torch.allclose(got, expected, rtol=tol, atol=tol), f"{got} is not {expected}"


def test_golden_values_of_the_linear_schedule():
    golden = {1: 0.9999, 100: 0.8970181, 250: 0.5240854, 500: 0.07858724, 750: 3.350550e-3}
    for t, value in golden.items():
        assert_close(linear().alpha_bar[t], value, 1e-6)
    assert_close(linear().alpha_bar[1000], 4.035830e-05, 1e-9)
    assert (linear().snr > 1).sum() == 260  # indices 0 … 259: about a quarter of the way


def test_golden_values_of_the_cosine_schedule():
    s = cosine()
    assert_close(s.beta[1], 4.1284e-5, 1e-8)
    assert_close(s.alpha_bar[999], 2.42877e-6, 1e-10)
    assert_close(s.alpha_bar[1000], 2.42877e-9, 1e-13)
    assert (s.beta >= 0.999 - 1e-9).sum() == 1
    for T in (10, 100, 1000):
        assert_close(cosine(T).alpha_bar[T // 2], 0.4938436, 1e-7)


@pytest.mark.parametrize(
    ("T", "end"), [(400, 3.636e-5), (200, 3.032e-5), (100, 2.039e-5), (50, 7.745e-6), (25, 2.42e-7)]
)
def test_shorter_linear_chains_still_reach_noise(T, end):
    assert_close(linear(T).alpha_bar[-1] / end, 1.0, 2e-3)
    assert linear(T).alpha_bar[-1] < 1e-4


@pytest.mark.parametrize("T", [1, 10, 20])
def test_a_chain_too_short_to_rescale_is_refused(T):
    with pytest.raises(ValueError, match="take T > 20"):
        linear(T)


def test_2015_schedule_erases_equal_amounts_of_signal():
    T = 40
    exact = 1 - torch.arange(T, dtype=torch.float64) / T  # β_t = 1/(T - t + 1) would end at 0
    # as released: 1/linspace(T, 2, T), whose spacing is slightly under 1
    assert_close(jsd(T).beta[1:], 1 / torch.linspace(T, 2, T, dtype=torch.float64), 1e-12)
    assert (jsd(T).alpha_bar[:-1] - exact).abs().max() < 0.03
    assert 0.5 / T < jsd(T).alpha_bar[-1] < 2 / T


@pytest.mark.parametrize("name", ["linear", "squaredcos_cap_v2"])
def test_equal_to_diffusers(name):
    from diffusers import DDPMScheduler  # takes seconds to import

    ours = linear() if name == "linear" else cosine()
    theirs = DDPMScheduler(num_train_timesteps=1000, beta_schedule=name)
    assert_close(ours.alpha_bar[1:], theirs.alphas_cumprod, 1e-5)
    x0, eps, t = torch.randn(4, 3, 5), torch.randn(4, 3, 5), torch.tensor([0, 10, 500, 999])
    assert_close(ours.diffuse(x0, t + 1, eps), theirs.add_noise(x0, eps, t), 1e-5)


@pytest.mark.parametrize("s", ALL)
def test_a_schedule_starts_clean_and_only_loses_signal(s):
    assert s.signal[0] == 1 and s.noise[0] == 0 and s.beta[0] == 0
    assert (s.snr[1:].diff() < 0).all() and torch.isinf(s.snr[0])
    assert (s.beta[1:] > 0).all() and s.signal.dtype == torch.float64


@pytest.mark.parametrize("s", VP)
def test_variance_is_preserved(s):
    assert_close(s.alpha_bar + s.noise**2, torch.ones(s.T + 1), 1e-12)
    assert_close((1 - s.beta).cumprod(0), s.alpha_bar, 1e-11)


@pytest.mark.parametrize("s", ALL)
def test_posterior_is_the_product_of_two_gaussians(s):
    for t in range(2, s.T + 1, max(1, s.T // 13)):
        for r in {1, t // 2, t - 1} - {0}:
            scale, beta = s.transition(t, r)
            c0, ct, variance = s.posterior(t, r)
            precision = scale**2 / beta + 1 / s.noise[r] ** 2
            assert_close(variance * precision, 1.0, 1e-9)
            assert_close(ct, variance * scale / beta, 1e-9)
            assert_close(c0, variance * s.signal[r] / s.noise[r] ** 2, 1e-9)
            assert_close(c0 + ct * s.signal[t], s.signal[r], 1e-9)  # unbiased for x_s
    assert_close(torch.stack(s.posterior(1, 0)), [1.0, 0.0, 0.0])


def test_golden_ratios_of_posterior_and_forward_variance():
    s = linear()
    for t, ratio in {2: 0.4547, 5: 0.7431, 10: 0.8528, 100: 0.9819, 1000: 1.0}.items():
        assert_close(s.posterior(t, t - 1)[2] / s.beta[t], ratio, 1e-4)


@pytest.mark.parametrize("s", ALL)
def test_transitions_compose(s):
    t, r = s.T, max(1, s.T // 3)
    scale_1, var_1 = s.transition(r, 0)
    scale_2, var_2 = s.transition(t, r)
    assert_close(scale_1 * scale_2, s.signal[t], 1e-12)
    assert_close(scale_2**2 * var_1 + var_2, s.noise[t] ** 2, 1e-12)


@pytest.mark.parametrize("shape", [(6, 2), (6, 1, 8, 8), (6,)])
def test_every_sample_is_diffused_at_its_own_time(shape):
    s, t = cosine(), torch.tensor([0, 1, 10, 500, 999, 1000])
    x0, eps = torch.randn(shape), torch.randn(shape)
    together = s.diffuse(x0, t, eps)
    for k in range(6):
        assert_close(together[k], s.signal[t[k]] * x0[k] + s.noise[t[k]] * eps[k], 1e-6)
    assert_close(together[0], x0[0])


@pytest.mark.parametrize("s", ALL)
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_a_grid_runs_from_T_to_0(s, spacing):
    for steps in {1, 2, 3, s.T // 2 or 1, s.T - 1 or 1, s.T}:
        grid = s.grid(steps, spacing)
        assert len(grid) == steps + 1 and grid[0] == s.T and grid[-1] == 0
        assert all(a > b for a, b in pairwise(grid))
    assert s.grid() == list(range(s.T, -1, -1))


def test_golden_grids():
    assert cosine().grid(50)[:3] == [1000, 980, 960] and cosine().grid(50)[-2:] == [20, 0]
    assert cosine().grid(50, "linspace")[:4] == [1000, 980, 959, 939]
    assert cosine().grid(50, "linspace")[-2:] == [1, 0]


def test_precision_survives_half_and_nothing_is_stored():
    s = linear()
    before = s.alpha_bar.clone()
    assert torch.equal(s.half().alpha_bar, before) and s.state_dict() == {}
    assert s.at(s.signal, torch.tensor([3]), torch.zeros(1, 2).half()).dtype == torch.float16


@pytest.mark.parametrize("steps", [0, -1, 1001, True])
def test_bad_steps_are_refused(steps):
    with pytest.raises(ValueError, match="steps must be"):
        linear().grid(steps)


@pytest.mark.parametrize("T", [0, -3, True])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_bad_length_is_refused(name, T):
    with pytest.raises(ValueError, match="T must be a whole number"):
        make(name, T)


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match="linear, cosine, jsd, flow"):
        make("quadratic", 10)
    with pytest.raises(ValueError, match="'trailing' or 'linspace'"):
        linear().grid(5, "leading")


@pytest.mark.parametrize(
    ("signal", "noise", "says"),
    [
        ([1, 0.5], [0, 0.5, 1], "one length"),
        ([1.0], [0.0], "one length"),
        ([0.9, 0.5], [0.1, 0.5], "index 0 is clean"),
        ([1, 0.5, 0.7], [0, 0.5, 0.6], "must fall"),
        ([1, 0.5, 0.5], [0, 0.5, 0.5], "must fall"),
        ([1, 0.5, 0.4], [0, 0.0, 0.6], "must fall"),
        ([1, float("nan")], [0, 1], "finite"),
    ],
)
def test_sequences_that_are_no_schedule_are_refused(signal, noise, says):
    with pytest.raises(ValueError, match=says):
        Schedule(torch.tensor(signal), torch.tensor(noise))
