"""Many questions about few pictures: what is shared changes no answer, and is computed once."""

from dataclasses import replace

import pytest
import torch

from minivlm.errors import EvaluationError, GenerationError
from minivlm.evaluation.asking import Asker
from minivlm.evaluation.methods import methods
from minivlm.evaluation.settings import CONTROLS, METHODS
from minivlm.inference.effect import effect_of
from minivlm.inference.generate import Generation, new_cache
from minivlm.inputs.prompt import pad_batch
from minivlm.model import CLVA, EAH, Llava, Mitigation
from minivlm.model.vision import VisionTower
from support.tiny_model import picture, tiny_vlm

QUESTIONS = ("Is there a dog in the image?", "What?", "Is there a red ball in the image, or are there two cats?")
ROWS = [(0, QUESTIONS[0]), (0, QUESTIONS[1]), (1, QUESTIONS[2]), (2, QUESTIONS[1]), (1, QUESTIONS[0])]
OPEN = CLVA(gate=False)  # random weights do not drift, so a gate would stay shut
DEEP = {"text": {"num_hidden_layers": 6}}  # noise, anchor and deep layers need some depth


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    """Random weights of two seeds would do as well; fp64, so that equal means equal."""
    vlm = tiny_vlm(tmp_path_factory.mktemp("tiny"))
    return replace(vlm, model=vlm.model.double())


@pytest.fixture(scope="module")
def pixels(vlm):
    return torch.stack([vlm.pixels(picture(seed)) for seed in range(3)])


def asker(vlm, names=(*METHODS, *CONTROLS), **settings):
    uses = any(mitigation.clva for mitigation in methods(names).values())
    return Asker(vlm, Generation(**{"max_new_tokens": 12} | settings), methods(names, clva=OPEN if uses else None))


@pytest.mark.parametrize("method", [*METHODS, *CONTROLS])
def test_a_shared_picture_gives_the_answers_of_pictures_asked_alone(vlm, pixels, method):
    """Text for text, against a call for each question that shares nothing."""
    ask = asker(vlm)
    got = ask.ask(ask.encode(pixels), ROWS, method)
    alone = [
        vlm.ask(picture(number), question, mitigation=ask.methods[method], max_new_tokens=12)
        for number, question in ROWS
    ]
    assert [answer.tokens for answer in got] == [answer.tokens for answer in alone]
    assert got == alone
    assert len({answer.tokens for answer in got}) > 1


@pytest.mark.parametrize(
    ("mitigation", "tolerance"),
    [(None, 1e-11), (OPEN, 1e-5), (CLVA(gate=False, anchor="shuffled"), 1e-5)],
    ids=["plain", "clva", "shuffled"],
)
def test_behind_a_shared_prefix_the_logits_are_the_same(vlm, pixels, mitigation, tolerance):
    """In fp64, of the largest: the same sums in another order; under CLVA the softmax is written out in fp32."""
    ask = asker(vlm, ["plain"])
    encoded = ask.encode(pixels)
    shared = len(encoded.prefix)
    prompts = [vlm.prompt(question, num_images=1) for _, question in ROWS]
    numbers = [number for number, _ in ROWS]
    batch = pad_batch(prompts, vlm.tokenizer.pad, shared)
    cache = encoded.cache.branch(numbers, batch.tokens.shape[1])
    with torch.inference_mode():
        split = vlm.model(
            batch.tokens[:, shared:],
            attention_mask=batch.attention_mask,
            cache=cache,
            mitigation=mitigation,
            last_only=True,
        )
        plainly = pad_batch(prompts, vlm.tokenizer.pad)
        whole = vlm.model(
            plainly.tokens,
            pixels[numbers].double(),
            attention_mask=plainly.attention_mask,
            mitigation=mitigation,
            last_only=True,
        )
    torch.testing.assert_close(split.logits, whole.logits, rtol=0, atol=tolerance * float(whole.logits.abs().max()))
    if mitigation is not None:
        assert not split.effect.nothing
        for row in range(len(ROWS)):
            mine, other = (effect_of(output).of(row).layers for output in (split, whole))
            assert [(part.layer, part.rows, part.columns) for part in mine] == [
                (part.layer, part.rows, part.columns) for part in other
            ]


def test_under_eah_the_same_picture_has_other_keys_for_another_question(vlm, pixels):
    """So its prefix cannot be shared: the reason that the docstring gives."""
    prompts = [vlm.prompt(question, num_images=1) for question in QUESTIONS]
    shared = len(asker(vlm, ["plain"]).encode(pixels).prefix)
    kept = []
    for prompt in prompts:
        tokens = torch.tensor([prompt.tokens])
        cache = new_cache(vlm.model, 1, tokens.shape[1])
        with torch.inference_mode():
            vlm.model(tokens, pixels[:1].double(), cache=cache, mitigation=EAH(layer=0, threshold=0.05))
        kept.append(cache.keys[-1, 0, :, :shared])
    differences = [(kept[0] - other).abs().max() for other in kept[1:]]
    assert max(differences) > 1e-3


def test_each_picture_is_seen_once_and_its_prefix_read_once(vlm, pixels, monkeypatch):
    seen, read = [], []
    for kind, log in ((VisionTower, seen), (Llava, read)):
        forward = kind.forward

        def counted(self, first, *args, _forward=forward, _log=log, **how):
            _log.append(tuple(first.shape))
            return _forward(self, first, *args, **how)

        monkeypatch.setattr(kind, "forward", counted)
    ask = asker(vlm, max_new_tokens=1)
    encoded = ask.encode(pixels)
    for method in METHODS:
        ask.ask(encoded, ROWS, method)
    assert len(seen) == 1
    prefix = len(encoded.prefix)
    longest = max(len(vlm.prompt(question, 1).tokens) for question in QUESTIONS)
    behind, whole = (len(ROWS), longest - prefix), (len(ROWS), longest)
    assert read == [(len(pixels), prefix), behind, whole, behind, whole]  # look, plain, EAH, CLVA, both


def test_what_was_read_under_a_method_is_not_taken_for_plain(vlm, pixels):
    """The shared cache stays as it was: asking changes branches of it."""
    ask = asker(vlm)
    encoded = ask.encode(pixels)
    before = encoded.cache.keys.clone()
    first = ask.ask(encoded, ROWS, "plain")
    for method in ask.methods:
        ask.ask(encoded, ROWS, method)
    assert ask.ask(encoded, ROWS, "plain") == first
    assert torch.equal(encoded.cache.keys, before)
    assert encoded.cache.length == len(encoded.prefix)


def test_spans_say_what_each_token_is_also_behind_the_shared_prefix(vlm, pixels):
    ask = asker(vlm)
    encoded = ask.encode(pixels)
    batch = pad_batch([vlm.prompt(question, 1) for _, question in ROWS], vlm.tokenizer.pad, len(encoded.prefix))
    for row, (answer, (_, question)) in enumerate(zip(ask.ask(encoded, ROWS, "plain"), ROWS, strict=True)):
        (span,) = [span for span in answer.spans if span.name == "question"]
        asked = batch.tokens[row, span.start : span.stop].tolist()
        assert question.strip() in vlm.tokenizer.decode(asked)
        (image,) = [span for span in answer.spans if span.name == "image"]
        assert (batch.tokens[row, image.start : image.stop] == vlm.tokenizer.image).all()


def test_the_plain_model_can_read_along_behind_a_shared_prefix(vlm, pixels):
    """`compare` gives the same KL as without sharing, within 1e-5 nats: it is taken in fp32."""
    encoded = asker(vlm).encode(pixels)
    shared = len(encoded.prefix)
    inputs = vlm.inputs(pad_batch([vlm.prompt(QUESTIONS[0], 1)], vlm.tokenizer.pad), None)
    new = replace(inputs, tokens=inputs.tokens[:, shared:])
    settings = Generation(max_new_tokens=4)
    cache = encoded.cache.branch([1], inputs.attention_mask.shape[1] + 4)
    (split,) = vlm.write(new, settings, mitigation=OPEN, compare=True, cache=cache)
    whole = vlm.ask(picture(1), QUESTIONS[0], mitigation=OPEN, compare=True, max_new_tokens=4)
    torch.testing.assert_close(split.effect.kl, whole.effect.kl, rtol=0, atol=1e-5)
    assert float(whole.effect.kl.max()) > 1e-4


@pytest.mark.parametrize("mitigation", [EAH(), Mitigation(EAH(), OPEN)], ids=["eah", "both"])
def test_a_cache_that_a_method_would_have_filled_differently_is_refused(vlm, pixels, mitigation):
    encoded = asker(vlm).encode(pixels)
    inputs = vlm.inputs(pad_batch([vlm.prompt(QUESTIONS[0], 1)], vlm.tokenizer.pad), None)
    new = replace(inputs, tokens=inputs.tokens[:, len(encoded.prefix) :])
    with pytest.raises(GenerationError, match="begin with an empty cache"):
        vlm.write(new, Generation(max_new_tokens=2), mitigation=mitigation, cache=encoded.cache.branch([0], 100))


def test_groups_of_methods_are_named_and_strangers_refused():
    assert list(methods(["all"])) == [*METHODS, *CONTROLS]
    assert list(methods(["clva", "plain", "clva"])) == ["clva", "plain"]
    assert methods(["both"], EAH(layer=2), CLVA(omega=0.6))["both"] == Mitigation(EAH(layer=2), CLVA(omega=0.6))
    with pytest.raises(EvaluationError, match="no method 'opera'.*plain, eah"):
        methods(["opera"])
    with pytest.raises(EvaluationError, match="at least one"):
        methods([])
    with pytest.raises(EvaluationError, match="Settings of eah were given, but no method of plain, clva uses them"):
        methods(["plain", "clva"], EAH(layer=2))
    assert methods(["eah-random-head"], EAH(layer=2))["eah-random-head"].eah.layer == 2
