"""The whole card of a model that minivlm trained, from the files beside its weights.

training.json     how it was trained               minivlm train
exam.json         recognized, hallucinated objects minivlm exam
evaluation.json   CHAIR and POPE                   minivlm evaluate all --card FOLDER
methods.json      EAH and CLVA in depth            minivlm exam --methods
layers.json       attention by layer               minivlm exam --layers
claims.json       conclusions                      (by hand)
"""

from collections.abc import Mapping
from pathlib import Path

from minivlm.errors import EvaluationError
from minivlm.evaluation import table
from minivlm.evaluation.card import weight_digest, weight_files
from minivlm.experiments import card, methods_card
from minivlm.experiments.exam import card_file, content_of_records
from minivlm.files import read_json_file, write_json, write_text
from minivlm.inference.vlm import VLM

EVALUATED = """\
## CHAIR and POPE

    {command} --out RUN --card FOLDER

{images:,} images of {data}, every method on the same ones, by the scorer that is used for COCO: an object counts as
often as a caption names it. In brackets: the 95 % interval of the paired bootstrap over images; a difference to plain
that is clear of zero is bold. Controls stand below the methods: what they gain as well is not gained by the idea. All
figures, with intervals and both parsers of yes and no, are in `evaluation.json`.
"""


def write_evaluation(folder: Path, content: Mapping[str, Mapping], command: str) -> None:
    """Write the summaries of a CHAIR and a POPE run to `evaluation.json`, and rewrite the card."""
    write_json(folder / "evaluation.json", {"command": command, **content})
    write_card(folder, folder)


def require_card(folder: Path) -> None:
    """Raise `EvaluationError` unless a card can be written to `folder`; to be called before a long run."""
    card_file(folder)
    if missing := [name for name in ("training.json", "exam.json") if not (folder / name).is_file()]:
        raise EvaluationError(
            f"'{folder}' has no {' and no '.join(missing)}: a card is written for a model that minivlm trained and "
            "examined (minivlm train, minivlm exam --out). Leave --card out for any other."
        )


def require_same_model(folder: Path, vlm: VLM) -> None:
    """Raise `EvaluationError` unless the weights in `folder` are those of `vlm`."""
    for name, digest in weight_files(vlm).items():
        if not (folder / name).is_file() or weight_digest(folder / name) != digest:
            raise EvaluationError(
                f"'{folder / name}' is not the file of the model that is measured, {vlm.name}: its figures do not "
                "belong into this card. Give the same folder as --model and --card."
            )


def write_card(folder: Path, model: Path) -> None:
    """Write `README.md` from the files in `folder` and the `training.json` in `model`; nothing without `exam.json`."""
    if not (folder / "exam.json").is_file():
        return
    with content_of_records(folder):
        content = {
            name: read_json_file(folder / f"{name}.json", EvaluationError)
            for name in ("exam", *EXTRAS)
            if (folder / f"{name}.json").is_file()
        }
        more = [section(content[name]) for name, section in EXTRAS.items() if name in content]
        text = card.card(read_json_file(model / "training.json", EvaluationError), content["exam"], "\n".join(more))
    write_text(folder / "README.md", text)


def evaluation(content: Mapping) -> str:
    """The section for `evaluation.json`: CHAIR and POPE."""
    chair = content["chair"]
    head = EVALUATED.format(command=content["command"], images=chair["images"], data=chair["data"]["name"])
    return "\n".join([head, *(table.as_markdown(content[task]) for task in ("chair", "pope"))])


EXTRAS = {
    "evaluation": evaluation,
    "methods": methods_card.sections,
    "layers": methods_card.by_layer,
    "claims": methods_card.claims,
}
