"""Where training's tensors live: on a GPU if torch finds one, else on the processor. The same steps run on both; on a GPU they take a
few hundredths of the time."""

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def prepare(threads):
    """Once, before any work: the processor's threads, and on a GPU the fast kinds of float32."""
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True


def autocast():
    """Matrix work in bfloat16."""
    return torch.autocast(DEVICE.type, torch.bfloat16)


def place(module):
    """A module moved to the device; there in the order of axes that its convolutions like best."""
    return module.to(DEVICE, memory_format=torch.channels_last if DEVICE.type == "cuda" else torch.preserve_format)


def plain(module):
    """A module back on the processor in the usual order, as files want it."""
    return module.to("cpu", memory_format=torch.contiguous_format)
