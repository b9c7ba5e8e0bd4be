"""The VLM on a tiny random checkpoint: asking, streaming, batches, several pictures, interruption.

fp32 on a CPU; texts and tokens are compared exactly, since two rows or two ways that differ in rounding alone choose
the same words; logits to 3e-6 of the largest.
"""

import inspect
import json

import pytest
import torch

import minivlm
from minivlm import CLVA, EAH, IMAGE, GenerationError, ImageError, PromptError, Turn
from minivlm.inference.answer import EncodedImage
from support.tiny_model import FILLING, PATCHES, SIZE, interrupt_after, picture, tiny_vlm


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return tiny_vlm(tmp_path_factory.mktemp("vlm"))


ASK = {"max_new_tokens": 16}
HOT = {"max_new_tokens": 16, "temperature": 1.2, "seed": 1}


@pytest.mark.parametrize("settings", [ASK, HOT], ids=["greedy", "hot"])
def test_an_answer_is_a_text_that_knows_its_facts(vlm, settings):
    answer = vlm.ask(picture(0), "What is in the image?", **settings)
    assert isinstance(answer, str)
    assert answer == answer.text == vlm.tokenizer.decode(answer.tokens).lstrip()
    assert type(answer.text) is str
    assert 0 < len(answer.tokens) <= 16
    assert answer.finish in ("stop", "length")
    assert (answer.template, answer.model, answer.recipe) == ("hf", vlm.name, vlm.preprocessing.describe())
    prompt = vlm.prompt("What is in the image?", 1)
    assert answer.spans[:-1] == prompt.spans
    assert (answer.spans[-1].name, answer.spans[-1].start) == ("answer", len(prompt.tokens))
    assert answer.spans[-1].stop - answer.spans[-1].start == len(answer.tokens)
    facts = json.loads(json.dumps(answer.as_dict()))
    assert facts["text"] == answer.text
    assert facts["tokens"] == list(answer.tokens)
    assert facts["settings"]["max_new_tokens"] == 16
    assert [span[0] for span in facts["spans"]] == [span.name for span in answer.spans]
    answer.as_dict()["settings"]["seed"] = 99
    assert answer.settings.seed != 99  # a copy


def test_asking_twice_gives_the_same_and_another_picture_another_answer(vlm):
    question = "Is there a dog?"
    assert vlm.ask(picture(0), question, **HOT) == vlm.ask(picture(0), question, **HOT)
    one, other = (vlm.ask(picture(seed), question, **ASK).tokens for seed in (0, 1))
    assert one != other


def test_without_a_cache_the_same_answer(vlm):
    assert vlm.ask(picture(0), "Is there a dog?", **ASK, cache=False) == vlm.ask(picture(0), "Is there a dog?", **ASK)


@pytest.mark.parametrize("settings", [ASK, HOT, ASK | {"stop": "e"}], ids=["greedy", "hot", "stop"])
def test_streamed_pieces_joined_are_the_answer(vlm, settings):
    pieces = list(vlm.stream(picture(0), "What is in the image?", **settings))
    assert "".join(pieces) == vlm.ask(picture(0), "What is in the image?", **settings)


@pytest.mark.parametrize("settings", [ASK, HOT], ids=["greedy", "hot"])
def test_many_questions_at_once_are_answered_like_each_alone(vlm, settings):
    images = [picture(0), None, [picture(1), picture(2)], picture(0, 9, 40)]
    texts = ["Is there a dog?", "No.", "What is in the image? Two cats.", "A red ball"]
    together = vlm.ask_many(images, texts, **settings)
    for answer, image, text in zip(together, images, texts, strict=True):
        alone = vlm.ask(image, text, **settings)
        assert (answer.tokens, answer.text, answer.finish) == (alone.tokens, alone.text, alone.finish)
        padding = answer.spans[0].start
        assert [s.stop - padding for s in answer.spans] == [s.stop for s in alone.spans]


def test_prepared_inputs_are_what_the_network_takes(vlm):
    inputs = vlm.prepare(picture(0), "Is there a dog?")
    logits = vlm.model(**inputs).logits[0]
    assert torch.equal(logits, vlm.logits(picture(0), "Is there a dog?"))
    assert set(inputs.keys()) <= set(inspect.signature(vlm.model.forward).parameters)
    assert inputs.pixels.shape == (1, 3, SIZE, SIZE)
    slots = inputs.tokens[0] == vlm.tokenizer.image
    (span,) = (span for span in inputs.spans[0] if span.name == "image")
    assert slots.nonzero().flatten().tolist() == list(range(span.start, span.stop))
    assert span.stop - span.start == PATCHES
    first = vlm.ask(picture(0), "Is there a dog?", max_new_tokens=1).tokens[0]
    assert first == int(logits[-1].masked_fill(~vlm.allowed, float("-inf")).argmax())


def test_a_batch_of_prepared_inputs_gives_each_rows_logits(vlm):
    images, texts = [picture(0), [picture(1), picture(2)], None], ["Is there a dog?", "Two cats.", "No."]
    inputs = vlm.prepare_many(images, texts)
    for logits, attention_mask, image, text in zip(
        vlm.model(**inputs).logits, inputs.attention_mask, images, texts, strict=True
    ):
        alone = vlm.logits(image, text)
        assert (logits[attention_mask] - alone).abs().max() / alone.abs().max() < 3e-6


def test_pictures_stand_where_the_question_puts_them(vlm):
    pieces = ["Left:", IMAGE, "right:", IMAGE, "Two cats?"]
    inputs = vlm.prepare([picture(0), picture(1)], pieces)
    assert [span.name for span in inputs.spans[0]].count("image") == 2
    assert torch.equal(inputs.pixels[1], vlm.prepare(picture(1), "No.").pixels[0])
    one, other = (vlm.logits(pair, pieces)[-1] for pair in ([picture(0), picture(1)], [picture(1), picture(0)]))
    assert (one - other).abs().max() > 1e-3


def test_turns_are_written_into_the_prompt(vlm):
    turns = [Turn("Is there a dog?", answer="No."), Turn("Two cats?")]
    one = vlm.prepare(picture(0), turns)
    assert [span.name for span in one.spans[0]].count("question") == 2
    assert vlm.ask(picture(0), Turn("Yes?"), **ASK) == vlm.ask(picture(0), "Yes?", **ASK)
    with pytest.raises(PromptError, match="turn 1 of 2 has none"):
        vlm.ask(picture(0), [Turn("A?"), Turn("B?")])
    with pytest.raises(PromptError):
        vlm.ask(picture(0), [Turn("A?", answer="No."), "B?"])


def test_pictures_and_questions_that_do_not_match(vlm):
    with pytest.raises(PromptError, match="places for 1 pictures, but 2"):
        vlm.ask([picture(0), picture(1)], [IMAGE, "What?"])
    with pytest.raises(PromptError, match="2 pictures, 1 questions"):
        vlm.ask_many([None, None], ["What?"])
    with pytest.raises(PromptError, match="0 questions"):
        vlm.ask_many([], [])
    with pytest.raises(ImageError, match="does not exist"):
        vlm.ask("no-such-file.png", "What?")
    with pytest.raises(GenerationError, match="top_k"):
        vlm.ask(picture(0), "What?", top_k=0)
    with pytest.raises(PromptError, match="context holds 512"):
        vlm.ask(None, "dog " * 600)


def test_an_interrupted_answer_keeps_what_was_written(vlm, monkeypatch):
    whole = vlm.ask(picture(0), "Is there a dog?", **HOT)
    assert len(whole.tokens) > 6
    with monkeypatch.context() as patch:
        interrupt_after(patch, vlm.model.text, 5, KeyboardInterrupt())
        part = vlm.ask(picture(0), "Is there a dog?", **HOT)
    assert part.finish == "interrupted"
    assert part.tokens == whole.tokens[:5]
    assert part == vlm.tokenizer.decode(whole.tokens[:5]).lstrip()
    assert vlm.ask(picture(0), "Is there a dog?", **HOT) == whole  # nothing is left of the interruption


# --- a picture that is encoded once -----------------------------------------------------------------------------------


def test_an_encoded_picture_is_asked_as_the_picture_is(vlm):
    encoded = vlm.encode(picture(0))
    assert vlm.encode(encoded) is encoded
    for mitigation in (None, EAH(threshold=0.0), CLVA(gate=False)):
        for question in ("Is there a dog?", "What is in the image?"):
            expected = vlm.ask(picture(0), question, mitigation=mitigation, **ASK)
            assert vlm.ask(encoded, question, mitigation=mitigation, **ASK).as_dict() == expected.as_dict()
    both = vlm.ask_many([[encoded, picture(1)], None], ["What differs?", "Is there a dog?"], **ASK)
    assert both == vlm.ask_many([[picture(0), picture(1)], None], ["What differs?", "Is there a dog?"], **ASK)


def test_the_tower_runs_once_for_all_questions(vlm, monkeypatch):
    seen, tower = [], vlm.model.vision.forward
    monkeypatch.setattr(vlm.model.vision, "forward", lambda *given, **how: seen.append(1) or tower(*given, **how))
    encoded = vlm.encode(picture(0))
    for question in ("Is there a dog?", "What is in the image?"):
        vlm.ask(encoded, question, mitigation=EAH(threshold=0.0), **ASK)
    talk = minivlm.Conversation(vlm, encoded)
    for mitigation in (CLVA(gate=False), EAH(threshold=0.0), None):  # under a method no turn reuses the cache
        talk.ask("What is in the image?", mitigation=mitigation, **ASK)
    assert len(seen) == 1


def test_a_picture_that_another_model_encoded_is_refused(vlm):
    features = vlm.encode(picture(0)).features
    for other in (features[:-1], features[:, 1:], features.double()):
        with pytest.raises(PromptError, match="encoded by another model.*Encode it anew"):
            vlm.ask(EncodedImage(other, vlm.name), "Is there a dog?")
    with pytest.raises(PromptError, match="encoded by another model.*Encode it anew"):  # of the same sizes
        vlm.ask(EncodedImage(features, "another"), "Is there a dog?")


def test_rows_without_a_word_are_never_chosen(tmp_path):
    vlm = tiny_vlm(tmp_path)
    head, last = vlm.model.lm_head.weight, vlm.tokenizer.size
    assert head.shape[0] - last == FILLING
    head.data[-1] = 50 * torch.randn(head.shape[1], generator=torch.Generator().manual_seed(0))
    head.data[-2] = -head.data[-1]  # one of the two is always the largest
    for special in (vlm.tokenizer.image, vlm.tokenizer.pad, vlm.tokenizer.bos):
        head.data[special] = head.data[-1] * 0.9
    assert (vlm.logits(picture(0), "Is there a dog?").argmax(-1) >= last).all()
    for settings in (ASK, HOT, HOT | {"temperature": 50.0}, HOT | {"top_k": 2}, HOT | {"top_p": 0.5}):
        with pytest.warns(UserWarning, match="likeliest next token was .*, which is no word"):
            tokens = vlm.ask(picture(0), "Is there a dog?", **settings).tokens
        assert all(vlm.tokenizer.is_text(token) or token in vlm.tokenizer.stops for token in tokens)


def test_an_interrupted_stream_gives_what_it_held_back(vlm, monkeypatch):
    """With a stop text of two letters, the stream holds back its first letter until it is sure."""
    whole = vlm.ask(picture(0), "Is there a dog?", **HOT)
    pieces, stream = [], vlm.stream(picture(0), "Is there a dog?", stop=[whole[-1] + "\x00"], **HOT)
    interrupt_after(monkeypatch, vlm.model.text, 5, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        pieces.extend(stream)
    assert "".join(pieces) == vlm.tokenizer.decode(whole.tokens[:5]).lstrip()


@pytest.mark.parametrize("way", ["ask", "stream"])
def test_a_conversation_that_is_answered_asks_nothing(vlm, way):
    with pytest.raises(PromptError, match="answered already \\('No.'\\): end with a question"):
        list(getattr(vlm, way)(None, [Turn("Is there a dog?", answer="No.")]))
    assert vlm.prepare(None, Turn("Is there a dog?", answer="No.")).tokens.shape[0] == 1  # to score an answer
