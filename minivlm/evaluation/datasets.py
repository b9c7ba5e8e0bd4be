"""Datasets: which images there are, what is truly on them, by which words, and where the pictures come from.

    coco:DIR         a folder of COCO, or coco:DIR:val2014 where it has several parts    (coco.py)
    scenes:SEED      held-out scenes of the toy world, or scenes:WORLD:SEED             (scenes.py)
    FILE             JSON lines with a picture and its objects, or a question file     (listing.py)

The order of the images is a part of the data: the first N are the same images for everyone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from minivlm.errors import EvaluationError
from minivlm.evaluation import coco
from minivlm.evaluation.ids import read_ids
from minivlm.evaluation.lexicon import Lexicon, Words, coco_lexicon
from minivlm.evaluation.listing import questions_of, read_listing
from minivlm.evaluation.pictures import PictureFolder, require_folder
from minivlm.evaluation.pope import PopeQuestion
from minivlm.evaluation.scenes import Scenes, SceneWords, phrase
from minivlm.files import digest
from minivlm.toyworld.questions import DESCRIBE

DESCRIBE_PHOTO = "Please describe this image in detail."  # CHAIR's usual question to models that chat
POPE_LEAST = 3  # objects of a photograph that the original asks about
SPECS = "coco:DIR, scenes:SEED, scenes:WORLD:SEED or a file"


class Source(Protocol):
    """Where pictures come from."""

    def picture(self, image: str) -> Any:
        """What `load_image` takes; an `ImageError` if there is none."""

    def named(self, file: str) -> str | None:
        """The image whose picture has this file name, if there is exactly one."""

    def marks(self, images: Sequence[str]) -> Any:
        """What decides the pictures, in JSON types, without reading them all."""


@dataclass(frozen=True)
class Dataset:
    """`images` are ids, in the order in which they are taken; `truth` has the objects of each of them.

    `truth` may hold more images than are taken, for POPE counts in all of them how frequent an object is. It is not
    `complete` if it says nothing about objects that are not asked about. `questions` are those that came with the data.
    `outlined` is the part of COCO's truth that is in outlines, from which POPE makes its questions: a desk that people
    mention is no dining table to ask about. None where all truth is of one kind.
    """

    name: str
    images: tuple[str, ...]
    truth: Mapping[str, frozenset[str]] = field(repr=False)
    lexicon: Words = field(repr=False)
    source: Source = field(repr=False)
    describe: str = DESCRIBE_PHOTO
    phrase: Callable[[str], str] = field(default=str, repr=False)  # rewords a yes-no question that was made here
    questions: tuple[PopeQuestion, ...] = field(default=(), repr=False)
    complete: bool = True
    outlined: Mapping[str, frozenset[str]] | None = field(default=None, repr=False)
    least: int = 1  # objects that an image must have for POPE to ask about it

    @cached_property
    def fingerprint(self) -> str:
        """Equal if images, their order, truth, questions and pictures are: sha256, on every machine the same.

        Picture files count by name and size, scenes by settings and a few pixels. The folder they are in does not.
        """
        data = {
            "images": self.images,
            "truth": {image: sorted(names) for image, names in sorted(self.truth.items())},
            "questions": [[one.id, one.image, one.text, one.label, one.split] for one in self.questions],
            "pictures": self.source.marks(self.images),
        }
        return digest(data)

    def picture(self, image: str) -> Any:
        """A path or a picture for `VLM.pixels`; an `ImageError` if it is missing."""
        return self.source.picture(image)

    def unplaced(self, text: str) -> str:
        """A sentence about a picture without the folder that it is in on this machine."""
        return text.replace(f"{self.source.folder}/", "") if isinstance(self.source, PictureFolder) else text

    def find(self, name: str) -> str | None:
        """The image that goes by this id, with or without leading zeros, or by this file name."""
        known = (id_ for id_ in (name, name.lstrip("0")) if id_ in self.truth)
        return next(known, None) or self.source.named(name)

    def limited(self, number: int | None) -> "Dataset":
        """The first `number` images, or all if there are fewer or it is None."""
        if number is not None and number < 1:
            raise EvaluationError(f"At least one image must be taken, found a limit of {number}.")
        return replace(self, images=self.images[:number])

    def chosen(self, names: Sequence[str], where: str) -> "Dataset":
        """Those images only, in that order, each once; names are ids or file names."""
        found = {name: self.find(name) for name in names}
        if unknown := [name for name, image in found.items() if image is None]:
            raise EvaluationError(
                f"{where}: {len(unknown)} of {len(found)} images are not in {self.name}, such as {unknown[0]!r}."
            )
        return replace(self, images=tuple(dict.fromkeys(found.values())))

    def with_questions(self, questions: Sequence[PopeQuestion], where: str) -> "Dataset":
        """The images that are asked about, in that order; questions name them by id or by file name."""
        asked = self.chosen([question.image for question in questions], where)
        taken = set(self.images)
        images = tuple(image for image in asked.images if image in taken)
        if not images:
            raise EvaluationError(f"{where}: no question is about one of the {len(taken)} images that are taken.")
        return replace(
            self, images=images, questions=tuple(replace(one, image=self.find(one.image)) for one in questions)
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
    words of the objects, see `Lexicon.from_file`; `questions`: question files of POPE, whose images are taken.
    """
    kind, _, rest = spec.partition(":")
    if kind == "scenes":
        if images or synonyms:
            raise EvaluationError("Scenes are drawn and have words of their own: leave --images and --synonyms out.")
        dataset = open_scenes(rest)
    else:
        lexicon = Lexicon.from_file(Path(synonyms)) if synonyms else coco_lexicon()
        dataset = open_coco(rest, images, lexicon) if kind == "coco" else open_file(spec, images, lexicon)
    if ids:
        dataset = dataset.chosen(read_ids(Path(ids)), f"'{ids}'")
    if questions:
        dataset = dataset.with_questions(questions_of(questions), " and ".join(f"'{path}'" for path in questions))
    if isinstance(dataset.source, PictureFolder):
        dataset.source.require_some(dataset.images)
    return dataset


def open_scenes(rest: str) -> Dataset:
    """What stands behind "scenes:"."""
    scenes = Scenes.of(rest)
    truth = scenes.truth()
    return Dataset(scenes.name, tuple(truth), truth, SceneWords(), scenes, DESCRIBE[0], phrase)


def open_coco(rest: str, images: str | Path | None, lexicon: Words) -> Dataset:
    """What stands behind "coco:". An image in which nobody saw any object is there too: all that is named is wrong."""
    if not rest:
        raise EvaluationError("COCO needs its folder, as in coco:DIR or coco:DIR:val2014.")
    part = coco.find(rest, images)
    files, outlined = part.files(), part.outlined(lexicon)
    objects = part.truth(lexicon) if part.captions else outlined
    truth, outlined = ({image: found.get(image, frozenset()) for image in files} for found in (objects, outlined))
    pictures = PictureFolder(part.pictures, files)
    return Dataset(
        part.name,
        tuple(files),
        truth,
        lexicon,
        pictures,
        outlined=outlined if part.captions else None,
        least=POPE_LEAST,
    )


def open_file(spec: str, images: str | Path | None, lexicon: Words) -> Dataset:
    """JSON lines or a question file; its name without its folder is the dataset's."""
    path = Path(spec).expanduser()
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
