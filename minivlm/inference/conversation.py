"""A conversation about pictures that keeps its cache: each turn computes only what is new."""

from dataclasses import replace
from threading import Lock
from typing import Any

import torch

from minivlm.errors import GenerationError
from minivlm.inference.decode import whole_columns
from minivlm.inference.generate import Generation, new_cache
from minivlm.inference.vlm import VLM, Answer, as_pictures
from minivlm.inputs.prompt import Turn, as_turns, pad_batch
from minivlm.model import Mitigation

ROOM = 1024  # tokens that fit into the first cache of a conversation


class Conversation:
    """Questions and answers about the same pictures.

        talk = Conversation(vlm, "photo.jpg")
        talk.ask("What is in the image?")
        talk.ask("What color is it?")

    Every turn builds the prompt of the whole conversation and compares it with the tokens in the cache: their common
    beginning is kept, the rest is computed. So the answers are the same as without a cache. Several threads may share
    it: they take turns, each with the turns before as its beginning.
    """

    def __init__(self, vlm: VLM, image: Any = None) -> None:
        self.vlm = vlm
        self.pictures = [vlm.encode(picture) for picture in as_pictures(image)]
        self.turns: list[Turn] = []
        self.reused = 0  # tokens that the last turn took from the cache
        self._features = torch.stack([one.features for one in self.pictures]) if self.pictures else None
        self._cache = new_cache(vlm.model, 1, 0)
        self._cached: list[int] = []
        self._turn = Lock()  # held while a question is answered: cache and turns change together

    def ask(self, text: Any, *, mitigation: Any = None, compare: bool = False, **generation: Any) -> Answer:
        """Answer the next question; arguments as for `VLM.ask`. A turn that raises an error is not kept."""
        settings = Generation(**generation)
        if not settings.cache:
            raise GenerationError(
                "cache=False: a conversation lives by its cache. To do without, ask the VLM with all turns (vlm.ask)."
            )
        mitigation = Mitigation.of(mitigation)
        with self._turn:
            pictures = 0 if self.turns else len(self.pictures)  # that this turn may place
            *earlier, turn = as_turns(text, pictures) if isinstance(text, str) else [Turn(text)]
            prompt = self.vlm.prompt([*self.turns, *earlier, turn], len(self.pictures))
            inputs = self.vlm.inputs(pad_batch([prompt], self.vlm.tokenizer.pad), None, self._features)
            self._make_room(len(prompt.tokens) + settings.max_new_tokens)
            self.reused = self._keep(prompt.tokens, mitigation)
            features = None if self.reused else inputs.features  # what is reused includes the pictures
            new = replace(inputs, tokens=inputs.tokens[:, self.reused :], features=features)
            (answer,) = self.vlm.write(new, settings, cache=self._cache, mitigation=mitigation, compare=compare)
            if mitigation.empty:
                self._cached = [*prompt.tokens, *answer.tokens][: self._cache.length]
            cut = answer.finish == "stop" and answer.tokens[-1] not in self.vlm.tokenizer.stops  # by a stop text
            self.turns += [*earlier, replace(turn, answer=answer.text if cut else list(answer.tokens))]
            return answer

    def _make_room(self, tokens: int) -> None:
        """Replace the cache by a larger, empty one if `tokens` do not fit, but none much larger than the context."""
        context = self.vlm.model.config.text_config.context_length
        if self._cache.capacity < min(tokens, context):
            capacity = whole_columns(min(max(2 * tokens, ROOM), context))
            self._cache, self._cached = new_cache(self.vlm.model, 1, capacity), []

    def _keep(self, tokens: tuple[int, ...], mitigation: Mitigation) -> int:
        """Cut the cache to the common beginning with `tokens`, and return its length.

        The last token is always computed, since its logits are needed; a picture is kept whole or not at all. What was
        computed under a mitigation is never reused, since it depends on where the prefill began.
        """
        same = 0
        for old, new in zip(self._cached, tokens[:-1], strict=False):
            if old != new:
                break
            same += 1
        if not mitigation.empty or self.vlm.tokenizer.image in tokens[same:]:
            same = 0
        self._cache.length, self._cached = same, self._cached[:same]
        return same
