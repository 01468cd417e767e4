"""Pictures as tensors [n, 3, h, w] in -1..1, and how near two sets of them are: PSNR and SSIM (Wang et al. 2004, as most programs compute it: an 11x11
Gaussian of 1.5 pixels, each colour for itself, no padding)."""

import numpy as np
import torch
import torch.nn.functional as F

from device import DEVICE

WINDOW, SIGMA = 11, 1.5


def to_tensor(pixels):
    """uint8 [n, h, w, 3], an array or a tensor, to float [n, 3, h, w] in -1..1 on the device."""
    x = torch.as_tensor(np.ascontiguousarray(pixels) if isinstance(pixels, np.ndarray) else pixels)
    x = x.to(DEVICE).permute(0, 3, 1, 2)
    return x.float().div(127.5).sub(1).contiguous()


def to_pixels(x):
    """The way back: uint8 [n, h, w, 3]."""
    return x.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def psnr(a, b):
    """In dB, over all pictures together."""
    return float(10 * torch.log10(4 / F.mse_loss(a, b)))


def ssim(a, b):
    """The mean over all places, colours and pictures; 1: equal."""
    line = torch.exp(-(torch.arange(WINDOW) - WINDOW // 2).square() / (2 * SIGMA ** 2))
    line = line / line.sum()
    kernel = torch.outer(line, line)[None, None].repeat(3, 1, 1, 1).to(a.device)

    def mean(x):
        return F.conv2d(x, kernel, groups=3)
    a, b = a / 2 + 0.5, b / 2 + 0.5
    ma, mb = mean(a), mean(b)
    variance = mean(a * a) - ma * ma + mean(b * b) - mb * mb
    covariance = mean(a * b) - ma * mb
    c1, c2 = 0.01 ** 2, 0.03 ** 2
    return float(((2 * ma * mb + c1) * (2 * covariance + c2)
                  / ((ma * ma + mb * mb + c1) * (variance + c2))).mean())
