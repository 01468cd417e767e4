"""What the scenes' records teach beyond the pictures: where each named object is.

A U-Net this small, trained for hours and not for months, learns late which words belong to which of
two shapes. The records know the objects' boxes, so training tells it: errors within the boxes count
more, and the cross-attention of an object's words is asked to lie in that object's box (as in
TokenCompose, Wang et al. 2024). Neither changes the models, which are plain Stable Diffusion
classes afterwards."""

import torch


OBJECT_WEIGHT = 2.5
TOKEN_LOSS, PIXEL_LOSS = 0.06, 0.03
MASS = 0.6  # of a box's attention that its object's words should have at least


def grids(edges, grid):
    """[n, objects, grid, grid]: 1 in the cells whose middle is in the box of an object; edges [n, objects, 4] in 0..1, all zero
    where there is no object."""
    centre = (torch.arange(grid, device=edges.device) + 0.5) / grid
    x0, y0, x1, y1 = edges[..., None].unbind(2)
    rows, columns = (centre >= y0) & (centre <= y1), (centre >= x0) & (centre <= x1)
    return (rows[..., None] & columns[..., None, :]).float()


class WatchedAttention:
    """Plain attention that keeps its probabilities [batch * heads, queries, tokens]."""

    probabilities = None

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **_):
        query, key, value = (attn.head_to_batch_dim(t) for t in (
            attn.to_q(hidden_states), attn.to_k(encoder_hidden_states),
            attn.to_v(encoder_hidden_states)))
        self.probabilities = attn.get_attention_scores(query, key)
        mixed = attn.batch_to_head_dim(torch.bmm(self.probabilities, value))
        return attn.to_out[1](attn.to_out[0](mixed))


def watch(unet):
    """Watches the cross-attention at half resolution (the finest this U-Net has)."""
    watched, processors = [], dict(unet.attn_processors)
    for name in processors:
        if ".attn2." in name and name.startswith(("down_blocks.1.", "up_blocks.1.")):
            processors[name] = WatchedAttention()
            watched.append(processors[name])
    unet.set_attn_processor(processors)
    return watched


def attention_loss(watched, owners, cells):
    """Per sample [n]: how far the attention of objects' words lies outside their boxes, and how little
    of a box's attention they have. owners [n, objects, tokens], cells [n, objects, h, w]."""
    n = len(owners)
    inside = cells.flatten(2).transpose(1, 2)
    there = ((owners.sum(2) > 0) & (cells.sum(dim=(2, 3)) > 0)).float()
    total = torch.zeros(n, device=cells.device)
    for layer in watched:
        probabilities = layer.probabilities.float()
        mass = probabilities.view(n, -1, *probabilities.shape[1:]).mean(1) @ owners.transpose(1, 2)
        within = (mass * inside).sum(1)
        outside = 1 - within / (mass.sum(1) + 1e-6)
        little = (MASS - within / inside.sum(1).clamp(min=1)).clamp(min=0)
        total = total + ((TOKEN_LOSS * outside.square() + PIXEL_LOSS * little.square() / MASS ** 2)
                         * there).sum(1)
    return total / len(watched)
