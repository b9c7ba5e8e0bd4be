"""Conversations: with the cache of earlier turns, the answers of a fresh model. Tokens are compared exactly."""

from contextlib import suppress

import pytest

from minivlm import Conversation, GenerationError, Mitigation, PromptError, Turn
from support.tiny_model import PATCHES, interrupt_after, picture, tiny_vlm

QUESTIONS = ("What is in the image?", "Is there a dog?", "Two cats? No.", "A red ball")
SETTINGS = {
    "greedy": {"max_new_tokens": 12},
    "hot": {"max_new_tokens": 12, "temperature": 1.2, "seed": 4},
    "stop": {"max_new_tokens": 12, "stop": "a"},
}


@pytest.fixture(scope="module", params=["hf", "llava_v1"])
def vlm(request, tmp_path_factory):
    return tiny_vlm(tmp_path_factory.mktemp("talk"), template=request.param, context=700)


def fresh(vlm, images, talk: Conversation, question: str, **settings):
    """The answer that the VLM gives to the same conversation from nothing."""
    return vlm.ask(images, [*talk.turns, Turn(question)], **settings)


def same(one, other) -> bool:
    return (one.tokens, one.text, one.finish, one.spans) == (other.tokens, other.text, other.finish, other.spans)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("images", [None, 1, 2])
def test_every_turn_is_answered_as_by_a_fresh_model(vlm, images, settings):
    pictures = None if images is None else [picture(seed) for seed in range(images)]
    talk = Conversation(vlm, pictures)
    for number, question in enumerate(QUESTIONS):
        expected = fresh(vlm, pictures, talk, question, **settings)
        assert same(talk.ask(question, **settings), expected)
        assert talk.turns[-1].question == question
        assert (talk.reused > (images or 0) * PATCHES) == (number > 0)


def test_the_same_settings_need_not_be_kept(vlm):
    talk = Conversation(vlm, picture(0))
    for question, settings in zip(QUESTIONS, SETTINGS.values(), strict=False):
        assert same(fresh(vlm, picture(0), talk, question, **settings), talk.ask(question, **settings))


def test_with_ids_kept_all_of_the_last_turn_is_reused(tmp_path):
    talk = Conversation(tiny_vlm(tmp_path, template="llava_v1"), picture(0))
    answer = talk.ask("Is there a dog?", max_new_tokens=9)
    before = answer.spans[-1].start + len(answer.tokens)
    talk.ask("Two cats?", max_new_tokens=9)
    assert before - 1 <= talk.reused <= before  # the last token had not been read when the answer ended


def test_an_interrupted_answer_is_part_of_the_conversation(vlm, monkeypatch):
    talk = Conversation(vlm, picture(0))
    talk.ask(QUESTIONS[0], **SETTINGS["hot"])
    whole = fresh(vlm, picture(0), talk, QUESTIONS[1], **SETTINGS["hot"])
    assert len(whole.tokens) > 4
    with monkeypatch.context() as patch:
        interrupt_after(patch, vlm.model.text, 4, KeyboardInterrupt())
        part = talk.ask(QUESTIONS[1], **SETTINGS["hot"])
    assert (part.finish, part.tokens) == ("interrupted", whole.tokens[:4])
    assert len(talk.turns) == 2
    expected = fresh(vlm, picture(0), talk, QUESTIONS[2], **SETTINGS["greedy"])
    assert same(talk.ask(QUESTIONS[2], **SETTINGS["greedy"]), expected)
    assert talk.reused > PATCHES


@pytest.mark.parametrize("calls", [0, 1, 4])
def test_a_turn_that_fails_is_forgotten(vlm, monkeypatch, calls):
    talk = Conversation(vlm, picture(0))
    talk.ask(QUESTIONS[0], **SETTINGS["hot"])
    expected = fresh(vlm, picture(0), talk, QUESTIONS[1], **SETTINGS["hot"])
    with monkeypatch.context() as patch:
        interrupt_after(patch, vlm.model.text, calls, RuntimeError("broken"))
        with pytest.raises(RuntimeError, match="broken"):
            talk.ask("And two cats?", **SETTINGS["hot"])
    assert len(talk.turns) == 1
    assert same(talk.ask(QUESTIONS[1], **SETTINGS["hot"]), expected)
    assert talk.reused > PATCHES


def test_a_turn_broken_off_within_a_forward_leaves_a_sound_cache(vlm, monkeypatch):
    """The first layers have written their keys, the last has not."""
    talk = Conversation(vlm, picture(0))
    talk.ask(QUESTIONS[0], **SETTINGS["greedy"])
    for error in (KeyboardInterrupt(), RuntimeError("broken")):
        with monkeypatch.context() as patch:
            interrupt_after(patch, vlm.model.text.layers[2], 2, error)
            with suppress(RuntimeError):
                talk.ask("And two cats?", **SETTINGS["hot"])
        expected = fresh(vlm, picture(0), talk, QUESTIONS[1], **SETTINGS["hot"])
        assert same(talk.ask(QUESTIONS[1], **SETTINGS["hot"]), expected)
    assert [len(turn.answer) for turn in talk.turns][1] == 2  # interrupted after two tokens
    assert len(talk.turns) == 4


def test_a_question_too_long_is_refused_and_forgotten(vlm):
    talk = Conversation(vlm, picture(0))
    talk.ask(QUESTIONS[0], **SETTINGS["greedy"])
    with pytest.raises(PromptError, match="context holds 700"):
        talk.ask("dog " * 800)
    expected = fresh(vlm, picture(0), talk, QUESTIONS[1], **SETTINGS["greedy"])
    assert same(talk.ask(QUESTIONS[1], **SETTINGS["greedy"]), expected)


def test_two_conversations_do_not_meet(vlm):
    one, other = Conversation(vlm, picture(0)), Conversation(vlm, picture(1))
    for question in QUESTIONS[:2]:
        for talk, image in ((one, picture(0)), (other, picture(1))):
            expected = fresh(vlm, image, talk, question, **SETTINGS["hot"])
            assert same(talk.ask(question, **SETTINGS["hot"]), expected)
    assert one.turns[0].answer != other.turns[0].answer


def test_nothing_computed_under_a_mitigation_is_reused(vlm):
    class Other(Mitigation):
        """A mitigation that counts as one, though it changes nothing."""

        empty = False

    talk, reused = Conversation(vlm, picture(0)), []
    for mitigation in (Other(), Mitigation(), Other(), Mitigation(), Mitigation(), Other()):
        expected = fresh(vlm, picture(0), talk, QUESTIONS[0], **SETTINGS["greedy"])
        assert same(talk.ask(QUESTIONS[0], mitigation=mitigation, **SETTINGS["greedy"]), expected)
        reused.append(talk.reused > PATCHES)
        assert reused[-1] or talk.reused == 0
    assert reused == [False, False, False, False, True, False]


def test_a_conversation_that_outgrows_its_cache_goes_on_as_before(vlm, monkeypatch):
    monkeypatch.setattr("minivlm.inference.conversation.ROOM", 1)
    talk = Conversation(vlm, picture(0))
    for question in QUESTIONS:
        expected = fresh(vlm, picture(0), talk, question, max_new_tokens=9)
        assert same(talk.ask(question, max_new_tokens=9), expected)


def test_a_stop_text_is_not_part_of_the_history(vlm):
    talk = Conversation(vlm, picture(0))
    answer = talk.ask(QUESTIONS[0], max_new_tokens=40, stop=["a", "e", "i", "o", " "])
    assert answer.finish == "stop"
    assert talk.turns[-1].answer == answer.text


def test_a_conversation_needs_its_cache(vlm):
    with pytest.raises(GenerationError, match="lives by its cache"):
        Conversation(vlm).ask("Is there a dog?", cache=False)
