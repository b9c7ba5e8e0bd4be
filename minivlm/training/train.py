"""Trains `weights/tiny` from scratch, in these stages, on scenes of the toy world:

    tower   the vision tower classifies pictures and patches, in two rounds        (tower.py)
    text    the decoder learns captions and answers from soft words                (reader.py)
    drill   the decoder learns to answer yes-no questions
    align   the projector learns to turn patches into soft words
    tune    projector and decoder learn from pictures, the tower frozen

The result is a regular LLaVA checkpoint.
"""

import time
from dataclasses import asdict
from pathlib import Path
from random import Random

import torch
from einops import rearrange
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor, nn

from minivlm.checkpoints.save import save_checkpoint
from minivlm.files import write_json, write_text
from minivlm.inputs.image import CLIP_MEAN, CLIP_STD
from minivlm.model import Llava
from minivlm.model.projector import select_features
from minivlm.toyworld.bulk import pictures
from minivlm.toyworld.world import TRAINING, World
from minivlm.training.labels import label
from minivlm.training.lessons import id_of
from minivlm.training.reader import align_projector, lesson, side_of, teach_text, tune
from minivlm.training.recipe import DriftRecipe, Recipe, SinksRecipe
from minivlm.training.schedule import Training
from minivlm.training.tower import TowerPretraining, teach_tower
from minivlm.training.vocabulary import save_tokenizer, train_tokenizer

RECIPE = Recipe()
SPECIAL = {"bos": "<s>", "eos": "</s>", "pad": "<pad>"}
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- message['role'].upper() + ': ' -}}
{%- if message['content'] is string -%}{{- message['content'] + ' ' -}}
{%- else -%}
{%- for part in message['content'] if part['type'] == 'image' -%}{{- '<image>\n' -}}{%- endfor -%}
{%- for part in message['content'] if part['type'] == 'text' -%}{{- part['text'] + ' ' -}}{%- endfor -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}
"""  # the `hf` template of minivlm.inputs.templates, for other programs; minivlm runs no templates


def train(folder: Path, recipe: Recipe = RECIPE, world: World = TRAINING, device: str = "cpu") -> None:
    """Train the shipped model by `recipe`, and write the checkpoint and `training.json` to `folder`."""
    start, training = time.perf_counter(), Training(torch.device(device), recipe.seed)
    torch.manual_seed(recipe.seed)
    pixels, scenes = pictures(world, range(recipe.scenes), progress=True)
    drawn, seconds = torch.from_numpy(pixels), {"scenes": time.perf_counter() - start}
    tokenizer = train_tokenizer(sentences(world, recipe.seed), recipe.vocabulary)
    model = new_model(tokenizer, recipe, world).to(training.device)
    labels = label(scenes, side_of(model))

    pretraining = TowerPretraining(model.vision, model.config).to(training.device)
    rounds = {"tower": recipe.tower, "tower again": recipe.tower_again}
    teach_tower(pretraining, drawn, labels, rounds, training, normalise)
    teach_text(model, tokenizer, world, recipe, training)
    features = tower_features(model, drawn, training.device)
    align_projector(model, tokenizer, features, labels, recipe, training)
    tune(model, tokenizer, features, scenes, recipe, training)

    seconds["all"] = time.perf_counter() - start
    write(folder, model, tokenizer, recipe, world, training, seconds)


def sentences(world: World, seed: int, scenes: int = 4000) -> list[str]:
    """Questions and answers about `scenes` scenes in the format of prompts: the corpus that trains the tokenizer."""
    rng = Random(f"sentences/{seed}")
    pairs = [pair for number in range(scenes) for pair in lesson(world.layout(number), 4, rng)]
    return ["USER: ", *(f"\n{question} ASSISTANT: {answer}" for question, answer in pairs)]


def new_model(tokenizer: Tokenizer, recipe: Recipe, world: World) -> Llava:
    """A model with random weights; its embeddings are padded to a multiple of 64 rows, as on the hub."""
    rows = -(-tokenizer.get_vocab_size() // 64) * 64
    model = Llava(recipe.model_config(world.size, rows, id_of(tokenizer, "<image>")))
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding, nn.Conv2d)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    nn.init.normal_(model.vision.embeddings.class_embedding, std=0.02)
    return model


def normalise(drawn: Tensor) -> Tensor:
    """Pictures (N, S, S, 3) uint8 as pixels (N, 3, S, S) fp32, as the image processor would give them."""
    pixels = (drawn.float() / 255 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    return rearrange(pixels, "N rows columns rgb -> N rgb rows columns").contiguous()


@torch.no_grad()
def tower_features(model: Llava, drawn: Tensor, device: torch.device, batch: int = 200) -> Tensor:
    """The projector's inputs (N, P, tower width) in bf16 on the CPU, for pictures `drawn` (N, S, S, 3) uint8.

    Computed once for all later stages, in which the tower is frozen; `batch` pictures at a time.
    """
    features = []
    for part in drawn.split(batch):
        with torch.autocast(device.type, dtype=torch.bfloat16):
            states = model.vision(normalise(part).to(device))
        features.append(select_features(states, model.config).to("cpu", torch.bfloat16))
    return torch.cat(features)


def write(
    folder: Path,
    model: Llava,
    tokenizer: Tokenizer,
    recipe: Recipe | DriftRecipe | SinksRecipe,
    world: World,
    training: Training,
    seconds: dict,
    name: str = "training.json",
) -> None:
    """Write the checkpoint in the hub's layout, and under `name` a record of recipe, versions, times and loss curve."""
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(model, folder, dtype=torch.bfloat16)
    save_tokenizer(tokenizer, folder)
    save_settings(model, tokenizer, folder)
    record = {
        "recipe": asdict(recipe),
        "world": asdict(world),
        "device": str(training.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "seconds": {name: round(value) for name, value in seconds.items()},
        "curve": training.curve,
    }
    write_json(folder / name, record)


def save_settings(model: Llava, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the small files of a hub checkpoint: settings of generation, preprocessing and chat template."""
    vision = model.config.vision_config
    ids = {name: tokenizer.token_to_id(token) for name, token in SPECIAL.items()}
    write_json(folder / "generation_config.json", {f"{name}_token_id": id_ for name, id_ in ids.items()})
    picture = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": vision.image_size},
        "crop_size": {"height": vision.image_size, "width": vision.image_size},
        "do_convert_rgb": True,
        "do_resize": True,
        "do_center_crop": True,
        "do_rescale": True,
        "do_normalize": True,
        "resample": int(Image.Resampling.BICUBIC),
        "rescale_factor": 1 / 255,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
    }
    write_json(folder / "preprocessor_config.json", picture)
    words = {
        "processor_class": "LlavaProcessor",
        "image_token": "<image>",
        "patch_size": vision.patch_size,
        "num_additional_image_tokens": 1,  # the class token, which the strategy below leaves out again
        "vision_feature_select_strategy": model.config.vision_feature_select_strategy,
    }
    write_json(folder / "processor_config.json", words)
    write_text(folder / "chat_template.jinja", CHAT_TEMPLATE)
