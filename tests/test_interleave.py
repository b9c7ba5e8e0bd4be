"""The family of llava-interleave-qwen against transformers: pixels, prompt ids, every stage, greedy answers.

Tolerances as in `test_parity.py`; ids and pixels are equal to the bit.
"""

import json
import warnings

import pytest
import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment

import minivlm
from minivlm import ConfigError, Turn
from minivlm.checkpoints.parity import parity_ladder
from minivlm.inputs.chat_template import ChatTemplate, digest_of, example, read_chat_template, spelt, template_text
from minivlm.inputs.image import ImagePreprocessing, to_pixels
from minivlm.inputs.templates import TEMPLATES, Mark
from support.interleave import CHATML, CHATML_MARKED, SIZE, messages, photo, write_interleave

CONVERSATIONS = {
    "one question": [("What is in the picture?", 1, None)],
    "no picture": [("Is there a dog?", 0, None)],
    "two pictures": [("What is different?", 2, None)],
    "three turns": [("A red ball?", 1, "Yes, a ball."), ("And a box?", 0, "No."), ("Is it <image> blue?", 0, None)],
    "a picture in each turn": [("One?", 1, "A dog."), ("Two?", 1, None)],
    "answered": [("A dog?", 1, " Yes.\n")],
    "odd letters": [("a\n\nb  c 😀 שלום", 1, None)],
}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Our VLM, transformers' model and processor, from one folder."""
    folder = tmp_path_factory.mktemp("interleave")
    reference, processor = write_interleave(folder, dtype=torch.float64)
    return minivlm.load(folder, device="cpu", dtype="float64"), reference, processor


def turns_of(conversation):
    return [Turn(question, images=pictures, answer=answer) for question, pictures, answer in conversation]


def pictures_of(conversation):
    return [photo(40 + 9 * number, 31) for number in range(sum(pictures for _, pictures, _ in conversation))]


def test_it_is_read_as_what_it_is(both):
    vlm, _, _ = both
    tower = vlm.model.config.vision_config
    assert (tower.class_token, tower.pre_norm, tower.patch_bias) == (False, False, True)
    assert tower.hidden_act == "gelu_pytorch_tanh"
    assert vlm.template == "chatml"
    assert vlm.preprocessing.describe() == f"stretch: to {SIZE} x {SIZE} (bicubic), whatever the shape"
    assert (vlm.preprocessing.seen, vlm.model.config.num_image_tokens) == (24, 9)
    assert vlm.model.lm_head.weight is vlm.model.text.embed_tokens.weight
    assert vlm.tokenizer.bos is None
    assert not vlm.allowed[len(vlm.allowed) - 20 :].any()  # rows without a token are never sampled


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_prompt_ids_and_pixels_equal_the_processors(both, name):
    vlm, _, processor = both
    conversation = CONVERSATIONS[name]
    pictures, asked = pictures_of(conversation), conversation[-1][2] is None
    if name == "three turns":  # "<image>" typed by a user: here the processor would take it for a picture
        conversation = [*conversation[:-1], ("Is it blue?", 0, None)]
    text = processor.apply_chat_template(messages(conversation), add_generation_prompt=asked)
    theirs = processor(text=text, images=pictures or None, return_tensors="pt")
    ours = vlm.prompt(turns_of(conversation), len(pictures))
    assert list(ours.tokens) == theirs["input_ids"][0].tolist()
    for picture, expected in zip(pictures, theirs.get("pixel_values", ()), strict=True):
        assert torch.equal(vlm.pixels(picture), expected)


@pytest.mark.parametrize("size", [(30, 30), (31, 30), (640, 427), (427, 640), (7, 300), (1, 1), (4000, 1)])
def test_pixels_equal_siglips_processor_on_every_shape(size):
    from transformers import SiglipImageProcessorPil

    processor = SiglipImageProcessorPil(size={"height": 56, "width": 56})
    expected = processor(photo(*size), return_tensors="pt")["pixel_values"][0]
    preprocessing = ImagePreprocessing.from_config(processor.to_dict())
    assert preprocessing.mode == "stretch"
    assert torch.equal(to_pixels(photo(*size), preprocessing), expected)


@pytest.mark.parametrize("name", ["one question", "no picture", "two pictures", "three turns"])
def test_every_stage_and_greedy_answers_equal_transformers(both, name):
    vlm, reference, _ = both
    conversation = CONVERSATIONS[name]
    pictures = pictures_of(conversation)
    inputs = vlm.prepare(pictures or None, turns_of(conversation))
    ladder = parity_ladder(vlm.model, reference, inputs.tokens, inputs.pixels)
    assert ladder.first_difference(1e-10) is None, f"\n{ladder}"
    given = {"input_ids": inputs.tokens, "attention_mask": torch.ones_like(inputs.tokens)}
    given |= {"pixel_values": inputs.pixels} if pictures else {}
    given |= {"max_new_tokens": 24, "do_sample": False}
    theirs = reference.generate(**given, suppress_tokens=(~vlm.allowed).nonzero().flatten().tolist())
    expected = theirs[0, inputs.tokens.shape[1] :].tolist()
    for cache in (True, False):
        answer = vlm.ask(pictures or None, turns_of(conversation), max_new_tokens=24, cache=cache)
        assert list(answer.tokens) == expected


def test_a_batch_equals_its_samples(both):
    vlm, _, _ = both
    pictures = [photo(40, 30), photo(30, 44)]
    questions = ["A dog?", "What is shown in the picture, and where is it?"]
    together = vlm.ask_many(pictures, questions, max_new_tokens=16)
    assert [str(answer) for answer in together] == [
        str(vlm.ask(picture, question, max_new_tokens=16))
        for picture, question in zip(pictures, questions, strict=True)
    ]


@pytest.mark.parametrize("method", [minivlm.EAH(threshold=0.01), minivlm.CLVA(gate=False)], ids=["eah", "clva"])
def test_both_methods_act_on_it(both, method):
    vlm, _, _ = both
    plain = vlm.logits(photo(40, 30), "Is there a dog?")
    changed = vlm.logits(photo(40, 30), "Is there a dog?", mitigation=method)
    assert not torch.equal(plain, changed)


# --- templates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [CHATML, CHATML_MARKED], ids=["plain", "marked"])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_chatml_writes_what_the_checkpoints_own_template_writes(name, text):
    assert ChatTemplate(None, text).known == "chatml"
    runnable = text.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    conversation = CONVERSATIONS[name]
    asked = conversation[-1][2] is None
    rendered = ImmutableSandboxedEnvironment().from_string(runnable)
    expected = rendered.render(messages=messages(conversation), add_generation_prompt=asked)
    segments = TEMPLATES["chatml"].segments(turns_of(conversation))
    assert "".join(spelt(segment) for segment in segments if segment is not Mark.BOS) == expected


def test_a_template_that_is_not_known_is_shown_and_can_be_overruled(tmp_path):
    write_interleave(tmp_path)
    file = tmp_path / "chat_template.jinja"
    file.write_text(file.read_text().replace("'<image>'", "'<image> '"))
    with pytest.warns(UserWarning, match=r"chat template that minivlm does not know.*<\|im_start\|>user.*llava_v1"):
        vlm = minivlm.load(tmp_path, device="cpu")
    assert vlm.template == "chatml"  # the one most like it
    assert minivlm.load(tmp_path, device="cpu", template="chatml").template == "chatml"  # without a warning
    with pytest.raises(ConfigError, match=r"template 'phi3': .* special token <\|user\|>"):
        minivlm.load(tmp_path, device="cpu", template="phi3")


def test_an_answer_ends_where_its_template_ends_it(both):
    vlm, _, _ = both
    assert vlm.tokenizer.special("<|im_end|>") in vlm.tokenizer.stops


def test_each_template_reads_well():
    assert example("hf") == "<bos>USER: <image>\nQUESTION ASSISTANT:"
    assert example("chatml") == ("<bos><|im_start|>user\n<image>\nQUESTION<|im_end|>\n<|im_start|>assistant\n")
    assert example("llama3") == (
        "<bos><|start_header_id|>user<|end_header_id|>\n\n<image>\nQUESTION<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert example("phi3") == "<bos><|user|>\n<image>\nQUESTION<|end|>\n<|assistant|>\n"


def test_templates_are_found_in_each_file_that_may_hold_them(tmp_path):
    assert read_chat_template(tmp_path) is None
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": [{"name": "default", "template": CHATML}, {"name": "other", "template": "x"}]})
    )
    assert read_chat_template(tmp_path).known == "chatml"
    for named in ([{"name": "other", "template": CHATML}], {"other": CHATML}, {"tool_use": "x", "default": CHATML}):
        assert template_text({"chat_template": named}, "file") == CHATML  # not ignored
    for strange in (5, ["x"], {"default": 5}):
        with pytest.raises(ConfigError, match="file: chat_template must be a text, or named texts, found"):
            template_text({"chat_template": strange}, "file")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "default.jinja").write_text("{{ 'USER' }}")
    assert read_chat_template(tmp_path).known is None
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "{{ 'USER' }}"}))
    assert read_chat_template(tmp_path).known is None
    assert read_chat_template(tmp_path).guess("llava_v1") == "hf"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("{# a remark #}{% generation %}{{ 'a\\nb' }}{% endgeneration %}", True),
        ("{{ 'a\nb' }}\n", True),
        ("{{ 'a\\nb{# said, not a remark #}' }}", False),
        ("{{ 'a\\nb{% generation %}' }}", False),
        ("\n{{ 'a\\nb' }}", False),
        ("{{ 'a\\nb' }}\n\n", False),
        ("{#- takes the space before it -#}{{ 'a\\nb' }}", False),
    ],
)
def test_only_what_writes_nothing_is_left_out_of_a_digest(text, same):
    from transformers.utils.chat_template_utils import render_jinja_template

    written = render_jinja_template(conversations=[[]], chat_template=text)[0][0]
    assert (digest_of(text) == digest_of("{{ 'a\\nb' }}")) == same
    assert (written == "a\nb") == same or "{#-" in text  # a comment that takes spaces makes another text at once


def test_of_several_templates_that_of_the_processor_counts_as_in_transformers(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "of words alone"}))
    for name in ("chat_template.jinja", "chat_template.json", "processor_config.json"):  # each comes before the last
        content = CHATML if name.endswith(".jinja") else json.dumps({"chat_template": CHATML})
        (tmp_path / name).write_text(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_chat_template(tmp_path).file.name == name
    (tmp_path / "chat_template.jinja").write_text("{{ 'USER' }}")
    with pytest.warns(UserWarning, match=r"processor_config.json and chat_template.jinja hold different chat templat"):
        assert read_chat_template(tmp_path).known == "chatml"
