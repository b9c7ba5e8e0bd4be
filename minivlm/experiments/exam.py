"""The exam: which objects a model recognizes and which it hallucinates, on scenes that it was not trained on.

CHAIR and POPE are those of `minivlm evaluate`, see `trials.py`; recall is the share of the objects in the pictures that
are named. Two further parts: whether the scene suggests the hallucinated objects, and answers to other questions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

from minivlm.checkpoints.quantised import kind_of
from minivlm.errors import EvaluationError
from minivlm.evaluation.pope import PopeQuestion, unreadable
from minivlm.experiments.card import HEAD
from minivlm.experiments.trials import (
    YesNoAnswers,
    answer_yes_no,
    ask,
    caption_ratios,
    judged,
    pope_ratios,
    pope_sets,
    write_captions,
)
from minivlm.files import one_line
from minivlm.inference.vlm import VLM
from minivlm.toyworld.questions import ASK, DESCRIBE, Question
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.themes import OBJECT_NAMES, THEMES, missing_companions
from minivlm.toyworld.world import CROWDED, HELD_OUT, SUBSTITUTIONS, World

COMPANIONS = (0.85, 0.65, 0.45, 0.25)  # probabilities of companions; the first is that of the training scenes
SKILLS = ("count", "position", "color", "place", "two-hop")
LONGEST = 24  # tokens of an answer to one of these questions
COUNTED = (
    "CHAIR and POPE follow the original programs, as in `minivlm evaluate`: an object counts as often as a caption "
    "names it, POPE chooses among all objects that are there, and counts in the held-out scenes what is frequent."
)


def examine(vlm: VLM, scenes: int = 1000) -> dict:
    """All figures of the card in JSON types, from greedy answers about `scenes` scenes each; takes minutes."""
    drawn = draw(HELD_OUT, scenes)
    captions = describe(vlm, drawn)
    rarer = {share: draw(replace(HELD_OUT, companion=share), scenes) for share in COMPANIONS[1:]}
    sets = pope_sets(drawn)
    answers = answer_yes_no(vlm, drawn, sets, title="Is there …?")
    return {
        **circumstances(vlm),
        "scenes": scenes,
        "captions": caption_figures(captions, drawn),
        "pictures exchanged": caption_figures([*captions[1:], captions[0]], drawn),
        "invented": invention_figures(captions, drawn),
        "companions": {
            str(COMPANIONS[0]): caption_figures(captions, drawn),
            **{str(share): caption_figures(describe(vlm, others), others) for share, others in rarer.items()},
        },
        "substitutions": caption_figures(describe(vlm, swapped := draw(SUBSTITUTIONS, scenes)), swapped),
        "crowded": caption_figures(describe(vlm, crowd := draw(CROWDED, scenes)), crowd),
        "pope": {split: pope_figures(asked, answers) for split, asked in sets.items()},
        "skills": {kind: skill_figure(vlm, drawn, kind) for kind in SKILLS},
    }


def circumstances(vlm: VLM) -> dict[str, str]:
    """What the figures depend on besides the scenes: model, dtype, device; and how they were counted.

    A model in a folder is named by the last part of the folder's path.
    """
    folder = Path(vlm.name).expanduser()
    return {
        "model": f"minivlm/{folder.resolve().name}" if folder.exists() else vlm.name,
        "dtype": str(vlm.dtype).removeprefix("torch."),
        **({"weights": kind} if (kind := kind_of(vlm.model)) else {}),
        "device": vlm.device.type,
        "counted": COUNTED,
    }


def card_file(folder: Path, title: str = HEAD.splitlines()[0]) -> Path:
    """The path of the card, README.md in `folder`. Raises `EvaluationError` if that file exists with another title."""
    file = folder / "README.md"
    if file.exists() and not (file.is_file() and begins_with(file, title)):
        raise EvaluationError(
            f"{file} is not a card that minivlm wrote, and would be overwritten by one. "
            "Give another folder with --out, or move it away."
        )
    return file


@contextmanager
def content_of_records(folder: Path) -> Iterator[None]:
    """Within, records of training and exams in `folder` are read. Raises `EvaluationError` for one of another form:
    they may have been written by another version, or by hand.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as cause:
        raise EvaluationError(
            f"The records of training and exams in '{folder}' do not have the form that this version writes "
            f"({type(cause).__name__}: {one_line(cause)}). Make them anew: `minivlm train`, `minivlm exam --out`."
        ) from cause


def begins_with(file: Path, title: str) -> bool:
    """Whether the first line of a file is `title`; no more of it is read."""
    with file.open(encoding="utf-8", errors="replace") as stream:
        return stream.readline(len(title) + 2).splitlines() == [title]


def draw(world: World, scenes: int) -> list[Scene]:
    """The scenes 0 .. scenes - 1 of a world, with their pictures."""
    return [world.draw(seed) for seed in range(scenes)]


def describe(vlm: VLM, scenes: Sequence[Scene]) -> list[str]:
    """The plain model's greedy captions of the scenes."""
    return write_captions(vlm, scenes, DESCRIBE[0], title=DESCRIBE[0])


def caption_figures(captions: Sequence[str], scenes: Sequence[Scene]) -> dict[str, float]:
    """Recall, of clear and of hard objects too, precision, F1, CHAIR_i, CHAIR_s, and words a caption."""
    return {name: float(ratio.value) for name, ratio in caption_ratios(captions, scenes).items()}


def invention_figures(captions: Sequence[str], scenes: Sequence[Scene]) -> dict[str, float]:
    """The hallucinated mentions: their number, the shares that the scene suggests, and these shares by chance.

    "By chance" is what naming any absent object with equal probability would give.
    """
    counts = dict.fromkeys(("invented", "companion", "companion by chance", "same place", "same place by chance"), 0.0)
    for one, scene in zip(judged(captions, scenes), scenes, strict=True):
        place, missing = set(THEMES[scene.theme].objects), set(missing_companions(set(one.truth)))
        absent = set(OBJECT_NAMES) - one.truth
        for name in one.hallucinated:
            counts["invented"] += 1
            counts["companion"] += name in missing
            counts["companion by chance"] += len(missing) / len(absent)
            counts["same place"] += name in place
            counts["same place by chance"] += len(place & absent) / len(absent)
    invented = counts.pop("invented")
    return {"objects": invented, **{name: share(count, invented) for name, count in counts.items()}}


def pope_figures(questions: Sequence[PopeQuestion], answers: YesNoAnswers) -> dict[str, float]:
    """The figures of POPE for one split, and the share of answers in which neither parser finds yes or no."""
    ratios = pope_ratios({"": questions}, answers)
    unread = sum(unreadable(answers[question.image, question.text]) for question in questions)
    return {
        "questions": len(questions),
        **{name.strip(): float(ratio.value) for name, ratio in ratios.items()},
        "unreadable": share(unread, len(questions)),
    }


def skill_figure(vlm: VLM, scenes: Sequence[Scene], kind: str) -> dict[str, float]:
    """The share of questions of a `kind`, one for each scene that allows one, whose answer is exactly the true one."""
    made = [(scene, ASK[kind](scene, Random(f"exam/{kind}/{scene.seed}"))) for scene in scenes]
    asked: list[tuple[Scene, Question]] = [(scene, question) for scene, question in made if question]
    texts = [question.text for _, question in asked]
    answers = ask(vlm, [scene for scene, _ in asked], texts, LONGEST, title=kind)
    right = sum(answer == question.answer for answer, (_, question) in zip(answers, asked, strict=True))
    return {"questions": len(asked), "exact": share(right, len(asked))}


def share(part: float, whole: float) -> float:
    """`part` over `whole`; 0 where the whole is 0."""
    return part / whole if whole else 0.0
