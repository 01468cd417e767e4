"""Paints the training scenes into a cache, scenes-SIDE/: scenes-NNN.npy (uint8 [n, side, side, 3])
with the records in scenes-NNN.json. Shard k depends on its number alone, so the cache can be grown.
Remove the folder (and lessons-SIDE/ and latents-SIDE/) when the world changes."""

import argparse
import json
import multiprocessing
import random

import numpy as np

import state
from world.scene import compose

SHARD = 1000
FOLDER = f"scenes-{state.SIDE}"


def paint_shard(number):
    """Paints one shard unless it is there."""
    target = state.path(FOLDER, f"scenes-{number:03}.npy")
    if target.exists():
        return
    rng = random.Random(f"scenes {number}")
    scenes = [compose(rng, state.SIDE) for _ in range(SHARD)]
    target.with_suffix(".json").write_text(json.dumps([record for _, record in scenes]))
    pixels = np.stack([np.asarray(picture) for picture, _ in scenes])

    def write(temporary):
        with open(temporary, "wb") as f:
            np.save(f, pixels)
    state.save(target, write)
    print(target, flush=True)


def load(number):
    """The pixels (memory-mapped) and records of a shard."""
    target = state.path(FOLDER, f"scenes-{number:03}.npy")
    return np.load(target, mmap_mode="r"), json.loads(target.with_suffix(".json").read_text())


def shards():
    """Numbers of the shards that are there."""
    return sorted(int(p.stem[7:]) for p in state.path(FOLDER, "x").parent.glob("scenes-*.npy"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=24)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with multiprocessing.Pool(options.processes) as pool:
        pool.map(paint_shard, range(options.shards), chunksize=1)
