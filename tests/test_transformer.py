"""Laws of the transformer: equality with torch's own, padding and order."""

import pytest
import torch
from torch import nn

from minit2i.transformer import Block, Transformer
from tests.networks import copy_into, wake

WIDTH, HEADS = 12, 3
MASK = torch.arange(6) < torch.tensor([[6], [2], [4]])
CAUSAL = nn.Transformer.generate_square_subsequent_mask(6).isinf()


@pytest.fixture
def h():
    g = torch.Generator().manual_seed(5)
    return torch.randn(3, 6, WIDTH, generator=g, dtype=torch.float64)


def made(depth=2, causal=False):
    torch.manual_seed(0)
    return wake(Transformer(WIDTH, depth, HEADS, causal)).double()


def torchs(ours: Block) -> nn.TransformerEncoderLayer:
    """torch's layer with the weights of ours."""
    theirs = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, 0.0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    theirs.self_attn.in_proj_weight.data = ours.qkv.weight.data
    theirs.self_attn.in_proj_bias.data = ours.qkv.bias.data
    pairs = {theirs.norm1: ours.norms[0], theirs.norm2: ours.norms[1]}
    pairs |= {theirs.self_attn.out_proj: ours.out}
    pairs |= {theirs.linear1: ours.mlp[0], theirs.linear2: ours.mlp[2]}
    for their_layer, our_layer in pairs.items():
        copy_into(their_layer, our_layer)
    return theirs


def test_a_block_equals_torchs_layer(h):
    ours = made().blocks[0]
    out = ours(h)
    assert torch.allclose(out, torchs(ours)(h), rtol=0, atol=1e-12)
    assert not torch.allclose(out, h, atol=0.1)


def test_a_masked_block_equals_torchs_layer(h):
    ours = made().blocks[0]
    theirs = torchs(ours)(h, src_key_padding_mask=~MASK)
    assert torch.allclose(ours(h, MASK), theirs, rtol=0, atol=1e-12)
    assert not torch.allclose(ours(h, MASK), ours(h), atol=1e-3)


def test_a_causal_block_equals_torchs_layer(h):
    ours = made(causal=True).blocks[0]
    theirs = torchs(ours)(h, src_mask=CAUSAL)
    assert torch.allclose(ours(h), theirs, rtol=0, atol=1e-12)


def test_a_transformer_is_its_blocks_and_a_norm(h):
    ours = made(depth=3)
    theirs = h
    for block in ours.blocks:
        theirs = torchs(block)(theirs, src_key_padding_mask=~MASK)
    assert torch.allclose(ours(h, MASK), ours.norm(theirs), rtol=0, atol=1e-12)
    empty = made(depth=0)
    assert torch.allclose(empty(h), nn.functional.layer_norm(h, (WIDTH,)) + empty.norm.bias)


@pytest.mark.parametrize("causal", [False, True])
def test_padding_changes_nothing(h, causal):
    ours = made(causal=causal)
    out = ours(h, MASK)
    for row, n in enumerate(MASK.sum(1).tolist()):
        alone = ours(h[row : row + 1, :n])
        assert torch.allclose(out[row, :n], alone[0], atol=1e-12)


def test_a_causal_transformer_does_not_see_the_future(h):
    ours, later = made(causal=True), h.clone()
    later[:, 3:] = 9.0
    assert torch.allclose(ours(later)[:, :3], ours(h)[:, :3], atol=1e-12)
    assert not torch.allclose(ours(later)[:, 3:], ours(h)[:, 3:], atol=0.1)
    plain = made()
    assert not torch.allclose(plain(later)[:, :3], plain(h)[:, :3], atol=1e-3)


def test_every_position_sees_all_earlier_ones(h):
    h.requires_grad_()
    made(depth=1, causal=True)(h)[:, :, 0].sum(0)[4].backward()  # the last norm sums to nothing
    reached = h.grad.abs().amax((0, 2)) > 1e-9
    assert reached.tolist() == [True] * 5 + [False]


def test_without_positions_order_is_not_seen(h):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    ours = made()
    assert torch.allclose(ours(h)[:, order], ours(h[:, order]), atol=1e-12)
    causal = made(causal=True)
    assert not torch.allclose(causal(h)[:, order], causal(h[:, order]), atol=0.01)


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="width of 12 cannot be split into 5 heads"):
        Block(WIDTH, 5)
