"""minit2i: the history of text-to-image, rebuilt in miniature.

Read the package from the mathematics outwards:

    schedule     x_t = signal[t] x_0 + noise[t] ε: noise schedules, the forward process
    diffusion    schedule + network + encoder: the loss, and the denoiser
    sample       ddpm, ddim, dpm2m, invert: generators over x_t
    guide        denoiser -> denoiser: classifier-free, by gradient, thresholds, inpainting
    condition    what a network is told, and the encoders that tell it
    text         byte-pair tokenizer         text_encoder   captions -> condition
    layers mlp transformer unet              networks
    families     the 2015 diffusion, GAN, VAE and normalising flow, for comparison
    systems      whole systems that draw from prompts; each reads like its paper's figure
    worlds       where data comes from: the plane, digits, captioned scenes, a folder of yours
    train        one training loop        parallel     the same in several processes
    batches      from tables to batches   muon         the step of a matrix
    recipes      how systems are made     runs         a run's log and sample sheets
    checkpoint   weights and their cards  benchmark    MiniDrawBench, fresh prompts, diversity
    evaluate     measures                 findings     recorded measurements
    plot picture cli doctor               checks       the judge of the exercises

Axis letters in shapes: b batch, c channels, h height, w width, n points or tokens, d features,
k components or classes; T steps of a schedule, and times = T + 1 indices.
"""

__version__ = "0.1.0"
