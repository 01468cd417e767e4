"""What stage 1 asks of a reconstruction, as in the recipe of latent diffusion (Esser et al. 2021, Rombach et al. 2022): L1 and
the perceptual distance, and, once pictures look like something, a discriminator of patches, whose weight follows the gradients so
that neither side drowns the other."""

import torch
import torch.nn.functional as F
from torch import nn

PERCEPTUAL_WEIGHT, ADVERSARIAL_WEIGHT = 1.0, 0.2  # the recipe has 0.5, for a hundred times the steps


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017): pictures [n, 3, h, w] to a logit for each of the overlapping patches of 34 pixels."""

    def __init__(self, width=32):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, 1, 1, bias=False), nn.BatchNorm2d(4 * width), nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 4, 1, 1))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0, 0.02)

    def forward(self, x):
        return self.layers(x)


def reconstruction(perceptual, y, x):
    """L1 plus perceptual distance of reconstructions y to pictures x, and both parts as numbers."""
    l1, distance = F.l1_loss(y, x), perceptual.distance(y, x)
    return l1 + PERCEPTUAL_WEIGHT * distance, {"l1": round(l1.item(), 4), "perceptual": round(distance.item(), 4)}


def pull(y, x, last, perceptual, discriminator=None):
    """The gradient for reconstructions y of pictures x: that of the reconstruction loss and, given a discriminator, the
    adversarial one, scaled to the same length at the decoder's last layer `last` (a parameter). And the losses as numbers."""
    free = y.detach().requires_grad_()
    loss, figures = reconstruction(perceptual, free, x)
    pulled, = torch.autograd.grad(loss, free)
    if discriminator is None:
        return pulled, figures
    loss = -discriminator(free).mean()
    deceiving, = torch.autograd.grad(loss, free)
    lengths = [torch.autograd.grad(y, last, g, retain_graph=True)[0].norm() for g in (pulled, deceiving)]
    weight = (lengths[0] / (lengths[1] + 1e-4)).clamp(0, 1e4)
    figures |= {"deceiving": round(loss.item(), 4), "weight": round(weight.item(), 3)}
    return pulled + ADVERSARIAL_WEIGHT * weight * deceiving, figures


def discern(discriminator, y, x):
    """The discriminator's hinge loss on reconstructions y and pictures x."""
    return 0.5 * (F.relu(1 - discriminator(x)).mean() + F.relu(1 + discriminator(y.detach())).mean())


def gradients(a, b):
    """L1 between the horizontal and vertical differences of two pictures at three scales: sharp edges without any net, for what
    is trained briefly."""
    total = 0
    for _ in range(3):
        total = total + F.l1_loss(a.diff(dim=2), b.diff(dim=2)) + F.l1_loss(a.diff(dim=3),
                                                                            b.diff(dim=3))
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return total
