"""The first text-to-image model of the course: a caption in, 16×16 pixels out.

    prompt -> byte pairs -> transformer ─ vector ──┐ ┌ tokens
    x_t, t ──────────────────────────────> U-Net with joint attention -> x̂_0
                                          -> guidance -> clamp -> a step

Trained on the captioned world with the caption emptied one time in ten, so that it can be guided.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .. import guide, sample
from ..diffusion import Denoiser, Diffusion, truncated_snr
from ..schedule import cosine
from ..text import Tokenizer
from ..text_encoder import TextConfig, TextEncoder
from ..unet import UNet, UNetConfig
from .system import System, check_prompts

UNET = {"fold": 4, "widths": (128,), "attention": (0,), "exclusive": True, "embedding": 128}
"""Sixteen positions of 4×4 pixels each: about as many as a caption has tokens."""


GUIDANCE = 3.0
"""What the card of the shipped checkpoint chose."""


class Base(System):
    """Text-conditional diffusion: `draw(["a small red circle left of a large blue square"])`.

    merges      of its tokenizer
    side        of the pictures, in pixels
    text        fields of `TextConfig` that differ from their defaults
    unet        fields of `UNetConfig` that differ from `UNET`
    drop        share of captions emptied in training
    times       at which it is trained, see `Diffusion`
    """

    name = "base"
    threads = 2

    def __init__(
        self,
        merges: Sequence[Sequence[int]],
        side: int = 16,
        text: dict[str, Any] | None = None,
        unet: dict[str, Any] | None = None,
        drop: float = 0.1,
        times: Sequence[float] | None = None,
    ):
        words = TextConfig(**(text or {}))
        shape = UNetConfig(**{"context": words.width, **UNET, **(unet or {})})
        super().__init__(
            merges=[list(pair) for pair in merges],
            side=side,
            text=asdict(words),
            unet=asdict(shape),
            drop=drop,
            times=None if times is None else list(times),
        )
        if (shape.channels, shape.image, shape.context) != (3, 0, words.width):
            raise ValueError(
                f"the U-Net's channels must be 3, image 0 and context {words.width}, as wide as "
                f"the text, got {shape.channels}, {shape.image} and {shape.context}: leave them out"
            )
        if side < 1 or side % shape.multiple:
            raise ValueError(f"side must be a multiple of {shape.multiple}, got {side}")
        self.side, self.tokenizer = side, Tokenizer(merges)
        encoder = TextEncoder(len(self.tokenizer), shape.embedding, words, drop)
        schedule = cosine(1000)
        weight = truncated_snr(schedule)
        self.model = Diffusion(UNet(shape), schedule, "x0", encoder, weight, self.config["times"])

    def batch(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The prompts as the encoder takes them."""
        tokens = self.tokenizer.batch(prompts, self.model.encoder.config.length)
        return {"tokens": tokens.to(self.device)}

    def read(self, prompt: str) -> tuple[int, int]:
        """See `System.read`."""
        whole = len(self.tokenizer.encode(prompt))
        return min(whole, self.model.encoder.config.length - 2), whole  # without start and end

    def denoiser(self, prompts: Sequence[str], guidance: float = 1.0) -> Denoiser:
        """Guided by the prompts, then clamped to the range of the pixels."""
        batch = self.batch(prompts)
        keep = torch.ones(len(prompts), dtype=torch.bool, device=self.device)
        self.eval()
        conditional = self.model.denoiser(self.model.encode(batch, keep))
        unconditional = self.model.denoiser(self.model.encode(batch, ~keep))
        return guide.clamp(guide.classifier_free(conditional, unconditional, guidance))

    @torch.no_grad()
    def draw(
        self,
        prompts: list[str],
        *,
        seed: int = 0,
        guidance: float = GUIDANCE,
        steps: int = 25,
        eta: float = 1.0,
    ) -> Float[Tensor, "b 3 h w"]:
        """See `System.draw`; `eta` is `sample.ddim`'s: 1 for fresh noise in each step, 0 for none.
        Any text is drawn: words never seen are spelt in bytes."""
        prompts = check_prompts(prompts)
        shape, noises = (len(prompts), 3, self.side, self.side), sample.seeds(seed, len(prompts))
        x = sample.start(shape, noises).to(self.device)
        denoise, schedule = self.denoiser(prompts, guidance), self.model.schedule
        walk = sample.ddim(denoise, x, schedule, steps, eta=eta, generator=noises)
        return sample.last(walk).clamp(-1, 1)
