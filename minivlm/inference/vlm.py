"""The VLM: a model, its tokenizer and its image preprocessing, with `ask`, `stream`, `trace` and `logits`."""

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from minivlm.checkpoints import CheckpointReport
from minivlm.checkpoints.quantised import kind_of
from minivlm.errors import PromptError
from minivlm.inference.answer import Answer, EncodedImage, Inputs
from minivlm.inference.effect import Effect
from minivlm.inference.generate import Generation, Step, changes_by_step, steps
from minivlm.inference.streaming_text import StreamingText
from minivlm.inference.trace import Trace, Tracer
from minivlm.inputs.image import ImagePreprocessing, load_image, to_pixels
from minivlm.inputs.prompt import Batch, Prompt, Span, as_turns, build_prompt, pad_batch, require_question
from minivlm.inputs.tokenizer import Tokenizer
from minivlm.model import Llava, Mitigation
from minivlm.model.effect import warn_no_effect
from minivlm.model.mitigation import ResolvedMitigation

Watcher = Callable[[Step], None]  # is called with every step
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class VLM:
    """Answers questions about pictures. It has no state: all that an answer depends on is passed with the question.

    Several threads may share it.
    """

    model: Llava
    tokenizer: Tokenizer
    preprocessing: ImagePreprocessing
    template: str  # a name of `TEMPLATES`
    name: str
    report: CheckpointReport | None = field(default=None, repr=False)

    @property
    def device(self) -> torch.device:
        """Where the words' embeddings are: where inputs must go."""
        return self.model.text.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights, and of the pixels that the model takes."""
        return self.model.text.embed_tokens.weight.dtype

    @cached_property
    def allowed(self) -> Tensor:
        """(V,), True for tokens that may be generated: words and stops, but no image tokens and no unused ids."""
        rows = self.model.config.text_config.vocab_size
        ids = [token for token in range(rows) if self.tokenizer.is_text(token) or token in self.tokenizer.stops]
        allowed = torch.zeros(rows, dtype=torch.bool)
        allowed[ids] = True
        return allowed

    def ask(self, image: Any, text: Any, *, mitigation: Any = None, compare: bool = False, **generation: Any) -> Answer:
        """Answer `text` about `image`.

        `image`: a path, bytes, PIL picture, array or tensor, or what `encode` made of one; several as a list; None for
        none. `text`: a question, or turns (see `prompt`). `mitigation`: `EAH()`, `CLVA()`, or a `Mitigation` of both;
        what it did is in the answer's `effect`, with `compare` also how far each token was from the plain model's.
        `generation`: the fields of `Generation`. After Ctrl-C, the answer is what had been written, with
        `finish == "interrupted"`.
        """
        return self.ask_many([image], [text], mitigation=mitigation, compare=compare, **generation)[0]

    def ask_many(
        self,
        images: Sequence[Any],
        texts: Sequence[Any],
        *,
        mitigation: Any = None,
        compare: bool = False,
        **generation: Any,
    ) -> list[Answer]:
        """Answer many questions in one batch; each gets the answer that it would get alone."""
        inputs = self.prepare_many(images, texts, asked=True)
        return self.write(inputs, Generation(**generation), mitigation=mitigation, compare=compare)

    def write(
        self,
        inputs: Inputs,
        settings: Generation,
        *,
        mitigation: Any = None,
        watcher: Watcher | None = None,
        **how: Any,
    ) -> list[Answer]:
        """Generate the answers to prepared inputs. `watcher` is called with every step; `how`: arguments of `steps`."""
        writing = Writing(self, inputs, settings, mitigation, watcher, how)
        for _ in writing:
            pass
        return writing.answers

    def trace(self, image: Any, text: Any, **how: Any) -> Trace:
        """Answer as `ask` does, and keep statistics of the attention; arguments as for `trace_many`."""
        return self.trace_many([image], [text], **how)[0]

    def trace_many(
        self,
        images: Sequence[Any],
        texts: Sequence[Any],
        *,
        mitigation: Any = None,
        compare: bool = False,
        maps: Collection[int] = (),
        lens: Collection[int] = (),
        **generation: Any,
    ) -> list[Trace]:
        """One trace for each question. `maps`: layers whose whole weights of the prefill are kept, too. `lens`: layers
        to apply the logit lens to. Other arguments as for `ask_many`.
        """
        inputs = self.prepare_many(images, texts, asked=True)
        tracer = Tracer(self.model, inputs, maps, lens)
        how = {"mitigation": mitigation, "compare": compare, **tracer.watch}
        answers = self.write(inputs, Generation(**generation), watcher=tracer.record, **how)
        return tracer.traces(answers, self.tokenizer)

    def stream(
        self, image: Any, text: Any, *, mitigation: Any = None, compare: bool = False, **generation: Any
    ) -> Generator[str, None, Answer]:
        """The answer's text in pieces, each as soon as it is certain; joined they are the answer of `ask`.

        The generator returns the `Answer` (the value of `yield from`). After Ctrl-C it yields the rest of the text and
        then raises `KeyboardInterrupt`.
        """
        inputs = self.prepare_many([image], [text], asked=True)
        writing = Writing(self, inputs, Generation(**generation), mitigation, how={"compare": compare})
        for (piece,) in writing:
            if piece:
                yield piece
        (answer,) = writing.answers
        if answer.finish == "interrupted":
            raise KeyboardInterrupt
        return answer

    def logits(self, image: Any, text: Any, *, mitigation: Any = None) -> Tensor:
        """The logits (T, V) of the next token at every token of the prompt."""
        with torch.inference_mode():
            return self.model(**self.prepare(image, text), mitigation=mitigation).logits[0]

    def prepare(self, image: Any, text: Any) -> Inputs:
        """The arguments of the network for a question: `vlm.model(**vlm.prepare(image, text))`."""
        return self.prepare_many([image], [text])

    def prepare_many(self, images: Sequence[Any], texts: Sequence[Any], asked: bool = False) -> Inputs:
        """The same for a batch; shorter prompts are padded on the left. `asked`: each text must end in a question."""
        for text in texts if asked else ():
            require_question(as_turns(text))
        if len(images) != len(texts) or not texts:
            raise PromptError(
                f"Each question needs its picture (or None): {len(images)} pictures, {len(texts)} questions."
            )
        groups = [as_pictures(image) for image in images]  # the pictures of each question
        prompts = [self.prompt(text, len(group)) for text, group in zip(texts, groups, strict=True)]
        pictures = [picture for group in groups for picture in group]
        batch = pad_batch(prompts, self.tokenizer.pad)
        if any(isinstance(picture, EncodedImage) for picture in pictures):
            return self.inputs(batch, None, torch.stack([self.encode(picture).features for picture in pictures]))
        return self.inputs(batch, torch.stack([*map(self.pixels, pictures)]) if pictures else None)

    @torch.inference_mode()
    def encode(self, picture: Any) -> EncodedImage:
        """One picture, through the tower and the projector: then many questions about it need not do this again.

        What is encoded already is returned as it is. Raises `PromptError` if another model did it.
        """
        if not isinstance(picture, EncodedImage):
            features, _ = self.model.encode_images(self.pixels(picture)[None].to(self.device, self.dtype))
            return EncodedImage(features[0], self.name)
        config = self.model.config
        shape = config.num_image_tokens, config.text_config.hidden_size
        return picture.checked(self.name, shape, self.dtype, self.device)

    def inputs(self, batch: Batch, pixels: Tensor | None, features: Tensor | None = None) -> Inputs:
        """A batch with its pixels or with features (N, P, D) of encoded pictures, on the model's device."""
        pixels = None if pixels is None else pixels.to(self.device, self.dtype)
        return Inputs(batch.tokens.to(self.device), pixels, batch.attention_mask.to(self.device), batch.spans, features)

    def prompt(self, text: Any, num_images: int = 0) -> Prompt:
        """Tokens and spans of a question, or of a list of `Turn`s whose last has no answer yet."""
        return build_prompt(
            as_turns(text, num_images),
            tokenizer=self.tokenizer,
            template=self.template,
            num_image_tokens=self.model.config.num_image_tokens,
            num_images=num_images,
            context_length=self.model.config.text_config.context_length,
        )

    def pixels(self, picture: Any) -> Tensor:
        """One picture as pixels (3, S, S), by this VLM's preprocessing."""
        return to_pixels(load_image(picture), self.preprocessing)

    def answer(
        self,
        writer: StreamingText,
        spans: tuple[Span, ...],
        settings: Generation,
        mitigation: Any = None,
        effect: Effect | None = None,
    ) -> Answer:
        """The finished answer with all that it depends on; `spans` are those of the prompt."""
        start = spans[-1].stop
        return Answer(
            writer.text,
            tokens=tuple(writer.tokens),
            spans=(*spans, Span("answer", start, start + len(writer.tokens))),
            finish=writer.finish,
            settings=settings,
            template=self.template,
            recipe=self.preprocessing.describe(),
            model=self.name,
            dtype=str(self.dtype).removeprefix("torch."),
            weights=kind_of(self.model),
            mitigation={} if changes_by_step(mitigation) else self.resolve(mitigation).as_dict(),
            effect=effect,
        )

    def resolve(self, mitigation: Any) -> ResolvedMitigation:
        """A mitigation, as `ask` takes it, with every setting that depends on this model filled in."""
        return Mitigation.of(mitigation).resolve(self.model.config)

    def steps(self, inputs: Inputs, settings: Generation, **how: Any) -> Iterator[Step]:
        """Generate the answers to prepared inputs, step by step; `how`: arguments of `generate.steps`."""
        return steps(
            self.model,
            **inputs,
            settings=settings,
            allowed=self.allowed.to(self.device),
            stops=self.tokenizer.stops,
            **how,
        )


class Writing:
    """Answers being generated. One loop over it gives the new text of each sample, step by step.

    After the loop, `answers` holds them; after Ctrl-C what was generated so far, with `finish == "interrupted"`.
    """

    def __init__(
        self,
        vlm: VLM,
        inputs: Inputs,
        settings: Generation,
        mitigation: Any = None,
        watcher: Watcher | None = None,
        how: Mapping[str, Any] = NO_OPTIONS,
    ) -> None:
        self.vlm, self.inputs, self.settings, self.mitigation, self.watcher = vlm, inputs, settings, mitigation, watcher
        self.steps = vlm.steps(inputs, settings, mitigation=mitigation, **how)
        self.answers: list[Answer] = []

    def __iter__(self) -> Iterator[list[str]]:
        writers = [StreamingText(self.vlm.tokenizer, self.settings) for _ in self.inputs.tokens]
        effect, finish = None, "length"
        try:
            for step in self.steps:
                if self.watcher:
                    self.watcher(step)
                effect = step.effect
                yield [writer.push(token) for writer, token in zip(writers, step.chosen, strict=True)]
                if all(writer.finish for writer in writers):
                    break
        except KeyboardInterrupt:
            finish = "interrupted"
        yield [writer.close(finish) for writer in writers]
        effects = each_effect(effect, writers)
        self.answers = [
            self.vlm.answer(writer, spans, self.settings, self.mitigation, its_effect)
            for writer, spans, its_effect in zip(writers, self.inputs.spans, effects, strict=True)
        ]


def each_effect(effect: Effect | None, writers: Sequence[StreamingText]) -> list[Effect | None]:
    """The effect on each sample of a batch, until its answer ended. Warns of samples in which nothing was changed."""
    if effect is None:
        return [None] * len(writers)
    effects = [effect.of(sample, len(writer.tokens)) for sample, writer in enumerate(writers)]
    if idle := [sample for sample, its_effect in enumerate(effects) if its_effect.nothing]:
        which = "" if len(effects) == 1 else f" in the samples {', '.join(map(str, idle))} (counted from 0)"
        warn_no_effect(which, stacklevel=6)
    return [*effects]


def as_pictures(image: Any) -> list[Any]:
    """None, one picture or a list of pictures, as a list."""
    if image is None:
        return []
    return list(image) if isinstance(image, (list, tuple)) else [image]
