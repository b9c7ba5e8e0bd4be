"""Trials: what a model says about scenes under one condition, and what of it is true.

It is counted by the package's one CHAIR and one POPE, those of `minivlm evaluate`, which follow the original programs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch

from minivlm.evaluation.chair import Judged, chair, judge
from minivlm.evaluation.pope import SPLITS, PopeQuestion, build_questions, score_answers
from minivlm.evaluation.scenes import BLOCK, SceneWords, phrase
from minivlm.experiments.oracle import Aiming, Oracle
from minivlm.inference.answer import Answer
from minivlm.inference.batches import ask_all
from minivlm.inference.vlm import VLM
from minivlm.model import CLVA, EAH, Aim, Mitigation
from minivlm.stats import Ratio
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.world import HELD_OUT, World

BATCH = 50  # questions asked at once
MOST = 96  # tokens of a caption
YES_NO = 2  # tokens that an answer to "is there …?" needs to be known
WORDS = SceneWords()
Sets = Mapping[str, Sequence[PopeQuestion]]  # split -> its questions
Answers = Mapping[tuple[str, str], str]  # (image, question) -> answer; a scene's image is its seed


@dataclass(frozen=True)
class Condition:
    """What is done to the attention while the model answers; nothing, if nothing is given.

    `flatten` names layers that look at all patches alike, the control of any claim that it matters where they look.
    """

    kind: str  # "plain", "method", "control" or "ceiling"
    eah: EAH | None = None
    clva: CLVA | None = None
    flatten: tuple[int, ...] = ()
    oracle: Oracle | None = None

    def mitigation(self, vlm: VLM, scenes: Sequence[Scene]) -> Mitigation | Aiming:
        """For a batch of these scenes; the oracle's changes from word to word."""
        if self.oracle:
            return Aiming(vlm, self.oracle, scenes)
        alike = torch.ones(len(scenes), vlm.model.config.num_image_tokens, device=vlm.device)
        return Mitigation(self.eah, self.clva, Aim(alike, self.flatten, strength=1.0) if self.flatten else None)

    def settings(self) -> dict:
        """What is not plain about it, in JSON types."""
        parts = {name: plain_types(part) for name in ("eah", "clva", "oracle") if (part := getattr(self, name))}
        return {**parts, **({"flatten": list(self.flatten)} if self.flatten else {})}


def plain_types(settings: EAH | CLVA | Oracle) -> dict:
    """In JSON types."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}


PLAIN = Condition("plain")


def write_captions(
    vlm: VLM, scenes: Sequence[Scene], question: str, condition: Condition = PLAIN, title: str | None = None
) -> list[str]:
    """Greedy captions under a condition; with a `title`, a bar shows how far it is."""
    return ask(vlm, scenes, [question] * len(scenes), MOST, condition, title)


def answer_yes_no(
    vlm: VLM, scenes: Sequence[Scene], sets: Sets, condition: Condition = PLAIN, title: str | None = None
) -> Answers:
    """Greedy answers to the questions of all splits; one that several splits ask is asked once."""
    drawn = {str(scene.seed): scene for scene in scenes}
    asked = [*dict.fromkeys((question.image, question.text) for split in sets.values() for question in split)]
    answers = ask(vlm, [drawn[image] for image, _ in asked], [text for _, text in asked], YES_NO, condition, title)
    return dict(zip(asked, answers, strict=True))


def ask(
    vlm: VLM,
    scenes: Sequence[Scene],
    questions: Sequence[str],
    most: int,
    condition: Condition = PLAIN,
    title: str | None = None,
) -> list[str]:
    """Greedy answers of at most `most` tokens, one question for each scene."""

    def asked(rows: Sequence[tuple[Scene, str]]) -> list[Answer]:
        shown, texts = zip(*rows, strict=True)
        how = {"mitigation": condition.mitigation(vlm, shown), "max_new_tokens": most}
        return vlm.ask_many([scene.picture for scene in shown], texts, **how)

    return [answer.text for answer in ask_all(asked, [*zip(scenes, questions, strict=True)], BATCH, title)]


# --- counting -------------------------------------------------------------------------------------------------------


def judged(captions: Sequence[str], scenes: Sequence[Scene]) -> list[Judged]:
    """Each caption held against the objects of its scene."""
    return [judge(caption, scene.names, WORDS) for caption, scene in zip(captions, scenes, strict=True)]


def caption_ratios(captions: Sequence[str], scenes: Sequence[Scene]) -> dict[str, Ratio]:
    """The figures of `chair`, and the recall of clear and of hard objects, those with a thing that is hard to see."""
    found = judged(captions, scenes)
    hard = [{thing.name for thing in scene.things if thing.hard} for scene in scenes]
    clear = [set(scene.names) - some for scene, some in zip(scenes, hard, strict=True)]
    return {
        **chair(found),
        "recall of clear objects": recall_of(found, clear),
        "recall of hard objects": recall_of(found, hard),
    }


def recall_of(found: Sequence[Judged], wanted: Sequence[set[str]]) -> Ratio:
    """The share of the `wanted` objects, of each scene some, that are named."""
    named = [len(one.found & some) for one, some in zip(found, wanted, strict=True)]
    return Ratio.of(named, [*map(len, wanted)])


def pope_sets(scenes: Sequence[Scene], world: World = HELD_OUT) -> dict[str, list[PopeQuestion]]:
    """POPE's three splits about scenes of `world`: of held-out scenes, those that `evaluate pope --data scenes:0` asks.

    How frequent an object is, is counted in the world's first block of scenes, or in more if `scenes` reach further.
    """
    images = [str(scene.seed) for scene in scenes]
    truth = {str(seed): world.layout(seed).names for seed in range(max([BLOCK, *(scene.seed + 1 for scene in scenes)]))}
    return {
        split: [replace(one, text=phrase(one.text)) for one in build_questions(truth, split, images=images)]
        for split in SPLITS
    }


def pope_ratios(sets: Sets, answers: Answers) -> dict[str, Ratio]:
    """The figures of `pope` for each split, such as "popular accuracy", by the original's parser."""
    ratios = {}
    for split, questions in sets.items() if answers else ():
        said = {question.id: answers[question.image, question.text] for question in questions}
        ratios |= {f"{split} {name}": ratio for name, ratio in score_answers(questions, said).items()}
    return ratios
