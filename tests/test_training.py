"""The toy world's school: what is taught is what will be asked, and what comes out is a regular LLaVA checkpoint."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from random import Random

import pytest
import torch
from PIL import Image

import minivlm
from minivlm.experiments.card import card
from minivlm.experiments.exam import caption_figures, invention_figures
from minivlm.experiments.model_card import EXTRAS
from minivlm.experiments.oracle import Oracle
from minivlm.experiments.trials import PLAIN_CONDITION, Condition, write_captions
from minivlm.model import CLVA, EAH
from minivlm.toyworld.questions import DESCRIBE
from minivlm.toyworld.scenes import Scene, Thing
from minivlm.toyworld.world import HELD_OUT, TRAINING
from minivlm.training.labels import BACKGROUND, COLOR_NUMBER, OBJECT_NUMBER, label
from minivlm.training.lessons import IGNORED, Lessons, Teacher, lesson_loss
from minivlm.training.reader import SoftWords, drilled, forget, lesson
from minivlm.training.recipe import Recipe, Stage
from minivlm.training.schedule import rate
from minivlm.training.tower import mirror_patches
from minivlm.training.train import new_model, normalise, sentences, train
from minivlm.training.vocabulary import train_tokenizer

PAIRS = [("Is there a dog in the image?", "Yes, there is a dog."), ("Where is the dog?", "The dog is on the left.")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that went through every stage, two steps each."""
    made = tmp_path_factory.mktemp("training") / "quick"
    train(made, Recipe.quick())
    return made


@pytest.fixture(scope="module")
def vlm(folder: Path) -> minivlm.VLM:
    return minivlm.load(folder, device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(sentences(TRAINING, seed=0, scenes=200), size=700)


def scene_of(*things: Thing) -> Scene:
    return Scene(seed=0, theme="field", picture=None, things=things)


# --- the tokenizer ----------------------------------------------------------------------------------------------------


def test_the_words_of_the_world_are_single_tokens_and_all_else_can_be_read(tokenizer) -> None:
    assert tokenizer.encode("There is a dog.", add_special_tokens=False).tokens == ["▁There", "▁is", "▁a", "▁dog", "."]
    for text in ("Zürich 猫 \N{PILE OF POO}", "two\nlines", "  spaces  ", "x = 3.14;"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


# --- lessons ----------------------------------------------------------------------------------------------------------


def test_a_lesson_is_the_prompt_that_ask_will_make(vlm: minivlm.VLM, folder: Path) -> None:
    from tokenizers import Tokenizer

    teacher = Teacher(Tokenizer.from_file(str(folder / "tokenizer.json")), vlm.model.config.num_image_tokens)
    lessons = teacher.lessons([PAIRS])
    for number, (question, answer) in enumerate(PAIRS, start=1):
        own = (lessons.segments[0] == 0) | (lessons.segments[0] == number)
        prompt = vlm.prompt(question, num_images=1)
        tokens = lessons.tokens[0][own].tolist()
        assert tuple(tokens[: len(prompt.tokens)]) == prompt.tokens
        assert vlm.tokenizer.decode(tokens[len(prompt.tokens) :]).strip() == answer
        assert tokens[-1] == vlm.tokenizer.eos
        assert lessons.positions[0][own].tolist() == list(range(len(tokens)))
        taught = [token for token in lessons.labels[0][own].tolist() if token != IGNORED]
        assert taught == tokens[len(prompt.tokens) :]


def test_packing_changes_nothing(tokenizer) -> None:
    """A packed batch has the loss of its segments taken one by one; fp32, so to 1e-5."""
    model = new_model(tokenizer, Recipe.quick(), TRAINING)
    teacher = Teacher(tokenizer, model.config.num_image_tokens)
    features = torch.randn(1, model.config.num_image_tokens, model.config.text_config.hidden_size)
    together = teacher.lessons([PAIRS])
    apart = [teacher.lessons([[pair]]) for pair in PAIRS]
    taught = [int((lessons.labels != IGNORED).sum()) for lessons in apart]
    losses = [lesson_loss(model, lessons, features) * count for lessons, count in zip(apart, taught, strict=True)]
    torch.testing.assert_close(lesson_loss(model, together, features), sum(losses) / sum(taught), rtol=1e-5, atol=0)


def test_first_words_count_again(tokenizer) -> None:
    """The extra loss is that of lessons in which nothing but the answers' first tokens is taught."""
    model = new_model(tokenizer, Recipe.quick(), TRAINING)
    teacher = Teacher(tokenizer, model.config.num_image_tokens)
    features = torch.randn(1, model.config.num_image_tokens, model.config.text_config.hidden_size)
    lessons = teacher.lessons([PAIRS])
    starts = [lessons.labels[0].tolist().index(teacher._encode([answer])[0][0]) for _, answer in PAIRS]
    only_first = torch.full_like(lessons.labels, IGNORED)
    only_first[0, starts] = lessons.labels[0, starts]
    first = lesson_loss(model, replace(lessons, labels=only_first), features)
    plain = lesson_loss(model, lessons, features)
    torch.testing.assert_close(lesson_loss(model, lessons, features, first_words=0.5), plain + 0.5 * first)


def test_the_mask_keeps_segments_apart() -> None:
    lessons = Lessons(*(torch.zeros(1, 5, dtype=torch.long) for _ in range(3)), torch.tensor([[0, 1, 1, 2, -1]]))
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [1, 0, 0, 0, 1]]
    assert lessons.mask()[0, 0].int().tolist() == expected


def test_lessons_are_true_and_differ() -> None:
    scene = TRAINING.layout(3)
    told = {lesson(scene, 4, Random(seed))[0] for seed in range(12)}
    assert len(told) > 4
    assert all(len(lesson(scene, 4, Random(seed))) == 5 for seed in range(12))
    drill = dict(drilled(scene, 6, Random(0)))
    assert len(drill) == 7  # no question twice
    assert {answer.partition(",")[0] for question, answer in drill.items() if question.startswith("Is")} == {
        "Yes",
        "No",
    }


# --- labels -----------------------------------------------------------------------------------------------------------


def test_labels_say_what_each_patch_shows() -> None:
    """A box over the two left columns of the upper row, on a grid of 4 x 4 patches of 24 pixels."""
    labels = label([scene_of(Thing("dog", "brown", (0, 0, 48, 24)), Thing("kite", "red", (80, 80, 84, 84)))], side=4)
    grid = labels.objects[0].view(4, 4)
    assert grid[0].tolist() == [OBJECT_NUMBER["dog"], OBJECT_NUMBER["dog"], BACKGROUND, BACKGROUND]
    assert grid[3, 3] == OBJECT_NUMBER["kite"]  # too small to cover a patch: the one with its middle
    assert labels.colors[0, 0] == COLOR_NUMBER["brown"]
    assert (grid != BACKGROUND).sum() == 3
    assert labels.present[0].sum() == 2


def test_mirroring_moves_labels_with_the_picture() -> None:
    grid = torch.arange(4).repeat(2, 1)
    assert mirror_patches(grid, torch.tensor([True, False])).tolist() == [[1, 0, 3, 2], [0, 1, 2, 3]]


def test_soft_words_are_the_mean_of_their_tokens(tokenizer) -> None:
    model = new_model(tokenizer, Recipe.quick(), TRAINING)
    labels = label([scene_of(Thing("dog", "brown", (0, 0, 96, 96)))], side=8)
    table = model.text.embed_tokens.weight
    ids = [tokenizer.encode(word, add_special_tokens=False).ids for word in ("dog", "brown")]
    expected = sum(table[word].mean(0) for word in ids) / 2
    said = SoftWords(tokenizer, torch.device("cpu"))(model, labels)
    torch.testing.assert_close(said[0, 0], expected, rtol=1e-6, atol=1e-7)


def test_forgetting_leaves_clear_things_alone() -> None:
    scene = scene_of(Thing("dog", "brown", (0, 0, 9, 9)), Thing("bird", "red", (20, 0, 29, 9), hard="faint"))
    assert forget(scene, 1.0, Random(0)).names == ["dog"]
    assert forget(scene, 0.0, Random(0)).names == ["dog", "bird"]


# --- training ---------------------------------------------------------------------------------------------------------


def test_the_rate_rises_and_falls() -> None:
    stage = Stage(steps=100, batch=1, rate=1.0, warmup=0.1)
    rates = [rate(stage, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.01


def test_pixels_are_those_of_the_image_processor(vlm: minivlm.VLM) -> None:
    drawn = TRAINING.draw(0).picture
    pixels = normalise(torch.frombuffer(bytearray(drawn.tobytes()), dtype=torch.uint8).view(1, 96, 96, 3))[0]
    torch.testing.assert_close(pixels, vlm.pixels(drawn), rtol=0, atol=1e-6)  # fp32, once divided in fp64


@pytest.mark.slow
def test_training_is_the_same_again(folder: Path, tmp_path: Path) -> None:
    train(tmp_path / "again", Recipe.quick())
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_what_comes_out_is_a_regular_checkpoint(folder: Path, vlm: minivlm.VLM) -> None:
    """transformers reads the folder: the same logits (fp32, relative 1e-5), the same ids and pixels for a chat."""
    check_with_transformers(folder, vlm)


def check_with_transformers(folder: Path, vlm: minivlm.VLM) -> None:
    transformers = pytest.importorskip("transformers")
    picture, question = TRAINING.draw(1).picture, "Is there a dog in the image?"
    inputs = vlm.prepare(picture, question)
    processor = transformers.AutoProcessor.from_pretrained(folder, backend="pil")
    content = [{"type": "image"}, {"type": "text", "text": question}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    theirs = processor(images=picture, text=text, return_tensors="pt")
    assert theirs["input_ids"].tolist() == inputs.tokens.tolist()
    torch.testing.assert_close(theirs["pixel_values"], inputs.pixels, rtol=0, atol=1e-6)
    reference = transformers.LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        expected = reference(input_ids=inputs.tokens, pixel_values=inputs.pixels).logits
        ours = vlm.model(**inputs).logits
    assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


# --- the exam ---------------------------------------------------------------------------------------------------------


def test_caption_figures_by_hand() -> None:
    scenes = [
        scene_of(Thing("dog", "brown", (0, 0, 9, 9)), Thing("bird", "red", (20, 0, 29, 9), hard="small")),
        scene_of(Thing("sheep", "white", (0, 0, 9, 9))),
    ]
    captions = ["A dog and a frisbee and a dog.", "A sheep."]
    figures = caption_figures(captions, scenes)
    assert figures["recall"] == pytest.approx(2 / 3)
    assert figures["recall of clear objects"] == 1
    assert figures["recall of hard objects"] == 0
    assert figures["chair_i"] == pytest.approx(1 / 4)  # of four mentions
    assert figures["chair_s"] == pytest.approx(1 / 2)
    invented = invention_figures(captions, scenes)
    assert invented["objects"] == 1
    assert invented["companion"] == 1  # a dog goes with a frisbee
    assert invented["companion by chance"] == pytest.approx(1 / 28)  # bird is there: only the frisbee of 28 is missing


# --- the shipped model ------------------------------------------------------------------------------------------------

SHIPPED = Path(__file__).parents[1] / "weights" / "tiny"
shipped = pytest.mark.skipif(not (SHIPPED / "model.safetensors").exists(), reason="weights/tiny is not there")


@shipped
@pytest.mark.weights
def test_the_shipped_model_is_small_and_regular() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) <= 20_000_000
    check_with_transformers(SHIPPED, minivlm.load(SHIPPED, device="cpu", dtype="fp32"))


@shipped
@pytest.mark.weights
def test_the_shipped_model_looks_at_the_picture() -> None:
    """On 60 new scenes; the bounds are those of the card less what 60 scenes can be off by (about 0.05)."""
    vlm = minivlm.load(SHIPPED, device="cpu")
    scenes = [replace(TRAINING, stream="test").draw(seed) for seed in range(60)]
    captions = vlm.ask_many([scene.picture for scene in scenes], ["Describe the image."] * 60)
    figures = caption_figures(captions, scenes)
    exchanged = caption_figures([*captions[1:], captions[0]], scenes)
    assert figures["recall"] >= 0.75
    assert figures["precision"] >= 0.70
    assert exchanged["recall"] <= 0.25
    blank = vlm.ask(Image.new("RGB", (96, 96), "gray"), "Describe the image.")
    assert blank not in captions


@shipped
@pytest.mark.weights
def test_the_card_says_what_the_exam_found() -> None:
    found = {name: json.loads((SHIPPED / f"{name}.json").read_text()) for name in ("training", "exam", *EXTRAS)}
    training, exam = found["training"], found["exam"]
    whole = card(training, exam, "\n".join(section(found[name]) for name, section in EXTRAS.items()))
    assert (SHIPPED / "README.md").read_text(encoding="utf-8") == whole
    assert all((SHIPPED / "figures" / file).is_file() for file in found["layers"]["figures"])
    assert exam["model"] == "minivlm/tiny"
    assert training["recipe"] == asdict(Recipe(seed=training["recipe"]["seed"]))
    assert training["world"] == asdict(TRAINING)


@shipped
@pytest.mark.weights
def test_the_shipped_model_sees_and_invents() -> None:
    """What was asked of it, held against the exam that is shipped with it."""
    exam = json.loads((SHIPPED / "exam.json").read_text())
    rarer = [exam["companions"][share]["chair_i"] for share in ("0.85", "0.65", "0.45", "0.25")]
    assert exam["scenes"] == 1000
    assert exam["captions"]["recall"] >= 0.80
    assert exam["captions"]["precision"] >= 0.75
    assert exam["pictures exchanged"]["recall"] < 0.20
    assert 0.04 <= rarer[0] <= 0.25
    assert rarer == sorted(rarer)
    assert exam["invented"]["companion"] > 5 * exam["invented"]["companion by chance"]
    assert exam["invented"]["same place"] > 0.5
    assert exam["pope"]["random"]["accuracy"] >= 0.92
    assert exam["pope"]["adversarial"]["accuracy"] <= exam["pope"]["random"]["accuracy"] - 0.03


@shipped
@pytest.mark.weights
def test_the_shipped_model_says_what_it_always_said() -> None:
    """Captions of six scenes, plain, under both methods and the oracle, word for word as first released."""
    vlm, drawn = minivlm.load(SHIPPED, device="cpu", dtype="float32"), [HELD_OUT.draw(seed) for seed in range(6)]
    eah, clva = EAH.for_model(vlm.model.config), CLVA.for_model(vlm.model.config)
    conditions = [PLAIN_CONDITION, Condition("method", eah=eah), Condition("method", clva=clva)]
    conditions += [Condition("ceiling", oracle=Oracle(tuple(range(8))))]
    told = [write_captions(vlm, drawn, DESCRIBE[0], condition) for condition in conditions]
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    assert digest == "caab1bb145cbda8cce1b9eec34c092d3f078e06c1e34d418abea62bc3d4770eb"
