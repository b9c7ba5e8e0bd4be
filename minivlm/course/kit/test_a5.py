"""Assignment a5: CLVA's anchor and its controls (our reading). Words such as `tpppptt`: see `kit/samples.py`."""

from dataclasses import replace

import torch

import minivlm
from minivlm.course.kit import samples
from minivlm.course.kit.draw import Draw
from minivlm.course.kit.samples import anchor_of, attention, crowd, layout_of, maps_of
from minivlm.course.kit.show import Show
from minivlm.course.kit.tiny import left_padded, tiny_model, tiny_pixels, tiny_prompt
from minivlm.evaluation.scenes import SceneWords
from minivlm.inference.effect import effect_of
from minivlm.inference.generate import new_cache
from minivlm.model import CLVA
from minivlm.model.clva import (
    Anchor,
    ResolvedCLVA,
    controlled,
    drift_gate,
    find_anchor,
    pooled_map,
    pull_to_anchor,
    without_outliers,
)
from minivlm.model.decoder import Block
from minivlm.model.redistribute import redistributed
from minivlm.toyworld.questions import DESCRIBE
from minivlm.toyworld.world import HELD_OUT

EXACT = 1e-10  # fp64: a few roundings after each other
HALF = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}  # two roundings, to 11 and to 8 bits
MENDED = range(12)  # scenes, held out from training
WORDS = SceneWords()
BY_LAYER = ResolvedCLVA(noise_layers=(1, 2), anchor_layers=(4, 5, 6), deep_layers=(8, 9))


def test_pooled_map(draw: Draw, show: Show) -> None:
    """A layer is one map: the sum over the heads that look most at the picture, chosen by each row for itself."""
    show(by_hand=pooled_map(*samples.four_heads()))
    layout = layout_of("t" + "p" * draw.number(5, 9) + "t" * draw.number(3, 6))
    weights = attention(draw, layout, heads=8)
    show(half=pooled_map(weights, layout), third=pooled_map(weights, layout, 0.3))
    show(one=pooled_map(weights, layout, 0.01), every=pooled_map(weights, layout, 1))
    many = attention(draw, layout, heads=25)
    show(seven=pooled_map(many, layout, 0.28))  # floats make 7.000000000000001 of 0.28 * 25


def test_pooled_map_of_a_batch(draw: Draw, show: Show) -> None:
    """Pictures stand elsewhere in every sample, some rows see none, and half precision is summed in fp32."""
    layout = crowd(draw)
    weights = attention(draw, layout, heads=6)
    found = pooled_map(weights, layout)
    assert found.isfinite().all(), "A row that sees no patch has a map of zeros, and not of nan."
    show(maps=found, fp64=pooled_map(weights.double(), layout), bf16=pooled_map(weights.bfloat16(), layout))


def test_outliers_are_cut(draw: Draw, show: Show) -> None:
    """Values more than 3 standard deviations above the mean become that limit; all others stay."""
    gain = draw.uniform(1, 4, draw.number(20, 30)) * 0.01
    gain[0, 0, draw.number(0, 9)] = 1.0
    gain[0, 1, [3, 11]] = torch.tensor([0.5, 0.6])
    gain[0, 2] = 1 - gain[0, 2]
    gain[0, 2, draw.number(0, 9)] = 0  # far below all others
    show(cut=without_outliers(gain, layout_of("t" + "p" * gain.shape[2] + "ttt")))


def test_outliers_among_what_a_row_sees(draw: Draw, show: Show) -> None:
    """Mean and deviation are of the patches that the row sees: not of columns of other samples, nor of later ones."""
    layout = crowd(draw)
    seen = layout.seen(layout.text_rows)
    gain = draw.uniform(*seen.shape) * 0.01
    gain[..., ::11] += 1
    gain = (gain * seen).requires_grad_()
    found = without_outliers(gain, layout)
    assert found.isfinite().all(), "Nan or infinite for a row that sees no patch: there, N = 0."
    found[seen].square().sum().backward()
    assert gain.grad is not None, "No gradient reached the gain."
    assert gain.grad.isfinite().all(), "The gradient is nan or infinite: what is the derivative of sqrt at 0?"
    show(cut=found * seen, gradient=gain.grad * seen)


def test_anchor(draw: Draw, show: Show) -> None:
    """Noise, middle and anchor of every row, from the layers that the settings name and no others."""
    show(by_hand=find_anchor(*samples.four_layers()).anchor)
    layout = crowd(draw)
    maps = maps_of(draw, layout, range(10))
    found = find_anchor(maps, layout, BY_LAYER)
    show(noise=found.noise, middle=found.middle, anchor=found.anchor)
    show(keep=find_anchor(maps, layout, replace(BY_LAYER, keep=0.3)).anchor)


def test_anchor_without_gain(draw: Draw, show: Show) -> None:
    """Where the middle layers look as the first ones did there is no anchor: zeros, and neither nan nor a flat map."""
    layout = layout_of("tppppppttt", "tppppppttt")
    maps = maps_of(draw, layout, range(10))
    for map_ in maps.values():
        map_[1] = torch.tensor([4, 1, 0, 2, 0, 1]) / 8  # eighths: their means are not rounded
    found = find_anchor(maps, layout, BY_LAYER)
    assert found.anchor.isfinite().all(), "The anchor of a row without any gain is nan: 0 was divided by 0."
    show(anchor=found.anchor, sums=found.anchor.sum(dim=-1))
    swapped = find_anchor(maps, layout, replace(BY_LAYER, swapped=True))
    show(swapped_noise=swapped.noise[0], swapped_middle=swapped.middle[0], swapped_anchor=swapped.anchor[0])


def test_shuffled_anchor(draw: Draw, show: Show) -> None:
    """The control "shuffled" has the anchor's values on other patches, the same exchange for all that see the same."""
    patches, clva = draw.number(20, 30), CLVA(anchor="shuffled", seed=draw.number(0, 99))
    one = layout_of("t" + "p" * patches + "t" * patches)
    each = torch.eye(patches)[None]  # row r's anchor is patch r alone
    exchange = samples.steady(each, one, clva)
    assert not torch.equal(exchange, each), "Nothing has moved: what is exchanged are patches, also where a is 0."
    anchor = samples.sparse_maps(draw, one)[0]
    samples.agree(controlled(anchor, one, clva), anchor @ exchange, "One exchange for all rows, wherever a is 0.")
    layout = crowd(draw)
    anchor = maps_of(draw, layout, [0])[0]
    found = samples.steady(anchor, layout, clva)
    show(values=found.sort(dim=-1).values, unseen=found.masked_fill(layout.seen(layout.text_rows), 0))
    show(hits=exchange.sum(dim=1), moved=(found != anchor).any(dim=-1).any(dim=-1))
    maps = maps_of(draw, layout, range(10))
    gain, asked_for = (find_anchor(maps, layout, replace(BY_LAYER, anchor=name)) for name in ("gain", "shuffled"))
    by_hand = controlled(gain.anchor, layout, CLVA(anchor="shuffled"))
    samples.agree(asked_for.anchor, by_hand, "find_anchor: `controlled` comes last, on a.")


def test_random_anchor(draw: Draw, show: Show) -> None:
    """The control "random" depends on the seed and not on the picture; its sum is 1, or 0 where there was no anchor."""
    layout, clva = crowd(draw), CLVA(anchor="random", seed=draw.number(0, 99))
    anchor, another = samples.sparse_maps(draw, layout)
    anchor[:, -1] = 0
    chance = controlled(anchor, layout, clva)[0, -2, layout.seen(2)[0, 0]]
    assert chance.max() > 1.2 * chance.min(), "All patches get nearly the same: flat is another control."
    found, both = samples.steady(anchor, layout, clva), anchor.any(dim=-1) & another.any(dim=-1)
    blind = "Another anchor, other random numbers: they may know of it only whether there is one."
    samples.agree(controlled(another, layout, clva)[both], found[both], blind)
    samples.agree(found[0, -2], found[0, -3], "Two rows that see the same patches have different random numbers.")
    show(sums=found.sum(dim=-1), unseen=found.masked_fill(layout.seen(layout.text_rows), 0))


def test_controls_of_a_sample_alone(draw: Draw, show: Show) -> None:
    """A control depends neither on the other samples of the batch, nor on how many rows come at once."""
    short = "t" + "p" * draw.number(10, 16) + "ttt"
    together, alone, later = layout_of(f"t{'p' * 20}ttt", short), layout_of(short), layout_of(short + "tt", rows=1)
    maps, here = maps_of(draw, alone, [0])[0], together.patches[1, 0, 0]
    wide_map = torch.zeros(2, 3, len(here))
    wide_map[1, :, here] = maps[0]
    for name in ("shuffled", "random"):
        clva = CLVA(anchor=name, seed=draw.number(0, 99))
        expected, found = controlled(maps, alone, clva)[0], controlled(wide_map, together, clva)[1, :, here]
        samples.agree(found, expected, f"{name}: one control alone, another one in a batch.")
        found = controlled(maps[:, -1:], later, clva)[0]
        samples.agree(found, expected[-1:], f"{name}: one control for a prompt, another one for a word written.")
        show.named({name: expected.sum(dim=-1)})


def test_gate(draw: Draw, show: Show) -> None:
    """How far a row's deep map has gone back to the noise: 0 at the middle layers' and beyond, 1 at the noise."""
    gate = drift_gate(*samples.drifting(draw, torch.linspace(-0.4, 1.2, 9, dtype=torch.float64)), CLVA())
    assert torch.equal(gate, gate.clamp(0, 1)), "A gate lies between 0 and 1."
    show(EXACT, gate=gate)


def test_gate_of_a_batch(draw: Draw, show: Show) -> None:
    """Each row has its own gate. It is 0 for a row without an anchor or a picture, even with `gate=False`."""
    layout = crowd(draw)
    found, weights = anchor_of(draw, layout, torch.float64), attention(draw, layout, 6, torch.float64)
    found.anchor[:, ::2] = 0
    for name, clva in {"gate": CLVA(), "all_heads": CLVA(heads=1.0), "open": CLVA(gate=False)}.items():
        gate = drift_gate(weights, found, layout, clva)
        assert gate.isfinite().all(), "A gate is nan: what is the cosine of a map of zeros?"
        show.named({name: gate}, within=EXACT)
    show(1e-4, bf16=drift_gate(weights.bfloat16(), anchor_of(draw, layout), layout, CLVA()))  # maps are in fp32


def test_gate_without_room(draw: Draw, show: Show) -> None:
    """Where the middle map equals the noise map, the gate is 0, and neither nan nor 1."""
    gate = drift_gate(*samples.without_room(draw), CLVA())
    assert gate.isfinite().all(), "A gate is nan: where the middle is the noise, 1 - cos(c, n) is 0."
    show(EXACT, gate=gate)


def test_attention_is_shared_out_anew(draw: Draw, show: Show) -> None:
    """In the chosen rows, the same mass is shared among the patches as `wanted` says; nothing else changes."""
    layout = crowd(draw)
    weights = attention(draw, layout)
    mass, rows = samples.mass_and_rows(draw, weights, layout)
    wanted = draw.uniform(*weights.shape[:3], layout.seen(1).shape[-1]) * layout.seen(weights.shape[2])[:, None]
    wanted[:, 1] = 0  # a head from which nothing is wanted
    found = redistributed(weights, wanted, mass, layout, rows)
    show(weights=found, changed=(found != weights).any(dim=1), sums=found.sum(dim=-1))


def test_kappa(draw: Draw, show: Show) -> None:
    """Kappa scales the attention on the picture before the whole row is brought back to 1."""
    layout = crowd(draw)
    weights = attention(draw, layout, dtype=torch.float64)
    mass, rows = samples.mass_and_rows(draw, weights, layout)
    wanted = weights[..., layout.span] ** 2 * layout.patches
    for kappa in (1.5, 0.25, 1.0):
        found = redistributed(weights, wanted, mass, layout, rows, kappa)
        changed = (found != weights).any(dim=1).any(dim=-1)  # all other rows stay bit for bit
        show.named({f"kappa {kappa}": found, f"rows changed by kappa {kappa}": changed}, within=EXACT)


def test_pull(draw: Draw, show: Show) -> None:
    """Each head is moved toward the anchor and away from the noise, in proportion to its mass on the picture and to the
    gate.
    """
    layout = crowd(draw)
    found, weights = anchor_of(draw, layout, torch.float64), attention(draw, layout, dtype=torch.float64)
    gate = draw.uniform(weights.shape[0], weights.shape[2], dtype=torch.float64)
    gate[:, ::3] = 0
    omega, beta = float(draw.uniform(1)) / 2 + 0.2, float(draw.uniform(1)) / 5 + 0.05
    both = CLVA(omega=omega, beta=beta)
    only_anchor = replace(both, omega=1.0, beta=0.0)
    settings = {"both": both, "below_0": replace(both, beta=1.0), "anchor": only_anchor}
    for name, clva in {**settings, "kappa": replace(both, kappa=1.4)}.items():
        show.named({name: pull_to_anchor(weights, found, gate, layout, clva)}, within=EXACT)


def test_pull_while_words_are_written(draw: Draw, show: Show) -> None:
    """With a cache there is one new row: it is pulled as it was among all rows, in the dtype of the weights."""
    sample = "t" + "p" * draw.number(8, 12) + "tttttt"
    layout, last = layout_of(sample), layout_of(sample, rows=1)
    weights, found = attention(draw, layout), anchor_of(draw, layout)
    newest = Anchor(*(part[:, -1:] for part in (found.noise, found.middle, found.anchor)))
    gate = draw.uniform(1, layout.text_rows) * 0.5 + 0.5
    show(last=pull_to_anchor(weights[:, :, -1:], newest, gate[:, -1:], last, CLVA()))
    show(within=1e-4, gate=drift_gate(weights[:, :, -1:], newest, last, CLVA()))  # a small difference of two cosines
    for dtype, within in HALF.items():
        half = pull_to_anchor(weights.to(dtype), found, gate, layout, CLVA())
        show.named({str(dtype).removeprefix("torch."): half}, within=within)


def test_the_picture_alone_is_widened(draw: Draw, show: Show) -> None:
    """Memory, in half precision: a picture is a small part of a long text, so only its columns may become fp32."""
    layout = layout_of("t" * 16000 + "p" * 64 + "t" * 128)
    row = (2 * draw.normal(1, 1, 128, layout.attention_mask.shape[1], dtype=torch.bfloat16)).softmax(dim=-1)
    weights = row.expand(-1, 32, -1, -1)
    found = anchor_of(draw, layout)
    show(1e-4, gate=drift_gate(weights, found, layout, CLVA()))
    pulled = pull_to_anchor(weights, found, torch.full((1, 128), 0.8), layout, CLVA())
    show(HALF[torch.bfloat16], pulled=pulled[:, ::8, ::16, ::64], patches=pulled[:, ::8, ::16, layout.span])


def test_a_planted_drift_is_mended(draw: Draw, show: Show) -> None:
    """The model `planted-drift` invents, since we trained its deep layers to look at noise. With your CLVA it invents
    half as much, and names what is there as before; with a shuffled anchor it goes on inventing.
    """
    vlm = minivlm.load("planted-drift", device="cpu", dtype="float32")
    strong = CLVA(omega=1.0, beta=0.0)
    settings = {"plain": None, "your_CLVA": strong, "shuffled_anchor": replace(strong, anchor="shuffled")}
    scenes = [HELD_OUT.draw(number) for number in MENDED]
    true, invented = {}, {}
    for name, clva in settings.items():
        told = vlm.ask_many([one.picture for one in scenes], [DESCRIBE[0]] * len(scenes), mitigation=clva)
        named = [{mention.object for mention in WORDS.mentions(text)} for text in told]
        true[name] = sum(len(objects & {*one.names}) for objects, one in zip(named, scenes, strict=True))
        invented[name] = sum(len(objects - {*one.names}) for objects, one in zip(named, scenes, strict=True))
    assert invented["your_CLVA"] <= invented["plain"] / 2, f"It goes on inventing: {invented} objects."
    assert true["your_CLVA"] >= true["plain"] - 1, f"What is there is no longer named: {true} objects."
    show.named({f"{name}_true": float(count) for name, count in true.items()}, within=0.1)
    show.named({f"{name}_invented": float(count) for name, count in invented.items()}, within=0.25)


def test_all_rows_at_once(draw: Draw, show: Show) -> None:
    """Speed: from maps to pulled weights for a long batch. Nested loops over rows and patches are too slow."""
    layout = layout_of("t" + "p" * 256 + "t" * 256, "p" * 256 + "t" * 200)
    weights = attention(draw, layout, heads=8)
    maps = {layer: pooled_map(weights.roll(layer, dims=1) ** (1 + layer / 8), layout) for layer in (1, 2, 4, 5, 6)}
    for anchor in ("gain", "shuffled", "random"):
        clva = replace(BY_LAYER, anchor=anchor)
        found = find_anchor(maps, layout, clva)
        gate = drift_gate(weights, found, layout, clva)
        pulled = pull_to_anchor(weights, found, gate, layout, clva)
        if anchor == "gain":
            show(1e-4, gate=gate[:, ::32], pulled=pulled[:, :, ::64, ::16])


def test_the_model_with_your_clva(draw: Draw, show: Show) -> None:
    """A random model reads two prompts and writes a word under your CLVA: which rows are changed, and the logits."""
    model = tiny_model(draw, num_hidden_layers=8)
    for block in model.text.layers:
        assert isinstance(block, Block)
        block.self_attn.q_proj.weight.mul_(4)  # so that heads look at some patches more than at others
    tokens, attention_mask = left_padded([tiny_prompt(draw, 6), tiny_prompt(draw, 3)])
    pixels, word = tiny_pixels(draw, 2), draw.whole(3, 50, 2, 1)
    for name, clva in {"strong": CLVA(omega=0.8, gate=False), "gated": CLVA(), "kappa": CLVA(kappa=2.0)}.items():
        cache = new_cache(model, 2, 40)
        read = model(tokens, pixels, attention_mask=attention_mask, cache=cache, mitigation=clva)
        written = model(word, cache=cache, mitigation=clva)
        show.named(
            {f"{name}, read": read.logits[:, -3:], f"{name}, written": written.logits}, within=1e-4
        )  # eight layers in fp32
        effects = [effect for effect in (effect_of(read), effect_of(written)) if effect is not None]
        changed = [[layer.layer, layer.rows] for effect in effects for layer in effect.layers]
        show.named({f"{name}, rows changed": changed})
