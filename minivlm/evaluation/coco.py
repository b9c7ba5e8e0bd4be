"""COCO's folder in its usual layout, and the order in which its images are taken.

    DIR/annotations/instances_val2014.json   objects as segmented by annotators
    DIR/annotations/captions_val2014.json    captions, whose objects CHAIR counts too
    DIR/val2014/COCO_val2014_000000000042.jpg, …   or DIR/images/val2014/…

Images are ordered by a hash of their id, not by the id. So the first 500 are a random sample of the whole part, the
same one for everyone, and the first 1,000 contain the first 500. Published CHAIR figures use 500 random images of
val2014 too, but each paper draws its own; with the paper's list of ids, that sample can be run.
"""

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from minivlm.errors import EvaluationError
from minivlm.evaluation.lexicon import Words
from minivlm.evaluation.lines import read_json
from minivlm.evaluation.pictures import inside, require_folder
from minivlm.evaluation.truth import coco_objects
from minivlm.files import path_of

UNPACK = "Unpack COCO's annotations there, so that it holds annotations/instances_val2014.json and the like."


@dataclass(frozen=True)
class Coco:
    """One part of COCO, such as val2014, as files."""

    part: str
    instances: Path
    captions: Path | None  # None if the folder has no captions of this part
    pictures: Path

    @property
    def name(self) -> str:
        """The name in cards and tables; it says so where objects come from the instances alone."""
        return f"COCO {self.part}" + ("" if self.captions else " (objects of its instances alone)")

    def files(self) -> dict[str, str]:
        """Image id -> file name of its picture, in the order in which images are taken.

        Raises `EvaluationError` for an instances file without images, or with an id that occurs twice.
        """
        content = read_json(self.instances)
        images = content.get("images") if isinstance(content, Mapping) else None
        if not isinstance(images, list) or not images:
            raise EvaluationError(f"{self.instances} holds no list of images: COCO's instances file was expected.")
        files = dict(self._file(number, image) for number, image in enumerate(images))
        if len(files) < len(images):
            raise EvaluationError(f"{self.instances} holds an image id twice among its {len(images)} images.")
        owners: dict[str, str] = {}
        for id_, file in files.items():
            if (owner := owners.setdefault(file, id_)) != id_:
                raise EvaluationError(
                    f"{self.instances}: images {owner} and {id_} have the same picture, {file!r}, which must not be "
                    "counted twice. Take one of them out, with its annotations."
                )
        return {id_: files[id_] for id_ in in_hash_order(list(files))}

    def truth(self, lexicon: Words) -> dict[str, frozenset[str]]:
        """Image id -> its objects by instances and captions, as CHAIR counts them; images without any are left out."""
        return coco_objects(self.instances, self.captions, lexicon)

    def outlined(self, lexicon: Words) -> dict[str, frozenset[str]]:
        """Image id -> its objects by the instances alone, as POPE asks about them; images without any are left out."""
        return coco_objects(self.instances, None, lexicon)

    def warn_of_others(self, files: Iterable[str], segmented: Iterable[str], objects: Iterable[str]) -> None:
        """Warn of annotations of other images than `files`; `segmented`, `objects`: those in `outlined`, in `truth`."""
        of_captions = {*objects} - {*segmented}
        for path, others in ((self.instances, {*segmented} - {*files}), (self.captions, of_captions - {*files})):
            if others:
                warnings.warn(
                    f"'{path}' has objects of {len(others)} images that are not in the list of images of "
                    f"'{self.instances.name}', such as {min(others)}. They are left out.",
                    stacklevel=3,
                )

    def _file(self, number: int, entry: object) -> tuple[str, str]:
        where = f"{self.instances}, entry {number} of images"
        fields = entry if isinstance(entry, Mapping) else {}
        image = fields.get("id")
        if type(image) is not int:
            raise EvaluationError(f"{where}: a whole number as id was expected, found {image!r}.")
        return str(image), inside(fields.get("file_name"), where)


def in_hash_order(images: Sequence[str]) -> list[str]:
    """The ids sorted by the sha256 of each: random with respect to what the images show, the same on every machine."""
    return sorted(images, key=lambda image: hashlib.sha256(f"coco/{image}".encode()).hexdigest())


def find(spec: str, images: str | Path | None = None) -> Coco:
    """The files of the spec "DIR" or "DIR:PART"; `images`: the folder of the pictures, if not one of the usual two.

    Raises `EvaluationError` if a folder or its annotations are missing, or if a folder of several parts needs a PART.
    """
    name, _, part = (spec, "", "") if path_of(spec, EvaluationError).is_dir() else spec.rpartition(":")
    folder = require_folder(name or spec, UNPACK)
    parts = sorted(file.stem.removeprefix("instances_") for file in folder.glob("annotations/instances_*.json"))
    if not parts:
        raise EvaluationError(f"There is no annotations/instances_*.json in '{folder}'. {UNPACK}")
    if part not in parts and (part or len(parts) > 1):
        problem = f"no {part!r}" if part else "several parts"
        raise EvaluationError(
            f"'{folder}' has {problem}: its annotations are those of {', '.join(parts)}. "
            f"Choose one, as in coco:{folder}:{parts[-1]}."
        )
    part = part or parts[0]
    captions = folder / "annotations" / f"captions_{part}.json"
    instances = captions.with_name(f"instances_{part}.json")
    return Coco(part, instances, captions if captions.is_file() else None, pictures(folder, part, images))


def pictures(folder: Path, part: str, images: str | Path | None) -> Path:
    """The folder of the pictures: `images` if given, else the first of the two usual places that exists."""
    if images is not None:
        return require_folder(images, "It was given as the folder of COCO's pictures.")
    places = [folder / part, folder / "images" / part]
    for place in places:
        if place.is_dir():
            return place
    raise EvaluationError(
        f"The pictures of {part} are not there: neither '{places[0]}' nor '{places[1]}' is a folder. "
        f"Unpack COCO's {part}.zip in '{folder}', or give the folder of the pictures with --images."
    )
