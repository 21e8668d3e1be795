"""Laws of the parts that networks share: blocks and attention against independent references."""

import math

import pytest
import torch
from torch import nn

from minit2i.layers import JointAttention, ResBlock, attend, groups
from tests.networks import copy_into, wake

WIDTH = 12


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def block(inner, outer, dropout=0.0):
    torch.manual_seed(0)
    return wake(ResBlock(inner, outer, WIDTH, dropout)).double().eval()


def attention(channels=8, context=6, head=4, exclusive=False):
    torch.manual_seed(0)
    return wake(JointAttention(channels, context, head, exclusive)).double()


@pytest.mark.parametrize("inner, outer", [(8, 8), (8, 16), (16, 8)])
def test_a_residual_block_equals_diffusers(inner, outer):
    from diffusers.models.resnet import ResnetBlock2D  # takes seconds to import

    ours = block(inner, outer)
    theirs = ResnetBlock2D(
        in_channels=inner,
        out_channels=outer,
        temb_channels=WIDTH,
        groups=groups(inner),
        groups_out=groups(outer),
        eps=1e-5,
        time_embedding_norm="scale_shift",
    ).double()
    pairs = {
        theirs.norm1: ours.before,
        theirs.conv1: ours.first,
        theirs.time_emb_proj: ours.modulate,
        theirs.norm2: ours.between,
        theirs.conv2: ours.second,
    }
    if inner != outer:
        pairs[theirs.conv_shortcut] = ours.skip
    for their_layer, our_layer in pairs.items():
        copy_into(their_layer, our_layer)
    h, emb = normal(3, inner, 4, 6), normal(3, WIDTH, seed=1)
    out = ours(h, nn.functional.silu(emb))  # theirs applies SiLU to the embedding itself
    assert torch.allclose(out, theirs(h, emb), rtol=0, atol=1e-12)
    assert not torch.allclose(out, ours.skip(h), atol=0.1)


@pytest.mark.parametrize("inner, outer", [(8, 8), (8, 16)])
def test_a_fresh_residual_block_is_its_skip(inner, outer):
    fresh = ResBlock(inner, outer, WIDTH).double()
    h = normal(2, inner, 4, 4)
    assert torch.equal(fresh(h, normal(2, WIDTH)), fresh.skip(h))
    assert inner != outer or torch.equal(fresh.skip(h), h)


def test_modulation_by_zero_changes_nothing_and_by_minus_one_shuts_the_branch():
    ours, h = block(8, 8), normal(2, 8, 4, 4)
    scale, shift = ours.modulate.bias.data.chunk(2)
    ours.modulate.weight.data.zero_(), scale.zero_(), shift.zero_()
    plain = ours.first(nn.functional.silu(ours.before(h)))
    plain = h + ours.second(nn.functional.silu(ours.between(plain)))
    for seed in range(2):
        assert torch.allclose(ours(h, normal(2, WIDTH, seed=seed)), plain, atol=1e-12)
    scale.fill_(-1)
    shut = h + ours.second.bias[None, :, None, None]
    assert torch.allclose(ours(h, normal(2, WIDTH)), shut, atol=1e-12)


def test_each_sample_is_modulated_by_its_own_embedding_and_one_serves_all():
    ours, h, emb = block(8, 16), normal(3, 8, 4, 4), normal(3, WIDTH, seed=1)
    alone = torch.cat([ours(h[k : k + 1], emb[k : k + 1]) for k in range(3)])
    assert torch.allclose(ours(h, emb), alone, atol=1e-12)
    shared = ours(h, emb[:1])
    assert torch.allclose(shared, ours(h, emb[:1].expand(3, -1)), atol=1e-12)
    assert not torch.allclose(shared[1:], alone[1:], atol=0.01)


def test_dropout_acts_in_training_alone():
    noisy, plain = block(8, 8, dropout=0.5), block(8, 8)
    h, emb = normal(2, 8, 4, 4), normal(2, WIDTH)
    assert torch.equal(noisy(h, emb), plain(h, emb))
    assert not torch.allclose(noisy.train()(h, emb), plain(h, emb), atol=0.01)


@pytest.mark.parametrize("channels", [4, 6, 8, 12, 48, 96, 100, 128, 192, 640])
def test_groups_divide_the_channels_and_hold_at_least_four(channels):
    n = groups(channels)
    assert channels % n == 0 and channels // n >= 4 and n <= 32
    assert n == 32 or channels not in (128, 640)  # a group count as large as allowed
    assert groups(channels, most=1) == 1


def written_out(q, k, v, heads, seen=None):
    """softmax(q kᵀ/√d) v, one sample and one head at a time; seen[b, i, j]: i sees j."""
    rows, d = [], q.shape[2] // heads
    for b in range(len(q)):
        columns = []
        for head in range(heads):
            part = slice(head * d, (head + 1) * d)
            weight = (q[b, :, part] @ k[b, :, part].T / math.sqrt(d)).exp()
            weight = weight if seen is None else weight * seen[b]
            columns.append(weight / weight.sum(1, keepdim=True) @ v[b, :, part])
        rows.append(torch.cat(columns, 1))
    return torch.stack(rows)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_the_written_out_softmax(heads):
    q, k, v = normal(2, 3, 8), normal(2, 5, 8, seed=1), normal(2, 5, 8, seed=2)
    assert torch.allclose(attend(q, k, v, heads), written_out(q, k, v, heads), atol=1e-12)
    mask = torch.tensor([[True, True, False, True, False], [False, True, True, True, True]])
    masked = written_out(q, k, v, heads, mask[:, None].double())
    assert torch.allclose(attend(q, k, v, heads, mask[:, None]), masked, atol=1e-12)
    each = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(3)) > 0.3
    each[..., 0] = True
    rowwise = written_out(q, k, v, heads, each.double())
    assert torch.allclose(attend(q, k, v, heads, each), rowwise, atol=1e-12)


def test_causal_attention_sees_the_past_and_the_present():
    q, k, v = (normal(2, 5, 8, seed=seed) for seed in range(3))
    past = torch.ones(5, 5, dtype=torch.float64).tril().expand(2, 5, 5)
    causal = attend(q, k, v, 2, causal=True)
    assert torch.allclose(causal, written_out(q, k, v, 2, past), atol=1e-12)
    assert torch.allclose(causal[:, 0], v[:, 0], atol=1e-12)


def test_a_masked_key_has_no_influence_and_no_gradient():
    q = normal(2, 3, 8)
    k, v = (normal(2, 5, 8, seed=seed).requires_grad_() for seed in (1, 2))
    mask = torch.tensor([[True, False, True, True, False]]).expand(2, 5)
    out = attend(q, k, v, 2, mask[:, None])
    out.square().sum().backward()
    for grad in (k.grad, v.grad):
        assert (grad[~mask] == 0).all() and (grad[mask].abs().amax(-1) > 0).all()
    other = [torch.where(mask[..., None], x, 7.0) for x in (k, v)]
    assert torch.equal(attend(q, *other, 2, mask[:, None]), out)


def diffusers_attention(ours, channels, context, head):
    from diffusers.models.attention_processor import Attention, AttnAddedKVProcessor

    theirs = Attention(
        channels,
        heads=channels // head,
        dim_head=head,
        added_kv_proj_dim=context,
        norm_num_groups=groups(channels),
        bias=True,
        residual_connection=True,
        processor=AttnAddedKVProcessor(),
    ).double()
    copy_into(theirs.group_norm, ours.norm)
    copy_into(theirs.to_out[0], ours.out)
    to = {"qkv": (theirs.to_q, theirs.to_k, theirs.to_v)}
    to["kv"] = theirs.add_k_proj, theirs.add_v_proj
    for name, layers in to.items():
        mine = getattr(ours, name)
        for n, layer in enumerate(layers):
            layer.weight.data = mine.weight.data.chunk(len(layers))[n]
            layer.bias.data = mine.bias.data.chunk(len(layers))[n]
    return theirs


def test_joint_attention_equals_diffusers():
    """GLIDE's and unCLIP's attention: tokens before pixels, the residual inside."""
    ours = attention(16, 6, 4)
    theirs = diffusers_attention(ours, 16, 6, 4)
    h, tokens = normal(3, 16, 2, 3), normal(3, 5, 6, seed=1)
    out = ours(h, tokens)
    assert torch.allclose(out, theirs(h, tokens), rtol=0, atol=1e-12)
    mask = torch.arange(5) < torch.tensor([[5], [2], [3]])
    hidden = torch.zeros(3, 1, 5, dtype=torch.float64).masked_fill(~mask[:, None], -1e9)
    # their mask is a summand, given for the tokens; they add the zeros for the pixels
    masked = theirs(h, tokens, attention_mask=hidden)
    assert torch.allclose(ours(h, tokens, mask), masked, rtol=0, atol=1e-12)
    assert not torch.allclose(out, ours(h), atol=0.01) and not torch.allclose(out, h, atol=0.01)


def test_exclusive_attention_normalises_over_pixels_and_then_over_keys():
    """At strength 1 the tokens' weights are made to sum to 1 over the pixels, and then those of all
    keys, pixels' own among them, for each pixel; at strength 0 it is plain."""
    ours, plain = attention(8, 6, 4, exclusive=True), attention(8, 6, 4)
    h, tokens = normal(2, 8, 2, 3), normal(2, 5, 6, seed=1)
    mask = torch.arange(5) < torch.tensor([[5], [3]])
    ours.share.data = torch.tensor([1.0, 0.0], dtype=torch.float64)
    update = ours(h, tokens, mask) - h
    q, own_k, own_v = ours.qkv(ours.norm(h).flatten(2).transpose(1, 2)).chunk(3, 2)
    k, v = ours.kv(tokens).chunk(2, 2)
    for b, n in enumerate((5, 3)):
        heads = []
        for head, strength in ((slice(0, 4), 1), (slice(4, 8), 0)):
            weight = (q[b, :, head] @ k[b, :n, head].T / 2).exp()
            weight = weight / weight.sum(0) if strength else weight
            own = (q[b, :, head] @ own_k[b, :, head].T / 2).exp()
            both = torch.cat([weight, own], 1)
            both = both / both.sum(1, keepdim=True)
            heads.append(both @ torch.cat([v[b, :n, head], own_v[b, :, head]]))
        expected = ours.out(torch.cat(heads, 1)).T.view(8, 2, 3)
        assert torch.allclose(update[b], expected, rtol=0, atol=1e-12)
    plain.load_state_dict(ours.state_dict(), strict=False)
    assert not torch.allclose(plain(h, tokens, mask), ours(h, tokens, mask), atol=0.01)
    ours.share.data.zero_()
    assert torch.allclose(plain(h, tokens, mask), ours(h, tokens, mask), atol=1e-12)


def test_a_token_that_one_pixel_claims_is_seen_less_by_the_others():
    ours = attention(4, 4, 4, exclusive=True)
    ours.norm = nn.Identity()
    with torch.no_grad():
        for layer in (ours.qkv, ours.kv, ours.out):
            layer.bias.zero_()
        ours.qkv.weight.copy_(torch.eye(4).repeat(3, 1))  # queries are the pixels themselves
        ours.qkv.weight[4:] = 0
        ours.kv.weight.copy_(torch.eye(4).repeat(2, 1))
        ours.out.weight.copy_(torch.eye(4))
        ours.share.fill_(1.0)
    tokens = 4 * torch.eye(4, dtype=torch.float64)[None, :2]
    h = torch.tensor([[3.0, 3.0, 0, 0], [3.0, 3.0, 0, 0]], dtype=torch.float64)  # no preference
    before = ours(h.T.view(1, 4, 1, 2), tokens)[0, :2, 0, 1] - 3
    h[0] = torch.tensor([9.0, 3.0, 0, 0])  # now the other pixel wants the first token
    after = ours(h.T.view(1, 4, 1, 2), tokens)[0, :2, 0, 1] - 3
    assert torch.allclose(before[0], before[1]) and after[0] < 0.01 < before[1] < after[1]


def test_how_far_tokens_are_shared_out_is_learned():
    ours, h, tokens = attention(exclusive=True), normal(2, 8, 2, 3), normal(2, 5, 6, seed=1)
    ours(h, tokens, torch.arange(5) < torch.tensor([[5], [3]])).square().sum().backward()
    assert ours.share.grad.isfinite().all() and (ours.share.grad != 0).all()
    assert attention(context=0, exclusive=True).share is None


def test_exclusive_attention_in_half_precision_is_near_and_learns():
    ours = attention(exclusive=True).float()
    h, tokens = normal(2, 8, 2, 3).float(), normal(2, 5, 6, seed=1).float()
    mask = torch.arange(5) < torch.tensor([[5], [3]])
    exact = ours(h, tokens, mask)
    with torch.autocast("cpu", torch.bfloat16):
        half = ours(h, tokens, mask)
    half.float().square().sum().backward()
    assert torch.allclose(half.float(), exact, atol=0.05) and (ours.share.grad != 0).all()


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_fresh_joint_attention_is_the_identity(exclusive):
    h = normal(2, 8, 2, 2)
    ours = JointAttention(8, 6, 4, exclusive).double()
    assert torch.equal(ours(h, normal(2, 3, 6)), h)


@pytest.mark.parametrize("exclusive", [False, True])
def test_joint_attention_does_not_see_the_order_of_tokens(exclusive):
    ours, h = attention(exclusive=exclusive), normal(2, 8, 2, 3)
    tokens = normal(2, 5, 6, seed=1)
    mask = torch.tensor([[True, True, True, False, True], [True, True, False, False, False]])
    order = torch.tensor([3, 0, 4, 2, 1])
    again = ours(h, tokens[:, order], mask[:, order])
    assert torch.allclose(ours(h, tokens, mask), again, atol=1e-12)
    assert not torch.allclose(again, ours(h, tokens[:, order], mask), atol=1e-3)


@pytest.mark.parametrize("exclusive", [False, True])
def test_joint_attention_moves_with_its_pixels(exclusive):
    ours, h = attention(exclusive=exclusive), normal(2, 8, 2, 3)
    tokens = normal(2, 5, 6, seed=1)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))

    def moved(x):
        return x.flatten(2)[:, :, order].view_as(x)

    assert torch.allclose(moved(ours(h, tokens)), ours(moved(h), tokens), atol=1e-12)
    wide = h.transpose(2, 3)  # and rows are not taken for columns
    assert torch.allclose(ours(wide, tokens), ours(h, tokens).transpose(2, 3), atol=1e-12)


@pytest.mark.parametrize("exclusive", [False, True])
def test_tokens_that_are_masked_or_not_wanted_are_as_none(exclusive):
    ours, h = attention(exclusive=exclusive), normal(2, 8, 2, 3)
    tokens = normal(2, 5, 6, seed=1)
    none = torch.zeros(2, 5, dtype=torch.bool)
    assert torch.allclose(ours(h, tokens, none), ours(h), atol=1e-12)
    some = none.index_fill(1, torch.tensor([1, 3]), True)
    assert torch.allclose(ours(h, tokens, some), ours(h, tokens[:, [1, 3]]), atol=1e-12)
    deaf = attention(context=0)
    assert deaf.kv is None and torch.equal(deaf(h, tokens), deaf(h))


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="8 channels cannot be split into heads of 3"):
        JointAttention(8, head=3)
