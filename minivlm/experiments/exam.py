"""The exam: what a model sees and what it invents, on scenes that it was not trained on.

CHAIR_i is the share of the objects named in captions that are not in their pictures, CHAIR_s the share of captions that
name at least one such object (Rohrbach et al. 2018, arXiv 1809.02156); recall is the share of the objects in the
pictures that are named, precision is 1 - CHAIR_i. An object counts once a caption. POPE asks whether an object is
there, as often about one that is as about one that is not (Li et al. 2023, arXiv 2305.10355).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from tqdm import tqdm

from minivlm.errors import EvaluationError
from minivlm.evaluation.pope_questions import SPLITS, pope_questions
from minivlm.experiments.card import HEAD
from minivlm.inference.vlm import VLM
from minivlm.toyworld.questions import ASK, DESCRIBE, Question
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.themes import OBJECT_NAMES, THEMES, missing_companions
from minivlm.toyworld.words import mentions
from minivlm.toyworld.world import CROWDED, HELD_OUT, SUBSTITUTIONS, TRAINING, World

BATCH = 50  # questions asked at once
COMPANIONS = (0.85, 0.65, 0.45, 0.25)  # how often a companion is there; the first is what training saw
SKILLS = ("count", "position", "color", "place", "two-hop")
Ask = Callable[[Sequence[Scene], Sequence[str], int], list[str]]  # scenes, a question for each, most tokens -> answers


def examine(vlm: VLM, scenes: int = 1000) -> dict:
    """All figures of the card, greedy, on `scenes` held-out scenes for each; minutes on two CPU cores."""
    ask = asker(vlm)
    drawn = draw(HELD_OUT, scenes)
    captions = describe(ask, drawn)
    dial = {share: draw(replace(HELD_OUT, companion=share), scenes) for share in COMPANIONS[1:]}
    return {
        **circumstances(vlm),
        "scenes": scenes,
        "captions": caption_figures(captions, drawn),
        "pictures exchanged": caption_figures([*captions[1:], captions[0]], drawn),
        "invented": invention_figures(captions, drawn),
        "companions": {
            str(COMPANIONS[0]): caption_figures(captions, drawn),
            **{str(share): caption_figures(describe(ask, rarer), rarer) for share, rarer in dial.items()},
        },
        "substitutions": caption_figures(describe(ask, swapped := draw(SUBSTITUTIONS, scenes)), swapped),
        "crowded": caption_figures(describe(ask, crowd := draw(CROWDED, scenes)), crowd),
        "pope": {split: pope_figures(ask, drawn, split) for split in SPLITS},
        "skills": {kind: skill_figure(ask, drawn, kind) for kind in SKILLS},
    }


def circumstances(vlm: VLM) -> dict[str, str]:
    """What the figures depend on beside the scenes; a model in a folder goes by the folder's last name alone."""
    folder = Path(vlm.name).expanduser()
    return {
        "model": f"minivlm/{folder.resolve().name}" if folder.exists() else vlm.name,
        "dtype": str(vlm.dtype).removeprefix("torch."),
        "device": vlm.device.type,
    }


def asker(vlm: VLM) -> Ask:
    """Ask in batches, greedily, with a bar."""

    def ask(scenes: Sequence[Scene], questions: Sequence[str], most: int) -> list[str]:
        answers, title = [], questions[0][:24] if questions else None  # a few scenes may have nothing to ask about
        for start in tqdm(range(0, len(questions), BATCH), desc=title, unit="batch"):
            part = slice(start, start + BATCH)
            pictures = [scene.picture for scene in scenes[part]]
            told = vlm.ask_many(pictures, questions[part], max_new_tokens=most)
            if any(answer.finish == "interrupted" for answer in told):
                raise KeyboardInterrupt  # half an answer is not to be graded
            answers += [answer.text for answer in told]
        return answers

    return ask


def card_file(folder: Path) -> Path:
    """The README.md of `folder`, once it is known to be a model's card or not to be there yet."""
    file = folder / "README.md"
    if file.exists() and file.read_text("utf-8", "replace").splitlines()[:1] != HEAD.splitlines()[:1]:
        raise EvaluationError(
            f"{file} is not a card that minivlm wrote, and would be overwritten by one. "
            "Give another folder with --out, or move it away."
        )
    return file


def draw(world: World, scenes: int) -> list[Scene]:
    return [world.draw(seed) for seed in range(scenes)]


def describe(ask: Ask, scenes: Sequence[Scene]) -> list[str]:
    return ask(scenes, [DESCRIBE[0]] * len(scenes), 96)


def caption_figures(captions: Sequence[str], scenes: Sequence[Scene]) -> dict[str, float]:
    """Recall, of clear and of hard objects too, precision, CHAIR_i, CHAIR_s, and words a caption."""
    named = [set(mentions(caption)) for caption in captions]
    there = [set(scene.names) for scene in scenes]
    hard = [{thing.name for thing in scene.things if thing.hard} for scene in scenes]
    invented = [told - seen for told, seen in zip(named, there, strict=True)]
    return {
        "recall": recall(named, there),
        "recall of clear objects": recall(named, [all_ - some for all_, some in zip(there, hard, strict=True)]),
        "recall of hard objects": recall(named, hard),
        "precision": 1 - share(sum(map(len, invented)), sum(map(len, named))),
        "chair_i": share(sum(map(len, invented)), sum(map(len, named))),
        "chair_s": share(sum(map(bool, invented)), len(captions)),
        "words": share(sum(len(caption.split()) for caption in captions), len(captions)),
    }


def recall(named: Iterable[set[str]], wanted: Sequence[set[str]]) -> float:
    found = sum(len(told & seen) for told, seen in zip(named, wanted, strict=True))
    return share(found, sum(map(len, wanted)))


def invention_figures(captions: Sequence[str], scenes: Sequence[Scene]) -> dict[str, float]:
    """How many of the invented objects the scene suggests, against what picking any absent object would give."""
    counts = dict.fromkeys(("invented", "companion", "companion by chance", "same place", "same place by chance"), 0.0)
    for caption, scene in zip(captions, scenes, strict=True):
        there, place = set(scene.names), set(THEMES[scene.theme].objects)
        missing, absent = set(missing_companions(there)), set(OBJECT_NAMES) - there
        for name in set(mentions(caption)) - there:
            counts["invented"] += 1
            counts["companion"] += name in missing
            counts["companion by chance"] += len(missing) / len(absent)
            counts["same place"] += name in place
            counts["same place by chance"] += len(place & absent) / len(absent)
    invented = counts.pop("invented")
    return {"objects": invented, **{name: share(count, invented) for name, count in counts.items()}}


def pope_figures(ask: Ask, scenes: Sequence[Scene], split: str) -> dict[str, float]:
    """Accuracy, F1 of yes, and how often the answer is yes. The split counts objects in the training world."""
    world = [TRAINING.layout(seed) for seed in range(2000)]
    sets = zip(scenes, pope_questions(scenes, split, world), strict=True)
    asked = [(scene, question) for scene, own in sets for question in own]
    answers = ask([scene for scene, _ in asked], [question.text for _, question in asked], 2)
    said = [answer.startswith("Yes") for answer in answers]
    truth = [question.answer.startswith("Yes") for _, question in asked]
    right = sum(mine == true for mine, true in zip(said, truth, strict=True))
    both = sum(mine and true for mine, true in zip(said, truth, strict=True))
    return {
        "questions": len(asked),
        "accuracy": share(right, len(asked)),
        "f1": share(2 * both, sum(said) + sum(truth)),
        "yes": share(sum(said), len(asked)),
        "unread": share(sum(not answer.startswith(("Yes", "No")) for answer in answers), len(asked)),
    }


def skill_figure(ask: Ask, scenes: Sequence[Scene], kind: str) -> dict[str, float]:
    """How often the answer to one question a scene is the true one, word for word."""
    found = [(scene, ASK[kind](scene, Random(f"exam/{kind}/{scene.seed}"))) for scene in scenes]
    asked: list[tuple[Scene, Question]] = [(scene, question) for scene, question in found if question]
    answers = ask([scene for scene, _ in asked], [question.text for _, question in asked], 24)
    right = sum(answer == question.answer for answer, (_, question) in zip(answers, asked, strict=True))
    return {"questions": len(asked), "exact": share(right, len(asked))}


def share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
