"""The commands that use models: demo, ask, chat, explore, doctor, check, download. Others are in `train.py`.

torch is imported inside the commands, so that `minivlm --help` answers at once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from minivlm.cli.options import (
    AnswerRequest,
    MitigationRequest,
    ModelRequest,
    PictureObjects,
    Request,
    generation,
    knows_scenes,
    load_vlm,
    mitigation,
    read_objects,
    retyped,
)
from minivlm.cli.outputs import writable_folder
from minivlm.cli.terminal import open_stdin, print_json, questions, remark, say, warnings_afterwards
from minivlm.errors import MinivlmError
from minivlm.evaluation.settings import UsageError, value_of
from minivlm.files import require_place, write_text
from minivlm.shell import END_OF_INPUT, FAILED, INTERRUPTED

if TYPE_CHECKING:
    from PIL import Image

    from minivlm.inference.answer import Answer


@dataclass(frozen=True, kw_only=True)
class DemoRequest(ModelRequest):
    """How many scenes of which world; `seed`: of the first one, None for the clock's seconds."""

    seed: int | None = None
    scenes: int = 3
    world: str = "held-out"
    out: str = "demo"
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class AskRequest(ModelRequest, MitigationRequest, AnswerRequest):
    """A question about a picture, or about this and those in `also`."""

    image: str
    question: str
    also: tuple[str, ...] = ()
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class ChatRequest(ModelRequest, MitigationRequest, AnswerRequest):
    """Questions about a picture; None for text only."""

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
    """Whether the facts are printed as JSON."""

    json: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelsRequest(Request):
    """The list, as text or as JSON."""

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
    """A short name, or a name on the hub."""

    name: str
    revision: str | None = None


# --- what they do ---------------------------------------------------------------------------------------------------


def demo(request: DemoRequest) -> int | None:
    """Draw scenes, describe each plain, under EAH and under CLVA, save the pictures and print what was invented.

    The exit code is that of an interruption if a caption was interrupted.
    """
    from minivlm.experiments import demo, demo_text
    from minivlm.inference.load import LOADING
    from minivlm.toyworld.world import WORLDS

    if request.world not in WORLDS:
        raise UsageError(f"--world must be one of {', '.join(WORLDS)}, found {request.world!r}.")
    start, out = time.perf_counter(), writable_folder(request.out)
    seed = int(time.time()) if request.seed is None else request.seed
    vlm = load_vlm(request)
    methods = demo.methods(vlm.model.config)
    shown = demo.show(vlm, request.world, range(seed, seed + request.scenes), out, methods)
    if request.json:
        settings = {name: asdict(method) for name, method in methods.items()}
        about = {"seed": seed, "world": request.world, "model": vlm.name, "methods": settings}
        print_json({**about, "totals": demo.totals(shown), "scenes": [one.as_dict() for one in shown]})
    else:
        page = demo_text.Page.of(sys.stdout)
        kinds = (("scenes", "world"), ("model", *LOADING), ("out",))
        scenes, model, folder = (retyped(request, *options) for options in kinds)
        proposals = demo_text.try_next(shown, seed, scenes, model, folder, page)
        notes = vlm.report.notes if vlm.report else ()
        print(demo_text.tell(shown, seed, time.perf_counter() - start, page, notes), proposals, sep="\n\n")
    return INTERRUPTED if any(one.interrupted for one in shown) else None


def ask(request: AskRequest) -> int | None:
    """Answer one question, and print the answer as it is written. The exit code is that of an interruption after
    Ctrl-C.
    """
    settings, method = generation(request), mitigation(request)
    pictures = [read_picture(image) for image in (request.image, *request.also)]
    vlm = load_vlm(request)
    how = {"mitigation": method.resolve(vlm.model.config), "compare": request.compare, **settings}
    if request.json:
        answer = vlm.ask(pictures, request.question, **how)
        print_json(answer.as_dict())
        return INTERRUPTED if answer.finish == "interrupted" else None
    with warnings_afterwards():
        answer = print_stream(vlm.stream(pictures, request.question, **how))
    remark_effect(answer)
    return None


def chat(request: ChatRequest) -> int | None:
    """Answer the questions of stdin, one a line, in one conversation.

    On a terminal, an error or Ctrl-C ends only the answer; otherwise they end the command.
    """
    from minivlm.inference.conversation import Conversation

    settings, method = generation(request), mitigation(request)
    picture = None if request.image is None else read_picture(request.image, stdin=False)
    vlm = load_vlm(request)
    conversation = Conversation(vlm, picture)
    how = {"mitigation": method.resolve(vlm.model.config), "compare": request.compare, **settings}
    for question in questions():
        try:
            answer = conversation.ask(question, **how)
        except MinivlmError as error:
            if not sys.stdin.isatty():
                raise
            remark(f"minivlm: {error}")
            continue
        say(answer, end="\n")
        remark_effect(answer)
        if answer.finish == "interrupted":
            if not sys.stdin.isatty():
                return INTERRUPTED
            remark(f"(interrupted; ask on, or end with {END_OF_INPUT})")
    return None


def doctor(request: DoctorRequest) -> int | None:
    """Print what this machine has, what it can run and what to type next; 1 if something keeps minivlm from working."""
    from minivlm.cli import doctor

    facts = doctor.examine()
    if request.json:
        print_json(facts)
    else:
        print(doctor.as_text(facts))
    return FAILED if facts["problems"] else None


def models(request: ModelsRequest) -> None:
    """list the published models that are known by a short name, and whether they fit this machine"""
    from minivlm.cli import models

    facts = models.examine()
    if request.json:
        print_json(facts)
    else:
        print(models.as_text(facts))


def explore(request: ExploreRequest) -> None:
    """Write an HTML page about one answer, plain and under the mitigation, and print its path."""
    from minivlm.evaluation.lexicon import coco_lexicon
    from minivlm.evaluation.scenes import SceneWords
    from minivlm.lens.explorer import explore, usual_heads

    settings, typed, out = generation(request), mitigation(request), require_place(request.out)
    heads = value_of(tuple[int, ...], request.heads, "--heads") if request.heads else None
    picture, vlm = read_picture(request.image), load_vlm(request)
    objects, lexicon = PictureObjects(), None
    if request.objects:
        lexicon = SceneWords() if knows_scenes(vlm) else coco_lexicon()
        objects = read_objects(request.objects, lexicon, picture.size)
    page = explore(
        vlm,
        picture,
        request.question,
        None if typed.empty else typed.resolve(vlm.model.config),
        truth=objects.truth,
        lexicon=lexicon,
        boxes=objects.boxes,
        layers_with_heads=usual_heads(vlm.model.config) if heads is None else heads,
        **settings,
    )
    write_text(out, page)
    print(request.out)


def check(request: CheckRequest) -> None:
    """Print which tensors of a checkpoint are used, missing or left over; the network is not used.

    Raises `CheckpointError` if it does not fit, or was never downloaded.
    """
    from minivlm.checkpoints import inspect_checkpoint
    from minivlm.inference.shipped import folder_here

    folder = folder_here(request.path, request.revision)
    report = inspect_checkpoint(folder, vision_tower=request.vision_tower)
    print_json(report.as_dict()) if request.json else print(report.card())


def download(request: DownloadRequest) -> None:
    """Fetch a model from the hub into its cache, and print the folder. Raises `CheckpointError` if that fails."""
    from minivlm.checkpoints.download import HUB_NAME, download
    from minivlm.checkpoints.known import hub_name
    from minivlm.inference.shipped import folder_here, is_shipped

    if is_shipped(request.name):
        print(folder_here(request.name, request.revision))  # it is here already
        return
    if not HUB_NAME.fullmatch(hub_name(request.name)):
        raise UsageError(
            "NAME must be a short name that `minivlm models` lists, or a hub name such as llava-hf/llava-1.5-7b-hf, "
            f"found {request.name!r}."
        )
    print(download(request.name, revision=request.revision))


# --- what several commands need ------------------------------------------------------------------------------------


def print_stream(pieces: Generator[str, None, Answer]) -> Answer:
    """Print the pieces of an answer as they come; returns the answer, which is the generator's value."""
    try:
        while True:
            say(next(pieces))
    except StopIteration as end:
        return end.value
    finally:
        print(flush=True)  # also after Ctrl-C: end the line of the text so far


def remark_effect(answer: Answer) -> None:
    """Print what a mitigation did as one line on stderr: stdout holds the answer alone."""
    if answer.effect is not None:
        remark(f"effect: {answer.effect}")


def read_picture(image: str, stdin: bool = True) -> Image.Image:
    """The picture in a file; with `stdin`, "-" means the picture whose bytes come from stdin. Raises `ImageError`."""
    from minivlm.inputs.image import load_image
    from minivlm.inputs.picture_limits import read_stream

    return load_image(read_stream(open_stdin().buffer, "stdin") if stdin and image == "-" else image)
