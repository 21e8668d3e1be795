"""Training steps and samples a second, beside the same work with diffusers' schedulers around the
same network, alternating in one run.

Training is nearly all network, so expect a ratio of about one. Sampling gains because our samplers
pass one time for all points and `MLP` embeds it once; a loop around diffusers could do the same.

    python -m tests.bench.against_diffusers [--device cpu] [--rounds 5]
"""

import statistics
import time
from collections.abc import Callable

import click
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from minit2i.diffusion import Diffusion
from minit2i.mlp import MLP
from minit2i.sample import ddim, last
from minit2i.schedule import linear
from minit2i.train import TrainConfig, train, update_average

STEPS, BATCH, POINTS, EVALUATIONS = 200, 512, 10_000, 50


def network(device: str) -> MLP:
    torch.manual_seed(0)
    return MLP(2, width=96, depth=3).to(device)


def train_ours(data: torch.Tensor) -> None:
    model = Diffusion(network(str(data.device)), linear().to(data.device))
    for _ in train(model, {"x": data}, TrainConfig(steps=STEPS, batch=BATCH)):
        pass


def train_theirs(data: torch.Tensor) -> None:
    """The same steps with diffusers' scheduler: AdamW, clipping, warm-up, averaged weights."""
    net, average = network(str(data.device)), network(str(data.device)).requires_grad_(False)
    scheduler, config = DDPMScheduler(num_train_timesteps=1000), TrainConfig(STEPS, BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=0.0, foreach=True)
    for k in range(STEPS):
        x = data[torch.randint(len(data), (BATCH,), device=data.device)]
        t = torch.randint(1000, (BATCH,), device=data.device)
        eps = torch.randn_like(x)
        loss = (net(scheduler.add_noise(x, eps, t), t + 1) - eps).square().mean()
        for group in optimizer.param_groups:
            group["lr"] = config.lr_at(k)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), config.clip)
        loss.item()
        optimizer.step()
        update_average(average, net, config.ema_at(k))


def sample_ours(net: MLP, x: torch.Tensor) -> None:
    model = Diffusion(net, linear().to(x.device))
    last(ddim(model.denoiser(), x, model.schedule, steps=EVALUATIONS))


@torch.no_grad()
def sample_theirs(net: MLP, x: torch.Tensor) -> None:
    scheduler = DDIMScheduler(
        num_train_timesteps=1000, clip_sample=False, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(EVALUATIONS)
    for t in scheduler.timesteps:
        eps = net(x, torch.full((len(x),), int(t) + 1, device=x.device))
        x = scheduler.step(eps, t, x).prev_sample


def seconds(work: Callable[[], None], device: str) -> float:
    begun = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - begun


@click.command()
@click.option("--device", default="cpu", show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(device: str, rounds: int) -> None:
    data = torch.randn(20_000, 2, device=device)
    net, x = network(device), torch.randn(POINTS, 2, device=device)
    pairs = {
        f"training, steps of {BATCH} a second": (
            STEPS,
            lambda: train_ours(data),
            lambda: train_theirs(data),
        ),
        f"sampling, points by {EVALUATIONS} DDIM steps a second": (
            POINTS,
            lambda: sample_ours(net, x),
            lambda: sample_theirs(net, x),
        ),
    }
    print(f"{device}, {torch.get_num_threads()} threads, median of {rounds} rounds in turn")
    for what, (amount, ours, theirs) in pairs.items():
        seconds(ours, device), seconds(theirs, device)  # warm-up
        times = [(seconds(ours, device), seconds(theirs, device)) for _ in range(rounds)]
        mine, other = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(b / a for a, b in times)
        print(
            f"{what}: minit2i {amount / mine:,.0f}, diffusers {amount / other:,.0f}, "
            f"ratio {ratio:.2f} (median of pairs)"
        )


if __name__ == "__main__":
    main()
