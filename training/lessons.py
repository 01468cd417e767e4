"""What each painted scene teaches, prepared once by all processors so that learning never waits for words:
lessons-SIDE/lessons-NNN.npz holds for the n scenes of a shard

mask    [n, side, side / 8] uint8: a random hole, eight pixels a byte, 1 = repaint
ids     [n, 2, FORMS, 77] uint16: token ids of captions of the whole scene (0), and of what its hole hides (1)
owners  [n, 2, FORMS, 77] uint8: 1 + k where a token is a word of the kth object that is named, else 0
boxes   [n, 2, objects, 4] float32: edges in 0..1 of the objects that are named, from left to right; zero where there is none

Remove the folder when the world's words or holes change."""

import argparse
import multiprocessing
import random

import numpy as np
import torch

import render
import state
import tokens
from world.captions import MARKS, caption, in_order
from world.masks import hidden_objects, make_mask

FORMS = 6
WHOLE, HOLE = 0, 1
CONTEXT = {WHOLE: 0.85, HOLE: 0.5}  # the chance that a caption says the place, and the light


def folder(side):
    return f"lessons-{side}"


def edges(record, objects):
    """[objects, 4]: the boxes of named objects, in 0..1."""
    found = np.zeros((len(MARKS), 4), np.float32)
    for k, item in enumerate(in_order(objects, record)[:len(MARKS)]):
        found[k] = np.array(item["box"], np.float32) / record["side"]
    return found


def prepare_shard(number):
    """Prepares one shard unless it is there."""
    target = state.path(folder(state.SIDE), f"lessons-{number:03}.npz")
    if target.exists():
        return
    torch.set_num_threads(1)
    _, records = render.load(number)
    rng, tokenizer = random.Random(f"lessons {number}"), tokens.load()
    masks, shown, said = [], [], []
    for record in records:
        hole = make_mask(rng, record, state.SIDE)
        masks.append(np.packbits(np.asarray(hole) >= 128, axis=1))
        shown.append([record["objects"], hidden_objects(record, hole)])
        said += [caption(rng, record, objects, CONTEXT[k], marked=True)
                 for k, objects in enumerate(shown[-1]) for _ in range(FORMS)]
    ids, owners = tokens.encode_marked(tokenizer, said)
    numbered = (owners * torch.arange(1, len(MARKS) + 1)[:, None]).sum(1)
    shape = (len(records), 2, FORMS, -1)

    def write(temporary):
        with open(temporary, "wb") as f:
            np.savez(f, mask=np.stack(masks), ids=ids.numpy().astype(np.uint16).reshape(shape),
                     owners=numbered.numpy().astype(np.uint8).reshape(shape),
                     boxes=np.stack([[edges(r, o) for o in both] for r, both in zip(records, shown)]))
    state.save(target, write)
    print(target, flush=True)


def load(number, side=state.SIDE):
    """The arrays of one shard, by name; each is read when it is asked for."""
    return np.load(state.path(folder(side), f"lessons-{number:03}.npz"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    tokens.load()
    with multiprocessing.Pool(options.processes) as pool:
        pool.map(prepare_shard, render.shards(), chunksize=1)
