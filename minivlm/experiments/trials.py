"""Trials: a model's answers about scenes under one condition, and their scores.

The scores are the CHAIR and POPE of `minivlm evaluate`, which follow the original programs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch

from minivlm.evaluation.chair import Judged, chair, judge
from minivlm.evaluation.pope import SPLITS, PopeQuestion, build_questions, score_answers
from minivlm.evaluation.scenes import BLOCK, SceneWords, phrase
from minivlm.evaluation.settings import PLAIN
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
YES_NO = 2  # tokens of an answer to "is there …?": enough to tell yes from no
WORDS = SceneWords()
Sets = Mapping[str, Sequence[PopeQuestion]]  # split -> its questions
YesNoAnswers = Mapping[tuple[str, str], str]  # (image, question) -> answer; a scene's image id is its seed


@dataclass(frozen=True)
class Condition:
    """An intervention in the attention while the model answers; none by default.

    `flatten`: layers whose attention is spread equally over all patches. If that changes nothing, it does not matter
    which patches these layers attend to.
    """

    kind: str  # "plain", "method", "control" or "ceiling"
    eah: EAH | None = None
    clva: CLVA | None = None
    flatten: tuple[int, ...] = ()
    oracle: Oracle | None = None

    def mitigation(self, vlm: VLM, scenes: Sequence[Scene]) -> Mitigation | Aiming:
        """The mitigation for a batch of these scenes; the oracle's is a function, since it changes with every token."""
        if self.oracle:
            return Aiming(vlm, self.oracle, scenes)
        uniform = torch.ones(len(scenes), vlm.model.config.num_image_tokens, device=vlm.device)
        return Mitigation(self.eah, self.clva, Aim(uniform, self.flatten, strength=1.0) if self.flatten else None)

    def settings(self) -> dict:
        """The settings of the intervention in JSON types; empty for plain."""
        parts = {name: plain_types(part) for name in ("eah", "clva", "oracle") if (part := getattr(self, name))}
        return {**parts, **({"flatten": list(self.flatten)} if self.flatten else {})}


def plain_types(settings: EAH | CLVA | Oracle) -> dict:
    """The settings in JSON types."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}


PLAIN_CONDITION = Condition(PLAIN)


def write_captions(
    vlm: VLM, scenes: Sequence[Scene], question: str, condition: Condition = PLAIN_CONDITION, title: str | None = None
) -> list[str]:
    """Greedy captions of the scenes under a condition; with a `title`, a progress bar is shown."""
    return ask(vlm, scenes, [question] * len(scenes), MOST, condition, title)


def answer_yes_no(
    vlm: VLM, scenes: Sequence[Scene], sets: Sets, condition: Condition = PLAIN_CONDITION, title: str | None = None
) -> YesNoAnswers:
    """Greedy answers to the questions of all splits; a question that several splits share is asked once."""
    drawn = {str(scene.seed): scene for scene in scenes}
    asked = [*dict.fromkeys((question.image, question.text) for split in sets.values() for question in split)]
    answers = ask(vlm, [drawn[image] for image, _ in asked], [text for _, text in asked], YES_NO, condition, title)
    return dict(zip(asked, answers, strict=True))


def ask(
    vlm: VLM,
    scenes: Sequence[Scene],
    questions: Sequence[str],
    most: int,
    condition: Condition = PLAIN_CONDITION,
    title: str | None = None,
) -> list[str]:
    """Greedy answers of at most `most` tokens, one question for each scene."""

    def asked(pairs: Sequence[tuple[Scene, str]]) -> list[Answer]:
        shown, texts = zip(*pairs, strict=True)
        mitigation = condition.mitigation(vlm, shown)
        return vlm.ask_many([scene.picture for scene in shown], texts, mitigation=mitigation, max_new_tokens=most)

    return [answer.text for answer in ask_all(asked, [*zip(scenes, questions, strict=True)], BATCH, title)]


# --- counting -------------------------------------------------------------------------------------------------------


def judged(captions: Sequence[str], scenes: Sequence[Scene]) -> list[Judged]:
    """Each caption, compared with the objects of its scene."""
    return [judge(caption, scene.names, WORDS) for caption, scene in zip(captions, scenes, strict=True)]


def caption_ratios(captions: Sequence[str], scenes: Sequence[Scene]) -> dict[str, Ratio]:
    """The figures of `chair`, and the recall of clear and of hard objects; hard: one of its things is hard to see."""
    ones = judged(captions, scenes)
    hard = [{thing.name for thing in scene.things if thing.hard} for scene in scenes]
    clear = [set(scene.names) - some for scene, some in zip(scenes, hard, strict=True)]
    return {
        **chair(ones),
        "recall of clear objects": recall_of(ones, clear),
        "recall of hard objects": recall_of(ones, hard),
    }


def recall_of(captions: Sequence[Judged], wanted: Sequence[set[str]]) -> Ratio:
    """The share of the `wanted` objects, a set for each caption, that are named."""
    named = [len(one.found & some) for one, some in zip(captions, wanted, strict=True)]
    return Ratio.of(named, [*map(len, wanted)])


def pope_sets(scenes: Sequence[Scene], world: World = HELD_OUT) -> dict[str, list[PopeQuestion]]:
    """POPE's three splits about scenes of `world`; for held-out scenes, those of `evaluate pope --data scenes:0`.

    The frequencies of objects are counted in the world's first block of scenes, or in more if `scenes` go beyond it.
    """
    images = [str(scene.seed) for scene in scenes]
    truth = {str(seed): world.layout(seed).names for seed in range(max([BLOCK, *(scene.seed + 1 for scene in scenes)]))}
    return {
        split: [replace(one, text=phrase(one.text)) for one in build_questions(truth, split, images=images)]
        for split in SPLITS
    }


def pope_ratios(sets: Sets, answers: YesNoAnswers) -> dict[str, Ratio]:
    """The figures of `pope` by split, as in "popular accuracy", by the original's parser; empty without answers."""
    ratios: dict[str, Ratio] = {}
    for split, questions in sets.items() if answers else ():
        said = {question.id: answers[question.image, question.text] for question in questions}
        ratios |= {f"{split} {name}": ratio for name, ratio in score_answers(questions, said).items()}
    return ratios
