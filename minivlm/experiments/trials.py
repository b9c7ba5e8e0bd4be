"""Trials: what a model says about scenes under one condition, and what of it is true, counted scene by scene."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch

from minivlm.evaluation.pope_questions import SPLITS, pope_questions
from minivlm.experiments.oracle import BATCH, MOST, Oracle, aimed_captions
from minivlm.inference.vlm import VLM
from minivlm.model import CLVA, EAH, Aim, LlavaConfig, Mitigation
from minivlm.stats import Ratio
from minivlm.toyworld.questions import Question
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.words import mentions
from minivlm.toyworld.world import TRAINING

YES_NO = 2  # tokens that an answer to "is there …?" needs to be known
LAYOUTS = 2000  # training scenes in which POPE counts how frequent objects are
Sets = Mapping[str, Sequence[Sequence[Question]]]  # split -> for each scene its questions
Answers = Mapping[tuple[int, str], str]  # (number of the scene, question) -> answer


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

    def mitigation(self, config: LlavaConfig, rows: int, device: torch.device) -> Mitigation:
        """For a call with `rows` rows. The oracle is none: its target changes from word to word."""
        alike = torch.ones(rows, config.num_image_tokens, device=device)
        return Mitigation(self.eah, self.clva, Aim(alike, self.flatten, strength=1.0) if self.flatten else None)

    def settings(self) -> dict:
        """What is not plain about it, in JSON types."""
        parts = {name: plain_types(part) for name in ("eah", "clva", "oracle") if (part := getattr(self, name))}
        return {**parts, **({"flatten": list(self.flatten)} if self.flatten else {})}


def plain_types(settings: EAH | CLVA | Oracle) -> dict:
    """In JSON types."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}


PLAIN = Condition("plain")


def write_captions(vlm: VLM, scenes: Sequence[Scene], question: str, condition: Condition = PLAIN) -> list[str]:
    """Greedy captions under a condition."""
    if oracle := condition.oracle:
        return aimed_captions(vlm, scenes, question, **asdict(oracle))
    return ask(vlm, scenes, [question] * len(scenes), MOST, condition)


def answer_yes_no(vlm: VLM, scenes: Sequence[Scene], sets: Sets, condition: Condition = PLAIN) -> Answers:
    """Greedy answers to the questions of all splits; one that several splits ask is asked once."""
    asked = {(n, question.text) for split in sets.values() for n, own in enumerate(split) for question in own}
    asked = sorted(asked)
    answers = ask(vlm, [scenes[n] for n, _ in asked], [text for _, text in asked], YES_NO, condition)
    return dict(zip(asked, answers, strict=True))


def ask(
    vlm: VLM, scenes: Sequence[Scene], questions: Sequence[str], most: int, condition: Condition = PLAIN
) -> list[str]:
    """Greedy answers of at most `most` tokens, a batch at a time, one question for each scene."""
    answers = []
    for start in range(0, len(questions), BATCH):
        pictures, texts = ([*all_[start : start + BATCH]] for all_ in (scenes, questions))
        mitigation = condition.mitigation(vlm.model.config, len(texts), vlm.device)
        told = vlm.ask_many([scene.picture for scene in pictures], texts, mitigation=mitigation, max_new_tokens=most)
        if any(answer.finish == "interrupted" for answer in told):
            raise KeyboardInterrupt  # half an answer is not to be graded
        answers += [answer.text for answer in told]
    return answers


# --- counting -------------------------------------------------------------------------------------------------------


def caption_ratios(captions: Sequence[str], scenes: Sequence[Scene]) -> dict[str, Ratio]:
    """CHAIR_i, CHAIR_s, recall and words a caption, as in the exam; an object counts once a caption."""
    named = [set(mentions(caption)) for caption in captions]
    there = [set(scene.names) for scene in scenes]
    invented = [len(told - seen) for told, seen in zip(named, there, strict=True)]
    found = [len(told & seen) for told, seen in zip(named, there, strict=True)]
    each = [1] * len(scenes)
    return {
        "chair_i": Ratio.of(invented, [*map(len, named)]),
        "chair_s": Ratio.of([*map(bool, invented)], each),
        "recall": Ratio.of(found, [*map(len, there)]),
        "words": Ratio.of([len(caption.split()) for caption in captions], each),
    }


def pope_sets(scenes: Sequence[Scene]) -> Sets:
    """POPE's three splits about the scenes, the same questions as in the exam."""
    reference = [TRAINING.layout(seed) for seed in range(LAYOUTS)]
    return {split: pope_questions(scenes, split, reference) for split in SPLITS}


def pope_ratios(sets: Sets, answers: Answers) -> dict[str, Ratio]:
    """Accuracy, F1 of yes and the yes-ratio of each split."""
    ratios = {}
    for split, scenes in sets.items() if answers else ():
        rows = [yes_no_counts(own, [answers[n, question.text] for question in own]) for n, own in enumerate(scenes)]
        asked, right, said, true, both = zip(*rows, strict=True)
        ratios[f"{split} accuracy"] = Ratio.of(right, asked)
        ratios[f"{split} f1"] = Ratio.of([2 * hits for hits in both], [a + b for a, b in zip(said, true, strict=True)])
        ratios[f"{split} yes"] = Ratio.of(said, asked)
    return ratios


def yes_no_counts(questions: Sequence[Question], answers: Sequence[str]) -> tuple[int, int, int, int, int]:
    """Of one scene: questions, right answers, yes said, yes true, both."""
    said = [answer.startswith("Yes") for answer in answers]
    true = [question.answer.startswith("Yes") for question in questions]
    pairs = [*zip(said, true, strict=True)]
    return len(pairs), sum(a == b for a, b in pairs), sum(said), sum(true), sum(a and b for a, b in pairs)
