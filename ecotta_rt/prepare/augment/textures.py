"""Mix frames with textures that nobody photographed.

Source:
    Hendrycks et al. 2022, PixMix, arXiv 2112.05135, figure 3: rounds of adding or multiplying with pictures that are
    complex and of no class. Theirs are fractals and feature visualisations; ours are made as they are needed: a small
    network with random weights paints each pixel from where it stands (compositional pattern-producing networks,
    Stanley 2007).
"""

import torch
from torch import Tensor

from ecotta_rt.prepare.augment.draws import Draws

__all__ = ["paint", "textures"]

_ROUNDS = 3
_HIDDEN = 12


def textures(frames: Tensor, strength: float, draws: Draws) -> Tensor:
    """Up to three rounds of adding or multiplying with a painted texture, whose weight is up to `strength`."""
    rounds = draws.below(_ROUNDS + 1).view(-1, 1, 1, 1)
    mixed = frames
    for index in range(_ROUNDS):
        texture = paint(frames, draws)
        share = draws.uniform(0, strength, (1, 1, 1)) * (rounds > index)
        added = mixed + share * (2 * texture - 1)
        multiplied = mixed * (2 * texture).clamp_min(1e-2) ** share
        mixed = torch.where(draws.chosen(0.5).view(-1, 1, 1, 1), added, multiplied).clamp(0, 1)
    return mixed


def paint(like: Tensor, draws: Draws) -> Tensor:
    """One texture a frame, in [0, 1], of the frames' shape."""
    count, channels, height, width = like.shape
    y, x = torch.linspace(-1, 1, height).view(-1, 1).expand(height, width), torch.linspace(-1, 1, width)
    x = x.expand(height, width)
    places = torch.stack([y, x, (y * y + x * x).sqrt()]).flatten(1).expand(count, 3, -1)
    detail = torch.exp(draws.uniform(0.0, 2.2, (1, 1)))  # from broad patches to fine grain
    hidden = torch.sin(torch.bmm(draws.normal((_HIDDEN, 3)) * detail, places) + 3 * draws.normal((_HIDDEN, 1)))
    hidden = torch.sin(torch.bmm(draws.normal((_HIDDEN, _HIDDEN)), hidden) + draws.normal((_HIDDEN, 1)))
    colours = torch.bmm(draws.normal((channels, _HIDDEN)), hidden)
    return torch.sigmoid(colours).view_as(like)
