"""Tests of shapes, one for each bug of the zoo. The package passes them, and so does every broken one.

They are tests as they are often written: something comes out, it has the right shape, it is finite, it looks plausible.
"""

import tempfile
from pathlib import Path

import torch

from minivlm.checkpoints.load import load_checkpoint
from minivlm.course.kit.tiny import (
    PATCHES,
    WORDS,
    left_padded,
    tiny_checkpoint,
    tiny_layout,
    tiny_model,
    tiny_pixels,
    tiny_prompt,
    tiny_questions,
    tiny_tokenizer,
)
from minivlm.evaluation.pope import pope
from minivlm.inference.generate import Generation, steps
from minivlm.inputs.prompt import Turn, build_prompt
from minivlm.model import CLVA, EAH
from minivlm.model.attention import repeat_heads
from minivlm.model.decoder import token_positions
from minivlm.model.eah import broadcast_densest_head
from minivlm.model.sinks import vision_sink_scores


def test_seen_future(draw, show):
    tokens = torch.tensor([tiny_prompt(draw)])
    output = tiny_model(draw)(tokens, tiny_pixels(draw), maps=[0])
    assert output.logits.shape == (1, tokens.shape[1], WORDS)
    assert output.logits.isfinite().all()
    assert torch.allclose(output.maps[0].sum(dim=-1), torch.ones(()))


def test_label_ratio(draw, show):
    labels = [True, False] * 6
    figures = pope(tiny_questions(labels), [bool(said) for said in draw.whole(0, 2, 12)])
    assert set(figures) == {"accuracy", "precision", "recall", "f1", "yes_ratio"}
    assert all(0 <= float(figure.value) <= 1 for figure in figures.values())


def test_missing_space(draw, show):
    question = draw.pick(["Is there a dog?", "What is in the image?"])
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = tiny_tokenizer(Path(folder))
    prompt = build_prompt(
        [Turn(question, images=1)], tokenizer=tokenizer, template="llava_v1", num_image_tokens=PATCHES
    )
    assert prompt.tokens.count(tokenizer.image) == PATCHES
    assert prompt.spans[-1].stop == len(prompt.tokens)
    assert question in tokenizer.decode(prompt.tokens)


def test_head_zero(draw, show):
    tokens = torch.tensor([tiny_prompt(draw)])
    mask = draw.causal(1, tokens.shape[1], tokens.shape[1], padded=False)
    weights = draw.weights(4, mask)
    changed, head = broadcast_densest_head(weights, mask, tiny_layout(tokens), EAH(threshold=0.05))
    assert changed.shape == weights.shape
    assert head.shape == (1,)
    assert torch.allclose(changed.sum(dim=-1), torch.ones(()))


def test_first_row(draw, show):
    tokens, attention_mask = left_padded([tiny_prompt(draw), tiny_prompt(draw, words=8)])
    output = tiny_model(draw)(
        tokens, tiny_pixels(draw, 2), attention_mask=attention_mask, mitigation=EAH(threshold=0.03)
    )
    assert output.logits.shape == (*tokens.shape, WORDS)
    assert not output.effect.nothing


def test_short_slice(draw, show):
    tokens = torch.tensor([tiny_prompt(draw)])
    clva = CLVA(noise_layers=(0,), anchor_layers=(1, 2), deep_layers=(3,), gate=False)
    output = tiny_model(draw)(tokens, tiny_pixels(draw), mitigation=clva, maps=[3])
    assert output.maps[3].shape == (1, 4, tokens.shape[1], tokens.shape[1])
    assert torch.allclose(output.maps[3].sum(dim=-1), torch.ones(()))
    assert not output.effect.nothing


def test_wrong_activation(draw, show):
    model = tiny_model(draw)
    features, _ = model.encode_images(tiny_pixels(draw, 2))
    assert features.shape == (2, PATCHES, model.config.text_config.hidden_size)
    assert features.isfinite().all()


def test_sloped_scores(draw, show):
    mask = draw.causal(2, 16, 16)
    scores = vision_sink_scores(draw.weights(4, mask), mask)
    assert scores.shape == (2, 4, 16)
    assert (scores >= 0).all()
    assert (scores <= 1).all()


def test_loose_loading(draw, show):
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_checkpoint(tiny_checkpoint(draw, Path(folder)))
        tokens = torch.tensor([tiny_prompt(draw)])
        logits = loaded.model(tokens, tiny_pixels(draw)).logits
    assert logits.shape == (1, tokens.shape[1], WORDS)
    assert logits.isfinite().all()


def test_silent_decode(draw, show):
    model, tokens = tiny_model(draw), torch.tensor([tiny_prompt(draw)])
    clva = CLVA(noise_layers=(0,), anchor_layers=(1, 2), deep_layers=(3,), gate=False)
    found = list(
        steps(model, tokens, tiny_pixels(draw), settings=Generation(max_new_tokens=3), mitigation=clva, maps=[3])
    )
    assert [step.output.maps[3].shape[2:] for step in found] == [
        (tokens.shape[1], tokens.shape[1]),
        (1, tokens.shape[1] + 1),
        (1, tokens.shape[1] + 2),
    ]
    assert not found[-1].effect.nothing


def test_padded_positions(draw, show):
    model = tiny_model(draw)
    tokens, attention_mask = left_padded([tiny_prompt(draw), tiny_prompt(draw, words=8)])
    positions = token_positions(attention_mask, tokens.shape[1])
    assert positions.shape == tokens.shape
    assert (positions >= 0).all()
    assert model(tokens, tiny_pixels(draw, 2), attention_mask=attention_mask).logits.isfinite().all()


def test_shuffled_groups(draw, show):
    x = draw.normal(2, 2, 5, 8)
    assert repeat_heads(x, 2).shape == (2, 4, 5, 8)
    assert repeat_heads(x, 1).shape == x.shape
