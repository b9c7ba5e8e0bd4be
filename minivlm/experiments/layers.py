"""The attention of each layer while an object is named, and its importance (`minivlm exam --layers`).

Measured by `minivlm.lens.drift`: curves over the layers, each a mean over scenes with a 95 % interval. A word counts at
the token that begins it: "true" if it names an object of the picture, "invented" if it names another object, "other"
for all other words. Curves about attention are computed from the layer's map, pooled over heads as CLVA does. Curves
"with noise" and "with middle" are high in the noise and anchor layers by construction.
"""

from collections.abc import Sequence

from minivlm.experiments.exam import circumstances
from minivlm.experiments.oracle import object_masks, patch_side
from minivlm.experiments.trials import MOST, WORDS, Condition, caption_ratios, write_captions
from minivlm.inference.batches import ask_all
from minivlm.inference.trace import Trace
from minivlm.inference.vlm import VLM
from minivlm.lens import drift
from minivlm.lens.curve import bootstrap
from minivlm.lens.drift import MEASURES, TracedScene
from minivlm.lens.words import Word, words
from minivlm.model import CLVA, EAH
from minivlm.stats import compared, resamples
from minivlm.toyworld.questions import DESCRIBE
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.themes import COMPANION_OF

SCENES = 200
BATCH = 25  # traces made at once
MANY = 2.0  # times EAH's threshold: sinks that score more are left out of the maps
THIRDS = ("first third", "middle third", "last third")
ANCHOR_OF = {companion: anchor for anchor, companion in COMPANION_OF.items()}
CURVES: dict[str, drift.Measure] = {
    "own box": MEASURES["evidence"],
    "other boxes": MEASURES["evidence elsewhere"],
    "anchor's box": drift.evidence_on(lambda scene, word: scene.masks.get(ANCHOR_OF.get(word.name, ""))),
    "image share": MEASURES["image share"],
    "entropy": MEASURES["entropy"],
    "logit lens": MEASURES["logit lens"],
    "cosine with noise": MEASURES["cosine to noise"],
    "correlation with noise": MEASURES["correlation to noise"],
    "correlation with middle": MEASURES["correlation to middle"],
}


def by_layer(vlm: VLM, scenes: Sequence[Scene], traced: Sequence[TracedScene]) -> dict:
    """All curves in JSON types: `curves[figure][words]` with value, low and high by layer; sinks; flattened thirds.

    `traced`: the `scenes` as from `traced_scenes`.
    """
    clva, whole = CLVA.for_model(vlm.model.config), without_dropping(traced)
    threshold = EAH.for_model(vlm.model.config).threshold
    measured = {name: drift.by_kind(whole, measure) for name, measure in CURVES.items()}
    density = bootstrap([drift.sink_density(one.trace, threshold)[None] for one in traced])  # 1 L H each
    return {
        **circumstances(vlm),
        "scenes": len(scenes),
        "question": DESCRIBE[0],
        "noise layers": list(clva.noise_layers or ()),
        "anchor layers": list(clva.anchor_layers or ()),
        "curves": {
            name: {kind: curve.as_dict() for kind, curve in kinds.items() if curve.n}
            for name, kinds in measured.items()
        },
        "sink density": density.as_dict(),  # by layer and head
        "sink threshold": threshold,
        "flattened": flattened(vlm, scenes, [one.trace.text for one in traced]),
    }


# --- captions and how they were written -----------------------------------------------------------------------------


def traced_scenes(vlm: VLM, scenes: Sequence[Scene], title: str | None = None) -> list[TracedScene]:
    """A caption of every scene, traced with the logit lens at every layer, with its words and the masks of the objects.

    With a `title`, a progress bar is shown.
    """
    depth = range(vlm.model.config.text_config.num_hidden_layers)

    def ask(part: Sequence[Scene]) -> list[Trace]:
        questions = [DESCRIBE[0]] * len(part)
        return vlm.trace_many([scene.picture for scene in part], questions, lens=depth, max_new_tokens=MOST)

    traces = ask_all(ask, scenes, BATCH, title)
    return [traced(vlm, trace, scene) for trace, scene in zip(traces, scenes, strict=True)]


def traced(vlm: VLM, trace: Trace, scene: Scene) -> TracedScene:
    """A trace with its words, the masks of the scene's objects, and the strong sinks to leave out of the maps."""
    masks = object_masks(scene, vlm.preprocessing, patch_side(vlm.model.config))
    threshold = MANY * EAH.for_model(vlm.model.config).threshold
    return TracedScene(trace, words_of(trace, scene), masks, drift.sink_columns(trace, threshold))


def words_of(trace: Trace, scene: Scene) -> list[Word]:
    """The words of a caption; every mention of an object is true or invented."""
    mentions = WORDS.mentions(trace.text)
    return words(trace, [(one.object, one.start, one.stop, one.object in scene.names) for one in mentions])


def without_dropping(scenes: Sequence[TracedScene]) -> list[TracedScene]:
    """The same scenes with complete maps, without dropped patches."""
    return [TracedScene(scene.trace, scene.words, scene.masks) for scene in scenes]


def flattened(vlm: VLM, scenes: Sequence[Scene], plain: Sequence[str]) -> dict[str, dict]:
    """CHAIR_i and recall when a third of the layers attends to all patches equally; `plain`: the plain captions."""
    depth, times = vlm.model.config.text_config.num_hidden_layers, resamples(len(scenes))
    before, thirds = caption_ratios(plain, scenes), {}
    for number, name in enumerate(THIRDS):
        layers = tuple(range(number * depth // 3, (number + 1) * depth // 3))
        captions = write_captions(vlm, scenes, DESCRIBE[0], Condition("control", flatten=layers))
        after = caption_ratios(captions, scenes)
        figures = {figure: compared(after[figure], before[figure], times) for figure in ("chair_i", "recall")}
        thirds[name] = {"layers": list(layers), **figures}
    return thirds
