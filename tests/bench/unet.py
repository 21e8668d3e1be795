"""How fast the first text-to-image system trains and draws, beside diffusers' U-Net.

All are `Diffusion` with the same text encoder, loss and batches, nets of equal size, and AdamW.
Ours folds the 16×16 pixels to 4×4 first, and attends there; it also trains by its recipe, with
Muon, clipping and averaged weights. Theirs is built in two ways: with two levels, which attend at
16 and 8; and, kinder to it, with three, which attend at 8 and 4. Also: the share of the machine's
matrix-multiply peak that training reaches, the memory it takes, and the time of 16 guided pictures.

    python -m tests.bench.unet [--threads 2] [--rounds 5] [--steps 5] [--device cpu]
"""

import copy
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import click
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from minit2i import recipes
from minit2i.condition import Condition
from minit2i.diffusion import Diffusion
from minit2i.layers import groups
from minit2i.schedule import cosine
from minit2i.systems.base import Base
from minit2i.text import Tokenizer
from minit2i.train import train
from minit2i.worlds.scenes.dataset import captioned

SCENES, BATCH, SIDE = 2_000, 64, 16
FEW = 200
"""Scenes to measure memory with: rendering many at once would take more of it than training."""
MEMORY_STEPS = 20
RECIPE = "minit2i, by its recipe"
PROMPT = "a small red circle left of a large blue square"
Batch = dict[str, Tensor]


class Theirs(nn.Module):
    """diffusers' conditional U-Net as a network of ours: the tokens are attended to and the vector
    is added to the time embedding."""

    def __init__(self, levels: int, width: int, context: int, vector: int):
        super().__init__()
        from diffusers import UNet2DConditionModel  # memory that is not training's

        plain, last = levels - 2, 2  # the last two levels attend
        self.net = UNet2DConditionModel(
            sample_size=SIDE,
            in_channels=3,
            out_channels=3,
            layers_per_block=1,
            block_out_channels=(width, *[2 * width] * (levels - 1)),
            down_block_types=(*["DownBlock2D"] * plain, *["CrossAttnDownBlock2D"] * last),
            up_block_types=(*["CrossAttnUpBlock2D"] * last, *["UpBlock2D"] * plain),
            norm_num_groups=groups(width),
            attention_head_dim=4,  # by which diffusers means the number of heads
            cross_attention_dim=context,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=vector,
        )

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """See `UNet.forward`."""
        return self.net(
            x_t,
            t,
            encoder_hidden_states=condition.tokens,
            encoder_attention_mask=condition.mask,
            class_labels=condition.vector,
        ).sample


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def rival(ours: Diffusion, levels: int) -> Diffusion:
    """The same with diffusers' network of the nearest size."""
    shape, wanted = ours.net.config, size(ours.net)

    def build(width: int) -> Theirs:
        return Theirs(levels, width, shape.context, shape.embedding)

    with torch.device("meta"):
        distance = {c: abs(size(build(c)) / wanted - 1) for c in range(16, 132, 4)}
    width = min(distance, key=distance.get)
    if distance[width] > 0.05:
        raise ValueError(f"no width gives {wanted:,} parameters within 5 %, {width} the nearest")
    net, encoder = build(width), copy.deepcopy(ours.encoder)
    return Diffusion(net, cosine(1000), "x0", encoder, ours.weight)


def world(scenes: int) -> tuple[Base, Tensor, Tensor]:
    """The system with a tokenizer of its world, pictures in 0 … 255, and tokens."""
    pictures, texts = captioned(scenes, seed=0, side=SIDE)
    torch.manual_seed(0)
    system = Base(Tokenizer.train(texts, 512).merges)
    return system, pictures, system.batch(texts)["tokens"]


def trainer(model: Diffusion) -> Callable[[list[Batch]], None]:
    """A function that takes one step of training on each batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    model.train()

    def steps(batches: list[Batch]) -> None:
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            model(batch).backward()
            optimizer.step()

    return steps


def by_recipe(system: Base, pictures: Tensor, tokens: Tensor) -> Callable[[list[Batch]], None]:
    """A function that takes as many steps by the recipe as there are batches, on its own ones."""
    config = replace(recipes.get("base").config, batch=BATCH)
    steps = train(copy.deepcopy(system.model), {"x": pictures, "tokens": tokens}, config)

    def go(batches: list[Batch]) -> None:
        for _ in batches:
            next(steps)

    return go


def seconds(work: Callable[[], object], device: str) -> float:
    """Duration of one call, the GPU's work included."""
    begun = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def peak(device: str) -> float:
    """FLOP a second of the best of ten large multiplications in float32."""
    n = 2048 if device == "cpu" else 8192
    a, b = torch.randn(2, n, n, device=device)
    best = min(seconds(lambda: a @ b, device) for _ in range(10))
    return 2 * n**3 / best


def work_of(model: Diffusion, batch: Batch) -> int:
    """FLOP of a forward and backward pass; attention is taken apart, so that it counts."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(batch).backward()
    return counter.get_total_flops()


def report_training(
    system: Base, table: tuple[Tensor, Tensor], batches: list[Batch], rounds: int, device: str
) -> None:
    models = {"minit2i": system.model}
    models |= {f"diffusers, {n} levels": rival(system.model, n).to(device) for n in (2, 3)}
    steps = {name: trainer(model) for name, model in models.items()}
    models[RECIPE], steps[RECIPE] = system.model, by_recipe(system, *table)
    for step in steps.values():
        step(batches[:1])  # warm-up
    times, peaks = {name: [] for name in models}, []
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(seconds(partial(step, batches), device))
        peaks.append(peak(device))
    top, images = statistics.median(peaks), len(batches) * BATCH
    print(f"matrix-multiply peak, float32: {top / 1e9:,.0f} GFLOP/s")
    print(f"text encoder: {size(system.model.encoder):,} parameters in each")
    for name, model in models.items():
        rate = images / statistics.median(times[name])
        flop = work_of(model, batches[0]) / BATCH
        ratios = [b / a for a, b in zip(times["minit2i"], times[name], strict=True)]
        print(
            f"{name}: {size(model.net):,} parameters, {flop / 1e9:.2f} GFLOP an image; training "
            f"{rate:,.0f} images a second ({images / max(times[name]):,.0f} to "
            f"{images / min(times[name]):,.0f}), {rate * flop / top:.0%} of the peak; "
            f"{statistics.median(ratios):.2f} times our seconds ({min(ratios):.2f} to "
            f"{max(ratios):.2f})"
        )


def report_drawing(system: Base, rounds: int, device: str) -> None:
    def draw() -> Tensor:
        return system.draw([PROMPT] * 16, guidance=3.0, steps=25)

    draw()  # warm-up
    spent = statistics.median(seconds(draw, device) for _ in range(rounds))
    print(f"drawing 16 pictures, 25 steps, guidance 3: {spent:.2f} s")


def resident() -> float:
    """Largest memory of this process so far, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def report_memory(system: Base, pictures: Tensor, tokens: Tensor) -> None:
    """Trains by the recipe for some steps on a table as large as its own."""
    before, count = resident(), sum(n for n, _ in recipes.MIX.values())
    rows = torch.arange(count) % FEW
    data = {"x": pictures[rows], "tokens": tokens[rows].int(), "order": torch.arange(count)}
    for _ in train(system.model, data, replace(recipes.get("base").config, steps=MEMORY_STEPS)):
        pass
    print(
        f"memory: {resident():.2f} GiB at most in {MEMORY_STEPS} steps of training on {count:,} "
        f"pictures, {before:.2f} GiB before them"
    )


@click.command()
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--steps", default=5, show_default=True, help="Steps of training in a round.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--memory", is_flag=True, help="Only train, in this process, and tell its memory.")
def main(threads: int, rounds: int, steps: int, device: str, memory: bool) -> None:
    torch.set_num_threads(threads)
    if not memory:  # first, because a process begins with its parent's peak
        options = ["--memory", "--threads", str(threads), "--device", device]
        subprocess.run([sys.executable, "-m", __spec__.name, *options], check=True)
    system, pictures, tokens = world(FEW if memory else SCENES)
    system.to(device)
    if memory:
        report_memory(system, pictures, tokens)
        return
    print(f"{device}, {threads} threads, {rounds} rounds in turn of {steps} steps of {BATCH}")
    batches = []
    for rows in torch.randperm(SCENES)[: steps * BATCH].split(BATCH):
        x = pictures[rows].float() / 127.5 - 1
        batches.append({"x": x.to(device), "tokens": tokens[rows].to(device)})
    report_training(system, (pictures, tokens), batches, rounds, device)
    report_drawing(system, rounds, device)


if __name__ == "__main__":
    main()
