"""Many scenes at once: their pictures as one array, everything else as scenes without pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing import Pool

import numpy as np
from tqdm import tqdm

from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.world import World


def pictures(
    world: World, seeds: Sequence[int], processes: int = 2, progress: bool = False
) -> tuple[np.ndarray, list[Scene]]:
    """Draw one scene for each of N seeds: pictures uint8 (N, size, size, 3), RGB, and scenes without pictures."""
    array = np.empty((len(seeds), world.size, world.size, 3), np.uint8)
    scenes: list[Scene] = []
    for pixels, scene in tqdm(stream(world, seeds, processes), total=len(seeds), disable=not progress, unit="scene"):
        array[len(scenes)] = pixels
        scenes.append(scene)
    return array, scenes


def stream(world: World, seeds: Iterable[int], processes: int = 2) -> Iterator[tuple[np.ndarray, Scene]]:
    """The same one by one, in the order of the seeds, for sets that do not fit into memory."""
    draw = partial(draw_one, world)
    if processes <= 1:
        yield from map(draw, seeds)
        return
    with Pool(processes) as pool:
        yield from pool.imap(draw, seeds, chunksize=64)


def draw_one(world: World, seed: int) -> tuple[np.ndarray, Scene]:
    """The picture of one scene, uint8 (size, size, 3), and the scene without it."""
    scene = world.draw(seed)
    return np.asarray(scene.picture), replace(scene, picture=None)
