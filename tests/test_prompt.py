"""Conversations -> tokens: templates equal the originals, spans name every token, text never makes a picture slot."""

import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as RustTokenizer

from minivlm.errors import PromptError
from minivlm.inputs.chat_template import spelt
from minivlm.inputs.prompt import IMAGE, TEMPLATES, Prompt, Span, Tokenizer, Turn, build_prompt, pad_batch
from support.small_tokenizer import added_id, bytes_definition, small_definition

DEFINITION = small_definition()
SLOT = added_id(DEFINITION, "<image>")
NAMES = {"bos": "<s>", "eos": "</s>", "pad": "<pad>"}
SMALL = Tokenizer(DEFINITION, image_token_id=SLOT, vocab_rows=SLOT + 3, names=NAMES)
SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
PATCHES = 5
needs_data = pytest.mark.skipif("MINIVLM_TEST_DATA" not in os.environ, reason="MINIVLM_TEST_DATA is not set")
both_templates = pytest.mark.parametrize("template", ["hf", "llava_v1"])

words = st.text(st.characters(exclude_categories=()), max_size=12)
tricky = st.lists(st.sampled_from(["<image>", "</s>", "<s>", "<pad>", "USER: ", " ASSISTANT:"]) | words, max_size=4)
any_text = tricky.map("".join)


def prompt(*turns: Turn, template: str = "llava_v1", tokenizer: Tokenizer = SMALL, **options) -> Prompt:
    return build_prompt(turns, tokenizer=tokenizer, template=template, **{"num_image_tokens": PATCHES, **options})


def spelled(text: str, patches: int = PATCHES) -> tuple[int, ...]:
    """What the checkpoint's tokenizer makes of a whole prompt written out, special tokens included."""
    whole = "<s>" + text.replace("<image>", "<image>" * patches)
    return tuple(RustTokenizer.from_str(json.dumps(DEFINITION)).encode(whole, add_special_tokens=False).ids)


def words_of(prompt: Prompt, name: str, tokenizer: Tokenizer = SMALL) -> list[str]:
    return [tokenizer.decode(prompt.tokens[span.start : span.stop]) for span in prompt.named(name)]


# --- the two templates ------------------------------------------------------------------------------------------------

ONE_TURN = [Turn("What is shown?", images=1)]
TWO_TURNS = [Turn("What is shown?", answer="A red ball.", images=1), Turn("Is there a dog?")]


@pytest.mark.parametrize(
    ("template", "turns", "text"),
    [
        ("hf", ONE_TURN, "USER: <image>\nWhat is shown? ASSISTANT:"),
        ("hf", TWO_TURNS, "USER: <image>\nWhat is shown? ASSISTANT: A red ball. USER: Is there a dog? ASSISTANT:"),
        ("hf", [Turn("Compare.", images=2)], "USER: <image>\n<image>\nCompare. ASSISTANT:"),
        ("hf", [Turn("Hello")], "USER: Hello ASSISTANT:"),
        ("llava_v1", ONE_TURN, SYSTEM + " USER: <image>\nWhat is shown? ASSISTANT:"),
        (
            "llava_v1",
            TWO_TURNS,
            SYSTEM + " USER: <image>\nWhat is shown? ASSISTANT: A red ball.</s>USER: Is there a dog? ASSISTANT:",
        ),
        ("llava_v1", [Turn("Hello", answer="Yes")], SYSTEM + " USER: Hello ASSISTANT: Yes</s>"),
        ("llava_v1", [Turn(["one ", IMAGE, " two ", IMAGE])], SYSTEM + " USER: one <image> two <image> ASSISTANT:"),
    ],
)
def test_templates_written_out(template, turns, text):
    assert prompt(*turns, template=template).tokens == spelled(text)


FLAGS = [{"lstrip": True}, {"rstrip": True}, {"lstrip": True, "rstrip": True}]


@pytest.mark.parametrize("flags", FLAGS, ids=" and ".join)
@pytest.mark.parametrize("template", ["hf", "llava_v1"])
@pytest.mark.parametrize("question", ["What is shown?", " \t \u2003 \x1c What? \n ", "  ", ""])
def test_special_tokens_take_the_white_space_beside_them_as_their_flags_say(template, question, flags):
    added = [token | flags if token["special"] else token for token in DEFINITION["added_tokens"]]
    taking = {**DEFINITION, "added_tokens": added}
    tokenizer = Tokenizer(taking, image_token_id=SLOT, vocab_rows=SLOT + 3, names=NAMES)
    turns = [Turn(question, answer="A ball. ", images=2), Turn([question, IMAGE, " ", IMAGE, "\n "])]
    built = prompt(*turns, template=template, tokenizer=tokenizer)
    text = "".join(spelt(segment) for segment in TEMPLATES[template].segments(turns)).replace("<bos>", "<s>")
    text = text.replace("<eos>", "</s>").replace("<image>", "<image>" * PATCHES)
    whole = RustTokenizer.from_str(json.dumps(taking)).encode(text, add_special_tokens=False).ids
    assert built.tokens == tuple(whole)
    assert len(built.tokens) < len(prompt(*turns, template=template).tokens)


@pytest.mark.parametrize(
    "turns", [[Turn("What is </s>?", answer="An end."), Turn("Why?")], [Turn("One", answer="Yes</s>"), Turn("Two")]]
)
def test_names_of_special_tokens_in_earlier_turns_are_said(turns):
    with pytest.warns(UserWarning, match="The conversation spells </s>, which only a template may place"):
        prompt(*turns)


def test_another_system_sentence():
    style = replace(TEMPLATES["llava_v1"], system="Be brief.")
    assert prompt(Turn("Hello"), template=style).tokens == spelled("Be brief. USER: Hello ASSISTANT:")


def test_a_tokenizer_without_bos():
    no_bos = Tokenizer(DEFINITION, image_token_id=SLOT, vocab_rows=SLOT + 3, names={"eos": "</s>"})
    built = prompt(Turn("Hello"), template="hf", tokenizer=no_bos)
    assert built.tokens == spelled("USER: Hello ASSISTANT:")[1:]
    assert built.spans[0].start == 0


def test_a_tokenizer_whose_leading_space_is_for_the_first_piece():
    first = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    definition = {**DEFINITION, "normalizer": None, "pre_tokenizer": first}
    names = {"bos": "<s>", "eos": "</s>"}
    tokenizer = Tokenizer(definition, image_token_id=SLOT, vocab_rows=SLOT + 3, names=names)
    built = prompt(*ONE_TURN, template="hf", tokenizer=tokenizer, num_image_tokens=1)
    rust = RustTokenizer.from_str(json.dumps(definition))  # <s> is added after encoding, as tokenizer.json has it
    expected = rust.encode("USER: <image>\nWhat is shown? ASSISTANT:", add_special_tokens=False).ids
    assert list(built.tokens) == [1, *expected]
    assert built.tokens != prompt(*ONE_TURN, template="hf", num_image_tokens=1).tokens


# --- spans ------------------------------------------------------------------------------------------------------------


@both_templates
@given(st.lists(st.tuples(any_text, any_text, st.integers(0, 2)), min_size=1, max_size=3))
@settings(deadline=None, max_examples=100)
def test_spans_cover_the_prompt_and_slots_are_the_pictures_alone(template, conversation):
    built = prompt(*(Turn(question, answer, images) for question, answer, images in conversation), template=template)
    assert [span.start for span in built.spans] == [0, *(span.stop for span in built.spans[:-1])]
    assert built.spans[-1].stop == len(built.tokens)
    assert all(span.start < span.stop for span in built.spans)

    pictures = sum(images for _, _, images in conversation)
    assert built.num_images == pictures == len(built.named("image"))
    assert built.tokens.count(SLOT) == pictures * PATCHES
    assert all(set(built.tokens[span.start : span.stop]) == {SLOT} for span in built.named("image"))
    ends = len(conversation) if template == "llava_v1" else 0
    assert built.tokens.count(SMALL.eos) == ends  # typed ends of sequence are text
    assert built.tokens.count(SMALL.bos) == 1
    assert SMALL.pad not in built.tokens


@both_templates
def test_spans_hold_the_words_they_name(template):
    built = prompt(*TWO_TURNS, template=template)
    assert words_of(built, "question") == ["What is shown?", "Is there a dog?"]
    assert words_of(built, "answer") == ["A red ball."]
    assert words_of(built, "system") == ([SYSTEM] if template == "llava_v1" else [])
    assert {span.name for span in built.spans} <= {"system", "image", "question", "answer", "template"}


@both_templates
def test_spans_with_a_byte_level_tokenizer(template):
    definition = bytes_definition()
    image = added_id(definition, "<image>")
    names = {"bos": "<s>", "eos": "</s>"}
    tokenizer = Tokenizer(definition, image_token_id=image, vocab_rows=image + 4, names=names)
    built = prompt(Turn("é? 😀", answer="שלום", images=1), Turn("b"), template=template, tokenizer=tokenizer)
    assert [text.strip() for text in words_of(built, "question", tokenizer)] == ["é? 😀", "b"]
    assert [text.strip() for text in words_of(built, "answer", tokenizer)] == ["שלום"]


def test_neighbouring_pictures_have_a_span_each():
    built = prompt(Turn([IMAGE, IMAGE, "Same?"]), template="hf")
    first, second = built.named("image")
    assert (first.stop - first.start, second.start) == (PATCHES, first.stop)


def test_an_emoji_of_several_byte_tokens_belongs_to_one_part():
    built = prompt(Turn("😀"), template="hf")
    (question,) = built.named("question")
    assert SMALL.decode(built.tokens[question.start : question.stop]).strip() == "😀"


# --- pictures and their places ----------------------------------------------------------------------------------------


def test_pictures_at_hand_go_to_the_first_turn():
    turns = [Turn("What is shown?", answer="A red ball."), Turn("Is there a dog?")]
    assert prompt(*turns, num_images=1).tokens == prompt(*TWO_TURNS).tokens


@pytest.mark.parametrize("turn", [Turn("a", images=2), Turn([IMAGE, "a", IMAGE])])
@pytest.mark.parametrize("given_images", [0, 1, 3])
def test_places_and_pictures_must_agree(turn, given_images):
    with pytest.raises(PromptError, match=f"places for 2 pictures, but {given_images} were given"):
        prompt(turn, num_images=given_images)


def test_a_turn_must_agree_with_itself():
    with pytest.raises(PromptError, match="places 1 pictures by IMAGE, but the turn says it has 2"):
        Turn([IMAGE, "a"], images=2)


@pytest.mark.parametrize("question", [["a", 3], [b"a"], None, 7])
def test_a_question_is_made_of_text_and_pictures(question):
    with pytest.raises(PromptError, match="A question is"):
        Turn(question)


def test_an_image_id_beyond_the_vocabulary():
    rows = SLOT  # no row for <image>
    beyond = Tokenizer(DEFINITION, image_token_id=SLOT + 500, vocab_rows=rows, names={"bos": "<s>", "eos": "</s>"})
    built = prompt(Turn("<image>", images=1), tokenizer=beyond)
    assert built.tokens.count(SLOT + 500) == PATCHES
    assert SLOT not in built.tokens


# --- earlier answers as token ids -------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [True, False])
def test_generated_ids_are_kept_as_they_are(closed):
    ids = SMALL.encode("A")[:1] + SMALL.encode("red")[:1] * 2  # not how the text would be encoded
    built = prompt(Turn("a", answer=ids + [SMALL.eos] * closed), Turn("b"))
    (answer,) = built.named("answer")
    assert list(built.tokens[answer.start : answer.stop]) == ids
    assert built.tokens[answer.stop] == SMALL.eos
    assert built.tokens.count(SMALL.eos) == 1


def test_generated_ids_equal_their_text():
    ids = SMALL.encode("A red ball.")
    assert prompt(Turn("a", answer=ids), Turn("b")).tokens == prompt(Turn("a", answer="A red ball."), Turn("b")).tokens


def test_hf_decodes_generated_ids_because_text_runs_on():
    ids = torch.tensor([*SMALL.encode("A red ball."), SMALL.eos])
    turns = Turn("a", answer="A red ball."), Turn("b")
    assert prompt(replace(turns[0], answer=ids), turns[1], template="hf").tokens == prompt(*turns, template="hf").tokens


@pytest.mark.parametrize("wrong", [-1, SLOT, 10**9])
def test_an_answer_cannot_hold_a_picture_slot(wrong):
    with pytest.raises(PromptError, match=f"holds the id {wrong}, which is no word"):
        prompt(Turn("a", answer=[5, wrong]))


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_prompt_longer_than_the_context_names_both_numbers():
    length = len(prompt(*ONE_TURN).tokens)
    assert len(prompt(*ONE_TURN, context_length=length).tokens) == length
    with pytest.raises(PromptError, match=f"has {length} tokens, but the model's context holds {length - 1}"):
        prompt(*ONE_TURN, context_length=length - 1)


def test_a_conversation_needs_turns_and_answers():
    with pytest.raises(PromptError, match="at least one turn"):
        prompt()
    with pytest.raises(PromptError, match="turn 1 of 2 has none"):
        prompt(Turn("a"), Turn("b"))
    with pytest.raises(PromptError, match=r"no template 'vicuna'; known are hf, llava_v1"):
        prompt(Turn("a"), template="vicuna")


@both_templates
@pytest.mark.parametrize("text", ["", " ", "\0", "\ud800", "שלום 😀", "x" * 100_000])
def test_odd_questions_are_defined(template, text):
    built = prompt(Turn(text, images=1), template=template)
    assert built.spans[-1].name == "template"
    assert bool(built.named("question")) == (text != "")


# --- batches ----------------------------------------------------------------------------------------------------------


def test_batches_are_padded_on_the_left_and_spans_move_along():
    prompts = [prompt(*ONE_TURN), prompt(*TWO_TURNS), prompt(Turn("Hello"), template="hf")]
    batch = pad_batch(prompts, SMALL.pad)
    assert batch.tokens.shape == batch.attention_mask.shape == (3, len(prompts[1].tokens))
    assert batch.tokens.dtype == torch.long
    assert batch.num_images == (1, 1, 0)
    assert (batch.tokens[~batch.attention_mask] == SMALL.pad).all()
    for row, one in enumerate(prompts):
        assert tuple(batch.tokens[row][batch.attention_mask[row]].tolist()) == one.tokens
        assert bool(batch.attention_mask[row, -1])
        for moved, span in zip(batch.spans[row], one.spans, strict=True):
            assert moved.name == span.name
            assert tuple(batch.tokens[row, moved.start : moved.stop].tolist()) == one.tokens[span.start : span.stop]


def test_an_empty_batch_is_an_error():
    with pytest.raises(PromptError, match="at least one prompt"):
        pad_batch([], 0)


def test_spans_of_an_unpadded_row_stay():
    one = Prompt((1, 2), (Span("question", 0, 2),), 0)
    assert pad_batch([one], 0).spans == (one.spans,)


# --- the real LLaVA-1.5 -----------------------------------------------------------------------------------------------


def real_folder() -> Path:
    return Path(os.environ["MINIVLM_TEST_DATA"]) / "llava-1.5-7b-hf"


@cache
def llava() -> Tokenizer:
    return Tokenizer.from_folder(real_folder(), image_token_id=32000, vocab_rows=32064)


@cache
def oracle():
    """The hub's chat template, rendered and tokenised by transformers."""
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(real_folder())


def as_messages(turns: list[Turn]) -> list[dict]:
    messages = []
    for turn in turns:
        images = [{"type": "image"}] * turn.num_images
        messages.append({"role": "user", "content": [*images, {"type": "text", "text": turn.question}]})
        if turn.answer is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": turn.answer}]})
    return messages


@needs_data
@pytest.mark.parametrize(
    "turns",
    [
        ONE_TURN,
        TWO_TURNS,
        [Turn("Compare.", images=2)],
        [Turn("Hello")],
        [Turn("", images=1)],
        [Turn("a\n\nb  c 😀", answer=" Yes.\n", images=1), Turn("  why?", answer="so", images=1), Turn("שלום")],
        [Turn("Hello", answer="Yes.")],
    ],
)
def test_hf_equals_the_hubs_chat_template(turns):
    text = oracle().apply_chat_template(
        as_messages(turns), tokenize=False, add_generation_prompt=turns[-1].answer is None
    )
    built = prompt(*turns, template="hf", tokenizer=llava(), num_image_tokens=1)
    assert list(built.tokens) == oracle()(text)["input_ids"]


@needs_data
def test_real_prompt_equals_the_recorded_ids():
    recorded = json.loads((real_folder().parent / "tokenizers" / "expected_ids.json").read_text())
    expected = recorded["hub_tokenizer_json_via_AutoTokenizer_or_tokenizers"]
    assert list(prompt(*ONE_TURN, template="hf", tokenizer=llava(), num_image_tokens=1).tokens) == expected

    expanded = prompt(*ONE_TURN, template="hf", tokenizer=llava(), num_image_tokens=576)
    (image,) = expanded.named("image")
    facts = recorded["after_LlavaProcessor_expansion"]
    assert (len(expanded.tokens), image.start, image.stop - 1) == (
        facts["length"],
        facts["first_image_position"],
        facts["last_image_position"],
    )


@needs_data
def test_llava_v1_in_real_tokens():
    built = prompt(*TWO_TURNS, tokenizer=llava(), num_image_tokens=576)
    assert built.named("image")[0].start == 35  # where the papers on LLaVA-1.5 find the first image token
    text = f"{SYSTEM} USER: <image>\nWhat is shown? ASSISTANT: A red ball.</s>USER: Is there a dog? ASSISTANT:"
    assert list(built.tokens) == oracle()(text.replace("<image>", "<image>" * 576))["input_ids"]
    assert words_of(built, "question", llava()) == ["What is shown?", "Is there a dog?"]
