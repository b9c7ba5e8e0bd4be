"""Assignment a4: vision sinks, the head that has most of them, its map in all heads, and the same without a map."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

import minivlm
from minivlm.errors import ConfigError
from minivlm.lens.without_map import broadcast_without_map, sink_scores_without_map
from minivlm.model.attention import attention_weights
from minivlm.model.decoder import causal_mask
from minivlm.model.eah import EAH, ResolvedEAH, broadcast_densest_head, broadcast_head, chosen_head, densest_head
from minivlm.model.layout import Layout
from minivlm.model.sinks import sink_density, vision_sink_scores, vision_sinks
from minivlm.toyworld.questions import is_there
from minivlm.toyworld.world import HELD_OUT

ASKED, EACH = 8, 4  # scenes, held out from training, and questions about each
BY_HAND = torch.tensor(  # the handout's two heads of four tokens; columns 1 and 2 are patches
    [
        [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25, 0.5, 0.25, 0], [0.125, 0.25, 0.125, 0.5]],
        [[1, 0, 0, 0], [0.75, 0.25, 0, 0], [0.5, 0.25, 0.25, 0], [0.25, 0.125, 0.375, 0.25]],
    ]
)[None]


def visible(length: int) -> Tensor:
    """The mask of a prompt without padding."""
    return causal_mask(torch.ones(1, length, dtype=torch.bool), length)


@dataclass(frozen=True)
class Case:
    """The attention of one layer on four samples."""

    weights: Tensor  # (B, H, Q, K)
    mask: Tensor  # (B, 1, Q, K)
    layout: Layout

    def rows(self, first: int, last: int) -> "Case":
        """The same tokens in another call: rows `first` to before `last`, and the columns up to there."""
        rows, seen = slice(first, last), slice(last)
        layout = Layout(
            self.layout.attention_mask[:, seen], self.layout.image[:, seen], last - first, self.layout.prompt
        )
        return Case(self.weights[:, :, rows, seen], self.mask[:, :, rows, seen], layout)

    def densest_head(self, eah: ResolvedEAH) -> Tensor:
        return densest_head(self.weights, self.mask, self.layout, eah)

    def step(self, eah: ResolvedEAH, kept: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return broadcast_densest_head(self.weights, self.mask, self.layout, eah, kept)

    def left_alone(self) -> Callable[[], bool]:
        """A function that says later whether weights, mask and layout are still what they are now."""
        return left_alone(self.weights, self.mask, self.layout.attention_mask, self.layout.image)


def case(draw, heads: int = 5, length: int = 20, answer: int = 0) -> Case:
    """A picture behind padding; one without padding; two pictures with a word between; none, and padding behind."""
    place = torch.arange(length)
    pads, start = draw.number(2, 5), draw.number(1, 4)
    image = torch.zeros(4, length, dtype=torch.bool)
    image[0, pads + start : pads + start + 6] = True
    image[1, start : start + 7] = True
    image[2, start : start + 3] = True
    image[2, start + 4 : start + 8] = True
    attention_mask = torch.stack((place >= pads, place >= 0, place >= 0, place < length - answer - 3))
    mask = causal_mask(attention_mask, length)
    return Case(draw.weights(heads, mask), mask, Layout(attention_mask, image, length, prompt=length - answer))


def left_alone(*given: Tensor) -> Callable[[], bool]:
    """A function that says later whether these tensors are still what they are now."""
    before = [tensor.clone() for tensor in given]
    return lambda: all(map(torch.equal, given, before))


def test_scores_by_hand(draw, show):
    """A column's score is the mean of what later rows give it; its own row does not count, nor does what is absent."""
    show(whole=vision_sink_scores(BY_HAND, visible(4)))
    show(last_two_rows=vision_sink_scores(BY_HAND[:, :, 2:], visible(4)[:, :, 2:]))
    show(last_row=vision_sink_scores(BY_HAND[:, :, 3:], visible(4)[:, :, 3:]))


def test_scores_of_padded_batches(draw, show):
    """Padded rows and columns do not count: each mean is over the rows of text that may see the column."""
    mask = draw.causal(4, 11, 11)
    weights = draw.weights(3, mask)
    show(padding_before=vision_sink_scores(weights, mask))
    show(with_a_cache=vision_sink_scores(weights[:, :, -4:], mask[:, :, -4:]))
    found = case(draw)
    show(padding_on_both_sides=vision_sink_scores(found.weights, found.mask))
    late = found.rows(14, 20)
    show(and_a_cache=vision_sink_scores(late.weights, late.mask))


def test_scores_in_half_precision(draw, show):
    """Long sums in fp32, whatever the weights are: in bf16 a sum of 1,500 small numbers stops growing. And the weights
    are not changed, since the layer still needs them.
    """
    mask = visible(1500)
    even = (mask / torch.arange(1, 1501)[:, None]).to(torch.bfloat16)
    random = draw.weights(2, visible(300), dtype=torch.float16)
    for name, weights, seen in (("even", even, mask), ("random", random, visible(300))):
        same = left_alone(weights, seen)
        scores = vision_sink_scores(weights, seen)
        show.named({name: scores, f"{name}_weights_and_mask_are_left_alone": same()})
    exact = draw.weights(2, visible(30), dtype=torch.float64)
    show(within=1e-13, fp64=vision_sink_scores(exact, visible(30)))  # not rounded to fp32 on the way


def test_sinks_and_their_density(draw, show):
    """Sinks are patches *above* the threshold, anywhere in the row; density is their share of the sample's patches."""
    scores = vision_sink_scores(BY_HAND, visible(4))
    image = torch.tensor([[False, True, True, False]])
    for threshold in (0.125, 0.25, 0.375):
        sinks = vision_sinks(scores, image, threshold)
        show.named({f"above_{threshold}": sinks, f"density_above_{threshold}": sink_density(sinks, image)})
    found = case(draw)
    scores, image = draw.uniform(4, 5, 20), found.layout.image
    sinks = vision_sinks(scores, image, 0.3 + draw.number(0, 21) / 100)
    show(sinks=sinks, density=sink_density(sinks, image))


def test_the_chosen_head(draw, show):
    """Most sinks; the lowest of equals; a random head depends on the seed alone, is the same for all samples, and does
    not use torch's own generator.
    """
    show(one_tie=chosen_head(torch.tensor([[2, 5, 5, 1], [3, 0, 2, 3]]), EAH()))
    show(second=chosen_head(torch.tensor([[2, 5, 5, 1], [3, 0, 2, 3], [0, 0, 0, 4]]), EAH(head="second")))
    counts = draw.whole(0, 4, 50, 40)  # 40 heads, hardly any without a tie
    show(densest=chosen_head(counts, EAH()), densest_but_one=chosen_head(counts, EAH(head="second")))
    show(only_head=[chosen_head(counts[:, :1], EAH(head=name)).unique().tolist() for name in ("densest", "second")])
    generator = torch.random.get_rng_state()
    first, again = ([chosen_head(counts, EAH(head="random", seed=seed)) for seed in range(60)] for _ in range(2))
    show(other_dice_are_left_alone=torch.equal(torch.random.get_rng_state(), generator))
    show(repeatable=all(map(torch.equal, first, again)), shape=list(first[0].shape))
    show(one_for_all_samples=all(len(heads.unique()) == 1 for heads in first))
    heads = {int(heads[0]) for heads in first}
    show(in_range=heads <= set(range(40)), many_heads=len(heads) > 15, whole=not first[0].is_floating_point())


def test_the_densest_head(draw, show):
    """Only the prompt's rows vote, each sample for itself; -1 where no head has a sink."""
    mask = visible(4)
    layout = Layout(torch.ones(1, 4, dtype=torch.bool), torch.tensor([[False, True, True, False]]), 4, prompt=4)
    by_hand = [
        int(densest_head(BY_HAND, mask, layout, ResolvedEAH(threshold=t))) for t in (0.1, 0.125, 0.1875, 0.3, 0.375)
    ]
    show(by_hand=by_hand)
    found = case(draw, heads=12)
    for threshold in (0.02, 0.08, 0.12, 0.5):
        show.named({f"above_{threshold}": found.densest_head(ResolvedEAH(threshold=threshold))})
    show(second=found.densest_head(ResolvedEAH(threshold=0.08, head="second")))
    anywhere = found.densest_head(ResolvedEAH(threshold=0.08, head="random"))
    show(random_or_none=[int(head) >= 0 for head in anywhere])
    answered = case(draw, heads=12, answer=6)
    cached = answered.rows(3, 20)  # three rows came before, six are generated
    for name, least in {"a_low": 0.05, "a_high": 0.09}.items():  # thresholds differ from student to student, too
        eah = ResolvedEAH(threshold=least + draw.number(0, 21) / 1000)
        show.named({f"answered_above_{name}_one": answered.densest_head(eah)})
        show.named({f"cached_above_{name}_one": cached.densest_head(eah)})


def test_one_head_in_all_heads(draw, show):
    """Whole rows are copied, in the chosen rows only, from each sample's own head; the arguments are not changed."""
    weights, rows = case(draw).weights, draw.whole(0, 2, 4, 20).bool()
    head = torch.tensor([0, -1, 3, 4])
    same = left_alone(weights, head, rows)
    show(broadcast=broadcast_head(weights, head, rows), what_was_given_is_left_alone=same())
    show(nobody=broadcast_head(weights, torch.full((4,), -1), rows), no_row=broadcast_head(weights, head, rows & False))
    half = weights.bfloat16()
    show(within=0, half=broadcast_head(half, torch.tensor([4, 0, 0, 1]), ~rows))


def test_eah(draw, show):
    """The whole step: a prompt, a prompt with an answer behind it, and generated rows, which pass or keep the head."""
    found, kept = case(draw, heads=6, answer=5), torch.tensor([2, -1, 0, 5])
    modes = {"pass": ResolvedEAH(threshold=0.08), "keep": ResolvedEAH(threshold=0.08, decode="keep")}
    calls = {
        "prompt": (0, 15),
        "prompt_and_answer": (0, 20),
        "end_of_prompt": (4, 17),
        "answer": (15, 20),
        "token": (16, 17),
    }
    for name, (first, last) in calls.items():
        part = found.rows(first, last)
        for mode in modes if first < 15 else ["keep"]:
            same = part.left_alone()
            weights, head = part.step(modes[mode], None if first < 15 else kept)
            show.named({f"{name}_{mode}_head": head, f"{name}_{mode}": weights})
            show.named({f"{name}_{mode}_leaves_weights_mask_and_layout_alone": same()})
    _, head = found.rows(0, 15).step(modes["keep"], kept)
    show(head_of_a_prompt_that_comes_with_a_kept_one=head)
    try:
        part.step(modes["keep"])
    except ConfigError as error:
        show(refused_without_a_head=True, says_why=len(str(error).split()) > 5)
    else:
        show(refused_without_a_head=False)


def test_scores_without_a_map(draw, show):
    """From queries and keys the same scores as from their weights: with padding, a cache, shared heads, in fp16."""
    q, k, mask = 2 * draw.normal(4, 6, 20, 8), draw.normal(4, 3, 20, 8), case(draw).mask
    show(small=sink_scores_without_map(q, k, mask), cached=sink_scores_without_map(q[:, :, 15:], k, mask[:, :, 15:]))
    show(one_row=sink_scores_without_map(q[:, :, 19:], k, mask[:, :, 19:]))
    q, k = (draw.normal(1, 2, 300, 8, dtype=torch.float16) for _ in "qk")
    show(half=sink_scores_without_map(q, k, visible(300)))


def test_scores_of_a_long_prompt(draw, show):
    """Memory: never all weights at once. Those of 6,144 tokens would take 151 MB a head."""
    q, k = draw.normal(1, 1, 6144, 16), draw.normal(1, 1, 6144, 16)
    show(scores=sink_scores_without_map(q, k, torch.ones(1, 1, 6144, 6144, dtype=torch.bool).tril()))


def test_broadcast_without_a_map(draw, show):
    """EAH inside the fused kernel: what the values are mixed to, and gradients to queries, keys and values."""
    q, k, v = 2 * draw.normal(4, 6, 20, 8), draw.normal(4, 3, 20, 8), draw.normal(4, 3, 20, 8)
    mask, head = case(draw).mask, torch.tensor([5, 0, -1, 3])
    leaves = {"queries": q, "keys": k, "values": v}
    for leaf in leaves.values():
        leaf.requires_grad_()
    mixed = broadcast_without_map(q, k, v, mask, head)
    show(small=mixed, last_rows=broadcast_without_map(q[:, :, 15:], k, v, mask[:, :, 15:], head))
    mixed.square().sum().backward()
    cut_off = [name for name, leaf in leaves.items() if leaf.grad is None]
    assert not cut_off, f"No gradient reached the {', '.join(cut_off)}."
    show.named({f"gradient_of_{name}": leaf.grad for name, leaf in leaves.items()})


def test_broadcast_in_a_long_prompt(draw, show):
    """Memory: of 4,096 tokens and 8 heads a written-out map would take 537 MB."""
    q, k, v = draw.normal(1, 8, 4096, 16), draw.normal(1, 4, 4096, 16), draw.normal(1, 4, 4096, 16)
    mask = torch.ones(1, 1, 4096, 4096, dtype=torch.bool).tril()
    show(some_rows=broadcast_without_map(q, k, v, mask, torch.tensor([3]))[:, :, ::16])


def test_many_small_maps(draw, show):
    """Speed: the scores of 12,000 maps of 128 tokens. A loop in Python over columns or rows pays for each of them."""
    mask, scores = visible(128), torch.empty(12000, 4)
    maps = draw.weights(8, mask).unbind(dim=1)
    for number in range(12000):
        scores[number] = vision_sink_scores(maps[number % 8][:, None], mask)[0, 0, ::32]
    show(scores=scores)


def test_all_together(draw, show):
    """With and without a map, EAH chooses the same head and gives the same output."""
    q, k, v, found = 2 * draw.normal(4, 6, 20, 8), draw.normal(4, 6, 20, 8), draw.normal(4, 6, 20, 8), case(draw)
    weights = attention_weights(q, k, found.mask)
    changed, head = broadcast_densest_head(weights, found.mask, found.layout, ResolvedEAH(threshold=0.06))
    without = broadcast_without_map(q, k, v, found.mask, head)
    assert torch.allclose(without, changed @ v, atol=1e-4), "The two ways differ."
    scores = sink_scores_without_map(q, k, found.mask)
    show(head=head, mixed=changed @ v, sinks=vision_sinks(scores, found.layout.image, 0.06).sum(dim=-1))


def test_a_layer_led_astray_is_mended(draw, show):
    """In layer 1 of the model `planted-sinks` we led all heads but one astray, so that it answers as if it were blind.
    With your EAH it answers as one that sees; with the second densest head, which is astray as well, it stays blind.
    """
    vlm = minivlm.load("planted-sinks", device="cpu", dtype="float32")
    published = EAH.for_model(vlm.model.config)
    settings = {"plain": None, "your_EAH": published, "second_densest": replace(published, head="second")}
    scenes = [HELD_OUT.draw(number) for number in range(ASKED)]
    pairs = [(scene, is_there(scene, Random(number))) for scene in scenes for number in range(EACH)]
    pictures, questions = zip(*((scene.picture, question.text) for scene, question in pairs), strict=True)
    right = {}
    for name, eah in settings.items():
        told = vlm.ask_many(pictures, questions, mitigation=eah, max_new_tokens=1)
        said = [answer[:2] == question.answer[:2] for answer, (_, question) in zip(told, pairs, strict=True)]
        right[name] = sum(said)
    assert right["your_EAH"] >= right["plain"] + EACH, f"Questions answered rightly, of {len(pairs)}: {right}."
    show.named({f"{name}_right": float(count) for name, count in right.items()}, within=0.1)
