"""The bug zoo: for each bug a test that passes on the healthy package and fails on the one with the bug.

Write the bodies; the names and their arguments stay. `draw` draws inputs from a seed (`draw.normal(2, 3)`,
`draw.number(1, 9)`, `draw.pick(words)`, see `minivlm/course/kit/draw.py`); `kit/tiny.py` has small models, prompts and
checkpoints to draw. `show` is for other assignments: nothing that is shown here is judged. Your tests run on both
packages with inputs from the same seed, and cannot read the packages' sources.
"""

import torch

from minivlm.course.kit.tiny import IMAGE, tiny_model, tiny_pixels, tiny_prompt


def test_seen_future(draw, show):
    """On texts that are read, the model is far better than any other: it hardly ever misses the next word. What it
    writes by itself is poor.

    This one is solved, see the handout: what comes later may not change what was said before.
    """
    model, row, pixels = tiny_model(draw), tiny_prompt(draw), tiny_pixels(draw)
    before = model(torch.tensor([row]), pixels).logits
    row[-1] = draw.pick([word for word in range(3, IMAGE) if word != row[-1]])
    after = model(torch.tensor([row]), pixels).logits
    # fp32 over four layers; the tokens in front come out of the same additions, but perhaps in another order
    torch.testing.assert_close(after[:, :-1], before[:, :-1], rtol=1e-4, atol=1e-5)


def test_label_ratio(draw, show):
    """Two models answer POPE's questions. One says yes to whatever it is asked, the other thinks first. Their
    accuracies differ, and both have the same yes-ratio: 0.5 to the last digit.
    """
    raise NotImplementedError("Write a test that fails under the bug label_ratio.")


def test_missing_space(draw, show):
    """With the template `llava_v1`, answers are a little worse than those published for the same weights; with `hf`,
    they are as they should be. Printed, the prompt looks right to whoever does not read it word by word.
    """
    raise NotImplementedError("Write a test that fails under the bug missing_space.")


def test_head_zero(draw, show):
    """EAH tells which head it gave to all others. Most answers change. Those do not for which it names head 0, although
    the heads' maps differ as much as in any other answer.
    """
    raise NotImplementedError("Write a test that fails under the bug head_zero.")


def test_first_row(draw, show):
    """Asked one by one, pictures get other answers with EAH than without. The same pictures asked eight at a time get
    the plain model's answers but for one of the eight, and which one that is depends on their order.
    """
    raise NotImplementedError("Write a test that fails under the bug first_row.")


def test_short_slice(draw, show):
    """CLVA moves attention anywhere in the picture, but never to its lower right corner, whatever is there. In the
    figures that show which patches a mitigation touched, that corner is always blank.
    """
    raise NotImplementedError("Write a test that fails under the bug short_slice.")


def test_wrong_activation(draw, show):
    """Of two vision towers, one gives the numbers that its authors publish. The other is off by a little from the first
    layer on, and by more with each further layer; its pictures are described, but not well. Both have the same
    shapes.
    """
    raise NotImplementedError("Write a test that fails under the bug wrong_activation.")


def test_sloped_scores(draw, show):
    """Two patches get the same attention from every token behind them. The one that stands nearer to the question is
    less likely to be called a sink than the other, above all if the question is short.
    """
    raise NotImplementedError("Write a test that fails under the bug sloped_scores.")


def test_loose_loading(draw, show):
    """A checkpoint comes without a part of its tensors, from an export that was not finished. It loads without a word.
    The model answers with fluent nonsense, with another nonsense after each start.
    """
    raise NotImplementedError("Write a test that fails under the bug loose_loading.")


def test_silent_decode(draw, show):
    """With CLVA, the first word of an answer may be another one; whatever follows is what the plain model would have
    said next. With `cache=False`, the same question gets another answer.
    """
    raise NotImplementedError("Write a test that fails under the bug silent_decode.")


def test_padded_positions(draw, show):
    """Many questions about one picture share its beginning, so that it is computed once. The longest question of a
    batch is answered as if it were alone, the shorter ones are not. Whole prompts, padded on the left, are answered
    well.
    """
    raise NotImplementedError("Write a test that fails under the bug padded_positions.")


def test_shuffled_groups(draw, show):
    """Asking for an attention map changes the answer. It does so for models of the Mistral family, and not for
    LLaVA-1.5-7B, in which every head has keys and values of its own.
    """
    raise NotImplementedError("Write a test that fails under the bug shuffled_groups.")
