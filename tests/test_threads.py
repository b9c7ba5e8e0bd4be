"""What threads may share: it is said in each docstring and in the table of minivlm/README.md, and it holds."""

import inspect
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch

import minivlm
from minivlm import CLVA, EAH, Conversation, MinivlmError, PromptError, Turn
from minivlm.inference.trace import Trace
from support.tiny_model import picture, tiny_vlm

QUESTIONS = ["What is in the image?", "Is there a dog?", "Two cats? No.", "A red ball", "Yes.", "There is a red dog."]
METHODS = [None, EAH(threshold=0.0), CLVA(), [EAH(threshold=0.0), CLVA()]]
CLASSES = [value for name in minivlm.__all__ if inspect.isclass(value := getattr(minivlm, name))]
CLASSES = [*(one for one in CLASSES if not issubclass(one, MinivlmError)), Trace]


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return tiny_vlm(tmp_path_factory.mktemp("threads"), context=2000)


def at_once(task, arguments):
    """The results of a function in as many threads as it has arguments, which begin together."""
    barrier = Barrier(len(arguments))

    def begin(argument):
        barrier.wait()
        return task(argument)

    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(begin, arguments))


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_public_class_says_whether_threads_may_share_it(kind):
    assert re.search(r"threads may share (it|them)", " ".join(inspect.getdoc(kind).split())), kind
    table = Path(minivlm.__file__).with_name("README.md").read_text("utf-8").split("## What threads may share")[1]
    assert f"`{kind.__name__}`" in table.split("\n## ")[0]


def test_threads_that_share_a_model_get_the_answers_that_each_would_get_alone(vlm):
    asked = [(question, method) for question in QUESTIONS[:4] for method in METHODS]

    def ask(one):
        question, method = one
        return vlm.ask(picture(0), question, mitigation=method, max_new_tokens=8).tokens

    alone = [ask(one) for one in asked]
    assert len(set(alone)) > 4
    for _ in range(3):
        assert at_once(ask, asked) == alone


def test_threads_that_share_a_model_get_the_traces_that_each_would_get_alone(vlm):
    def trace(question):
        return vlm.trace(picture(1), question, lens=[1], max_new_tokens=4)

    alone = [trace(question) for question in QUESTIONS]
    for one, other in zip(at_once(trace, QUESTIONS), alone, strict=True):
        assert one.facts == other.facts
        assert torch.equal(one.shares, other.shares)


@pytest.mark.parametrize("images", [None, 1])
def test_threads_that_share_a_conversation_take_turns(vlm, images):
    """Whatever their order, each answer is the one that the model gives to the turns before it."""
    pictures = None if images is None else [picture(0)]
    for round_ in range(4):
        talk = Conversation(vlm, pictures)
        methods = [METHODS[(number + round_) % 4] if images else None for number in range(len(QUESTIONS))]

        def ask(number, talk=talk, methods=methods):
            return (
                QUESTIONS[number],
                methods[number],
                talk.ask(QUESTIONS[number], mitigation=methods[number], max_new_tokens=8),
            )

        answers = {question: (method, answer) for question, method, answer in at_once(ask, range(len(QUESTIONS)))}
        assert sorted(str(turn.question) for turn in talk.turns) == sorted(QUESTIONS)
        for number, turn in enumerate(talk.turns):
            method, answer = answers[turn.question]
            assert list(turn.answer) == list(answer.tokens)
            again = vlm.ask(pictures, [*talk.turns[:number], Turn(turn.question)], mitigation=method, max_new_tokens=8)
            assert again.tokens == answer.tokens, (number, turn.question)


def test_a_turn_that_fails_does_not_hold_up_the_other_threads(vlm):
    talk = Conversation(vlm, picture(0))

    def ask(question):
        try:
            return talk.ask(question, max_new_tokens=3)
        except PromptError:
            return None

    answers = at_once(ask, ["What?", 3, "Is there a dog?", ["a", 4.0], "Two cats?"])
    assert [answer is None for answer in answers] == [False, True, False, True, False]
    assert len(talk.turns) == 3
    assert talk.ask("And now?", max_new_tokens=3).finish in ("length", "stop")
