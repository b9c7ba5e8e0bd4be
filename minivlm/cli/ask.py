"""What the commands that use models do: demo, ask, chat, explore, doctor, check, download. Others: `train.py`.

torch is imported inside the commands, so that `minivlm --help` answers at once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivlm.cli.options import (
    AnswerRequest,
    MitigationRequest,
    ModelRequest,
    Request,
    generation,
    load_vlm,
    mitigation,
    retyped,
)
from minivlm.cli.terminal import print_json, questions, remark, say, warnings_afterwards
from minivlm.errors import CheckpointError, MinivlmError
from minivlm.evaluation.settings import UsageError, value_of
from minivlm.shell import END_OF_INPUT, FAILED, INTERRUPTED

if TYPE_CHECKING:
    from minivlm.inference.answer import Answer


@dataclass(frozen=True, kw_only=True)
class DemoRequest(ModelRequest):
    """Which scenes of which world; None as `seed` for the clock."""

    seed: int | None = None
    scenes: int = 3
    world: str = "held-out"
    out: str = "demo"
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class AskRequest(ModelRequest, MitigationRequest, AnswerRequest):
    """A question about a picture, or about several."""

    image: str
    question: str
    also: tuple[str, ...] = ()
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class ChatRequest(ModelRequest, MitigationRequest, AnswerRequest):
    """Questions about a picture; without one, text only."""

    image: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExploreRequest(ModelRequest, MitigationRequest, AnswerRequest):
    """A page about one answer; `objects` and `heads` as they are typed."""

    image: str
    question: str
    out: str = "page.html"
    objects: str | None = None
    heads: str | None = None


@dataclass(frozen=True, kw_only=True)
class DoctorRequest(Request):
    """The facts, as text or as JSON."""

    json: bool = False


@dataclass(frozen=True, kw_only=True)
class CheckRequest(Request):
    """A folder, or a hub name that was downloaded before."""

    path: str
    vision_tower: str | None = None
    revision: str | None = None
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class DownloadRequest(Request):
    """A name on the hub."""

    name: str
    revision: str | None = None


# --- what they do ---------------------------------------------------------------------------------------------------


def demo(request: DemoRequest) -> int | None:
    """draw new scenes, describe them plain, under EAH and under CLVA, and mark what is invented"""
    from minivlm.experiments import demo, demo_text
    from minivlm.inference.load import LOADING

    start = time.perf_counter()
    seed = int(time.time()) if request.seed is None else request.seed
    vlm = load_vlm(request)
    methods = demo.methods(vlm.model.config)
    shown = demo.show(vlm, request.world, range(seed, seed + request.scenes), Path(request.out), methods)
    if request.json:
        settings = {name: asdict(method) for name, method in methods.items()}
        about = {"seed": seed, "world": request.world, "model": vlm.name, "methods": settings}
        print_json({**about, "totals": demo.totals(shown), "scenes": [one.as_dict() for one in shown]})
    else:
        page = demo_text.Page.of(sys.stdout)
        kinds = (("scenes", "world"), ("model", *LOADING), ("out",))
        proposals = demo_text.try_next(shown, seed, *(retyped(request, *options) for options in kinds), page)
        print(demo_text.tell(shown, seed, time.perf_counter() - start, page), proposals, sep="\n\n")
    return INTERRUPTED if any(one.interrupted for one in shown) else None


def ask(request: AskRequest) -> int | None:
    """ask a question about a picture; the answer appears as it is written"""
    settings, asked_for = generation(request), mitigation(request)
    pictures = [_picture(image) for image in (request.image, *request.also)]
    vlm = load_vlm(request)
    how = {"mitigation": asked_for.resolve(vlm.model.config), "compare": request.compare, **settings}
    if request.json:
        answer = vlm.ask(pictures, request.question, **how)
        print_json(answer.as_dict())
        return INTERRUPTED if answer.finish == "interrupted" else None
    with warnings_afterwards():
        answer = _written(vlm.stream(pictures, request.question, **how))
    _tell_effect(answer)
    return None


def chat(request: ChatRequest) -> int | None:
    """ask about a picture again and again; questions are read from stdin, one a line"""
    from minivlm.inference.conversation import Conversation

    settings, asked_for = generation(request), mitigation(request)
    picture = None if request.image is None else _picture(request.image, stdin=False)
    vlm = load_vlm(request)
    talk = Conversation(vlm, picture)
    how = {"mitigation": asked_for.resolve(vlm.model.config), "compare": request.compare, **settings}
    for question in questions():
        try:
            answer = talk.ask(question, **how)
        except MinivlmError as error:
            if not sys.stdin.isatty():
                raise
            remark(f"minivlm: {error}")
            continue
        say(answer, end="\n")
        _tell_effect(answer)
        if answer.finish == "interrupted":
            if not sys.stdin.isatty():
                return INTERRUPTED
            remark(f"(interrupted; ask on, or end with {END_OF_INPUT})")
    return None


def doctor(request: DoctorRequest) -> int | None:
    """say what this machine has, what it can run, and what to type next"""
    from minivlm.cli import doctor

    facts = doctor.examine()
    if request.json:
        print_json(facts)
    else:
        print(doctor.as_text(facts))
    return FAILED if facts["problems"] else None


def explore(request: ExploreRequest) -> None:
    """write one page to look with: where every word of an answer looked, layer by layer"""
    from minivlm.evaluation.lexicon import coco_lexicon
    from minivlm.evaluation.scenes import SceneWords
    from minivlm.lens.explorer import explore, usual_heads

    settings, asked_for = generation(request), mitigation(request)
    heads = value_of(tuple[int, ...], request.heads, "--heads") if request.heads else None
    picture, vlm = _picture(request.image), load_vlm(request)
    drawn_here = vlm.report is not None and (Path(vlm.report.path) / "training.json").is_file()
    known = _objects(request.objects, SceneWords() if drawn_here else coco_lexicon()) if request.objects else {}
    method = None if asked_for.empty else asked_for.resolve(vlm.model.config)
    heads = usual_heads(vlm.model.config) if heads is None else heads
    page = explore(vlm, picture, request.question, method, layers_with_heads=heads, **known, **settings)
    Path(request.out).expanduser().write_text(page, encoding="utf-8")
    print(request.out)


def check(request: CheckRequest) -> None:
    """account for every tensor of a checkpoint, without the network"""
    from minivlm.checkpoints import inspect_checkpoint
    from minivlm.checkpoints.download import HUB_NAME, find_in_cache

    folder = Path(request.path).expanduser()
    if not folder.exists() and HUB_NAME.fullmatch(request.path):
        folder = find_in_cache(request.path, request.revision)
        if folder is None:
            revision = f" --revision {request.revision}" if request.revision else ""
            raise CheckpointError(
                f"{request.path} is no folder, and the hub's cache has no complete copy of a model of that name. "
                f"Fetch it with `minivlm download {request.path}{revision}`."
            )
    report = inspect_checkpoint(folder, vision_tower=request.vision_tower)
    print_json(report.as_dict()) if request.json else print(report.card())


def download(request: DownloadRequest) -> None:
    """fetch a model from the hub into its cache, and print the folder"""
    from minivlm.checkpoints.download import HUB_NAME, download

    if not HUB_NAME.fullmatch(request.name):
        raise UsageError(f"NAME must be a hub name such as llava-hf/llava-1.5-7b-hf, found {request.name!r}.")
    print(download(request.name, revision=request.revision))


# --- what several commands need ------------------------------------------------------------------------------------


def _written(pieces: Generator[str, None, Answer]) -> Answer:
    """Say the pieces as they come, and return the answer that they make up."""
    try:
        while True:
            say(next(pieces))
    except StopIteration as end:
        return end.value
    finally:
        print(flush=True)  # also after Ctrl-C: what was written stays, on a line of its own


def _objects(text: str, lexicon: Any) -> dict[str, Any]:
    """What is in a picture: `dog=8:9:30:40,cat` is a cat, and a dog within these pixels (left, top, right, bottom)."""
    boxes: dict[str, list] = {}
    for part in text.split(","):
        word, _, box = (piece.strip() for piece in part.partition("="))
        name = next((found.object for found in lexicon.mentions(word)), None)
        if name is None:
            raise UsageError(f"--objects names {word!r}, which is none of {lexicon.name}: no answer could name it.")
        boxes.setdefault(name, [])
        if box:
            boxes[name].append(_box(box, part))
    return {"truth": list(boxes), "lexicon": lexicon, "boxes": {name: found for name, found in boxes.items() if found}}


def _box(text: str, where: str) -> tuple[float, ...]:
    try:
        left, top, right, bottom = map(float, text.split(":"))
    except ValueError:
        raise UsageError(f"A box is left:top:right:bottom in pixels, such as dog=8:9:30:40, found {where!r}.") from None
    return left, top, right, bottom


def _tell_effect(answer: Answer) -> None:
    """What a mitigation did, in one line on stderr: stdout holds the answer alone."""
    if answer.effect is not None:
        remark(f"effect: {answer.effect}")


def _picture(image: str, stdin: bool = True) -> Any:
    """The picture in a file, or the one whose bytes come from stdin; read before a model is loaded."""
    from minivlm.inputs.image import load_image

    return load_image(sys.stdin.buffer.read() if stdin and image == "-" else image)
