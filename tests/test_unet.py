"""Laws of the U-Net: what a fresh one predicts, what reaches its output, and what is refused."""

import json
from dataclasses import asdict

import pytest
import torch

from minit2i.condition import Condition
from minit2i.layers import JointAttention, ResBlock
from minit2i.unet import UNet, UNetConfig
from tests.networks import DEVICES, GPU, wake

TINY = {"widths": (8, 16), "context": 6, "head": 4, "embedding": 8}


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fresh(**changes):
    torch.manual_seed(0)
    return UNet(UNetConfig(**{**TINY, **changes})).double().eval()


def given(b=3, side=8, **ports):
    """Pictures, times and a condition for `fresh`."""
    mask = torch.arange(5) < torch.tensor([[5], [2], [3]])[:b]
    full = {"vector": normal(b, 8, seed=1), "tokens": normal(b, 5, 6, seed=2), "mask": mask}
    times = torch.tensor([3, 500, 1000])[:b]
    return normal(b, 3, side, side), times, Condition(**{**full, **ports})


def part(condition, rows):
    """Some rows of a condition."""
    return Condition(**{k: None if v is None else v[rows] for k, v in vars(condition).items()})


def differ(a, b, least=1e-4):
    """Whether each picture of `a` differs from that of `b`."""
    return bool(((a - b).abs().flatten(1).amax(1) > least).all())


SHAPES = [
    ({}, (8, 8)),
    ({}, (4, 12)),  # no need to be square
    ({"fold": 1}, (6, 6)),
    ({"fold": 4, "attention": ()}, (8, 16)),
    ({"widths": (8,), "attention": (0,)}, (6, 6)),
    ({"widths": (8, 8, 16), "attention": (2,), "blocks": 2}, (16, 8)),
    ({"widths": (4, 8, 4, 16), "attention": (3, 1)}, (16, 16)),
    ({"channels": 1, "blocks": 3, "context": 0}, (8, 8)),
    ({"exclusive": True}, (8, 8)),
]


@pytest.mark.parametrize("changes, sides", SHAPES)
def test_a_prediction_has_the_pictures_shape_and_is_zero_at_first(changes, sides):
    net = fresh(**changes)
    x = normal(2, net.config.channels, *sides)
    _, t, condition = given(2)
    condition = condition if net.config.context else None
    out = net(x, t, condition)
    assert out.shape == x.shape and torch.equal(out, torch.zeros_like(x))
    out = wake(net)(x, t, condition)
    assert out.isfinite().all() and differ(out, torch.zeros_like(x))


def test_side_is_a_multiple_of_folds_and_levels():
    multiples = [fresh(**changes).config.multiple for changes, _ in SHAPES]
    assert multiples == [4, 4, 2, 8, 2, 8, 16, 4, 4]


def test_a_picture_does_not_depend_on_its_batch():
    net, (x, t, condition) = wake(fresh()), given()
    out = net(x, t, condition)
    for k in range(3):
        rows = slice(k, k + 1)
        assert torch.allclose(net(x[rows], t[rows], part(condition, rows)), out[rows], atol=1e-12)


@pytest.mark.parametrize("attention", [(), (0, 1)])
def test_every_parameter_learns(attention):
    net = wake(fresh(image=2, attention=attention, blocks=2))
    x, t, condition = given(image=normal(3, 2, 8, 8, seed=4))
    net(x, t, condition).square().sum().backward()
    still = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not still


def test_a_fresh_network_learns_from_its_first_step():
    net, (x, t, condition) = fresh(), given()
    (net(x, t, condition) - x).square().mean().backward()
    assert net.out.weight.grad.abs().max() > 0 and net.out.bias.grad.abs().max() > 0


def test_every_residual_block_sees_time_and_vector():
    """With all other blocks deaf, the output still depends on both."""
    x, t, condition = given()
    other = Condition(normal(3, 8, seed=9), condition.tokens, condition.mask)
    names = [n for n, module in fresh().named_modules() if isinstance(module, ResBlock)]
    assert len(names) == 2 + 1 + 4
    for hearing in names:
        net = wake(fresh())
        for name, module in net.named_modules():
            if isinstance(module, ResBlock) and name != hearing:
                module.modulate.weight.data.zero_()
        out = net(x, t, condition)
        assert differ(out, net(x, t // 3, condition)) and differ(out, net(x, t, other)), hearing


def test_blocks_are_told_the_activated_sum_of_time_and_vector():
    net, (x, t, condition), told = wake(fresh()), given(), []
    for module in net.modules():
        if isinstance(module, ResBlock):
            module.register_forward_hook(lambda _, inputs, out: told.append(inputs[1]))
    net(x, t, condition)
    wanted = torch.nn.functional.silu(net.time(t) + condition.vector)
    assert len(told) == 7 and all(torch.allclose(each, wanted, atol=1e-12) for each in told)


def test_the_way_up_gets_each_result_of_the_way_down_last_first():
    net, (x, t, condition), made, got = wake(fresh(blocks=2)), given(), [], []
    down = [net.lift, *net.down[0], *net.shrink, *net.down[1]]
    for module in down:
        module.register_forward_hook(lambda _, inputs, out: made.append(out))
    for module in (*net.up[0], *net.up[1]):
        module.register_forward_hook(lambda _, inputs, out: got.append(inputs[0]))
    net(x, t, condition)
    assert len(made) == len(got) == 6
    for skip, h in zip(reversed(made), got, strict=True):
        assert torch.equal(h[:, -skip.shape[1] :], skip)


def test_tokens_are_seen_but_not_their_order_nor_those_masked():
    net, (x, t, full) = wake(fresh()), given()
    out, order = net(x, t, full), torch.tensor([3, 0, 4, 2, 1])
    shuffled = Condition(full.vector, full.tokens[:, order], full.mask[:, order])
    assert torch.allclose(net(x, t, shuffled), out, atol=1e-12)
    garbage = torch.where(full.mask[..., None], full.tokens, 50.0)
    masked = Condition(full.vector, garbage, full.mask)
    assert torch.allclose(net(x, t, masked), out, atol=1e-12)
    changed = Condition(full.vector, full.tokens.index_fill(1, torch.tensor([1]), 0.0), full.mask)
    assert differ(net(x, t, changed), out)


def test_levels_that_attend_are_those_named_and_the_middle():
    found = {}
    for levels in ((), (0,), (1,)):
        modules = fresh(attention=levels).named_modules()
        found[levels] = {name for name, module in modules if isinstance(module, JointAttention)}
    middle = {"middle.attention"}
    assert found[()] == middle
    assert found[0,] == middle | {f"{k}.attention" for k in ("down.0.0", "up.1.0", "up.1.1")}
    assert found[1,] == middle | {f"{k}.attention" for k in ("down.1.0", "up.0.0", "up.0.1")}


def test_one_time_for_all_equals_the_same_time_for_each():
    net, (x, _, condition) = wake(fresh()), given()
    shared, each = torch.tensor([700]).expand(3), torch.tensor([700, 700, 700])
    assert shared.stride(0) == 0 and each.stride(0) == 1
    for given_condition in (condition, None):
        one, all_ = (net(x, t, given_condition) for t in (shared, each))
        assert torch.allclose(one, all_, atol=1e-12)


def test_the_image_is_concatenated_to_the_input():
    plain, net = wake(fresh()), wake(fresh(image=2))
    weights = plain.state_dict()
    lift = torch.zeros_like(net.lift.weight)
    lift[:, : 3 * 4] = weights["lift.weight"]  # folded channels of the picture come first
    net.load_state_dict({**weights, "lift.weight": lift})
    x, t, condition = given()
    image = normal(3, 2, 8, 8, seed=4)
    seen = Condition(condition.vector, condition.tokens, condition.mask, image)
    assert torch.allclose(net(x, t, seen), plain(x, t, condition), atol=1e-12)
    net.lift.weight.data[:, 3 * 4 :] = 0.1
    assert differ(net(x, t, seen), plain(x, t, condition))


def test_every_pixel_reaches_every_pixel():
    net, (x, t, condition) = wake(fresh()), given()
    x.requires_grad_()
    net(x, t, condition)[:, :, 0, 0].sum().backward()
    assert (x.grad != 0).all()


def test_gradients_are_those_of_the_function():
    net = wake(fresh(widths=(4, 4), context=2, embedding=4, channels=1))
    x, tokens, vector = normal(1, 1, 4, 4), normal(1, 2, 2, seed=1), normal(1, 4, seed=2)
    inputs = [each.requires_grad_() for each in (x, tokens, vector)]

    def call(x, tokens, vector):
        return net(x, torch.tensor([400]), Condition(vector, tokens))

    assert torch.autograd.gradcheck(call, inputs)


def test_a_configuration_survives_json():
    config = UNetConfig(**TINY, image=3, dropout=0.1)
    again = UNetConfig(**json.loads(json.dumps(asdict(config))))
    assert again == config and hash(again) == hash(config)
    mine, theirs = UNet(config).state_dict(), UNet(again).state_dict()
    assert {k: v.shape for k, v in mine.items()} == {k: v.shape for k, v in theirs.items()}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"fold": 0}, "fold must be at least 1, got 0"),
        ({"blocks": 0}, "blocks must be at least 1, got 0"),
        ({"head": 0}, "head must be at least 1, got 0"),
        ({"embedding": 0}, "embedding must be at least 1, got 0"),
        ({"embedding": 7}, "embedding must be even"),
        ({"image": -1}, "image and context must be at least 0"),
        ({"context": -1}, "image and context must be at least 0"),
        ({"dropout": 1.0}, r"dropout in \[0, 1\)"),
        ({"widths": ()}, "widths must be multiples of 4"),
        ({"widths": (8, 10)}, r"multiples of 4, got \(8, 10\)"),
        ({"attention": (2,)}, r"levels 0 to 1, got \(2,\)"),
        ({"attention": (-1,)}, r"levels 0 to 1, got \(-1,\)"),
        ({"head": 16}, r"\(8, 16\) cannot be split into heads of 16"),
        ({"head": 3, "attention": ()}, "cannot be split into heads of 3"),  # the middle attends
    ],
)
def test_a_shape_that_makes_no_network_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        fresh(**changes)


@pytest.mark.parametrize("sides", [(8, 6), (6, 8), (7, 8), (2, 2)])
def test_sides_that_do_not_fold_are_refused(sides):
    with pytest.raises(ValueError, match="sides are multiples of 4, got"):
        fresh()(normal(1, 3, *sides), torch.tensor([1]))


@pytest.mark.parametrize(
    "ports, words",
    [
        ({"vector": normal(3, 9)}, "vector has width 9, this network takes 8"),
        ({"tokens": normal(3, 5, 7)}, "tokens has width 7, this network takes 6"),
        ({"image": normal(3, 2, 8, 8)}, "image has 2 channels, this network takes 0"),
    ],
)
def test_a_condition_of_another_shape_is_refused(ports, words):
    x, t, condition = given(**ports)
    with pytest.raises(ValueError, match=words):
        fresh()(x, t, condition)


def test_an_image_that_is_missing_or_of_another_size_is_refused():
    net, (x, t, condition) = fresh(image=2), given()
    with pytest.raises(ValueError, match="image has 0 channels, this network takes 2"):
        net(x, t, condition)
    with pytest.raises(ValueError, match=r"image is \(4, 4\), the picture \(8, 8\): resize it"):
        net(x, t, given(image=normal(3, 2, 4, 4))[2])


@pytest.mark.parametrize("port, shape", [("vector", [8]), ("tokens", [5, 6]), ("image", [2, 8, 8])])
def test_a_condition_for_another_batch_is_refused(port, shape):
    (x, t, _), net = given(), fresh(image=2 if port == "image" else 0)
    with pytest.raises(ValueError, match=f"{port} is for 2 pictures, got 3: encode one"):
        net(x, t, Condition(**{port: normal(2, *shape)}))


def test_pictures_of_other_channels_are_refused():
    with pytest.raises(ValueError, match=r"pictures of 3 channels .* got \(1, 1, 8, 8\)"):
        fresh()(normal(1, 1, 8, 8), torch.tensor([1]))


# The same prediction whatever computes it. Tolerances are relative to the largest output.

FLOAT32, BFLOAT16 = 1e-4, 0.05


def moved(device):
    """A network and its input on a device, in float32, and what float64 on a CPU gives."""
    net, (x, t, c) = wake(fresh(exclusive=True)), given()
    exact = net(x, t, c).detach()
    ports = {k: v if v is None or v.dtype == torch.bool else v.float() for k, v in vars(c).items()}
    ports = {k: v if v is None else v.to(device) for k, v in ports.items()}
    return net.float().to(device), (x.float().to(device), t.to(device), Condition(**ports)), exact


def error(out, exact):
    return float((out.detach().cpu().double() - exact).abs().max() / exact.abs().max())


@pytest.fixture
def full_float32(monkeypatch):
    """No TensorFloat-32 in a GPU's convolutions."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.usefixtures("full_float32")
@pytest.mark.parametrize("device", DEVICES)
def test_float32_equals_float64(device):
    net, inputs, exact = moved(device)
    assert error(net(*inputs), exact) < FLOAT32


@pytest.mark.usefixtures("full_float32")
@pytest.mark.parametrize("device", DEVICES)
def test_channels_last_equals_float64(device):
    net, (x, t, condition), exact = moved(device)
    net.to(memory_format=torch.channels_last)
    out = net(x.to(memory_format=torch.channels_last), t, condition)
    assert error(out, exact) < FLOAT32
    assert error(net(x, t, condition), exact) < FLOAT32


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_is_near(device):
    net, inputs, exact = moved(device)
    with torch.autocast(device, torch.bfloat16):
        out = net(*inputs)
    assert out.dtype == torch.bfloat16 and FLOAT32 < error(out, exact) < BFLOAT16


@GPU
@pytest.mark.usefixtures("full_float32")
def test_compiled_equals_float64():
    net, inputs, exact = moved("cuda")
    assert error(torch.compile(net)(*inputs), exact) < FLOAT32


@GPU
@pytest.mark.usefixtures("full_float32")
def test_gradients_on_a_gpu_are_those_on_a_cpu():
    found = []
    for device in ("cpu", "cuda"):
        net, inputs, _ = moved(device)
        net(*inputs).square().mean().backward()
        found.append(torch.cat([p.grad.cpu().flatten() for p in net.parameters()]).double())
    assert error(found[1], found[0]) < FLOAT32
