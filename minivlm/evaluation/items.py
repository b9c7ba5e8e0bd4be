"""Items: one question about one image each, in the order in which they are asked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from minivlm.errors import EvaluationError
from minivlm.evaluation.datasets import Dataset
from minivlm.evaluation.pope import PopeQuestion, build_questions


@dataclass(frozen=True)
class Item:
    """`id` is unique in a run; `split` and `label` (is the true answer yes?) are those of POPE's questions."""

    id: str
    image: str
    question: str
    split: str = ""
    label: bool | None = None


def chair_items(dataset: Dataset, question: str = "") -> list[Item]:
    """The same question about every image; an item's id is its image. Without a question, the dataset's own."""
    if not dataset.complete:
        raise EvaluationError(
            f"{dataset.name} is a question file: it does not say what else is in its pictures, so captions cannot be "
            "judged by it. Give COCO's folder (coco:DIR) and the file with --ids, or a file that lists all objects."
        )
    return [Item(image, image, question or dataset.describe) for image in dataset.images]


def pope_items(dataset: Dataset, splits: Sequence[str] = (), per_side: int = 3, seed: int = 0) -> list[Item]:
    """Yes-no questions: those that came with the dataset if there are any, else new ones for each of `splits`.

    New ones are made from the dataset's truth (of COCO the outlines), and what is frequent is counted in all of it: the
    first images of a limited dataset are asked what they are asked in the whole. Items of an image stand together.
    """
    truth = dataset.truth if dataset.outlined is None else dataset.outlined
    questions = dataset.questions or [
        replace(question, text=dataset.phrase(question.text))
        for split in dict.fromkeys(splits)
        for question in build_questions(truth, split, per_side, seed, least=dataset.least, images=dataset.images)
    ]
    asked: dict[str, list[Item]] = {image: [] for image in dataset.images}
    for one in questions:
        if one.image in asked:
            asked[one.image].append(Item(one.id, one.image, one.text, one.split, one.label))
    items = [item for own in asked.values() for item in own]
    if not items:
        raise EvaluationError(f"There is nothing to ask about the {len(dataset.images)} images of {dataset.name}.")
    return items


def as_question(item: Item) -> PopeQuestion:
    """The item as POPE scores it."""
    return PopeQuestion(item.id, item.image, item.question, bool(item.label), item.split)
