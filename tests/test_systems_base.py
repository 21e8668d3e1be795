"""Laws of the first text-to-image system, on a tiny one: seeds, guidance, any text, checkpoints."""

import inspect
from contextlib import closing

import pytest
import torch
from scipy.stats import binom

from minit2i import benchmark, checkpoint, guide, sample
from minit2i.checkpoint import CheckpointError
from minit2i.findings import binding
from minit2i.systems.base import GUIDANCE, Base
from minit2i.systems.system import check_prompts
from minit2i.train import OPTIMIZERS, PRECISIONS, TrainConfig, train
from minit2i.worlds import scenes
from tests.networks import DEVICES, wake

SIZES = {
    "side": 8,
    "text": {"length": 16, "width": 16, "depth": 1, "heads": 2},
    "unet": {"fold": 2, "widths": (8, 16), "head": 8, "embedding": 16},
}
PROMPTS = ["a red dot", "blue", "", "a green cross by it"]


def tiny(merges=(), **changes):
    torch.manual_seed(0)
    return Base(merges, **{**SIZES, **changes})


@pytest.fixture(scope="module")
def system():
    """Random weights, so that the text matters."""
    return wake(tiny())


def draw(system, prompts, **options):
    return system.draw(prompts, **{"steps": 3, **options})


def near(a, b):
    return torch.allclose(a, b, atol=1e-4)


def differ(a, b):
    return bool(((a - b).abs().flatten(1).amax(1) > 1e-2).all())


def test_a_picture_depends_on_its_seed_and_prompt_and_not_on_its_batch(system):
    many = draw(system, PROMPTS, seed=30)
    assert many.shape == (4, 3, 8, 8) and many.dtype == torch.float32
    assert many.min() >= -1 and many.max() <= 1 and many.std() > 0.1
    assert torch.equal(many, draw(system, PROMPTS, seed=30))
    for k, prompt in enumerate(PROMPTS):
        assert near(many[k : k + 1], draw(system, [prompt], seed=30 + k))
        assert differ(many[k : k + 1], draw(system, [prompt], seed=40 + k))
    assert differ(many, draw(system, PROMPTS[::-1], seed=30))


def test_drawing_leaves_the_global_random_state_and_the_weights_alone(system):
    random = torch.get_rng_state()
    before = {key: tensor.clone() for key, tensor in system.state_dict().items()}
    pictures = draw(system.train(), ["blue"])
    assert torch.equal(random, torch.get_rng_state()) and not pictures.requires_grad
    assert all(torch.equal(tensor, before[key]) for key, tensor in system.state_dict().items())
    assert torch.equal(pictures, draw(system.eval(), ["blue"]))  # no caption was dropped


def test_guidance_one_is_the_conditional_model_and_zero_the_unconditional(system):
    model, kept = system.model, torch.ones(4, dtype=torch.bool)
    with torch.no_grad():
        for guidance, keep in ((1.0, kept), (0.0, ~kept)):
            denoise = guide.clamp(model.denoiser(model.encode(system.batch(PROMPTS), keep)))
            for eta, sampler in ((0.0, sample.ddim), (1.0, sample.ddpm)):
                noises = sample.seeds(5, 4)
                x = sample.start((4, 3, 8, 8), noises)
                by_hand = sample.last(sampler(denoise, x, model.schedule, 3, generator=noises))
                drawn = draw(system, PROMPTS, seed=5, guidance=guidance, eta=eta)
                assert near(drawn, by_hand.clamp(-1, 1))
    unguided = draw(system, PROMPTS, seed=5, guidance=0.0)
    assert near(unguided, draw(system, [""] * 4, seed=5, guidance=1.0))
    assert differ(unguided[:2], draw(system, PROMPTS, seed=5, guidance=1.0)[:2])


def test_guidance_combines_before_it_clamps(system):
    kept, x, t = torch.ones(4, dtype=torch.bool), torch.randn(4, 3, 8, 8), torch.full((4,), 600)
    with torch.no_grad():
        condition, null = (system.model.encode(system.batch(PROMPTS), k) for k in (kept, ~kept))
        with_text, without = (system.model.net(x, t, each) for each in (condition, null))
        wanted = (without + 6 * (with_text - without)).clamp(-1, 1)
        assert near(system.denoiser(PROMPTS, 6.0)(x, t), wanted)
        assert not near(wanted, without.clamp(-1, 1) + 6 * (with_text - without).clamp(-1, 1))


def test_the_empty_prompt_cannot_be_guided(system):
    assert near(draw(system, [""], guidance=1.0), draw(system, [""], guidance=9.0))


def test_any_text_is_drawn(system):
    texts = [
        "",
        " \t\n",
        "x" * 10_000,
        "red " * 2_500,
        "🟥 ⬅️ 🟦",
        "красный круг слева",
        "红色的圆",
        "دائرة حمراء",
        "é\u0301\u200d\x00",
        "\udcff",  # a lone surrogate: an undecodable byte on the command line
        "[MASK] <end> %s {}",
    ]
    pictures = draw(system, texts)
    assert pictures.shape == (len(texts), 3, 8, 8) and pictures.isfinite().all()
    assert near(draw(system, [" \t\n"]), draw(system, [""]))


def test_what_is_normalised_or_cut_off_makes_no_difference(system):
    assert near(draw(system, ["A  RED\tdot "]), draw(system, ["a red dot"]))
    long = "a red dot and " + "x" * 20
    assert near(draw(system, [long]), draw(system, [long + "y" * 50]))
    assert differ(draw(system, [long]), draw(system, ["b" + long[1:]]))


def test_how_much_of_a_prompt_is_read(system):
    assert system.read("red") == (4, 4) and system.read("") == (0, 0)  # a byte each, and its space
    for n in (13, 14, 50):
        prompt = "x" * n
        read, whole = system.read(prompt)
        assert (read, whole) == (min(n + 1, 14), n + 1)
        assert near(draw(system, [prompt]), draw(system, ["x" * (read - 1)]))


def test_a_list_of_texts_is_needed(system):
    bare = inspect.unwrap(Base.draw)  # without the run-time check of its signature
    with pytest.raises(ValueError, match=r"single text 'a red dot': wrap it \[...\]"):
        bare(system, "a red dot")
    with pytest.raises(ValueError, match="at least one text, got \\[\\]"):
        bare(system, [])
    for prompts in (["a", None], ["a", 7]):
        with pytest.raises(ValueError, match="at least one text"):
            inspect.unwrap(check_prompts)(prompts)


def test_impossible_options_are_refused(system):
    with pytest.raises(ValueError, match="guidance scale must be a finite number, got nan"):
        draw(system, ["a"], guidance=float("nan"))
    with pytest.raises(ValueError, match="seed must be a whole number from 0"):
        draw(system, ["a"], seed=-1)
    with pytest.raises(ValueError, match="steps"):
        draw(system, ["a"], steps=0)


@pytest.mark.parametrize("side", [0, -4, 6, 10])
def test_sides_that_do_not_fit_are_refused(side):
    with pytest.raises(ValueError, match=f"side must be a multiple of 4, got {side}"):
        tiny(side=side)


def test_other_sides_that_fit_are_drawn():
    assert draw(tiny(side=12), ["a"]).shape == (1, 3, 12, 12)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"text": {"length": 1}}, "length must be at least 2"),
        ({"drop": 2.0}, "probability"),
        ({"text": {"width": 16, "heads": 3}}, "16 cannot be split into 3 heads"),
        ({"unet": {"widths": (6,)}}, "multiples of 4"),
        ({"unet": {"channels": 1}}, "channels must be 3, .* got 1, 0 and 16"),
        ({"unet": {"image": 1}}, "image 0 .* got 3, 1 and 16"),
        ({"unet": {"context": 8}}, "context 16, as wide as the text, got 3, 0 and 8"),
        ({"merges": [[1, 999]]}, "merge 0 is"),
    ],
)
def test_impossible_configurations_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        tiny(**changes)


def test_saving_and_loading_in_half_precision_draws_the_same(tmp_path):
    made = wake(tiny(merges=[[97, 98], [259, 99]], drop=0.2, unet={**SIZES["unet"], "blocks": 2}))
    made.save({"command": "none"}, tmp_path)
    stored, card = checkpoint.load(tmp_path / "base")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert card["system"] == "base" and card["command"] == "none"
    loaded = Base.load(tmp_path)
    assert not loaded.training and loaded.card == card and loaded.config == made.config
    assert loaded.tokenizer.merges == made.tokenizer.merges
    assert loaded.model.encoder.drop == 0.2
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    rounded = made.half().float()
    assert torch.equal(draw(loaded, ["abc", "b"]), draw(rounded, ["abc", "b"]))
    loaded.save({"command": "none"}, tmp_path / "again")
    assert (tmp_path / "again/base.json").read_text() == (tmp_path / "base.json").read_text()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"system": "digits"}, "holds 'digits', not the system 'base'"),
        ({"config": {"merges": [], "heads": 3}}, "cannot build"),
        ({"config": {"merges": [], **SIZES, "text": {**SIZES["text"], "depth": 2}}}, "wrong model"),
        (
            {"config": {"merges": [], **SIZES, "text": {**SIZES["text"], "length": 8}}},
            "another configuration",
        ),
    ],
)
def test_a_foreign_checkpoint_is_refused(tmp_path, change, words):
    tiny().save({}, tmp_path)
    tensors, card = checkpoint.load(tmp_path / "base")
    checkpoint.save(tmp_path / "base", tensors, {**card, **change})
    with pytest.raises(CheckpointError, match=words):
        Base.load(tmp_path)


def test_a_missing_checkpoint_says_how_to_make_it(tmp_path):
    with pytest.raises(CheckpointError, match="python -m minit2i train base"):
        Base.load(tmp_path)


def test_it_learns_what_words_mean():
    """One word decides which of two pictures is right, for every seed; without
    guidance by the text the words make no difference."""
    words, picture = ["red", "blue"], -torch.ones(3, 4, 4)
    picture[0, :, :2], picture[2, :, 2:] = 1, 1
    pictures = torch.stack([picture, picture.flip(2)])  # red on the left, red on the right
    small = {"widths": (16,), "attention": (), "head": 8, "embedding": 16}
    system = tiny(side=4, unet=small)
    data = {"x": pictures, **system.batch(words)}
    for _ in train(
        system.model, data, TrainConfig(steps=80, batch=16, lr=3e-3, warmup=20, ema=0.9)
    ):
        pass
    drawn = draw(system, words * 4, guidance=1.0)
    assert (drawn - pictures.repeat(4, 1, 1, 1)).abs().max() < 0.5
    assert near(draw(system, words, guidance=0.0), draw(system, words[::-1], guidance=0.0))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_stopped_training_ends_alike_wherever_it_runs(tmp_path, optimizer, precision, device):
    config = TrainConfig(
        6, 16, 1e-2, warmup=1, save_every=2, fused=True, precision=precision, optimizer=optimizer
    )
    data = {"x": torch.zeros(64, 3, 8, 8, dtype=torch.uint8), **tiny().batch(PROMPTS * 16)}

    def go(folder, upto=config.steps + 1):
        system = tiny(unet={**SIZES["unet"], "exclusive": True}).to(device)
        with closing(train(system.model, data, config, tmp_path / folder)) as steps:
            return system, [step.loss for _, step in zip(range(upto), steps, strict=False)]

    system, losses = go("whole")
    fresh = tiny(unet={**SIZES["unet"], "exclusive": True}).parameters()
    assert not any(torch.equal(a, b.cpu()) for a, b in zip(fresh, system.parameters(), strict=True))
    begun = go("halves", 3)[1]
    again, rest = go("halves")
    assert begun + rest == pytest.approx(losses, rel=1e-3)
    for a, b in zip(system.parameters(), again.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-3)


@pytest.fixture(scope="module")
def shipped():
    return Base.load()


def card_row(system, prompts, measure="exact"):
    rows = system.card["evaluation"]
    return next(row for row in rows if (row["prompts"], row["measure"]) == (prompts, measure))


def test_the_shipped_card_says_how_it_was_made(shipped):
    card = shipped.card
    for made in (card["from"], card):
        assert made["command"].startswith("python -m minit2i train base --steps ")
    assert card["data"]["name"] == "captioned world" and card["training"]["optimizer"] == "muon"
    (chosen,) = (r for r in card["evaluation"] if r["prompts"] == "development, chosen")
    assert chosen["guidance"] == GUIDANCE
    assert card["seconds"] > 60 and "torch" in card["machine"]
    assert sum(p.numel() for p in shipped.parameters()) < 3.5e6
    assert (checkpoint.SHIPPED / "base.safetensors").stat().st_size < 8e6


@pytest.mark.parametrize("things", [1, 2, 3])
def test_the_shipped_system_draws_as_well_as_its_card_says(shipped, things):
    """A hundred of the card's prompts with other noises: all but one run in a thousand lies so near
    to the card."""
    name, n = benchmark.NUMBERS[things], 100
    row = card_row(shipped, name)
    asked = benchmark.fresh(n, things)
    texts = [prompt.text for prompt in asked]
    pictures = shipped.draw(texts, seed=777_000, guidance=row["guidance"], steps=row["steps"])
    right = sum(verdict.exact for verdict in scenes.satisfies(pictures, texts))
    low, high = binom.interval(0.999, n, row["value"])
    assert low <= right <= high, (right, row)


def test_the_checkpoint_before_the_transition_is_what_its_card_says():
    before = Base.load(name="base_before")
    assert before.card["command"] == "python -m minit2i.findings.binding"
    assert before.card["training"]["stopped"] == binding.BEFORE
    assert binding.measure(before, 40) == pytest.approx(before.card["evaluation"][0], abs=0.25)
