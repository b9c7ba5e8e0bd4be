"""Loading: from a folder, a hub name or no name (the shipped model) to a `VLM`."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from minivlm.checkpoints import load_checkpoint
from minivlm.checkpoints.devices import default_device
from minivlm.checkpoints.download import find_or_download
from minivlm.errors import ConfigError, PromptError
from minivlm.files import read_json_file, torchrun
from minivlm.inference.shipped import is_shipped, refuse_revision_here, shipped_model
from minivlm.inference.vlm import VLM
from minivlm.inputs.chat_template import read_chat_template
from minivlm.inputs.image import ImagePreprocessing, default_mode
from minivlm.inputs.templates import TEMPLATES
from minivlm.inputs.tokenizer import Tokenizer
from minivlm.model.config import LlavaConfig, VisionConfig

INNER = "image_processor"  # the object of processor_config.json that says how pictures are prepared
# The options of `load`.
LOADING = ("device", "dtype", "template", "image_mode", "vision_tower", "revision", "weights", "memory")


def load(
    name_or_path: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    template: str | None = None,
    image_mode: str | None = None,
    vision_tower: str | Path | None = None,
    revision: str | None = None,
    weights: str | None = None,
    memory: str | None = None,
    bound_for: str | torch.device | None = None,
) -> VLM:
    """Load a LLaVA checkpoint: the shipped model (no name), another of `SHIPPED`, a folder, or a name on the hub.

    A hub name is looked up in the hub's cache and downloaded if it is not there; otherwise nothing touches the network.
    `device`: "cuda" where there is one, else "cpu". `dtype`, `weights` ("int8", "int4": a decoder half or a quarter
    as large) and `memory` ("mapped", "resident"): see `devices`, `quantised` and `resident` in
    `minivlm.checkpoints`. `template`: a name of `minivlm.inputs.templates.TEMPLATES`; by default the checkpoint's own,
    or "hf", or "llava_v1" for original files. `image_mode`: "crop", "pad" or "stretch", by default as
    `minivlm.inputs.image.default_mode` decides. `vision_tower`: for original files without a tower. `bound_for`: the
    device that will compute, if the weights are loaded on another one first. Raises `CheckpointError` or `ConfigError`
    for whatever is missing, damaged or not supported, and `PromptError` for an unknown template.
    """
    if template is not None and template not in TEMPLATES:
        raise PromptError(f"There is no template {template!r}; known are {', '.join(TEMPLATES)}.")
    folder = model_folder(name_or_path, revision)
    rest: dict[str, Any] = {"vision_tower": vision_tower, "bound_for": bound_for, "weights": weights, "memory": memory}
    loaded = load_checkpoint(folder, device=device or default_device(), dtype=dtype, **rest)
    config, folder = loaded.config, loaded.folder
    template = template or own_template(folder, "hf" if loaded.report.style == "hub" else "llava_v1")
    return VLM(
        model=loaded.model,
        tokenizer=read_tokenizer(folder, config, template),
        preprocessing=read_preprocessing(folder, config.vision_config, image_mode),
        template=template,
        name=f"minivlm/{folder.name}" if is_shipped(name_or_path) else str(name_or_path),
        report=loaded.report,
    )


def model_folder(name: str | Path | None, revision: str | None = None) -> Path:
    """The folder of a model by its name as `load` takes it; it is downloaded if it is on the hub alone.

    Raises `ConfigError` for a `revision` of a model that has none: one that comes with minivlm, or a folder.
    """
    refuse_revision_here(name, revision)
    if name is None:
        return shipped_model()
    return shipped_model(str(name)) if is_shipped(name) else find_or_download(name, revision=revision)


def own_template(folder: Path, default: str) -> str:
    """The name of the template that is the checkpoint's own; `default` if it brings none.

    Warns, with an example, where it brings one that is not known: then the one most like it is used.
    """
    own = read_chat_template(folder)
    if own is None:
        return default
    if own.known:
        return own.known
    guess = own.guess(default)
    warnings.warn(own.warning(guess), stacklevel=3)
    return guess


def read_tokenizer(folder: Path, config: LlavaConfig, template: str) -> Tokenizer:
    """The tokenizer of a checkpoint, once it has the template's special tokens; it ends answers where that does."""
    tokenizer = Tokenizer.from_folder(
        folder, image_token_id=config.image_token_index, vocab_rows=config.text_config.vocab_size
    )
    try:
        ids = {name: tokenizer.special(name) for name in TEMPLATES[template].specials}
    except ConfigError as error:
        raise ConfigError(f"{folder}, template {template!r}: {error}") from error
    if (end := TEMPLATES[template].end_of_answer) is not None:
        tokenizer.stop_at(ids[end])
    return tokenizer


def read_preprocessing(folder: Path, tower: VisionConfig, mode: str | None) -> ImagePreprocessing:
    """The image preprocessing of a checkpoint folder; without a preprocessor file, CLIP's own."""
    config = read_json_file(folder / "config.json")
    if (found := image_processor(folder)) is not None:
        file, settings = found
        mode = default_mode(settings, config) if mode is None else mode
        return for_tower(ImagePreprocessing.from_config(settings, mode=mode), tower, file)
    mode = default_mode({}, config) if mode is None else mode
    if tower.class_token:
        return ImagePreprocessing(size=tower.image_size, mode=mode, patch=tower.patch_size)
    raise ConfigError(
        f"{folder} has no preprocessor_config.json, and towers of SigLIP are trained with several. "
        "Copy the one of the same model."
    )


def image_processor(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The file that says how pictures are prepared, and its settings; None if there is none.

    An `image_processor` in processor_config.json comes before preprocessor_config.json, as in transformers; a warning
    says so where the two differ.
    """
    old, new = folder / "preprocessor_config.json", folder / "processor_config.json"
    former = read_json_file(old) if old.is_file() else None
    settings = read_json_file(new).get(INNER) if new.is_file() else None
    if settings is None:
        # Only processor_config.json has the settings in an inner object.
        return None if former is None else (old, {name: value for name, value in former.items() if name != INNER})
    if former is not None and former != settings:
        warnings.warn(
            f"{old} is not read: processor_config.json beside it has another image_processor, which comes first, as in "
            "transformers.",
            stacklevel=4,
        )
    return new, {INNER: settings}


def for_tower(preprocessing: ImagePreprocessing, tower: VisionConfig, file: Path) -> ImagePreprocessing:
    """The preprocessing with the tower's patches. Raises `ConfigError` if its square is not of the tower's size."""
    if preprocessing.size != tower.image_size:
        raise ConfigError(
            f"{file} makes squares of {preprocessing.size} pixels, but config.json has a tower for {tower.image_size}. "
            "The two files belong to different models."
        )
    return replace(preprocessing, patch=tower.patch_size)


def own_device(device: str | None) -> str | None:
    """The GPU of this process, if torchrun has started several on one machine; otherwise `device` as given."""
    shared = device in (None, "cuda") and torch.cuda.is_available()
    local = torchrun("LOCAL_RANK", alone=-1) if shared else -1
    return device if local < 0 else f"cuda:{local}"
