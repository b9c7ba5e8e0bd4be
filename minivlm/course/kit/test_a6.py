"""Assignment a6: CHAIR (arXiv 1809.02156) and POPE (arXiv 2305.10355), how answers are read and counted."""

import pytest
import torch

from minivlm.course.kit.draw import Draw
from minivlm.course.kit.show import Show
from minivlm.errors import EvaluationError
from minivlm.evaluation.chair import Judged, chair
from minivlm.evaluation.lexicon import Lexicon, Mention
from minivlm.evaluation.pope import PopeQuestion, matched, pope, said_by_first_word, said_by_original
from minivlm.stats import Ratio

OBJECTS = ("dog", "cat", "hot dog", "bus", "toilet", "train", "teddy bear", "bear", "elephant", "wine glass", "bottle")
OTHERS = {"puppy": "dog", "kitten": "cat", "wine bottle": "bottle", "glass bottle": "bottle"}
LEXICON = Lexicon("a short list", {name: name for name in OBJECTS} | OTHERS)
THINGS = ("hot dog", "hot dogs", "dog", "puppies", "buses", "wine glasses", "wine bottle", "teddy bears", "bear")
BY_HAND = (  # the handout's three captions
    (("dog", "couch", "dog", "cat"), ("dog", "couch", "cup")),
    (("truck", "truck", "truck"), ("bus", "person")),
    ((), ("clock",)),
)
MEANT = ("baby elephant", "adult bear", "toilet seat", "passenger train", "train tracks", "home plate")


def numbers(figures: dict[str, Ratio]) -> dict[str, float]:
    """The value of each figure."""
    return {name: float(ratio.value) for name, ratio in figures.items()}


def found_in(caption: str) -> list[list[str]]:
    """Each object that is named, and the words that name it."""
    return [[mention.object, caption[mention.start : mention.stop]] for mention in LEXICON.mentions(caption)]


def some(draw: Draw, things: tuple[str, ...], low: int, high: int) -> list[str]:
    """From `low` to below `high` of the things, which may repeat."""
    return [draw.pick(things) for _ in range(draw.number(low, high))]


def judged(named: list[str], truth: list[str]) -> Judged:
    """A caption that names these objects, of a picture with those."""
    mentions = tuple(Mention(name, 10 * place, 10 * place + len(name)) for place, name in enumerate(named))
    return Judged(mentions, frozenset(truth), words=3 * len(named) + 2)


def captions(draw: Draw, number: int, least: int = 1) -> list[Judged]:
    """Some captions; their objects and those of their pictures are chance."""
    return [judged(some(draw, OBJECTS[:6], least, 7), some(draw, OBJECTS[:6], least, 6)) for _ in range(number)]


def questions_and_answers(draw: Draw, images: int, kinds: tuple) -> tuple[list[PopeQuestion], list]:
    """Several questions about each image, in mixed order, and an answer of `kinds` to each."""
    asked = [(image, name) for image in range(images) for name in OBJECTS[: draw.number(2, 8)]]
    questions = [
        PopeQuestion(f"random/{image}/{name}", str(image), f"Is there a {name} in the image?", draw.pick((True, False)))
        for image, name in (asked[place] for place in draw.uniform(len(asked)).argsort().tolist())
    ]
    return questions, [draw.pick(kinds) for _ in questions]


def show_resampled(draw: Draw, show: Show, figures: dict[str, Ratio], images: int) -> None:
    """Each figure in five resamples, as the bootstrap draws them: images, with all that belongs to them."""
    times = draw.whole(0, 4, 5, images).double().numpy()
    for name, ratio in figures.items():
        assert len(ratio.part) == len(ratio.whole) == images, f"{name}: one entry an image, {images}, is expected."
        show.named({name: torch.as_tensor(ratio.resampled(times))}, within=1e-9)


def test_ratio_of_sums(draw: Draw, show: Show) -> None:
    """A figure is one sum divided by another, not a mean of ratios; where there is nothing to count, it is 0."""
    part, whole = draw.whole(0, 5, 20).tolist(), draw.whole(1, 9, 20).tolist()
    show(within=1e-9, figure=float(Ratio.of(part, whole).value))
    show(within=1e-9, with_empty_images=float(Ratio.of([*part, 0, 0], [*whole, 0, 0]).value))
    show(nothing_to_count=float(Ratio.of([0, 0], [0, 0]).value))
    layers = Ratio.of(draw.whole(0, 5, 6, 3).numpy(), draw.whole(0, 2, 6, 3).numpy() * torch.tensor([1, 1, 0]).numpy())
    show(within=1e-9, by_layer=[float(value) for value in layers.value])


def test_two_words_are_one_object(draw: Draw, show: Show) -> None:
    """A hot dog is no dog, and stands where both of its words stand."""
    for number in range(8):
        caption = f"A {' and a '.join(some(draw, THINGS, 1, 5))}."
        show.named({f"caption {number}": {caption: found_in(caption)}})
    show(at_the_end=found_in("wine glass"), line_break=found_in("a hot\n dog"), apart=found_in("a hot, tired dog"))


def test_phrases_that_overlap(draw: Draw, show: Show) -> None:
    """From left to right, each word belongs to one phrase at most; some phrases mean another object."""
    rows = ("wine glass bottle", "hot dog dog", "hot hot dog", "glass bottle", "wine glass", "bottle", "wine", "dog")
    for number in range(8):
        caption = " ".join(some(draw, rows, 2, 6))
        show.named({f"row of words {number}": {caption: found_in(caption)}})
    show(three_words=found_in("a wine glass bottle"))
    for number in range(5):
        caption = f"The {' by the '.join(some(draw, MEANT + THINGS[:4], 2, 5))}."
        show.named({f"caption {number}": {caption: found_in(caption)}})


def test_chair(draw: Draw, show: Show) -> None:
    """Mentions count as often as they occur; objects that are there or named count once a caption."""
    show(within=1e-9, by_hand=numbers(chair([judged([*said], [*there]) for said, there in BY_HAND])))
    show(within=1e-9, one_caption=numbers(chair([judged(["dog", "dog", "cat", "bus", "cat", "cat"], ["dog", "bear"])])))
    show(within=1e-9, true_alone=numbers(chair([judged(["dog", "dog"], ["dog"])])))
    show(within=1e-9, figures=numbers(chair(captions(draw, draw.number(15, 30)))))


def test_silent_captions(draw: Draw, show: Show) -> None:
    """A caption that names nothing counts as a caption; 0 / 0 does not occur; an empty list is refused."""
    rest = captions(draw, 5)
    special = {"silent": judged([], ["dog", "cat"]), "empty": judged([], []), "blind": judged(["dog", "dog"], [])}
    for name, caption in special.items():
        show.named(
            {name: numbers(chair([caption])), f"{name} and others": numbers(chair([caption, *rest]))}, within=1e-9
        )
    with pytest.raises(EvaluationError):
        chair([])


def test_chair_by_image(draw: Draw, show: Show) -> None:
    """A figure keeps one entry for each caption, because the bootstrap resamples images."""
    number = draw.number(8, 13)
    show_resampled(draw, show, chair(captions(draw, number, least=0)), number)


SAYINGS = (
    *("Yes", "No", "no", "NO", "yes", "YES", "Not", "nOT", "It is not", "There is", "There isn't", "I don't see"),
    *("You can't miss", "They cannot find", "Yes, no", "I know of", "Nothing", "Notably there is"),
)
MARKS = (" a dog", ", a dog", ".", ". No dog", ". It is not", "!", "; no", ",no", " no, thanks", " dog\nno", "", "'s")


def sentences(draw: Draw, number: int = 40) -> list[str]:
    """What a model may answer."""
    return [draw.pick(SAYINGS) + draw.pick(MARKS) for _ in range(number)]


def test_what_the_original_reads(draw: Draw, show: Show) -> None:
    """No, not or a word in n't in the first sentence is a no; all else is a yes, even silence."""
    plain: tuple[str, ...] = (
        "Yes",
        "No",
        "No.",
        "No, there is none.",
        "There isn't a dog.",
        "Yes. There is no cat.",
        "",
        "Maybe.",
    )
    plain += ("Not that I see", "NO", "It is not so.", "No! It is a cat", "Yes,no", "a cat\nno dog", "I know", "1. no")
    show(plain={text: said_by_original(text) for text in plain})
    show(drawn={text: said_by_original(text) for text in sentences(draw)})


def test_what_the_first_word_says(draw: Draw, show: Show) -> None:
    """Yes or no, if that is the first word, whatever its case and the marks around it; None for anything else."""
    marks = ("1. No", "**Yes**", '"no"', " \n yes", "_No_", "Yes/No", "Not so", "YES", "Yesterday", "", "?!", "No-one")
    show(marks={text: said_by_first_word(text) for text in marks})
    show(drawn={text: said_by_first_word(text) for text in sentences(draw)})


def test_answers_find_their_questions(draw: Draw, show: Show) -> None:
    """By their ids alone: files are written by several processes, in any order."""
    questions, texts = questions_and_answers(draw, 12, (*SAYINGS, ""))
    pairs = list(zip([question.id for question in questions], texts, strict=True))
    order = torch.randperm(len(pairs), generator=draw.generator).tolist()
    answers = dict(pairs[place] for place in order)
    for parser in ("original", "first word"):
        show.named({parser: list(matched(questions, answers, parser))})
    show(by_default=list(matched(questions, answers)))
    show(other_order_of_questions=list(matched(questions[::-1], answers, "first word")))


def test_answers_that_do_not_fit(draw: Draw, show: Show) -> None:
    """A missing answer, one to no question, an id that is there twice, an unknown parser: all are refused."""
    questions, texts = questions_and_answers(draw, 4, ("Yes", "No"))
    answers = {question.id: text for question, text in zip(questions, texts, strict=True)}
    fewer = dict(list(answers.items())[1:])
    cases = {
        "one missing": (questions, fewer, "original"),
        "one too many": (questions, {**answers, "random/9/zebra": "No"}, "original"),
        "another in its place": (questions, {**fewer, "random/9/zebra": "No"}, "original"),
        "an id twice": ([*questions, questions[0]], answers, "original"),
        "an unknown parser": (questions, answers, "mine"),
        "all is well": (questions, answers, "original"),
    }
    for name, case in cases.items():
        try:
            matched(*case)
        except EvaluationError:
            show.named({name: "refused"})
        else:
            show.named({name: "taken"})


def test_pope(draw: Draw, show: Show) -> None:
    """Yes is what is looked for; the yes-ratio is that of the answers."""
    four = [PopeQuestion(str(place), "1", "Is there a dog in the image?", place < 2) for place in range(4)]
    blind = {"always yes": [True] * 4, "always no": [False] * 4, "one miss": [True, False, False, False]}
    for name, said in blind.items():
        show.named({name: numbers(pope(four, said))}, within=1e-9)
    questions, said = questions_and_answers(draw, 20, (True, True, True, False))
    show(within=1e-9, figures=numbers(pope(questions, said)))


def test_unreadable_answers(draw: Draw, show: Show) -> None:
    """An answer that is neither is wrong whatever was right, and not a yes; too many or too few answers are refused."""
    questions, said = questions_and_answers(draw, 15, (True, False, None))
    show(within=1e-9, figures=numbers(pope(questions, said)), neither=numbers(pope(questions, [None] * len(said))))
    for wrong in ((questions, said[1:]), (questions[1:], said), ([], [])):
        with pytest.raises(EvaluationError):
            pope(*wrong)


def test_pope_by_image(draw: Draw, show: Show) -> None:
    """Questions about one image share its difficulty, so each image is one entry of the sums."""
    number = draw.number(8, 13)
    show_resampled(draw, show, pope(*questions_and_answers(draw, number, (True, False, None))), number)


def test_thousands_of_questions(draw: Draw, show: Show) -> None:
    """Speed: a search through a list for each question takes thousands times thousands of steps."""
    texts, labels = ("Yes", "No, not at all", "a dog"), draw.whole(0, 2, 40000).tolist()
    questions = [PopeQuestion(f"{place}", f"{place % 20000}", "?", bool(label)) for place, label in enumerate(labels)]
    picked = draw.whole(0, 3, 40000).tolist()
    answers = {question.id: texts[which] for question, which in zip(questions[::-1], picked, strict=True)}
    show(within=1e-9, figures=numbers(pope(questions, matched(questions, answers, "first word"))))
