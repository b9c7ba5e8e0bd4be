"""A plug-in for lmms-eval, a widely used evaluation harness: its tasks, answered by minivlm with any mitigation.

    lmms-eval --model minivlm --model_args pretrained=FOLDER,method=eah,eah=layer=2 --tasks pope --batch_size 8

lmms-eval finds the plug-in by an entry point (group `lmms_eval.models`, in pyproject.toml). Nothing else in the package
needs lmms-eval: only this file imports it, and only when its model class is requested. The requests of a task are
answered in batches and returned in their order. Whatever setting a task asks for is applied, refused or warned of.
"""

import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from minivlm.errors import EvaluationError, GenerationError, PromptError
from minivlm.evaluation.methods import methods
from minivlm.evaluation.ranks import place
from minivlm.evaluation.settings import PLAIN
from minivlm.evaluation.settings import method as settings_of
from minivlm.inference.answer import Answer
from minivlm.inference.generate import Generation
from minivlm.inference.load import LOADING, load, own_device
from minivlm.inference.vlm import VLM
from minivlm.inputs.prompt import IMAGE, Turn
from minivlm.inputs.written_prompts import PLACE, with_places
from minivlm.model import CLVA, EAH, Mitigation

LONGEST = 1024  # tokens of an answer where the task does not say; the default of lmms-eval's own LLaVA
NEUTRAL = {  # settings that minivlm has with this value only
    "num_beams": 1,
    "num_return_sequences": 1,
    "n": 1,
    "best_of": 1,
    "repetition_penalty": 1,
    "use_cache": True,
}
APPLIED = ("until", "max_new_tokens", "do_sample", "temperature", "top_p", "top_k", "seed")


def manifest() -> Any:
    """The entry for lmms-eval's registry: the model's name, and the import path of its class."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="minivlm", chat_class_path=f"{__name__}.Minivlm")


def __getattr__(name: str) -> Any:
    """`Minivlm`, the model class for lmms-eval; see `model_class`."""
    if name != "Minivlm":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return model_class()


def model_class() -> type["ChatModel"]:
    """A subclass of `ChatModel` and of lmms-eval's own base class. Raises `EvaluationError` without lmms-eval."""
    try:
        from lmms_eval.api.model import lmms
    except ImportError as error:
        raise EvaluationError(
            f"minivlm's plug-in needs lmms-eval, which cannot be imported here ({error}). "
            "Install it with `pip install lmms-eval`; everything else in minivlm does without."
        ) from error

    class Minivlm(ChatModel, lmms):
        __doc__ = ChatModel.__doc__

        def clean(self) -> None:
            """Release the weights; lmms-eval calls this after the last answer."""
            self.release()
            super().clean()

    return Minivlm


class ChatModel:
    """The methods that lmms-eval calls on a chat model.

    `pretrained`: as for `minivlm.load`, empty for the shipped model. `method`: plain, eah, clva, both or a control of
    `minivlm.evaluation.methods`, `eah` and `clva` its settings (`layer=2`, `omega=0.6`). `max_new_tokens`: for tasks
    that do not set it. `loading`: names of LOADING, for `minivlm.load`. Raises `EvaluationError` for other arguments.
    """

    is_simple = False  # lmms-eval's flag: the model takes conversations, not a text and a list of pictures
    task_dict: Mapping[str, Mapping[str, Sequence[Any]]]  # set by lmms-eval: task -> split -> documents

    def __init__(
        self,
        pretrained: str = "",
        method: str = PLAIN,
        eah: str = "",
        clva: str = "",
        batch_size: int | str = 1,
        max_new_tokens: int = LONGEST,
        **loading: Any,
    ) -> None:
        super().__init__()
        loading.pop("max_batch_size", None)  # belongs to batches of size "auto", which minivlm refuses
        if strange := sorted(set(loading) - set(LOADING)):
            known = ("pretrained", "method", "eah", "clva", "batch_size", "max_new_tokens", *LOADING)
            raise EvaluationError(f"model_args has no {strange[0]!r} for minivlm; known are {', '.join(known)}.")
        self.mitigation = mitigation(method, unquoted(eah), unquoted(clva))
        self.batch_size, self.longest = whole(batch_size), max_new_tokens
        self._rank, self._world_size = place()  # lmms-eval divides a task's items among processes by these
        given = {name: unquoted(value) or None for name, value in loading.items()}
        vlm = load(unquoted(pretrained) or None, **given | {"device": own_device(given.get("device"))})
        self.vlm: VLM | None = vlm  # None after `release`
        self.device = vlm.device

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        """The answer to each request with its token counts, in their order. A batch has one setting of generation."""
        from lmms_eval.api.instance import GenerationResult, TokenCounts

        groups: dict[Generation, list[int]] = defaultdict(list)
        results: list[GenerationResult | None] = [None] * len(requests)
        for number, request in enumerate(requests):
            _, _, wanted, *_ = request.args
            groups[settings(wanted, self.longest)].append(number)
        with tqdm(total=len(requests), desc="minivlm", disable=self._rank != 0) as bar:
            for generation, numbers in groups.items():
                for batch in batches(numbers, self.batch_size):
                    answers = self.answer([requests[number] for number in batch], generation)
                    for number, answer in zip(batch, answers, strict=True):
                        results[number] = GenerationResult(answer.text, TokenCounts(*token_counts(answer)))
                    bar.update(len(batch))
        return results

    def answer(self, requests: Sequence[Any], generation: Generation) -> list[Answer]:
        """Answer one batch. Its pictures are read only now, so that memory holds one batch of them."""
        if self.vlm is None:
            raise EvaluationError("This model was released by clean(): make a new one to ask it.")
        conversations = []
        for request in requests:
            _, as_messages, _, doc, task, split = request.args
            conversations.append(conversation(as_messages(self.task_dict[task][split][doc])))
        pictures, turns = zip(*conversations, strict=True)
        return self.vlm.ask_many(pictures, turns, mitigation=self.mitigation, **vars(generation))

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        """Refused: lmms-eval asks chat models for generation only."""
        raise NotImplementedError("minivlm answers tasks of type generate_until; this one asks for loglikelihood.")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[Any]:
        """Refused: in these tasks lmms-eval asks again after each answer."""
        raise NotImplementedError("minivlm answers tasks of type generate_until; this one asks for several rounds.")

    def release(self) -> None:
        """Drop the reference to the weights, so that their memory can be freed."""
        self.vlm = None


# --- model_args -----------------------------------------------------------------------------------------------------


def mitigation(method: str, eah: str = "", clva: str = "") -> Mitigation:
    """The mitigation of one method. Raises `EvaluationError` for a group, and for settings it would not use."""
    named = methods([method])
    if len(named) > 1:
        raise EvaluationError(f"One run of lmms-eval has one method; {method!r} stands for {', '.join(named)}.")
    for name, given in (("eah", eah), ("clva", clva)):
        if given and getattr(named[method], name) is None:
            raise EvaluationError(f"model_args has {name}={given}, but method={method} does not use {name}.")
    return methods([method], settings_of(EAH, eah) if eah else None, settings_of(CLVA, clva) if clva else None)[method]


def whole(batch_size: int | str) -> int:
    """The batch size as a number: lmms-eval passes it as it was typed. Raises `EvaluationError` for "auto"."""
    if not str(batch_size).isdecimal() or int(batch_size) < 1:
        raise EvaluationError(f"minivlm takes a batch_size that is a whole number from 1, found {batch_size!r}.")
    return int(batch_size)


def unquoted(value: Any) -> Any:
    """A text without the quotes that keep its commas together in model_args, as in eah="layer=2,head=random"."""
    return value.strip().strip("\"'") if isinstance(value, str) else value


# --- requests -------------------------------------------------------------------------------------------------------


def settings(wanted: Mapping[str, Any], longest: int) -> Generation:
    """The generation settings of a request; `longest`: its max_new_tokens if the request has none.

    Raises `GenerationError` for a setting that minivlm cannot follow, and warns of unknown ones.
    """
    given = {name: value for name, value in wanted.items() if value is not None}
    for name, only in NEUTRAL.items():
        if given.get(name, only) != only:
            raise GenerationError(f"The task asks for {name}={given[name]!r}; minivlm has {name}={only} only.")
    if strange := sorted(set(given) - set(NEUTRAL) - set(APPLIED)):
        warnings.warn(f"minivlm has no generation setting {', '.join(strange)}: it changes nothing.", stacklevel=3)
    until = given.get("until", ())
    common = {
        "max_new_tokens": given.get("max_new_tokens", longest),
        "stop": tuple(text for text in ([until] if isinstance(until, str) else until) if text),
    }
    temperature = given.get("temperature", 1.0 if given.get("do_sample") else 0.0)
    if not given.get("do_sample", True) or temperature == 0:
        return Generation(**common)  # greedy, whatever top_p and top_k are
    chance = {name: given[name] for name in ("top_p", "top_k", "seed") if name in given}
    return Generation(**common, temperature=temperature, **chance)


def conversation(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[Turn]]:
    """The pictures and the turns of a request's messages. Raises `PromptError` for what minivlm cannot process."""
    roles = [message["role"] for message in messages]
    if roles != [("user", "assistant")[place % 2] for place in range(len(roles))] or len(roles) % 2 == 0:
        raise PromptError(
            f"The task has messages by {', '.join(roles) or 'no one'}; minivlm takes user and assistant by turns, "
            "the user first and last. A system sentence is part of the template."
        )
    pictures, turns = [], []
    for message in messages:
        parts = [(part["type"], part.get("text", part.get("url"))) for part in message["content"]]
        if strange := {kind for kind, _ in parts} - {"text", "image"}:
            raise PromptError(f"The task shows {' and '.join(sorted(strange))}; minivlm takes text and pictures only.")
        if message["role"] == "user":
            pictures += [value for kind, value in parts if kind == "image"]
            turns.append(question(parts))
        elif any(kind == "image" for kind, _ in parts):
            raise PromptError("The task has a picture in an answer; minivlm takes pictures in questions only.")
        else:
            turns[-1] = Turn(turns[-1].question, "\n".join(value for _, value in parts), turns[-1].images)
    return pictures, turns


def question(parts: Sequence[tuple[str, Any]]) -> Turn:
    """A turn from (kind, value) parts. Leading pictures get a line each, as in LLaVA's prompts; others stay inline, as
    do those whose places the text itself names by `<image>`.
    """
    kinds = [kind for kind, _ in parts]
    if kinds == sorted(kinds):  # "image" before "text"
        text, pictures = "\n".join(value for kind, value in parts if kind == "text"), kinds.count("image")
        turn = Turn(text, images=pictures)
        return with_places(turn) if pictures and text.count(PLACE) == pictures else turn
    return Turn([IMAGE if kind == "image" else value for kind, value in parts])


def batches(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """The numbers in pieces of `size`; the last may be shorter."""
    return (numbers[start : start + size] for start in range(0, len(numbers), size))


def token_counts(answer: Answer) -> tuple[int, int]:
    """The numbers of tokens of the prompt, without padding, and of the answer."""
    first, *_, last = answer.spans
    return last.start - first.start, len(answer.tokens)
