"""EAH and CLVA written out a second time, number by number: the oracle of their tests.

One sample without padding, T tokens, its whole attention weights `weights[head, row, column]` as numpy in fp64, and the
columns of its patches as a list. Plain loops; nothing is shared with the package, not even a helper.
"""

import math
from dataclasses import dataclass

import numpy as np

# --- EAH --------------------------------------------------------------------------------------------------------------


def sink_scores(weights: np.ndarray, patches: list[int]) -> list[list[float]]:
    """The mean attention of each patch from the rows behind it, for every head."""
    heads, length, _ = weights.shape
    scores = []
    for h in range(heads):
        scores.append([])
        for y in patches:
            received = [float(weights[h, x, y]) for x in range(y + 1, length)]
            scores[h].append(sum(received) / len(received) if received else 0.0)
    return scores


def sink_counts(weights: np.ndarray, patches: list[int], threshold: float) -> list[int]:
    counts = []
    for of_head in sink_scores(weights, patches):
        count = 0
        for score in of_head:
            if score > threshold:
                count += 1
        counts.append(count)
    return counts


def densest_head(counts: list[int]) -> int | None:
    """The first head with the most sinks; None if no head has any."""
    best, most = None, 0
    for h, count in enumerate(counts):
        if count > most:
            best, most = h, count
    return best


def second_head(counts: list[int]) -> int | None:
    """The first head with the most sinks among all but the densest."""
    best = densest_head(counts)
    if best is None:
        return None
    second = None
    for h, count in enumerate(counts):
        if h != best and (second is None or count > counts[second]):
            second = h
    return second


def eah(weights: np.ndarray, patches: list[int], threshold: float) -> np.ndarray:
    """Every head's map replaced by the densest head's."""
    chosen = densest_head(sink_counts(weights, patches, threshold))
    changed = weights.copy()
    if chosen is not None:
        for h in range(weights.shape[0]):
            changed[h] = weights[chosen]
    return changed


# --- CLVA -------------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """What one text row has of its lower layers: lists over the patches that it sees."""

    noise: list[float]
    middle: list[float]
    anchor: list[float] | None  # None if the middle layers gain nothing


def pooled_map(row: np.ndarray, seen: list[int], share: float) -> list[float]:
    """One row's map, from its weights `row[head, column]`: of the heads that look most at the picture."""
    masses = [sum(float(row[h, y]) for y in seen) for h in range(row.shape[0])]
    order = sorted(range(len(masses)), key=lambda h: -masses[h])
    chosen = order[: math.ceil(share * len(masses))]
    whole = sum(masses[h] for h in chosen)
    return [sum(float(row[h, y]) for h in chosen) / whole for y in seen]


def mean_of(maps: list[list[float]]) -> list[float]:
    return [sum(values) / len(maps) for values in zip(*maps, strict=True)]


def cut_outliers(gain: list[float]) -> list[float]:
    mean = sum(gain) / len(gain)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in gain) / len(gain))
    return [min(value, mean + 3 * deviation) for value in gain]


def keep_top(gain: list[float], share: float) -> list[float]:
    most = math.ceil(share * len(gain))
    kept = sorted(range(len(gain)), key=lambda j: (-gain[j], j))[:most]
    return [value if j in kept else 0.0 for j, value in enumerate(gain)]


def found_for_row(noise_maps: list[list[float]], anchor_maps: list[list[float]], keep: float) -> Row:
    noise = mean_of(noise_maps)
    gains = []
    for map_ in anchor_maps:
        gains.append([max(0.0, p - n) for p, n in zip(map_, noise, strict=True)])
    gain = keep_top(cut_outliers(mean_of(gains)), keep)
    total = sum(gain)
    return Row(noise, mean_of(anchor_maps), [value / total for value in gain] if total > 0 else None)


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def gate_of(here: list[float], found: Row) -> float:
    middle = cosine(found.middle, found.noise)
    return min(1.0, max(0.0, (cosine(here, found.noise) - middle) / (1 - middle)))


def fused(p: list[float], found: Row, r: float, omega: float, beta: float) -> list[float]:
    """The new shape of one head's attention on the patches, from its old one; both sum to 1."""
    pulled = []
    for own, anchor, noise in zip(p, found.anchor, found.noise, strict=True):
        pulled.append(max(0.0, (1 - omega * r) * own + omega * r * anchor - beta * r * noise))
    return [value / sum(pulled) for value in pulled]


def clva(
    before: np.ndarray,
    noise_layers: list[np.ndarray],
    anchor_layers: list[np.ndarray],
    patches: list[int],
    *,
    omega: float = 0.4,
    beta: float = 0.2,
    kappa: float = 1.0,
    gate: bool = True,
    keep: float = 1.0,
    heads: float = 0.5,
) -> tuple[np.ndarray, dict[int, float]]:
    """A deep layer's weights `before`, corrected, and each text row's gate. All weights are `[head, row, column]`."""
    changed, gates = before.copy(), {}
    for x in range(before.shape[1]):
        seen = [y for y in patches if y < x]
        if x in patches or not seen:
            continue
        noise_maps = [pooled_map(weights[:, x], seen, heads) for weights in noise_layers]
        anchor_maps = [pooled_map(weights[:, x], seen, heads) for weights in anchor_layers]
        found = found_for_row(noise_maps, anchor_maps, keep)
        r = gate_of(pooled_map(before[:, x], seen, heads), found) if gate else 1.0
        gates[x] = r if found.anchor is not None else 0.0
        if gates[x] == 0:
            continue
        for h in range(before.shape[0]):
            mass = sum(float(before[h, x, y]) for y in seen)
            shape = fused([float(before[h, x, y]) / mass for y in seen], found, gates[x], omega, beta)
            for y, share in zip(seen, shape, strict=True):
                changed[h, x, y] = kappa * mass * share
            changed[h, x] /= 1 - mass + kappa * mass
    return changed, gates
