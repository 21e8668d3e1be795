"""Draw a seven: class-conditional diffusion of handwritten digits as points in 64 dimensions.

    prompt -> label -> embedding ┐
    x_t, t ---------------------> MLP -> v̂ -> x̂_0 -> guidance -> clamp -> DPM-Solver++(2M)

Trained on 1,200 real digits with the label dropped one time in ten (Ho & Salimans 2022).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .. import guide, sample
from ..condition import LabelEncoder
from ..diffusion import Denoiser, Diffusion
from ..mlp import MLP
from ..schedule import cosine
from .system import System, check_prompts

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def label(prompt: str) -> int:
    """The digit that 'seven', '7', 'a seven' or 'Seven ' means.

    Raises ValueError that lists the ten words for anything else.
    """
    word = prompt.strip().lower()
    word = word.removeprefix("an ").removeprefix("a ").strip()
    if word in WORDS:
        return WORDS.index(word)
    if word in {str(digit) for digit in range(10)}:
        return int(word)
    raise ValueError(
        f"cannot read the prompt {prompt!r}: digits draws one of {', '.join(WORDS)}, or 0 to 9"
    )


class Digits(System):
    """Guided diffusion of 8×8 digits: `draw(["seven"])`.

    width, depth    of the MLP
    drop            share of labels replaced by the null in training
    """

    name = "digits"

    def __init__(self, width: int = 192, depth: int = 3, drop: float = 0.1):
        super().__init__(width=width, depth=depth, drop=drop)
        self.model = Diffusion(
            MLP(64, width, depth),
            cosine(1000),
            predict="v",
            encoder=LabelEncoder(10, width, drop),
        )

    def denoiser(self, labels: Int[Tensor, "b"], guidance: float = 1.0) -> Denoiser:
        """Guided by the labels, then clamped to the range of the pixels."""
        keep = torch.ones(len(labels), dtype=torch.bool, device=labels.device)
        batch = {"y": labels}
        conditional = self.model.denoiser(self.model.encode(batch, keep))
        unconditional = self.model.denoiser(self.model.encode(batch, ~keep))
        return guide.clamp(guide.classifier_free(conditional, unconditional, guidance))

    @torch.no_grad()
    def draw(
        self, prompts: list[str], *, seed: int = 0, guidance: float = 1.5, steps: int = 20
    ) -> Float[Tensor, "b 3 8 8"]:
        """Grey pictures, the same in each of the three channels; see `System.draw`."""
        labels = torch.tensor([label(p) for p in check_prompts(prompts)], device=self.device)
        x = sample.start((len(labels), 1, 8, 8), sample.seeds(seed, len(labels))).to(self.device)
        walk = sample.dpm2m(self.denoiser(labels, guidance), x, self.model.schedule, steps=steps)
        return sample.last(walk).clamp(-1, 1).expand(-1, 3, -1, -1).contiguous()
