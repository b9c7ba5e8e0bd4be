"""Datasets: the images, their true objects, the lexicon that finds objects in captions, and the pictures themselves.

    coco:DIR         a folder of COCO, or coco:DIR:val2014 where it has several parts    (coco.py)
    scenes:SEED      held-out scenes of the toy world, or scenes:WORLD:SEED             (scenes.py)
    FILE             JSON lines with a picture and its objects, or a question file     (listing.py)

The order of the images is part of the data: the first N are the same images for everyone.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from minivlm.errors import EvaluationError, brief
from minivlm.evaluation import coco
from minivlm.evaluation.ids import bare, read_ids
from minivlm.evaluation.lexicon import Lexicon, Words, coco_lexicon
from minivlm.evaluation.listing import questions_of, read_listing
from minivlm.evaluation.pictures import PictureFolder, require_folder
from minivlm.evaluation.pope import PopeQuestion
from minivlm.evaluation.scenes import Scenes, SceneWords, phrase
from minivlm.files import digest, path_of
from minivlm.toyworld.questions import DESCRIBE

DESCRIBE_PHOTO = "Please describe this image in detail."  # the usual instruction for CHAIR with chat models
POPE_LEAST = 3  # the original asks only about photographs with at least so many objects
SPECS = "coco:DIR, scenes:SEED, scenes:WORLD:SEED or a file"


class Source(Protocol):
    """Where pictures come from."""

    def picture(self, image: str) -> Any:
        """The image as something that `load_image` takes. Raises `ImageError` if there is none."""

    def named(self, file: str) -> str | None:
        """The image whose picture has this file name, if there is exactly one."""

    def marks(self, images: Sequence[str]) -> Any:
        """What identifies the pictures, in JSON types, known without reading them all."""


@dataclass(frozen=True)
class Dataset:
    """`images` are ids, in the order in which they are taken; `truth` maps each of them to its objects.

    `truth` may hold more images than are taken: POPE counts the frequency of an object in all of them. `complete` is
    False for a question file, which says nothing about objects that are not asked about. `questions` are those that
    came with the data. `outlined` is COCO's truth by its instances alone: POPE asks only about segmented objects, not
    caption words. It is None where there is only one kind of truth.
    """

    name: str
    images: tuple[str, ...]
    truth: Mapping[str, frozenset[str]] = field(repr=False)
    lexicon: Words = field(repr=False)
    source: Source = field(repr=False)
    describe: str = DESCRIBE_PHOTO
    phrase: Callable[[str], str] = field(default=str, repr=False)  # rewords a yes-no question made by `build_questions`
    questions: tuple[PopeQuestion, ...] = field(default=(), repr=False)
    complete: bool = True
    outlined: Mapping[str, frozenset[str]] | None = field(default=None, repr=False)
    least: int = 1  # how many objects an image must have for POPE to ask about it

    @cached_property
    def fingerprint(self) -> str:
        """A sha256 of images, their order, truth, questions and pictures; the same on every machine.

        Picture files enter by name and size, scenes by their settings and a few pixels. Their folder does not enter.
        """
        data = {
            "images": self.images,
            "truth": {image: sorted(names) for image, names in sorted(self.truth.items())},
            "questions": [[one.id, one.image, one.text, one.label, one.split] for one in self.questions],
            "pictures": self.source.marks(self.images),
        }
        return digest(data)

    def picture(self, image: str) -> Any:
        """A path or a picture for `VLM.pixels`. Raises `ImageError` if it is missing."""
        return self.source.picture(image)

    def unplaced(self, text: str) -> str:
        """`text`, a sentence about a picture, without the path of its folder on this machine."""
        return text.replace(f"{self.source.folder}/", "") if isinstance(self.source, PictureFolder) else text

    def find(self, name: str) -> str | None:
        """The id of the image with this id (leading zeros allowed) or this file name; None if there is none."""
        known = (id_ for id_ in (name, bare(name)) if id_ in self.truth)
        return next(known, None) or self.source.named(name)

    def limited(self, number: int | None) -> "Dataset":
        """The dataset with its first `number` images; with all if there are fewer or `number` is None."""
        if number is not None and number < 1:
            raise EvaluationError(f"At least one image must be taken, found a limit of {number}.")
        if number is not None and number > len(self.images):
            warnings.warn(f"{self.name} has {len(self.images)} images, fewer than the limit of {number}.", stacklevel=3)
        return replace(self, images=self.images[:number])

    def chosen(self, names: Sequence[str], where: str) -> "Dataset":
        """The dataset with these images only, in this order, each once; `names` are ids or file names.

        Raises `EvaluationError` for unknown names; `where` says in its message where they come from.
        """
        return replace(self, images=tuple(dict.fromkeys(self.ids_of(names, where).values())))

    def ids_of(self, names: Sequence[str], where: str) -> dict[str, str]:
        """Name -> id of its image; errors as for `chosen`."""
        ids = {name: image for name in names if (image := self.find(name)) is not None}
        if unknown := [name for name in dict.fromkeys(names) if name not in ids]:
            raise EvaluationError(
                f"{where}: {len(unknown)} of {len(ids) + len(unknown)} images are not in {self.name}, such as "
                f"{unknown[0]!r}."
            )
        return ids

    def with_questions(self, questions: Sequence[PopeQuestion], where: str) -> "Dataset":
        """The dataset with these questions, and of its images those that are asked about, in that order.

        Questions name an image by id or by file name. Raises `EvaluationError` for an unknown image, or if none of them
        is taken; `where`: as for `chosen`.
        """
        ids = self.ids_of([question.image for question in questions], where)
        taken = set(self.images)
        images = tuple(image for image in dict.fromkeys(ids.values()) if image in taken)
        found = tuple(replace(one, image=ids[one.image]) for one in questions)
        if not images:
            raise EvaluationError(f"{where}: no question is about one of the {len(taken)} images that are taken.")
        if self.questions:
            warnings.warn(f"The questions of {self.name} itself are not asked, but those of {where}.", stacklevel=3)
        self.warn_of_contradictions(found, where)
        return replace(self, images=images, questions=found)

    def warn_of_contradictions(self, questions: Sequence[PopeQuestion], where: str) -> None:
        """Warn if the labels of questions are not what the objects of the data say; `where`: as for `chosen`.

        Of COCO, its instances are compared, by which POPE's labels were made.
        """
        truth = self.truth if self.outlined is None else self.outlined
        named = {text: {one.object for one in self.lexicon.mentions(text)} for text in {one.text for one in questions}}
        contradicted = [
            one
            for one in questions
            if len(objects := named[one.text]) == 1
            and (objects <= truth[one.image]) != one.label
            and (self.complete or not one.label)  # a question file says only of some objects that they are there
        ]
        if contradicted:
            first = contradicted[0]
            label = "yes" if first.label else "no"
            warnings.warn(
                f"{where}: {len(contradicted)} of {len(questions)} labels are not what the objects of {self.name} say, "
                f"such as {label} to {brief(first.text)} about image {first.image}. The labels count. If they were not "
                "corrected on purpose, are the questions about other pictures?",
                stacklevel=4,
            )


# --- opening --------------------------------------------------------------------------------------------------------


def open_dataset(
    spec: str,
    *,
    images: str | Path | None = None,
    ids: str | Path | None = None,
    synonyms: str | Path | None = None,
    questions: Sequence[str | Path] = (),
) -> Dataset:
    """The dataset of a spec (see the top of this file).

    `images`: the folder of the pictures; `ids`: a file that names the images to take, see `read_ids`; `synonyms`: the
    word list of the objects, see `Lexicon.from_file`; `questions`: question files of POPE, whose images are taken.
    Raises `EvaluationError` for data that is missing or does not fit together.
    """
    kind, _, rest = spec.partition(":")
    if kind == "scenes":
        if images or synonyms:
            raise EvaluationError("Scenes are drawn and have words of their own: leave --images and --synonyms out.")
        dataset = open_scenes(rest)
    else:
        lexicon = Lexicon.from_file(synonyms) if synonyms else coco_lexicon()
        dataset = open_coco(rest, images, lexicon) if kind == "coco" else open_file(spec, images, lexicon)
    if ids:
        dataset = dataset.chosen(read_ids(path_of(ids, EvaluationError)), f"'{ids}'")
    if questions:
        dataset = dataset.with_questions(questions_of(questions), " and ".join(f"'{path}'" for path in questions))
    if isinstance(dataset.source, PictureFolder):
        dataset.source.require_some(dataset.images)
    return dataset


def open_scenes(rest: str) -> Dataset:
    """The dataset of "scenes:" + `rest`."""
    scenes = Scenes.of(rest)
    truth = scenes.truth()
    return Dataset(scenes.name, tuple(truth), truth, SceneWords(), scenes, DESCRIBE[0], phrase)


def open_coco(rest: str, images: str | Path | None, lexicon: Words) -> Dataset:
    """The dataset of "coco:" + `rest`. Images without any object are part of it: whatever is named there is wrong."""
    if not rest:
        raise EvaluationError("COCO needs its folder, as in coco:DIR or coco:DIR:val2014.")
    part = coco.find(rest, images)
    files, segmented = part.files(), part.outlined(lexicon)
    objects = part.truth(lexicon) if part.captions else segmented
    part.warn_of_others(files, segmented, objects)
    truth, outlined = ({image: names.get(image, frozenset()) for image in files} for names in (objects, segmented))
    return Dataset(
        part.name,
        tuple(files),
        truth,
        lexicon,
        PictureFolder(part.pictures, files),
        outlined=outlined if part.captions else None,
        least=POPE_LEAST,
    )


def open_file(spec: str, images: str | Path | None, lexicon: Words) -> Dataset:
    """The dataset of a file of JSON lines, or of a question file; it is named after the file, without the folder."""
    path = path_of(spec, EvaluationError)
    if path.is_dir():
        raise EvaluationError(f"'{spec}' is a folder. If it is COCO's, write coco:{spec}; otherwise give a file.")
    if not path.is_file():
        raise EvaluationError(f"There is no file '{spec}'; data is given as {SPECS}.")
    folder = path.parent if images is None else require_folder(images, "It was given as the folder of the pictures.")
    listing = read_listing(path, lexicon)
    return Dataset(
        name=path.name,
        images=tuple(listing.files),
        truth=listing.truth,
        lexicon=lexicon,
        source=PictureFolder(folder, listing.files),
        questions=listing.questions,
        complete=not listing.questions,
    )
