"""Items: each is one question about one image; their order is that of the run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from minivlm.errors import EvaluationError
from minivlm.evaluation.datasets import Dataset
from minivlm.evaluation.pope import PopeQuestion, build_questions


@dataclass(frozen=True)
class Item:
    """A question in a run. `id` is unique there; `split` and `label` (whether yes is true) are for POPE's."""

    id: str
    image: str
    question: str
    split: str = ""
    label: bool | None = None


def chair_items(dataset: Dataset, question: str = "") -> list[Item]:
    """The same question about every image, by default the dataset's `describe`; an item's id is its image.

    Raises `EvaluationError` for a dataset that is not `complete`.
    """
    if not dataset.complete:
        raise EvaluationError(
            f"{dataset.name} is a question file: it does not say what else is in its pictures, so captions cannot be "
            "judged by it. Give COCO's folder (coco:DIR) and the file with --ids, or a file that lists all objects."
        )
    return [Item(image, image, question or dataset.describe) for image in dataset.images]


def pope_items(dataset: Dataset, splits: Sequence[str] = (), per_side: int = 3, seed: int = 0) -> list[Item]:
    """Yes-no questions: those that came with the dataset if there are any, else new ones for each of `splits`.

    New ones are made by `build_questions` from the dataset's truth (COCO: from its instances). Frequencies are counted
    in all of it, so an image is asked the same questions whether the dataset is limited or not. Items of one image are
    neighbours. Raises `EvaluationError` if there is nothing to ask.
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
    items = [item for about in asked.values() for item in about]
    if not items:
        reason = "its questions are about other images"
        if not dataset.questions:
            reason = f"POPE needs {dataset.least} or more objects in an image, and as many in other images alone"
        raise EvaluationError(
            f"There is nothing to ask about the {len(dataset.images)} images of {dataset.name}: {reason}. Take more "
            "images, or others."
        )
    return items


def as_question(item: Item) -> PopeQuestion:
    """The item as a question that `pope` can score."""
    return PopeQuestion(item.id, item.image, item.question, bool(item.label), item.split)
