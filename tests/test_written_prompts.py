"""Questions that are prompts already, or that say by `<image>` where the picture belongs."""

import warnings

import pytest

import minivlm
from minivlm import IMAGE, Conversation, PromptError, Turn
from minivlm.evaluation.lmms_eval import question
from minivlm.inputs.prompt import build_prompt
from minivlm.inputs.templates import TEMPLATES, VICUNA_SYSTEM
from minivlm.inputs.written_prompts import as_meant, taken_apart
from support.tiny_model import picture, tiny_folder, tiny_vlm

ASK = {"max_new_tokens": 8}
DOG = "Is there a dog?"


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return tiny_vlm(tmp_path_factory.mktemp("vlm"))


def told(call, *args, **how):
    """What a call returns, and the warnings it gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return call(*args, **how), [str(one.message) for one in caught]


WHOLE = "whole prompt already"
PLACED = "taken as the place of the picture"
SAME = [  # as people type it, and what is said
    (f"USER: <image>\n{DOG} ASSISTANT:", [WHOLE, PLACED]),
    (f"USER: <image>\n{DOG}\nASSISTANT:", [WHOLE, PLACED]),
    (f"<s>USER: <image>\n{DOG} ASSISTANT: ", [WHOLE, PLACED]),
    (f"{VICUNA_SYSTEM} USER: <image>\n{DOG} ASSISTANT:", [WHOLE, PLACED]),
    (f"USER: {DOG} ASSISTANT:", [WHOLE]),
    (f"<|im_start|>user\n<image>\n{DOG}<|im_end|>\n<|im_start|>assistant\n", [WHOLE, PLACED]),
    (f"<|im_start|>user <image>\n{DOG}<|im_end|><|im_start|>assistant", [WHOLE, PLACED]),
    (f"<|user|>\n<image>\n{DOG}<|end|>\n<|assistant|>\n", [WHOLE, PLACED]),
    (f"<image>\n{DOG}", [PLACED]),
    (DOG, []),
]


@pytest.mark.parametrize(("text", "said"), SAME, ids=[text[:40] for text, _ in SAME])
def test_a_question_that_is_a_prompt_already_gets_the_questions_answer(vlm, text, said):
    answer, warned = told(vlm.ask, picture(0), text, **ASK)
    plain = vlm.ask(picture(0), DOG, **ASK)
    assert (answer.tokens, answer.spans) == (plain.tokens, plain.spans)
    assert len(warned) == len(said)
    assert all(words in sentence for words, sentence in zip(said, warned, strict=True))


def test_a_prompt_written_out_has_the_ids_that_the_reference_gives_it(tmp_path):
    from transformers import AutoTokenizer

    folder = tiny_folder(tmp_path)
    vlm, reference = minivlm.load(folder, device="cpu"), AutoTokenizer.from_pretrained(folder)
    for text in (f"USER: <image>\n{DOG} ASSISTANT:", f"USER: <image> {DOG} ASSISTANT:", f"USER: {DOG} ASSISTANT:"):
        slots = text.replace("<image>", "<image>" * vlm.model.config.num_image_tokens)
        (prompt, _) = told(vlm.prompt, text, text.count("<image>"))
        assert list(prompt.tokens) == reference(slots)["input_ids"]


def test_a_place_within_the_question_is_the_pictures(vlm):
    prompt, (said,) = told(vlm.prompt, "Is <image> a dog?", 1)
    assert prompt == vlm.prompt(["Is ", IMAGE, " a dog?"], 1)
    assert PLACED in said
    both, _ = told(vlm.prompt, "<image> and <image>: what differs?", 2)
    assert both == vlm.prompt([IMAGE, " and ", IMAGE, ": what differs?"], 2)


@pytest.mark.parametrize(("text", "pictures"), [("Is <image> a dog?", 0), ("<image><image>", 1), ("<image>?", 2)])
def test_places_without_their_pictures_are_refused(vlm, text, pictures):
    with pytest.raises(
        PromptError, match=rf"a place for a picture \(<image>\) \d times, but {pictures} pictures were given"
    ):
        vlm.ask([picture(0)] * pictures, text)


def test_a_whole_conversation_in_one_text_is_its_turns(vlm):
    text = "USER: <image>\nIs there a dog? ASSISTANT: No.</s>USER: What is in the image? ASSISTANT:"
    turns = [Turn(DOG, answer="No.", images=1), Turn("What is in the image?")]
    prompt, (said, _) = told(vlm.prompt, text, 1)
    assert prompt == vlm.prompt(turns, 1)
    assert "(1 earlier turn, and the question 'What is in the image?')" in said


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_each_template_writes_is_taken_apart_again(name):
    template = TEMPLATES[name]
    for turns in ([Turn(DOG)], [Turn(DOG, answer="No, two cats."), Turn("What is red?")]):
        pieces = [getattr(one, "text", getattr(one, "name", "")) for one in template.segments(turns)]
        text = "".join("</s>" if piece == "EOS" else "" if piece == "BOS" else piece for piece in pieces)
        assert taken_apart(text, template) == turns


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("USER: Is there a dog?", "begins with 'USER:'"),
        ("Is there a dog? ASSISTANT:", "ends with 'ASSISTANT:'"),
        ("<|im_start|>user\nIs there a dog?", "begins with '<|im_start|>user'"),
        ("A chat. USER: Is there a dog? ASSISTANT:", "ends with 'ASSISTANT:'"),  # another system sentence
        ("USER: a USER: b ASSISTANT:", "begins with 'USER:'"),
    ],
)
def test_a_part_of_a_prompt_is_left_as_it_is_and_said(text, said):
    turns, sentences = told(as_meant, text, 1)
    assert turns == [Turn(text)]
    assert said in sentences[0]
    assert "it was left as it is" in sentences[0]


@pytest.mark.parametrize("text", ["Who is the user: him?", "SUPERUSER: who?", "What does ASSISTANT: mean?", "<images>"])
def test_ordinary_questions_are_left_alone(text):
    assert told(as_meant, text, 0) == ([Turn(text)], [])


def test_a_conversation_takes_a_question_as_it_was_meant(vlm):
    talk, plain = Conversation(vlm, picture(0)), Conversation(vlm, picture(0))
    (one, said), other = told(talk.ask, f"USER: <image>\n{DOG} ASSISTANT:", **ASK), plain.ask(DOG, **ASK)
    assert (one.tokens, one.spans, len(said)) == (other.tokens, other.spans, 2)
    (one, said), other = told(talk.ask, "USER: What is red? ASSISTANT:", **ASK), plain.ask("What is red?", **ASK)
    assert (one.tokens, one.spans, len(said)) == (other.tokens, other.spans, 1)
    with pytest.raises(PromptError, match="but 0 pictures were given"):
        talk.ask("And <image>?")


def test_names_of_special_tokens_in_a_question_are_said(vlm):
    for text in ("What does </s> mean?", [IMAGE, "What does </s> mean?"], Turn("What does </s> mean?", images=1)):
        _, (said,) = told(vlm.prompt, text, 1)
        assert said.startswith("The question spells </s>, which only a template may place")
    _, (said,) = told(vlm.prompt, Turn("Is it <image> blue?", images=1), 1)  # a Turn says by `images` where they belong
    assert said.startswith("The question spells <image>")


def test_a_task_of_lmms_eval_may_name_the_places_in_its_text():
    parts = [("image", "a"), ("image", "b"), ("text", "Is <image> older than <image>?")]
    assert question(parts) == Turn(["Is ", IMAGE, " older than ", IMAGE, "?"])
    assert question(parts[1:]) == Turn("Is <image> older than <image>?", images=1)


def test_prompts_of_turns_are_built_as_they_are(vlm):
    built = build_prompt([Turn(f"USER: {DOG} ASSISTANT:")], tokenizer=vlm.tokenizer, template="hf", num_image_tokens=9)
    assert vlm.tokenizer.decode(built.tokens).count("USER:") == 2
