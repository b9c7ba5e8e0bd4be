"""A whole checkpoint against transformers: prompt ids, pixels, every stage, logits and 64 greedy tokens.

    pytest -m real --checkpoint FOLDER_OR_NAME --certificate certificate.md

With `--checkpoint` it is somebody's real model, and what was compared is written down on one page, for a course or a
paper. Without, it is the shipped model. Photos are those of MINIVLM_TEST_DATA where it is set, else drawn scenes.

Tolerances, as shares of a stage's largest value: 1e-4 in fp32 (hundreds of layers of a real model add up roundings that
tiny ones do not have) and 5e-2 in bf16, which has 8 bits. Greedy tokens must be equal in fp32; in bf16 two programs may
part where two tokens are equally likely, so there only their number is noted.
"""

import hashlib
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import minivlm
from minivlm.checkpoints.download import find_or_download
from minivlm.checkpoints.load import free_host_memory
from minivlm.checkpoints.parity import parity_ladder
from minivlm.files import read_json_file
from minivlm.inference.shipped import shipped_model
from minivlm.inputs.image import ImagePreprocessing
from minivlm.toyworld.world import HELD_OUT

pytestmark = pytest.mark.real
QUESTIONS = ("Describe the image.", "Is there a dog in the image?", "What is in the middle, and what is beside it?")
TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2}
PICTURES = 3


@dataclass
class Certificate:
    """What was compared, and how it came out."""

    checkpoint: Path
    lines: list[str] = field(default_factory=list)
    largest: dict[str, dict[str, float]] = field(default_factory=dict)  # dtype -> stage -> relative difference
    failed: bool = True  # until the last test has passed

    def note(self, line: str) -> None:
        self.lines.append(f"- {line}")

    def text(self) -> str:
        """The page, in Markdown."""
        import transformers

        files = sorted(self.checkpoint.glob("*.safetensors"))
        digests = [f"- `{file.name}` sha256 {digest(file)}" for file in files]
        stages = [table for dtype, rows in self.largest.items() for table in self.table(dtype, rows)]
        about = (
            f"minivlm {minivlm.__version__}, transformers {transformers.__version__}, torch {torch.__version__}, "
            f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
        )
        verdict = "**Not equal: see the failed tests.**" if self.failed else "**Equal within the tolerances above.**"
        head = [f"# {self.checkpoint.name}: minivlm against transformers", "", about, "", *digests, ""]
        return "\n".join([*head, *self.lines, *stages, "", verdict, ""])

    @staticmethod
    def table(dtype: str, rows: dict[str, float]) -> list[str]:
        """The largest differences by stage."""
        head = ["", f"| stage ({dtype}) | largest difference / largest value |", "|---|---:|"]
        return head + [f"| {stage} | {largest:.1e} |" for stage, largest in rows.items()]


def digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@pytest.fixture(scope="module")
def folder(request):
    named = request.config.getoption("--checkpoint")
    return find_or_download(named) if named else shipped_model()


@pytest.fixture(scope="module")
def certificate(request, folder):
    page = Certificate(folder)
    yield page
    page.failed = request.session.testsfailed > 0
    if file := request.config.getoption("--certificate"):
        Path(file).write_text(page.text(), encoding="utf-8")


def mode_of(folder: Path) -> str:
    """The image mode that the checkpoint's files ask for, as transformers reads them."""
    files = (folder / "preprocessor_config.json", folder / "processor_config.json")  # the second: transformers 5
    return ImagePreprocessing.from_config(read_json_file(next(file for file in files if file.is_file()))).mode


@pytest.fixture(scope="module", params=TOLERANCES)
def both(request, folder):
    """Our VLM, with the preprocessing that the checkpoint's files ask for, and transformers' model, in one dtype."""
    from transformers import LlavaForConditionalGeneration

    dtype = request.param
    vlm = minivlm.load(folder, device="cpu", dtype=dtype, image_mode=mode_of(folder))
    needed = 2 * sum(parameter.nbytes for parameter in vlm.model.parameters())
    if dtype == "float32" and needed > (free_host_memory() or needed):
        pytest.skip(f"two models in float32 take {needed / 1e9:.0f} GB, more than is free: bfloat16 alone is compared")
    how = {"dtype": getattr(torch, dtype), "attn_implementation": "sdpa"}
    return vlm, LlavaForConditionalGeneration.from_pretrained(folder, **how).eval()


@pytest.fixture(scope="module")
def processor(folder):
    from transformers import AutoImageProcessor, AutoProcessor

    found = AutoProcessor.from_pretrained(folder)
    found.image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    return found


@pytest.fixture(scope="module")
def pictures():
    data = os.environ.get("MINIVLM_TEST_DATA")
    photos = sorted(Path(data, "images").iterdir())[:PICTURES] if data else []
    scenes = (HELD_OUT.draw(number).picture for number in range(PICTURES))
    return [Image.open(photo).convert("RGB") for photo in photos] or list(scenes)


def test_prompt_ids_and_pixels_are_equal_to_the_bit(both, processor, pictures, certificate):
    vlm, _ = both
    for picture in pictures:
        for question in QUESTIONS:
            content = [{"type": "image"}, {"type": "text", "text": question}]
            text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            theirs = processor(text=text, images=picture, return_tensors="pt")
            assert list(vlm.prompt(question, 1).tokens) == theirs["input_ids"][0].tolist()
        assert np.array_equal(vlm.pixels(picture).numpy(), theirs["pixel_values"][0].numpy())
    certificate.note(f"prompt ids of {len(QUESTIONS)} questions, template {vlm.template}: equal")
    certificate.note(f"pixels of {len(pictures)} pictures, {vlm.preprocessing.describe()}: equal to the bit")


def test_every_stage_is_equal(both, pictures, certificate):
    vlm, reference = both
    dtype = str(vlm.dtype).removeprefix("torch.")
    found = certificate.largest.setdefault(dtype, {})
    for picture in pictures:
        for question in QUESTIONS:
            inputs = vlm.prepare(picture, question)
            ladder = parity_ladder(vlm.model, reference, inputs.tokens, inputs.pixels)
            for rung in ladder.rungs:
                found[rung.stage] = max(found.get(rung.stage, 0.0), rung.relative)
            assert ladder.first_difference(TOLERANCES[dtype]) is None, f"\n{ladder}"


def test_greedy_answers_are_equal(request, both, pictures, certificate):
    vlm, reference = both
    most = request.config.getoption("--tokens")
    silent = (~vlm.allowed).nonzero().flatten().tolist() or None
    equal = total = 0
    for picture, question in zip(pictures, QUESTIONS, strict=True):
        inputs = vlm.prepare(picture, question)
        given = {"input_ids": inputs.tokens, "pixel_values": inputs.pixels.to(vlm.dtype)}
        given |= {"attention_mask": torch.ones_like(inputs.tokens), "suppress_tokens": silent}
        ends = list(vlm.tokenizer.stops)
        theirs = reference.generate(**given, max_new_tokens=most, do_sample=False, eos_token_id=ends)
        theirs = theirs[0, inputs.tokens.shape[1] :].tolist()
        ours = list(vlm.ask(picture, question, max_new_tokens=most).tokens)
        if vlm.dtype == torch.float32:
            assert ours == theirs
        same = next((n for n, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), len(theirs))
        equal, total = equal + same, total + len(theirs)
    certificate.note(f"greedy tokens in {vlm.dtype}: {equal} of {total} before the first other one")
