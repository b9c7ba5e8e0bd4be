"""COCO's folder as people have it on their disks, and the order in which its images are taken.

    DIR/annotations/instances_val2014.json   objects, from people's outlines
    DIR/annotations/captions_val2014.json    objects that people mention: CHAIR counts both
    DIR/val2014/COCO_val2014_000000000042.jpg, …   or DIR/images/val2014/…

Images are ordered by a hash of their id, not by the id: so the first 500 are a random choice of the whole part, the
same for everyone, and the first 1,000 hold the first 500. Published CHAIR figures come from 500 random images of
val2014 as well, but of other dice in each paper; with the paper's list of ids its own choice can be run.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from minivlm.errors import EvaluationError
from minivlm.evaluation.lexicon import Words
from minivlm.evaluation.lines import read_json
from minivlm.evaluation.pictures import inside, require_folder
from minivlm.evaluation.truth import coco_objects

UNPACK = "Unpack COCO's annotations there, so that it holds annotations/instances_val2014.json and the like."


@dataclass(frozen=True)
class Coco:
    """One part of COCO, such as val2014, as files."""

    part: str
    instances: Path
    captions: Path | None
    pictures: Path

    @property
    def name(self) -> str:
        return f"COCO {self.part}" + ("" if self.captions else " (objects of its instances alone)")

    def files(self) -> dict[str, str]:
        """The picture file of each image, in the order in which images are taken."""
        content = read_json(self.instances)
        images = content.get("images") if isinstance(content, Mapping) else None
        if not isinstance(images, list) or not images:
            raise EvaluationError(f"{self.instances} holds no list of images: COCO's instances file was expected.")
        files = dict(self._file(number, entry) for number, entry in enumerate(images))
        if len(files) < len(images):
            raise EvaluationError(f"{self.instances} holds an image id twice among its {len(images)} images.")
        return {image: files[image] for image in mixed(list(files))}

    def truth(self, lexicon: Words) -> dict[str, frozenset[str]]:
        """The objects of each image that has any, by its instances and people's captions, as CHAIR counts them."""
        return coco_objects(self.instances, self.captions, lexicon)

    def outlined(self, lexicon: Words) -> dict[str, frozenset[str]]:
        """The same by its instances alone, as POPE asks about them."""
        return coco_objects(self.instances, None, lexicon)

    def _file(self, number: int, entry: object) -> tuple[str, str]:
        where = f"{self.instances}, entry {number} of images"
        image = entry.get("id") if isinstance(entry, Mapping) else None
        if type(image) is not int:
            raise EvaluationError(f"{where}: a whole number as id was expected, found {image!r}.")
        return str(image), inside(entry.get("file_name"), where)


def mixed(images: Sequence[str]) -> list[str]:
    """The ids in an order that has nothing to do with what they show, and depends on nothing but each id itself."""
    return sorted(images, key=lambda image: hashlib.sha256(f"coco/{image}".encode()).hexdigest())


def find(spec: str, images: str | Path | None = None) -> Coco:
    """The files that "DIR" or "DIR:PART" means; `images` is the folder of the pictures, if it is an unusual one."""
    folder, _, part = (spec, "", "") if Path(spec).expanduser().is_dir() else spec.rpartition(":")
    folder = require_folder(folder or spec, UNPACK)
    parts = sorted(file.stem.removeprefix("instances_") for file in folder.glob("annotations/instances_*.json"))
    if not parts:
        raise EvaluationError(f"There is no annotations/instances_*.json in '{folder}'. {UNPACK}")
    if part not in parts and (part or len(parts) > 1):
        found = f"no {part!r}" if part else "several parts"
        raise EvaluationError(
            f"'{folder}' has {found}: its annotations are those of {', '.join(parts)}. "
            f"Choose one, as in coco:{folder}:{parts[-1]}."
        )
    part = part or parts[0]
    captions = folder / "annotations" / f"captions_{part}.json"
    instances = captions.with_name(f"instances_{part}.json")
    return Coco(part, instances, captions if captions.is_file() else None, pictures(folder, part, images))


def pictures(folder: Path, part: str, images: str | Path | None) -> Path:
    """The folder of the pictures: `images`, or the first of the usual places."""
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
