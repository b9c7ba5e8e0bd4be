"""Traces: what is kept of an answer, its words, and where an object is on the patches.

fp32 on a CPU. Tokens and texts are compared exactly; statistics of a batch row and of the row alone, or of the visible
and the fused lane, differ by the order of sums: 1e-5. Maps and sink scores are kept in fp16: 1e-3 of the largest.
"""

import gc
import json
from math import isnan
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import minivlm
from minivlm import CLVA, EAH, CheckpointError, EvaluationError, GenerationError
from minivlm.inference.decode import COLUMNS
from minivlm.inference.trace import PARTS, TENSORS, TOP, Tracer
from minivlm.inputs.image import ImagePreprocessing
from minivlm.inputs.patches import patch_mask
from minivlm.lens.words import Trace, Word, evidence, pointing_hit, words
from minivlm.toyworld.words import FORM, FORMS
from minivlm.toyworld.world import HELD_OUT
from support.tiny_model import PATCHES, picture, tiny_vlm

SHIPPED = Path(__file__).parent.parent / "weights" / "tiny" / "model.safetensors"
LAYERS, HEADS = 3, 4
QUESTION = "What is in the image?"
ASK = {"max_new_tokens": 12}
HOT = ASK | {"temperature": 1.2, "seed": 1}
METHODS = {"plain": None, "EAH": EAH(threshold=0.0), "CLVA": CLVA(), "both": [EAH(threshold=0.0), CLVA()]}


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return tiny_vlm(tmp_path_factory.mktemp("trace"))


@pytest.fixture(scope="module")
def shipped():
    if not SHIPPED.exists():
        pytest.skip("weights/tiny is not there")
    return minivlm.load(device="cpu")


def made_trace(pieces: list[str], pooled: torch.Tensor | None = None) -> Trace:
    """A trace of given pieces; `pooled` (T, L, P) as given, everything else empty."""
    pooled = torch.zeros(len(pieces), 1, 1) if pooled is None else pooled
    tokens, layers, patches = pooled.shape
    return Trace(
        {"text": "".join(pieces), "pieces": pieces, "lens_layers": []},
        shares=torch.zeros(tokens, layers, 1, len(PARTS)),
        entropy=torch.zeros(tokens, layers, 1),
        pooled=pooled.half(),
        sink_scores=torch.zeros(layers, 1, patches).half(),
        lens_prob=torch.zeros(tokens, 0),
        lens_top=torch.zeros(tokens, 0, TOP).long(),
        lens_top_prob=torch.zeros(tokens, 0, TOP),
    )


def object_mentions(text: str, present: list[str] = ()) -> list[tuple[str, int, int, bool]]:
    found = [(FORMS[match.group().lower()], *match.span()) for match in FORM.finditer(text)]
    return [(name, start, stop, name in present) for name, start, stop in found]


# --- tracing changes nothing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [ASK, HOT], ids=["greedy", "hot"])
@pytest.mark.parametrize("method", METHODS)
def test_a_traced_answer_is_the_untraced_one(vlm, method, settings):
    answer = vlm.ask(picture(0), QUESTION, mitigation=METHODS[method], **settings)
    trace = vlm.trace(picture(0), QUESTION, mitigation=METHODS[method], maps=[1], lens=[0, 2], **settings)
    assert (trace.text, trace.facts["tokens"], trace.facts["finish"]) == (answer, list(answer.tokens), answer.finish)
    assert "".join(trace.pieces) == answer
    assert trace.facts["spans"] == [[span.name, span.start, span.stop] for span in answer.spans]
    assert (trace.facts["effect"] is None) == (method == "plain")


def test_the_methods_of_these_tests_do_something(vlm):
    """Otherwise the test above would hold four times the same."""
    pooled = [vlm.trace(picture(0), QUESTION, mitigation=method, **ASK).pooled[0] for method in METHODS.values()]
    for first in range(4):
        for second in range(first):
            assert not torch.equal(pooled[first], pooled[second])


@pytest.mark.weights
@pytest.mark.parametrize("method", ["plain", "both"])
def test_a_traced_answer_of_the_shipped_model_is_the_untraced_one(shipped, method):
    mitigation = [EAH(), CLVA()] if method == "both" else None
    pictures = [HELD_OUT.draw(seed).picture for seed in range(3)]
    questions = ["Describe the image."] * 3
    for settings in (ASK, ASK | {"temperature": 1.0, "seed": 3}):
        answers = shipped.ask_many(pictures, questions, mitigation=mitigation, **settings)
        traces = shipped.trace_many(pictures, questions, mitigation=mitigation, **settings)
        assert [trace.text for trace in traces] == answers


# --- what a trace holds -----------------------------------------------------------------------------------------------


def check_statistics(trace: Trace, tokens: int, patches: int, maps: int = 0, lens: int = 0) -> None:
    """Shapes, and sums that must be 1."""
    assert len(trace.pieces) == len(trace.facts["tokens"]) == tokens
    assert trace.shares.shape == (tokens, LAYERS, HEADS, len(PARTS))
    assert trace.entropy.shape == (tokens, LAYERS, HEADS)
    assert trace.pooled.shape == (tokens, LAYERS, patches)
    assert trace.sink_scores.shape == (LAYERS, HEADS, patches)
    assert trace.lens_prob.shape == (tokens, lens)
    assert trace.lens_top.shape == trace.lens_top_prob.shape == (tokens, lens, TOP)
    assert len(trace.maps) == maps
    torch.testing.assert_close(trace.shares.sum(-1), torch.ones(tokens, LAYERS, HEADS), rtol=0, atol=1e-5)
    whole = torch.full((tokens, LAYERS), float(patches > 0))
    torch.testing.assert_close(trace.pooled.float().sum(-1), whole, rtol=0, atol=1e-3)
    assert ((trace.entropy >= 0) & (trace.entropy <= 1 + 1e-6)).all()
    assert (trace.share("image") > 0).all() == (patches > 0)
    assert not trace.share("answer")[0].any()
    assert (trace.share("answer")[1:] > 0).all()


@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_statistics_have_their_shapes_and_sums(vlm, pictures):
    images = [picture(seed) for seed in range(pictures)]
    trace = vlm.trace(images, QUESTION, maps=[0, 2], lens=[1], **ASK)
    check_statistics(trace, tokens=12, patches=pictures * PATCHES, maps=2, lens=1)
    assert trace.facts["finish"] == "length"


def test_statistics_are_what_the_models_own_rows_say(vlm):
    """Computed once more from the weights of one forward over the prompt and the answer."""
    trace = vlm.trace(picture(0), QUESTION, **ASK)
    inputs = vlm.prepare(picture(0), QUESTION)
    written = torch.tensor([trace.facts["tokens"][:-1]])
    tokens = torch.cat((inputs.tokens, written), dim=1)
    maps = vlm.model(tokens, inputs.pixels, maps=range(LAYERS)).maps
    start = inputs.tokens.shape[1] - 1
    spans = {name: (first, last) for name, first, last in trace.facts["spans"] if name == "image"}
    first, last = spans["image"]
    for token in range(12):
        for layer in range(LAYERS):
            row = maps[layer][0, :, start + token]  # H K
            torch.testing.assert_close(
                trace.share("image")[token, layer], row[:, first:last].sum(-1), rtol=0, atol=1e-5
            )
            answer = row[:, start + 1 : start + 1 + token].sum(-1)
            torch.testing.assert_close(trace.share("answer")[token, layer], answer, rtol=0, atol=1e-5)
            p = row[:, first:last] / row[:, first:last].sum(-1, keepdim=True)
            entropy = -(p * p.log()).sum(-1) / torch.tensor(PATCHES).log()
            torch.testing.assert_close(trace.entropy[token, layer], entropy, rtol=0, atol=1e-5)
            strongest = row[:, first:last].sum(-1).topk(HEADS // 2).indices
            pooled = row[strongest, first:last].sum(0)
            torch.testing.assert_close(
                trace.pooled[token, layer].float(), pooled / pooled.sum(), rtol=0, atol=1e-3 * float(pooled.max())
            )


@pytest.mark.filterwarnings("ignore:The mitigation changed nothing")  # in the row without a picture
def test_rows_of_a_batch_are_traced_as_if_alone(vlm):
    images = [picture(0), None, [picture(1), picture(2)], picture(0, 9, 40)]
    texts = ["Is there a dog?", "No.", "What is in the image? Two cats.", "A red ball"]
    how = {"mitigation": CLVA(), "maps": [1], "lens": [1, 2], **HOT}
    for together, image, text in zip(vlm.trace_many(images, texts, **how), images, texts, strict=True):
        alone = vlm.trace(image, text, **how)
        patches = PATCHES * (0 if image is None else len(image) if isinstance(image, list) else 1)
        check_statistics(together, len(alone.pieces), patches, maps=1, lens=2)
        for fact in ("text", "tokens", "pieces", "spans", "finish"):
            assert together.facts[fact] == alone.facts[fact], fact
        for name in TENSORS:
            one, other = getattr(together, name).float(), getattr(alone, name).float()
            largest = float(other.abs().max()) if other.numel() else 0
            torch.testing.assert_close(one, other, rtol=0, atol=max(1e-3 * largest, 1e-5), msg=name)
        assert together.maps[1].shape == alone.maps[1].shape
        torch.testing.assert_close(together.maps[1], alone.maps[1], rtol=0, atol=1e-5)


def test_rows_that_end_early_are_cut_to_their_answers(vlm):
    stop = vlm.ask(picture(0), QUESTION, **HOT)[3:5]
    traces = vlm.trace_many([picture(0), picture(1)], [QUESTION] * 2, stop=stop, **HOT)
    answers = vlm.ask_many([picture(0), picture(1)], [QUESTION] * 2, stop=stop, **HOT)
    assert [len(trace.pieces) for trace in traces] == [len(answer.tokens) for answer in answers]
    assert len(traces[0].pieces) < 12
    assert traces[0].facts["finish"] == "stop"
    for trace, answer in zip(traces, answers, strict=True):
        check_statistics(trace, len(answer.tokens), PATCHES)
        assert "".join(trace.pieces) == trace.text == answer


def test_the_logit_lens_of_the_last_layer_is_the_models_own_distribution(vlm):
    trace = vlm.trace(picture(0), QUESTION, lens=[0, LAYERS - 1], **ASK)
    logits = vlm.logits(picture(0), QUESTION)[-1].softmax(-1)
    assert trace.lens_layers == [0, LAYERS - 1]
    torch.testing.assert_close(trace.lens_prob[0, 1], logits[trace.facts["tokens"][0]], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(trace.lens_top_prob[0, 1], logits.topk(TOP).values, rtol=1e-4, atol=1e-7)
    assert trace.lens_top[0, 1].tolist() == logits.topk(TOP).indices.tolist()
    inputs = vlm.prepare(picture(0), QUESTION)
    tokens = torch.cat((inputs.tokens, torch.tensor([trace.facts["tokens"][:-1]])), dim=1)
    own = vlm.model(tokens, inputs.pixels).logits[0, inputs.tokens.shape[1] - 1 :].softmax(-1)  # T V
    chosen = own.gather(1, torch.tensor(trace.facts["tokens"])[:, None])[:, 0]
    torch.testing.assert_close(trace.lens_prob[:, 1], chosen, rtol=1e-4, atol=1e-7)
    assert not torch.allclose(trace.lens_prob[:, 0], chosen, rtol=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_whole_maps_are_the_models_weights(vlm, method):
    trace = vlm.trace(picture(0), QUESTION, mitigation=METHODS[method], maps=[1], **ASK)
    inputs, layers = vlm.prepare(picture(0), QUESTION), range(LAYERS)
    same = vlm.model(**inputs, mitigation=METHODS[method], maps=[1], rows=layers, sinks=layers, last_only=True).maps[1]
    alone = vlm.model(**inputs, mitigation=METHODS[method], maps=[1]).maps[1]
    assert list(trace.maps) == [1]
    assert torch.equal(trace.maps[1], same[0])
    torch.testing.assert_close(trace.maps[1], alone[0], rtol=0, atol=1e-6)  # there, layer 0 takes the fused lane


def test_sink_scores_are_the_prefills(vlm):
    trace = vlm.trace(picture(0), QUESTION, mitigation=EAH(threshold=0.0), **ASK)
    inputs = vlm.prepare(picture(0), QUESTION)
    scores = vlm.model(**inputs, mitigation=EAH(threshold=0.0), sinks=range(LAYERS)).sink_scores
    slots = inputs.tokens[0] == vlm.tokenizer.image
    for layer in range(LAYERS):
        torch.testing.assert_close(trace.sink_scores[layer].float(), scores[layer][0][:, slots], rtol=2e-3, atol=1e-6)


def test_without_a_cache_the_same_statistics(vlm):
    one, other = (vlm.trace(picture(0), QUESTION, lens=[1], cache=cache, **ASK) for cache in (True, False))
    for name in TENSORS:
        torch.testing.assert_close(getattr(one, name).float(), getattr(other, name).float(), rtol=2e-3, atol=1e-5)


def test_a_trace_that_was_interrupted_keeps_what_was_written(vlm, monkeypatch):
    whole, record = vlm.trace(picture(0), QUESTION, **ASK), Tracer.record

    def interrupted_after(steps: int):
        def recording(tracer, step):
            if len(tracer.steps) == steps:
                raise KeyboardInterrupt
            record(tracer, step)

        return recording

    monkeypatch.setattr(Tracer, "record", interrupted_after(5))
    part = vlm.trace(picture(0), QUESTION, **ASK)
    check_statistics(part, 5, PATCHES)
    assert part.facts["finish"] == "interrupted"
    assert torch.equal(part.shares, whole.shares[:5])
    monkeypatch.setattr(Tracer, "record", interrupted_after(0))
    with pytest.raises(GenerationError, match="interrupted before the first token"):
        vlm.trace(picture(0), QUESTION, **ASK)


# --- memory -----------------------------------------------------------------------------------------------------------


def test_a_trace_of_a_large_model_stays_small(vlm):
    """620 + 128 tokens of 32 layers and 32 heads, 576 of them patches: by the shapes of a small run, scaled up."""
    trace = vlm.trace(picture(0), QUESTION, lens=range(LAYERS), **ASK)
    axes = {
        "shares": "T L H parts",
        "entropy": "T L H",
        "pooled": "T L P",
        "sink_scores": "L H P",
        "lens_prob": "T L",
        "lens_top": "T L top",
        "lens_top_prob": "T L top",
    }
    small = {"T": 12, "L": LAYERS, "H": HEADS, "P": PATCHES, "parts": len(PARTS), "top": TOP}
    large = small | {"T": 128, "L": 32, "H": 32, "P": 576}
    assert set(axes) == set(TENSORS)
    total = 0
    for name, letters in axes.items():
        tensor = getattr(trace, name)
        assert tensor.shape == tuple(small[letter] for letter in letters.split()), name
        size = torch.Size(large[letter] for letter in letters.split())
        total += size.numel() * tensor.element_size()
    assert total < 40e6
    assert total < 0.01 * (32 * 32 * 620**2 * 4)  # the weights of the prefill alone


def tensors() -> list[torch.Tensor]:
    return [thing for thing in gc.get_objects() if type(thing) is torch.Tensor and thing.ndim == 4]


def test_no_whole_map_outlives_its_layer(vlm):
    """At each step nothing with rows and columns of the whole prompt is alive, neither kept by the tracer nor shown."""
    inputs = vlm.prepare(picture(0), QUESTION)
    length = inputs.tokens.shape[1]
    tracer = Tracer(vlm.model, inputs, (), [1])
    alive, others = [], {id(t) for t in tensors()}  # what other tests left

    def watch(step):
        tracer.record(step)
        for row in step.output.rows.values():
            assert row.untyped_storage().nbytes() <= row.shape[1] * COLUMNS * row.element_size()  # no part of a map
        alive.append([tuple(t.shape) for t in tensors() if id(t) not in others])

    vlm.write(inputs, minivlm.Generation(max_new_tokens=2), watcher=watch, **tracer.watch)
    assert len(alive) == 2
    assert not [shape for shapes in alive for shape in shapes if min(shape[-2:]) >= length]
    vlm.write(inputs, minivlm.Generation(max_new_tokens=1), watcher=watch, **tracer.watch | {"maps": [1]})
    assert [shape for shape in alive[-1] if shape == (1, HEADS, length, length)]  # where asked for, it would be seen


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pictures", [0, 2])
def test_a_saved_trace_is_read_back_as_it_was(vlm, tmp_path, pictures):
    images = [picture(seed) for seed in range(pictures)]
    how = {"mitigation": [EAH(threshold=0.0), CLVA()]} if pictures else {}
    trace = vlm.trace(images, QUESTION, maps=[0, 2], lens=[1], stop="zzz", **how, **ASK)
    trace.save(tmp_path / "a.safetensors")
    read = Trace.load(tmp_path / "a.safetensors")
    assert read.facts == json.loads(json.dumps(trace.facts))
    assert (read.text, read.pieces, read.lens_layers) == (trace.text, trace.pieces, [1])
    for name in TENSORS:
        assert getattr(read, name).dtype == getattr(trace, name).dtype
        assert torch.equal(getattr(read, name), getattr(trace, name)), name
    assert list(read.maps) == [0, 2]
    assert all(torch.equal(read.maps[layer], trace.maps[layer]) for layer in read.maps)


def test_files_that_are_no_traces_are_refused_in_a_sentence(tmp_path):
    (tmp_path / "text.safetensors").write_text("no tensors here")
    save_file({"a": torch.zeros(2)}, tmp_path / "weights.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "half.safetensors", {"format": "minivlm trace 1", "facts": "{}"})
    for name, sentence in {"text": "is damaged", "weights": "is no trace", "half": "is no trace"}.items():
        with pytest.raises(CheckpointError, match=rf"{name}\.safetensors {sentence}"):
            Trace.load(tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Trace.load(tmp_path / "nothing.safetensors")


# --- words ------------------------------------------------------------------------------------------------------------


def test_words_of_a_text_with_their_first_tokens():
    pieces = ["A", " traf", "fic light", ",", " two", " c", "ups", " ", "and", " a", " dog", ".", ""]
    trace = made_trace(pieces)
    found = words(trace, object_mentions(trace.text, ["traffic light", "cup"]))
    assert found == [
        Word("A", 0, 1, 0, "other"),
        Word("traffic light", 2, 15, 1, "true"),
        Word("two", 17, 20, 4, "other"),
        Word("cup", 21, 25, 5, "true"),
        Word("and", 26, 29, 8, "other"),  # not the piece of a lone space before it
        Word("a", 30, 31, 9, "other"),
        Word("dog", 32, 35, 10, "invented"),
    ]
    assert all(trace.text[word.start : word.stop].startswith(word.name) for word in found)


def test_words_of_strange_texts():
    assert words(made_trace([]), []) == []
    assert words(made_trace(["12", " 3_4.", "!?"]), []) == []
    cases = {
        ("don", "'t", " re-use"): [("don't", 0), ("re-use", 2)],
        ("", "", "é", "t", "é x"): [("été", 2), ("x", 4)],  # bytes that wait for their character have no text
        ("a dog", "s_b"): [("a", 0), ("dogs", 0), ("b", 1)],
        ("(The", "re)"): [("There", 0)],
    }
    for pieces, expected in cases.items():
        assert [(word.name, word.token) for word in words(made_trace(list(pieces)), [])] == expected


def test_a_mention_of_a_part_takes_its_word_with_it():
    """A mention of "car" in "cars" leaves no other word "cars"; quotes before its letters belong to it."""
    trace = made_trace(["red", ' "', "cars", '"'])
    found = words(trace, [("car", 4, 8, True)])
    assert [(word.name, word.token, word.kind) for word in found] == [("red", 0, "other"), ("car", 2, "true")]


@pytest.mark.parametrize("place", [(0, 99), (-2, 2), (3, 3), (4, 2), (5, 6)])
def test_mentions_that_are_no_place_in_the_text(place):
    with pytest.raises(EvaluationError, match="mention of 'dog' stands at characters"):
        words(made_trace(["a dog", "."]), [("dog", *place, True)])


@pytest.mark.weights
def test_words_of_the_shipped_models_answers(shipped):
    scenes = [HELD_OUT.draw(seed) for seed in range(6)]
    traces = shipped.trace_many([scene.picture for scene in scenes], ["Describe the image."] * 6)
    objects = 0
    for scene, trace in zip(scenes, traces, strict=True):
        mentions = object_mentions(trace.text, scene.names)
        found = words(trace, mentions)
        assert [(w.name, w.start, w.stop, w.kind == "true") for w in found if w.kind != "other"] == mentions
        objects += len(mentions)
        for word in found:
            text = trace.text[word.start : word.stop]
            rest = shipped.tokenizer.decode(trace.facts["tokens"][word.token :])
            assert rest.lstrip().startswith(text)
            assert any(letter.isalpha() for letter in trace.pieces[word.token])
        letters = sum(letter.isalpha() for letter in trace.text)
        assert sum(sum(map(str.isalpha, trace.text[word.start : word.stop])) for word in found) == letters
    assert objects >= 6


# --- where an object is -----------------------------------------------------------------------------------------------

PAD, CROP = ImagePreprocessing(8, mode="pad"), ImagePreprocessing(8, mode="crop")


@pytest.mark.parametrize(
    ("boxes", "size", "recipe", "side", "expected"),
    [
        ([(0, 0, 4, 4)], (8, 8), PAD, 2, [1, 0, 0, 0]),
        ([(2, 2, 6, 6)], (8, 8), CROP, 2, [0.25] * 4),
        ([(1, 2, 3, 3)], (8, 8), PAD, 2, [2 / 16, 0, 0, 0]),
        ([(0, 0, 4, 2), (0, 0, 2, 4), (6, 6, 8, 8)], (8, 8), PAD, 2, [12 / 16, 0, 0, 4 / 16]),  # overlap counts once
        ([], (8, 8), PAD, 2, [0] * 4),
        ([(3, 3, 3, 7)], (8, 8), PAD, 2, [0] * 4),  # no area
        ([(0, 0, 8, 4)], (8, 4), PAD, 4, [0] * 4 + [1] * 8 + [0] * 4),  # two rows of padding above, two below
        ([(-9, -9, 99, 99)], (8, 4), PAD, 2, [0.5] * 4),  # what lies beside the picture is padding, not object
        ([(0, 0, 16, 32)], (16, 32), PAD, 4, [0, 1, 1, 0] * 4),  # a tall one, half the size
        ([(0, 0, 8, 16)], (16, 32), PAD, 4, [0, 1, 0, 0] * 2 + [0] * 8),
        ([(0, 0, 4, 8)], (16, 8), CROP, 2, [0] * 4),  # cut off: the square is 4 to 12 of the width
        ([(0, 0, 8, 8)], (16, 8), CROP, 2, [1, 0, 1, 0]),
        ([(0, 8, 8, 12)], (8, 24), CROP, 2, [1, 1, 0, 0]),  # the square is 8 to 16 of the height
        ([(6, 0, 10, 4)], (32, 16), CROP, 4, [0.5, 0, 0, 0] + [0] * 12),  # 32 x 16 -> 16 x 8, then 4 to 12
    ],
)
def test_patch_masks_by_hand(boxes, size, recipe, side, expected):
    mask = patch_mask(boxes, size, recipe, side)
    torch.testing.assert_close(mask, torch.tensor(expected, dtype=torch.float32), rtol=0, atol=1e-6)


def test_patch_masks_equal_counted_pixels():
    """Boxes of whole pixels on a square picture of the model's size: the share of a patch's pixels."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        ends = torch.randint(0, 25, (3, 2, 2), generator=generator).sort(dim=1).values  # boxes, begin/end, x/y
        boxes, pixels = [tuple(box.flatten().tolist()) for box in ends], torch.zeros(24, 24)
        for left, top, right, bottom in boxes:
            pixels[top:bottom, left:right] = 1
        expected = pixels.unflatten(0, (4, 6)).unflatten(2, (4, 6)).mean(dim=(1, 3)).flatten()
        torch.testing.assert_close(patch_mask(boxes, (24, 24), ImagePreprocessing(24), 4), expected, rtol=0, atol=1e-6)


def test_a_margin_narrower_than_a_patch_is_not_seen():
    recipe = ImagePreprocessing(7)
    assert patch_mask([(0, 0, 7, 7)], (7, 7), recipe, 2).tolist() == [1] * 4
    assert patch_mask([(6, 0, 7, 7)], (7, 7), recipe, 2).tolist() == [0] * 4


def test_boxes_and_sides_that_cannot_be():
    with pytest.raises(EvaluationError, match="ends before it begins"):
        patch_mask([(4, 0, 2, 3)], (8, 8), PAD, 2)
    for side in (0, 9):
        with pytest.raises(EvaluationError, match=f"cannot have {side} patches"):
            patch_mask([], (8, 8), PAD, side)


# --- did it look there? -----------------------------------------------------------------------------------------------

MAPS = torch.tensor([[[0.5, 0.25, 0.25, 0.0], [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 0.125, 0.875]]])  # T L P


def test_evidence_by_hand():
    trace = made_trace(["x"], MAPS)
    for mask, expected in {
        (1, 0, 0, 0): [2, 1, 0],
        (1, 1, 0, 0): [1.5, 1, 0],
        (1, 0.5, 0, 0): [(0.5 + 0.125) / 1.5 * 4, 1, 0],
        (0.1, 0, 0, 0.3): [0.5, 1, 0.875 * 0.75 * 4],
        (1, 1, 1, 1): [1, 1, 1],
    }.items():
        torch.testing.assert_close(evidence(trace, 0, torch.tensor(mask)), torch.tensor(expected, dtype=torch.float32))
    assert evidence(trace, 0, torch.zeros(4)).isnan().all()


def test_pointing_by_hand():
    trace = made_trace(["x"], MAPS)
    assert pointing_hit(trace, 0, torch.tensor([1, 0, 0, 0])).tolist() == [True, True, False]
    assert pointing_hit(trace, 0, torch.tensor([0.4, 0, 0, 0.8])).tolist() == [True, True, True]
    assert pointing_hit(trace, 0, torch.tensor([0.3, 0, 0, 0.8])).tolist() == [False, False, True]
    assert pointing_hit(trace, 0, torch.zeros(4)).tolist() == [False] * 3


def test_a_row_without_a_map_gives_no_evidence_and_points_nowhere(vlm):
    trace = made_trace(["x"], torch.zeros(1, 2, 4))
    assert evidence(trace, 0, torch.ones(4)).isnan().all()
    assert not pointing_hit(trace, 0, torch.ones(4)).any()
    blind = vlm.trace(None, QUESTION, max_new_tokens=1)
    assert all(isnan(value) for value in evidence(blind, 0, torch.zeros(0)))
    assert not pointing_hit(blind, 0, torch.zeros(0)).any()


def test_masks_of_two_pictures_are_joined(vlm):
    trace = vlm.trace([picture(0), picture(1)], QUESTION, max_new_tokens=2)
    empty, left = torch.zeros(PATCHES), patch_mask([(0, 0, 10, 14)], (20, 14), vlm.preprocessing, 3)
    both = trace.pooled[1].float()
    for mask, part in ((torch.cat((left, empty)), both[:, :PATCHES]), (torch.cat((empty, left)), both[:, PATCHES:])):
        expected = (part * left).sum(-1) / left.sum() / both.mean(-1)
        torch.testing.assert_close(evidence(trace, 1, mask), expected)
        largest_inside = (left >= left.max() / 2)[part.argmax(-1)] & (part.amax(-1) == both.amax(-1))
        assert pointing_hit(trace, 1, mask).tolist() == largest_inside.tolist()


def test_masks_and_tokens_that_do_not_fit():
    trace = made_trace(["x"], MAPS)
    with pytest.raises(EvaluationError, match=r"has 4 patches .* shape \(8,\)"):
        evidence(trace, 0, torch.ones(8))
    for token in (-1, 1):
        with pytest.raises(EvaluationError, match=f"token {token} was asked for"):
            pointing_hit(trace, token, torch.ones(4))
