"""Laws of the text encoder: padding, the null, the end token, and whether the order is seen."""

import math

import pytest
import torch

from minit2i import benchmark
from minit2i.condition import Condition
from minit2i.recipes import VOCABULARY
from minit2i.text import Tokenizer
from minit2i.text_encoder import TextConfig, TextEncoder
from minit2i.worlds.scenes.dataset import captioned
from tests.networks import wake

TOKENIZER = Tokenizer()  # no merges: a token is a byte
LENGTH = 14
TEXTS = ["red dot", "", "a", "blue cross"]
LENGTHS = [len(TOKENIZER.encode(text)) + 2 for text in TEXTS]  # with start and end


def encoder(**changes):
    torch.manual_seed(0)
    shape = {"length": LENGTH, "width": 8, "depth": 2, "heads": 2, "reach": 3}
    rest = {key: changes.pop(key) for key in ("drop", "key") if key in changes}
    made = TextEncoder(len(TOKENIZER), 6, TextConfig(**{**shape, **changes}), **rest)
    return wake(made).double().eval()


def test_no_prompt_of_the_benchmark_is_cut():
    tokenizer = Tokenizer.train(captioned(5_000, 0, 16)[1], VOCABULARY)  # 20,000: as long, 93
    longest = max(len(tokenizer.encode(prompt.text)) for prompt in benchmark.prompts())
    assert 64 < longest + 2 <= TextConfig().length


def batch(texts, length=LENGTH):
    return {"tokens": TOKENIZER.batch(texts, length)}


def same(a: Condition, b: Condition) -> bool:
    """Equal vectors, and equal tokens where both have any; padding does not count."""
    n = min(a.mask.shape[1], b.mask.shape[1])
    counts = a.mask[:, :n]
    if a.mask[:, n:].any() or b.mask[:, n:].any() or not torch.equal(counts, b.mask[:, :n]):
        return False
    tokens = torch.allclose(a.tokens[:, :n][counts], b.tokens[:, :n][counts], atol=1e-12)
    return tokens and torch.allclose(a.vector, b.vector, atol=1e-12)


def differ(a, b):
    """Whether each row of `a` differs from that of `b`."""
    return bool(((a - b).abs().flatten(1).amax(1) > 1e-3).all())


def row(condition, k):
    return Condition(*(v if v is None else v[k : k + 1] for v in vars(condition).values()))


def test_padding_and_trimming_do_not_change_the_result():
    net = encoder()
    together = net(batch(TEXTS))
    assert together.mask.sum(1).tolist() == LENGTHS and together.mask.shape[1] < LENGTH
    for k, text in enumerate(TEXTS):
        alone = batch([text], length=LENGTHS[k])
        assert same(row(together, k), net(alone)) and same(net(alone), net(batch([text])))


def test_padding_is_not_seen():
    net, before = encoder(), encoder()(batch(TEXTS))
    net.embed.weight.data[Tokenizer.pad] = 50.0
    assert same(net(batch(TEXTS)), before)


def test_the_null_is_the_empty_caption_whatever_the_text():
    net, none = encoder(), torch.zeros(len(TEXTS), dtype=torch.bool)
    assert torch.equal(TextEncoder.empty(batch(TEXTS)["tokens"]), batch([""] * 4)["tokens"])
    assert same(net(batch(TEXTS), none), net(batch([""] * 4)))
    assert differ(net(batch(["red dot"])).vector, net(batch([""])).vector)


def test_keep_is_per_sample():
    keep = torch.tensor([True, True, False, False])
    kept = [text if yes else "" for text, yes in zip(TEXTS, keep, strict=True)]
    for net in (encoder(), encoder().train()):  # where it is given, it decides alone
        assert same(net(batch(TEXTS), keep), net(batch(kept), torch.ones(4, dtype=torch.bool)))


def test_the_null_shortens_the_batch_and_leaves_the_callers_tokens_alone():
    given = batch(TEXTS)
    before = given["tokens"].clone()
    short = encoder()(given, torch.tensor([False, True, True, False]))
    assert short.mask.shape[1] == LENGTHS[2] and torch.equal(given["tokens"], before)


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.5, 1.0])
def test_captions_are_dropped_at_the_stated_rate_in_training_alone(drop):
    net, n = encoder(drop=drop, depth=1), 3000
    texts = batch(["red"] * n)
    null = net(batch([""])).vector

    def dropped(net):
        return (net(texts).vector - null).abs().amax(1) < 1e-9

    assert not dropped(net).any()
    rate = dropped(net.train()).double().mean().item()
    assert abs(rate - drop) <= 4 * math.sqrt(drop * (1 - drop) / n)


def test_the_vector_is_read_at_the_end_token():
    net = encoder()
    out = net(batch(TEXTS))
    ends = [out.tokens[k, n - 1] for k, n in enumerate(LENGTHS)]
    assert torch.allclose(out.vector, net.vector(torch.stack(ends)), atol=1e-12)


def test_the_order_of_words_is_seen():
    net = encoder()
    a, b = net(batch(["ab cd"])), net(batch(["cd ab"]))
    assert differ(a.vector, b.vector)
    assert torch.equal(a.mask, b.mask)


def test_without_positions_a_caption_is_a_bag_of_words():
    """No generator that sees this vector alone can tell 'red circle, blue square' from 'blue
    circle, red square': on such pairs it is right at most half the time."""
    net = encoder(position=0.0, reach=0)
    net.position.data.zero_()  # what `wake` filled
    caption = batch(["red on blue", "a b c"])["tokens"]
    order = torch.tensor([0, 5, 2, 4, 1, 3, *range(6, LENGTH)])  # start, end and padding stay
    a, b = net({"tokens": caption}), net({"tokens": caption[:, order]})
    assert torch.allclose(a.vector, b.vector, atol=1e-12)
    assert torch.allclose(a.tokens[:, order], b.tokens, atol=1e-12)  # each token goes along
    assert torch.allclose(net(batch(["a b"])).vector, net(batch(["b a"])).vector, atol=1e-12)
    assert differ(net(batch(["a b", "a b"])).vector, net(batch(["a c", "a a"])).vector)


def test_positions_start_at_the_stated_size_beside_tokens_of_size_one():
    for size in (0.0, 0.02, 1.0):
        torch.manual_seed(0)
        net = TextEncoder(500, 4, TextConfig(50, 40, 1, 2, position=size))
        assert net.position.std().item() == pytest.approx(size, rel=4 / math.sqrt(2 * 2000))
        assert net.embed.weight.std().item() == pytest.approx(1, rel=4 / math.sqrt(2 * 20_000))


def test_every_parameter_learns_and_of_the_tokens_those_that_occur():
    net = encoder()
    out = net(batch(["abcdefghij", ""]))
    out.vector.pow(3).sum().backward()
    still = [n for n, p in net.named_parameters() if not p.grad.abs().max() > 0]
    assert not still
    reached = net.embed.weight.grad.abs().amax(1).nonzero().flatten().tolist()
    assert reached == sorted([*b" abcdefghij", Tokenizer.start, Tokenizer.end])


def test_any_whole_numbers_will_do():
    net, texts = encoder(), batch(TEXTS)
    assert same(net({"tokens": texts["tokens"].int()}), net(texts))
    assert same(encoder(key="text")({"text": texts["tokens"], "tokens": None}), net(texts))


@pytest.mark.parametrize(
    "given, words",
    [
        ({}, "needs tokens under 'tokens', it has nothing"),
        ({"x": torch.zeros(1), "y": torch.zeros(1)}, "it has x, y"),
        ({"tokens": torch.zeros(2, 5)}, r"2 to 14 whole .* got torch.float32 of shape \(2, 5\)"),
        ({"tokens": torch.zeros(2, 15).long()}, r"2 to 14 whole numbers, got .* \(2, 15\)"),
        ({"tokens": torch.zeros(2, 1).long()}, r"2 to 14 whole numbers, got .* \(2, 1\)"),
        ({"tokens": torch.zeros(5).long()}, r"got torch.int64 of shape \(5,\)"),
        ({"tokens": torch.tensor([[257, 259, 258]])}, "from 0 to 258, got 257 to 259: was another"),
        ({"tokens": torch.tensor([[257, -1, 258]])}, "from 0 to 258, got -1 to 258"),
    ],
)
def test_a_batch_without_fitting_tokens_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        encoder()(given)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"drop": 1.5}, "probability in .* got 1.5"),
        ({"drop": -0.1}, "probability in .* got -0.1"),
        ({"heads": 3}, "8 cannot be split into 3 heads"),
        ({"position": -1.0}, "position must be at least 0, got -1.0"),
        ({"length": 1}, "length must be at least 2, got 1"),
        ({"reach": 4}, "reach is 0 or a positive odd number of tokens, got 4"),
        ({"reach": -1}, "reach is 0 or a positive odd number of tokens, got -1"),
    ],
)
def test_impossible_encoders_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        encoder(**changes)


def test_with_reach_a_token_knows_its_neighbours_before_any_attention():
    net = encoder(depth=0, position=0.0, reach=3)
    near, far = net(batch(["a b c d"])), net(batch(["a b c e"]))
    moved = (near.tokens - far.tokens).abs().amax(-1)[0] > 1e-9
    # " d" is tokens 7 and 8 of the bytes " a b c d" after the start: the blank before is reached
    assert moved.tolist() == [k in (7, 8, 9) for k in range(10)]
    alone = encoder(depth=0, position=0.0, reach=0)
    moved = (alone(batch(["a b c d"])).tokens - alone(batch(["a b c e"])).tokens).abs().amax(-1)
    assert (moved[0] > 1e-9).tolist() == [k == 8 for k in range(10)]
