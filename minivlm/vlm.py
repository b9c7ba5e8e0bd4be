"""The VLM: a model with its tokenizer and its image recipe, behind `ask`, `stream` and `logits`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minivlm.answer import Answer, Inputs
from minivlm.checkpoints import Report, load_checkpoint, read_json_file
from minivlm.checkpoints.download import find_or_download
from minivlm.errors import CheckpointError, ConfigError, PromptError
from minivlm.generate import Generation, generate
from minivlm.inputs.image import ImageRecipe, default_mode, load_image, to_pixels
from minivlm.inputs.prompt import Batch, Prompt, Span, as_turns, build_prompt, pad_batch, require_question
from minivlm.inputs.templates import TEMPLATES
from minivlm.inputs.tokenizer import Tokenizer
from minivlm.model import NO_MITIGATION, Llava, Mitigation
from minivlm.writer import Writer


@dataclass(frozen=True)
class VLM:
    """Looks at pictures and answers. Nothing in it changes: what an answer depends on is passed with the question."""

    model: Llava
    tokenizer: Tokenizer
    recipe: ImageRecipe
    template: str  # "hf" or "llava_v1"
    name: str
    report: Report | None = field(default=None, repr=False)

    @property
    def device(self) -> torch.device:
        return self.model.text.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.text.embed_tokens.weight.dtype

    @cached_property
    def allowed(self) -> Tensor:
        """(V,), True for tokens that may be generated: words and stops, no picture slots, no rows without a word."""
        rows = self.model.config.text_config.vocab_size
        ids = [token for token in range(rows) if self.tokenizer.is_text(token) or token in self.tokenizer.stops]
        allowed = torch.zeros(rows, dtype=torch.bool)
        allowed[ids] = True
        return allowed

    def ask(self, image: Any, text: Any, *, mitigation: Mitigation = NO_MITIGATION, **generation: Any) -> Answer:
        """Answer `text` about `image`.

        `image`: a path, bytes, PIL picture, array or tensor; several of them as a list; None for none. `text`: a
        question, or turns (see `prompt`). `generation`: the fields of `Generation`. After Ctrl-C, the answer is what
        had been written, with `finish == "interrupted"`.
        """
        return self.ask_many([image], [text], mitigation=mitigation, **generation)[0]

    def ask_many(
        self,
        images: Sequence[Any],
        texts: Sequence[Any],
        *,
        mitigation: Mitigation = NO_MITIGATION,
        **generation: Any,
    ) -> list[Answer]:
        """Answer many questions in one batch; each row is answered as if it were alone."""
        settings = Generation(**generation)
        for text in texts:
            require_question(as_turns(text))
        inputs = self.prepare_many(images, texts)
        writers = [Writer(self.tokenizer, settings) for _ in inputs.tokens]
        try:
            for chosen in self._generate(inputs, settings, mitigation):
                for writer, token in zip(writers, chosen, strict=True):
                    writer.push(token)
                if all(writer.finish for writer in writers):
                    break
            finish = "length"
        except KeyboardInterrupt:
            finish = "interrupted"
        for writer in writers:
            writer.close(finish)
        return [self.answer(writer, spans, settings) for writer, spans in zip(writers, inputs.spans, strict=True)]

    def stream(
        self, image: Any, text: Any, *, mitigation: Mitigation = NO_MITIGATION, **generation: Any
    ) -> Iterator[str]:
        """The answer's text in pieces, as soon as each is certain; the pieces joined are what `ask` returns.

        After Ctrl-C what was held back comes as a last piece, and then the KeyboardInterrupt.
        """
        settings = Generation(**generation)
        require_question(as_turns(text))
        writer = Writer(self.tokenizer, settings)
        try:
            for (token,) in self._generate(self.prepare(image, text), settings, mitigation):
                if piece := writer.push(token):
                    yield piece
                if writer.finish:
                    return
            if piece := writer.close("length"):
                yield piece
        except KeyboardInterrupt:
            yield writer.close("interrupted")
            raise

    def logits(self, image: Any, text: Any, *, mitigation: Mitigation = NO_MITIGATION) -> Tensor:
        """The logits (T, V) at every token of the prompt."""
        with torch.inference_mode():
            return self.model(**self.prepare(image, text), mitigation=mitigation).logits[0]

    def prepare(self, image: Any, text: Any) -> Inputs:
        """What the network takes for this question: `vlm.model(**vlm.prepare(image, text))`."""
        return self.prepare_many([image], [text])

    def prepare_many(self, images: Sequence[Any], texts: Sequence[Any]) -> Inputs:
        """The same for a batch; shorter prompts are padded on the left."""
        if len(images) != len(texts) or not texts:
            raise PromptError(
                f"Each question needs its picture (or None): {len(images)} pictures, {len(texts)} questions."
            )
        pictures = [as_pictures(image) for image in images]
        prompts = [self.prompt(text, len(seen)) for text, seen in zip(texts, pictures, strict=True)]
        pixels = [self.pixels(picture) for seen in pictures for picture in seen]
        batch = pad_batch(prompts, self.tokenizer.pad)
        return self.inputs(batch, torch.stack(pixels) if pixels else None)

    def inputs(self, batch: Batch, pixels: Tensor | None) -> Inputs:
        """A batch and its pixels, moved to where the model is."""
        pixels = None if pixels is None else pixels.to(self.device, self.dtype)
        return Inputs(batch.tokens.to(self.device), pixels, batch.valid.to(self.device), batch.spans)

    def prompt(self, text: Any, num_images: int = 0) -> Prompt:
        """Tokens and spans of a question, or of a list of `Turn`s whose last has no answer yet."""
        return build_prompt(
            as_turns(text),
            tokenizer=self.tokenizer,
            template=self.template,
            num_image_tokens=self.model.config.num_image_tokens,
            num_images=num_images,
            context_length=self.model.config.text_config.context_length,
        )

    def pixels(self, picture: Any) -> Tensor:
        """One picture as (3, S, S), by this VLM's recipe."""
        return to_pixels(load_image(picture), self.recipe)

    def answer(self, writer: Writer, spans: tuple[Span, ...], settings: Generation) -> Answer:
        """The finished answer with all that it depends on."""
        start = spans[-1].stop
        return Answer(
            writer.text,
            tokens=tuple(writer.tokens),
            spans=(*spans, Span("answer", start, start + len(writer.tokens))),
            finish=writer.finish,
            settings=settings,
            template=self.template,
            recipe=self.recipe.describe(),
            model=self.name,
        )

    def _generate(self, inputs: Inputs, settings: Generation, mitigation: Mitigation) -> Iterator[list[int]]:
        return generate(
            self.model,
            **inputs,
            settings=settings,
            allowed=self.allowed.to(self.device),
            stops=self.tokenizer.stops,
            mitigation=mitigation,
        )


def load(
    name_or_path: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    template: str | None = None,
    image_mode: str | None = None,
    vision_tower: str | Path | None = None,
    revision: str | None = None,
) -> VLM:
    """Load a LLaVA checkpoint: the shipped model (no name), a folder, or a name on the hub.

    A hub name is looked up in the hub's cache and downloaded if it is not there; otherwise nothing touches the network.
    `device`: "cuda" where there is one, else "cpu". `dtype`: see `minivlm.checkpoints.load`. `template`: "hf" or
    "llava_v1"; by default the original checkpoints get the latter, all others the hub's. `image_mode`: "crop" or "pad",
    by default as `minivlm.inputs.image.default_mode` decides. `vision_tower`: for original files without a tower.
    Raises `CheckpointError` or `ConfigError` if anything is missing, left over, damaged or not supported.
    """
    if template is not None and template not in TEMPLATES:
        raise PromptError(f"There is no template {template!r}; known are {', '.join(TEMPLATES)}.")
    folder = shipped_model() if name_or_path is None else find_or_download(name_or_path, revision=revision)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_checkpoint(folder, device=device, dtype=dtype, vision_tower=vision_tower)
    config, folder = loaded.config, loaded.folder
    return VLM(
        model=loaded.model,
        tokenizer=Tokenizer.from_folder(
            folder, image_token_id=config.image_token_index, vocab_rows=config.text_config.vocab_size
        ),
        recipe=read_recipe(folder, config.vision_config.image_size, image_mode),
        template=template or ("hf" if loaded.report.style == "hub" else "llava_v1"),
        name=f"minivlm/{folder.name}" if name_or_path is None else str(name_or_path),
        report=loaded.report,
    )


def shipped_model() -> Path:
    """The folder of the model that comes with the package, installed or in the repository."""
    here = Path(__file__).resolve().parent
    for folder in (here / "shipped" / "tiny", here.parent / "weights" / "tiny"):
        if (folder / "config.json").is_file():
            return folder
    raise CheckpointError(
        f"The shipped model was not found, neither in {here / 'shipped'} nor in {here.parent / 'weights'}. "
        "Install minivlm again, or make the model with `minivlm train`."
    )


def read_recipe(folder: Path, image_size: int, mode: str | None) -> ImageRecipe:
    """The image recipe of a checkpoint folder; without a preprocessor file, CLIP's own at the tower's size."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            settings = read_json_file(folder / name)
            if name.startswith("pre") or "image_processor" in settings:
                mode = mode or default_mode(settings, read_json_file(folder / "config.json"))
                return fitting_recipe(ImageRecipe.from_config(settings, mode=mode), image_size, folder / name)
    mode = mode or default_mode({}, read_json_file(folder / "config.json"))
    return ImageRecipe(size=image_size, mode=mode)


def fitting_recipe(recipe: ImageRecipe, image_size: int, file: Path) -> ImageRecipe:
    """The recipe as given, once it makes the square that the vision tower expects."""
    if recipe.size != image_size:
        raise ConfigError(
            f"{file} makes squares of {recipe.size} pixels, but config.json has a vision tower for {image_size}. "
            "The two files belong to different models."
        )
    return recipe


def as_pictures(image: Any) -> list[Any]:
    """None, one picture or a list of pictures, as a list."""
    if image is None:
        return []
    return list(image) if isinstance(image, (list, tuple)) else [image]
