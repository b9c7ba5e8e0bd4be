"""The anatomy of a model: where each layer looks while an object is named, and how far it matters.

    python -m minivlm.experiments.layers FOLDER --scenes 200 --out anatomy.json

Curves over the layers, each the mean over words of many captions, with 95 % intervals over scenes. A word counts at
the token that begins it: "true" where an object is named that is there, "invented" where one is not, "other" at every
other token. What a curve says about attention is said by the layer's map, pooled over heads as CLVA does.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from minivlm.checkpoints.save import write_json
from minivlm.experiments import methods_card
from minivlm.experiments.exam import circumstances, draw
from minivlm.experiments.oracle import boxes, patch_side
from minivlm.experiments.trials import MOST, Condition, caption_ratios, write_captions
from minivlm.inference.load import load
from minivlm.inference.trace import Trace
from minivlm.inference.vlm import VLM
from minivlm.model import CLVA, EAH
from minivlm.stats import Ratio, compared, estimate, resamples
from minivlm.toyworld.questions import DESCRIBE
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.themes import COMPANION_OF
from minivlm.toyworld.words import FORM, FORMS
from minivlm.toyworld.world import HELD_OUT, World

BATCH = 25  # traces made at once
THIRDS = ("first third", "middle third", "last third")
ANCHOR_OF = {companion: anchor for anchor, companion in COMPANION_OF.items()}
Sums = dict[tuple[str, str], tuple[Tensor, int]]  # (figure, words) -> sum over the words (L,), number of the words


def anatomy(vlm: VLM, scenes: int = 200, *, question: str = DESCRIBE[0], world: World = HELD_OUT) -> dict:
    """All curves in JSON types: `curves[figure][words]` with value, low and high by layer; sinks; flattened thirds."""
    drawn = draw(world, scenes)
    clva, eah = CLVA.for_model(vlm.model.config), EAH.for_model(vlm.model.config)
    texts, sums, sinks = [], [], []
    for trace, scene in zip(traces(vlm, drawn, question), drawn, strict=True):
        texts.append(trace.text)
        sums.append(word_sums(trace, scene, patch_side(vlm), clva))
        sinks.append((trace.sink_scores > eah.threshold).float().mean(dim=-1).numpy())  # L H
    times = resamples(scenes)
    return {
        **circumstances(vlm),
        "scenes": scenes,
        "question": question,
        "noise layers": list(clva.noise_layers),
        "anchor layers": list(clva.anchor_layers),
        "curves": curves(sums, times),
        "sink density": estimate(Ratio.of(sinks, np.ones((scenes, 1, 1))), times).as_dict(),  # by layer and head
        "sink threshold": eah.threshold,
        "flattened": flattened(vlm, drawn, question, texts, times),
    }


def traces(vlm: VLM, scenes: Sequence[Scene], question: str) -> Iterator[Trace]:
    """A trace of each scene's caption, with the logit lens of every layer."""
    layers = range(vlm.model.config.text_config.num_hidden_layers)
    for start in tqdm(range(0, len(scenes), BATCH), desc="traces", unit="batch"):
        pictures = [scene.picture for scene in scenes[start : start + BATCH]]
        yield from vlm.trace_many(pictures, [question] * len(pictures), lens=layers, max_new_tokens=MOST)


# --- one caption ----------------------------------------------------------------------------------------------------


def word_sums(trace: Trace, scene: Scene, side: int, clva: CLVA) -> Sums:
    """Sums over the words of one caption, for each figure and kind of word."""
    begins = beginnings(trace.pieces)
    tokens = {
        "true": [token for name, token in begins.items() if name in scene.names],
        "invented": [token for name, token in begins.items() if name not in scene.names],
        "other": [token for token in range(len(trace.pieces)) if token not in begins.values()],
    }
    figures = token_curves(trace, clva).items()
    sums = {(name, kind): (curve[at].sum(dim=0), len(at)) for name, curve in figures for kind, at in tokens.items()}
    return sums | box_sums(trace, scene, side, begins)


def beginnings(pieces: Sequence[str]) -> dict[str, int]:
    """The token at which each object is named first."""
    ends = np.cumsum([len(piece) for piece in pieces])
    found: dict[str, int] = {}
    for match in FORM.finditer("".join(pieces)):
        found.setdefault(FORMS[match[0].lower()], int(np.searchsorted(ends, match.start(), side="right")))
    return found


def token_curves(trace: Trace, clva: CLVA) -> dict[str, Tensor]:
    """Figures (T, L) of every token.

    The noise is the mean map of CLVA's noise layers at this token, the middle that of its anchor layers; a layer is
    like itself, so their own layers lie high. Nearly uniform maps have a cosine near 1 whatever they look at: the
    correlation, the cosine of what is left without the mean, is the stricter figure.
    """
    maps = trace.pooled.float()  # T L P
    sources = {"noise": clva.noise_layers, "middle": clva.anchor_layers}
    means = {name: maps[:, list(layers)].mean(dim=1, keepdim=True) for name, layers in sources.items()}
    return {
        "image share": trace.share("image").float().mean(dim=-1),
        "entropy": trace.entropy.float().mean(dim=-1),
        "logit lens": trace.lens_prob.float(),
        **{f"cosine with {name}": cosine(maps, mean) for name, mean in means.items()},
        **{f"correlation with {name}": cosine(centred(maps), centred(mean)) for name, mean in means.items()},
    }


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.cosine_similarity(a, b, dim=-1)


def centred(maps: Tensor) -> Tensor:
    return maps - maps.mean(dim=-1, keepdim=True)


def box_sums(trace: Trace, scene: Scene, side: int, begins: dict[str, int]) -> Sums:
    """Attention on boxes relative to the whole picture: 1 is what looking everywhere alike would give.

    "own box" of true words, beside it "other boxes" of all else that is there; "anchor's box" of the words for a
    companion whose anchor is there, be the companion true or invented.
    """
    sums: Sums = {}
    for name, token in begins.items():
        kind = "true" if name in scene.names else "invented"
        others = [thing for thing in scene.things if thing.name != name]
        seen = {"own box": scene.of(name), "other boxes": others, "anchor's box": scene.of(ANCHOR_OF.get(name, ""))}
        for figure, things in seen.items():
            if things:
                total, words = sums.get((figure, kind), (0, 0))
                sums[figure, kind] = (total + relative(trace.pooled[token], boxes(things, side, scene.size)), words + 1)
    return sums


def relative(maps: Tensor, inside: Tensor) -> Tensor:
    """(L,): the mean of each map (L, P) over the patches `inside` (P,) by their shares, over its mean everywhere."""
    maps = maps.float()
    return (maps * inside).sum(dim=-1) / inside.sum() / maps.mean(dim=-1)


# --- all captions ---------------------------------------------------------------------------------------------------


def curves(scenes: Sequence[Sums], times: NDArray) -> dict[str, dict[str, dict]]:
    """The mean of each figure over all words of a kind, with its interval by layer and the number of words."""
    found: dict[str, dict[str, dict]] = {}
    for figure, kind in sorted({key for sums in scenes for key in sums}):
        rows = [sums.get((figure, kind), (None, 0)) for sums in scenes]
        depth = next(len(total) for total, _ in rows if total is not None)
        parts = [np.zeros(depth) if total is None else total.numpy() for total, _ in rows]
        words = [count for _, count in rows]
        curve = estimate(Ratio.of(parts, np.array(words)[:, None]), times).as_dict()
        found.setdefault(figure, {})[kind] = {**curve, "words": sum(words)}
    return found


def flattened(vlm: VLM, scenes: list[Scene], question: str, plain: Sequence[str], times: NDArray) -> dict[str, dict]:
    """What happens to CHAIR_i and recall when a third of the layers looks at all patches alike."""
    depth = vlm.model.config.text_config.num_hidden_layers
    before, found = caption_ratios(plain, scenes), {}
    for number, name in enumerate(THIRDS):
        layers = tuple(range(number * depth // 3, (number + 1) * depth // 3))
        after = caption_ratios(write_captions(vlm, scenes, question, Condition("control", flatten=layers)), scenes)
        figures = {figure: compared(after[figure], before[figure], times) for figure in ("chair_i", "recall")}
        found[name] = {"layers": list(layers), **figures}
    return found


def main() -> None:
    """The anatomy of a model in a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="FOLDER", nargs="?", help="default: the shipped model")
    parser.add_argument("--scenes", type=int, default=200, metavar="N")
    parser.add_argument("--question", default=DESCRIBE[0])
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument("--out", type=Path, metavar="FILE", help="all figures as JSON")
    args = parser.parse_args()
    figures = anatomy(load(args.model, device=args.device, dtype=args.dtype), args.scenes, question=args.question)
    if args.out:
        write_json(args.out, figures)
    print(methods_card.anatomy(figures))


if __name__ == "__main__":
    main()
