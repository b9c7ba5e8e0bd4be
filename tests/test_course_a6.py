"""Assignment a6: the reference is green, holes are open, known wrong answers are red and other right ones green.

A wrong answer: the file, what stands there, what stands there instead, and the tasks that must go red (others may).
"""

import pytest

from minivlm.course.assignments import assignment
from minivlm.course.project import KIT
from minivlm.course.reference import LEAST, seed_of
from minivlm.course.supervise import Job, supervise
from minivlm.course.verdict import OPEN, RIGHT
from support.course_tools import HOLLOW, SEED, WHOLE, faults, replaced, states, verdicts, write_version

ROW = assignment("a6")
FAST = "test_thousands_of_questions"  # its limit is tested last
QUICK = {task.test for task in ROW.tasks} - {FAST}
STATS, LEXICON, CHAIR, POPE = "stats.py", "evaluation/lexicon.py", "evaluation/chair.py", "evaluation/pope.py"

VALUE = "        return divided(self.part.sum(axis=0), self.whole.sum(axis=0))"
RATIOS = {
    "the mean of ratios": (
        VALUE,
        "        return divided(self.part, self.whole).mean(axis=0)",
        "ratio_of_sums chair pope",
    ),
    "the ratio of means of what has something": (
        VALUE,
        "        return divided(self.part.sum(axis=0), self.whole.sum(axis=0)) * (self.whole > 0).mean(axis=0)",
        "ratio_of_sums",
    ),
    "nothing over nothing": (
        VALUE,
        "        return self.part.sum(axis=0) / self.whole.sum(axis=0)",
        "ratio_of_sums silent",
    ),
    "all layers in one": (VALUE, "        return divided(self.part.sum(), self.whole.sum())", "ratio_of_sums"),
    "upside down": (VALUE, "        return divided(self.whole.sum(axis=0), self.part.sum(axis=0))", "ratio_of_sums"),
}

PHRASE = 'phrase = self.phrases.get(f"{token.word} {following.word}")'
YIELD = "                yield Token(phrase, token.start, following.stop) if phrase else token\n"
SKIP = "            skipped = phrase is not None and not skipped"
WORDS = {
    "no phrases at all": (PHRASE, "phrase = None", "two_words overlap"),
    "the second word is there again": (SKIP, "", "two_words overlap"),
    "a word serves twice": (SKIP, "            skipped = phrase is not None", "overlap"),
    "the first word's place alone": ("token.start, following.stop", "token.start, token.stop", "two_words overlap"),
    "the second word's place alone": ("token.start, following.stop", "following.start, following.stop", "two_words"),
    "the name of the object for the word": (
        "Token(phrase, token.start",
        "Token(self.names.get(phrase, phrase), token.start",
        "",
    ),
    "what phrases mean is not looked up": (
        YIELD,
        YIELD.replace("Token(phrase,", 'Token(f"{token.word} {following.word}",'),
        "overlap",
    ),
    "the list of objects for the phrases": ("phrase = self.phrases.get", "phrase = self.names.get", "overlap"),
    "the last word is lost": ('pairwise([*tokens, Token("", 0, 0)])', "pairwise(tokens)", "two_words overlap"),
    "phrases alone": (
        YIELD,
        "                if phrase:\n                    " + YIELD.split(" if phrase")[0].strip() + "\n",
        "two_words",
    ),
}

CHAIR_S = '"chair_s": Ratio.of([count > 0 for count in invented], each)'
CHAIR_I = '"chair_i": Ratio.of(invented, [len(one.mentions) for one in judged])'
RECALL, PRECISION = '"recall": Ratio.of(found, there)', '"precision": Ratio.of(found, named)'
F1 = '"f1": Ratio.of([2 * count for count in found], [a + b for a, b in zip(there, named, strict=True)])'
LENGTH, INVENTED = '"words": Ratio.of([one.words for one in judged], each)', "[len(one.hallucinated) for one in judged]"
CAPTIONS = {
    "an invention counts once a caption": (INVENTED, "[len(set(one.hallucinated)) for one in judged]", "chair"),
    "mentions count once a caption": ("len(one.mentions) for one", "len(one.named) for one", "chair"),
    "both count once": (
        INVENTED,
        "[len(set(one.hallucinated)) for one in judged]",
        "len(one.mentions) for one",
        "len(one.named) for one",
        "chair",
    ),
    "inventions over what is there": (CHAIR_I, CHAIR_I.replace("one.mentions", "one.truth"), "chair"),
    "inventions over all words": (CHAIR_I, CHAIR_I.replace("len(one.mentions)", "one.words"), "chair"),
    "what is true over all mentions": (
        CHAIR_I,
        CHAIR_I.replace("Ratio.of(invented", "Ratio.of([one.invented.count(False) for one in judged]"),
        "chair",
    ),
    "a caption counts as often as it invents": (CHAIR_S, '"chair_s": Ratio.of(invented, each)', "chair"),
    "captions with an object, not captions": (
        CHAIR_S,
        '"chair_s": Ratio.of([count > 0 for count in invented], [len(one.mentions) > 0 for one in judged])',
        "silent",
    ),
    "captions with mostly inventions": (
        CHAIR_S,
        '"chair_s": Ratio.of([2 * len(one.hallucinated) > len(one.mentions) for one in judged], each)',
        "chair",
    ),
    "recall over what is named": (RECALL, '"recall": Ratio.of(found, named)', "chair"),
    "recall counts mentions": (
        RECALL,
        '"recall": Ratio.of([len(one.mentions) - len(one.hallucinated) for one in judged], there)',
        "chair",
    ),
    "recall over all objects of all pictures": (
        RECALL,
        '"recall": Ratio.of(found, [len(set().union(*(one.truth for one in judged)))] * len(judged))',
        "chair",
    ),
    "recall is the mean over pictures": (
        RECALL,
        '"recall": Ratio.of([a / b if b else 0 for a, b in zip(found, there, strict=True)], each)',
        "chair",
    ),
    "chair_i is the mean over captions": (
        CHAIR_I,
        '"chair_i": Ratio.of([sum(one.invented) / max(1, len(one.invented)) for one in judged], each)',
        "chair",
    ),
    "precision and recall exchanged": (
        RECALL,
        '"recall": Ratio.of(found, named)',
        PRECISION,
        '"precision": Ratio.of(found, there)',
        "chair",
    ),
    "precision counts mentions": (
        PRECISION,
        '"precision": Ratio.of([one.invented.count(False) for one in judged], [len(one.invented) for one in judged])',
        "chair",
    ),
    "f1 is the mean of F1s": (
        F1,
        '"f1": Ratio.of([2 * a / (b + c) if b + c else 0 for a, b, c in zip(found, there, named, strict=True)], each)',
        "chair",
    ),
    "f1 without the two": (F1, F1.replace("2 * count", "count"), "chair"),
    "the sum of words": (
        LENGTH,
        '"words": Ratio.of([one.words for one in judged], [1] + [0] * (len(judged) - 1))',
        "chair",
    ),
    "silent captions are left out": (
        "    if not judged:\n",
        "    judged = [one for one in judged if one.mentions]\n    if not judged:\n",
        "silent",
    ),
    "pictures without objects are left out": (
        "    there, named, found",
        "    judged = [one for one in judged if one.truth]\n    there, named, found",
        "silent",
    ),
    "no captions, no error": ("    if not judged:\n", "    if False:\n", "silent"),
    "sums without images": (
        CHAIR_I,
        '"chair_i": Ratio.of([sum(invented)], [sum(len(one.mentions) for one in judged)])',
        "chair_by_image",
    ),
    "captions in another order": (
        RECALL,
        '"recall": Ratio.of(sorted(found), sorted(there))',
        "chair_by_image",
    ),
    "a figure is missing": (LENGTH + ",", "", "chair"),
}

ORIGINAL = (
    '    words = first_sentence(answer).replace(",", "").split(" ")\n'
    '    return not any(word in NOES or word.endswith("n\'t") for word in words)'
)
SPLIT, ANY = 'first_sentence(answer).replace(",", "").split(" ")', 'word in NOES or word.endswith("n\'t")'
FIRST = '    word = WORD.search(answer)\n    return {"yes": True, "no": False}.get(word[0].lower()) if word else None'
PARSERS = {
    "all sentences": (SPLIT, SPLIT.replace("first_sentence(answer)", "answer"), "original"),
    "commas stay": (SPLIT, SPLIT.replace('.replace(",", "")', ""), "original"),
    "commas part words": (SPLIT, SPLIT.replace('(",", "")', '(",", " ")'), "original"),
    "split at any blank": (SPLIT, SPLIT.replace('(" ")', "()"), "original"),
    "all marks part words": (SPLIT, "WORD.findall(first_sentence(answer))", "original"),
    "any case": (ANY, 'word.lower() in NOES or word.endswith("n\'t")', "original"),
    "small letters alone": (ANY, 'word in {"no", "not"} or word.endswith("n\'t")', "original"),
    "n't is forgotten": (ANY, "word in NOES", "original"),
    "any word that begins with no": (ANY, 'word.lower().startswith("no") or word.endswith("n\'t")', "original"),
    "a no anywhere in the text": (
        ORIGINAL,
        '    return not any(word in first_sentence(answer) for word in ("no", "No", "NO", "n\'t"))',
        "original",
    ),
    "yes must be said": (ORIGINAL, '    return "yes" in first_sentence(answer).lower()', "original"),
    "the first word alone": (ORIGINAL, ORIGINAL.replace("in words)", "in words[:1])"), "original"),
    "yes and no exchanged": (ORIGINAL, ORIGINAL.replace("not any", "any"), "original"),
    "silence is a no": (ORIGINAL, ORIGINAL.replace("return not any", "return bool(answer) and not any"), "original"),
    "neither is a no": (
        FIRST,
        FIRST.replace("get(word[0].lower())", "get(word[0].lower(), False)"),
        "first_word find_their",
    ),
    "neither is a yes": (
        FIRST,
        FIRST.replace("get(word[0].lower())", "get(word[0].lower(), True)"),
        "first_word find_their",
    ),
    "silence is no None": (FIRST, FIRST.replace("if word else None", "if word else False"), "first_word"),
    "case counts": (
        FIRST,
        FIRST.replace('{"yes": True, "no": False}', '{"Yes": True, "No": False}').replace(".lower()", ""),
        "first_word",
    ),
    "the word with its marks": (
        FIRST,
        '    words = answer.split()\n    return {"yes": True, "no": False}.get(words[0].lower()) if words else None',
        "first_word",
    ),
    "a word that begins with yes or no": (
        FIRST,
        "    text = answer.lower().strip()\n"
        '    return True if text.startswith("yes") else False if text.startswith("no") else None',
        "first_word",
    ),
    "yes or no anywhere": (
        FIRST,
        "    words = [word.lower() for word in WORD.findall(answer)]\n"
        '    return True if "yes" in words else False if "no" in words else None',
        "first_word",
    ),
    "not is a no, too": (FIRST, FIRST.replace('"no": False', '"no": False, "not": False'), "first_word"),
}

READ = "    return [PARSERS[parser](answers[name]) for name in asked]"
MATCHING = {
    "by order": (READ, "    return [PARSERS[parser](text) for text in answers.values()]", "find_their"),
    "in the order of ids": (READ, READ.replace("in asked", "in sorted(asked)"), "find_their"),
    "always the original's parser": (READ, READ.replace("PARSERS[parser]", "said_by_original"), "find_their"),
    "a missing answer is silence": (
        "    if missing or strange:",
        "    if strange:",
        READ,
        READ.replace("answers[name]", 'answers.get(name, "")'),
        "do_not_fit",
    ),
    "a missing answer is a KeyError": ("    if missing or strange:", "    if strange:", "do_not_fit"),
    "strange answers are passed over": ("    if missing or strange:", "    if missing:", "do_not_fit"),
    "numbers are compared, not ids": ("    if missing or strange:", "    if len(answers) != len(asked):", "do_not_fit"),
    "ids that are there twice": ("    if len(asked) < len(questions):", "    if False:", "do_not_fit"),
    "an unknown parser is a KeyError": ("    if parser not in PARSERS:", "    if False:", "do_not_fit"),
    "all is refused": ("    if missing or strange:", "    if True:", "do_not_fit find_their"),
}

SAID = "yes = np.array([answer is not None and bool(answer) for answer in answers])"
ACCURACY, YES = '"accuracy": Ratio.of(true, asked)', '"yes_ratio": Ratio.of(said, asked)'
P, R, F = (
    '"precision": Ratio.of(hits, said)',
    '"recall": Ratio.of(hits, there)',
    '"f1": Ratio.of(2 * hits, said + there)',
)
TRUE = "np.bincount(place, right(questions, answers))"
YES_OR_NO = {
    "the yes-ratio of the labels": (YES, '"yes_ratio": Ratio.of(there, asked)', "pope"),
    "the yes-ratio among the true": (YES, '"yes_ratio": Ratio.of(hits, asked)', "pope"),
    "precision and recall exchanged": (
        P,
        '"precision": Ratio.of(hits, there)',
        R,
        '"recall": Ratio.of(hits, said)',
        "pope",
    ),
    "no is what is looked for": (
        "hits, true = np.bincount(place, label & yes)",
        "hits, true = np.bincount(place, ~label & ~yes)",
        "pope",
    ),
    "accuracy without the true no": (ACCURACY, '"accuracy": Ratio.of(hits, asked)', "pope"),
    "f1 is the mean of both": (
        F,
        '"f1": Ratio.of(hits * (said + there), 2 * said * there)',
        "pope",
    ),
    "f1 is the mean over images": (
        F,
        '"f1": Ratio.of(2 * hits / np.maximum(said + there, 1), np.ones(len(asked)))',
        "pope",
    ),
    "f1 without the two": (F, F.replace("2 * hits", "hits"), "pope"),
    "accuracy is the mean over images": (ACCURACY, '"accuracy": Ratio.of(true / asked, np.ones(len(asked)))', "pope"),
    "unreadable is a yes": (
        SAID,
        "yes = np.array([answer is None or bool(answer) for answer in answers])",
        "unreadable",
    ),
    "unreadable is a no, and right where no is": (
        TRUE,
        "np.bincount(place, label == yes)",
        "unreadable",
    ),
    "unreadable is right": (
        TRUE,
        "np.bincount(place, [a is None or b for a, b in zip(answers, right(questions, answers))])",
        "unreadable",
    ),
    "unreadable is left out": (
        "    places = {",
        "    questions, answers = zip(*[pair for pair in zip(questions, answers) if pair[1] is not None]) "
        "if any(a is not None for a in answers) else (questions, answers)\n    places = {",
        "unreadable",
    ),
    "too few answers are taken": (
        "    if len(questions) != len(answers) or not questions:",
        "    questions, answers = questions[: len(answers)], answers[: len(questions)]\n    if not questions:",
        "unreadable",
    ),
    "each question is an image": (
        "    place = [places[question.image] for question in questions]",
        "    place = list(range(len(questions)))",
        "by_image",
    ),
    "images by name, not in the order of the questions": (
        "dict.fromkeys(question.image for question in questions)",
        "sorted({question.image for question in questions})",
        "by_image",
    ),
    "all in one": (
        "    place = [places[question.image] for question in questions]",
        "    place = [0] * len(questions)",
        "by_image",
    ),
    "an image ends where another begins": (
        "    place = [places[question.image] for question in questions]",
        "    place = np.cumsum([a.image != b.image for a, b in zip(questions, [questions[0], *questions])]).tolist()",
        "by_image",
    ),
}

WRONG_ANSWERS = {
    f"{name} ({part})": (file, *row)
    for part, file, table in (
        ("ratio", STATS, RATIOS),
        ("words", LEXICON, WORDS),
        ("chair", CHAIR, CAPTIONS),
        ("parsers", POPE, PARSERS),
        ("matched", POPE, MATCHING),
        ("pope", POPE, YES_OR_NO),
    )
    for name, row in table.items()
}

RIGHT_ANSWERS = {
    "numpy's errors are silenced": (
        STATS,
        VALUE,
        '        with np.errstate(all="ignore"):\n'
        "            return np.nan_to_num(self.part.sum(axis=0) / self.whole.sum(axis=0), posinf=0)",
    ),
    "phrases by index": (
        LEXICON,
        "        skipped = False\n        for token, following",
        "        place, tokens = 0, list(tokens)\n"
        "        while place < len(tokens):\n"
        "            two = tokens[place : place + 2]\n"
        '            phrase = self.phrases.get(" ".join(token.word for token in two)) if len(two) == 2 else None\n'
        "            yield Token(phrase, two[0].start, two[1].stop) if phrase else two[0]\n"
        "            place += 2 if phrase else 1\n"
        "        return\n        skipped = False\n        for token, following",
    ),
    "a list of tokens": (
        LEXICON,
        "            if not skipped:\n                yield",
        "            if not skipped:\n                yield from [",
        "if phrase else token\n",
        "if phrase else token]\n",
    ),
    "f1 in halves": (CHAIR, F1, '"f1": Ratio.of(found, [(a + b) / 2 for a, b in zip(there, named, strict=True)])'),
    "other order of figures": (CHAIR, CHAIR_S + ",", "", LENGTH + ",", LENGTH + ",\n        " + CHAIR_S + ","),
    "a loop over words": (
        POPE,
        ORIGINAL,
        "    for word in " + SPLIT + ":\n        if " + ANY + ":\n            return False\n    return True",
    ),
    "another pattern": (
        POPE,
        FIRST,
        '    found = re.match(r"[\\W\\d_]*(yes|no)(?![^\\W\\d_])", answer, re.IGNORECASE)\n'
        '    return found[1].lower() == "yes" if found else None',
    ),
    "sets of ids": (
        POPE,
        "    if missing or strange:",
        "    if set(asked) != set(answers):",
    ),
    "counts in dictionaries": (
        POPE,
        "    asked, there, said = "
        "np.bincount(place), np.bincount(place, label), np.bincount(place, yes)  # (images,) each\n"
        "    hits, true = np.bincount(place, label & yes), np.bincount(place, right(questions, answers))",
        "    counts = np.zeros((5, len(places)))\n"
        "    for where, question, answer in zip(place, questions, answers, strict=True):\n"
        "        hit = question.label and answer is True\n"
        "        one = (1, question.label, answer is True, hit, answer is question.label)\n"
        "        counts[:, where] += one\n"
        "    asked, there, said, hits, true = counts",
    ),
}


SLOW_ANSWERS = {
    "images looked up in a list": (
        POPE,
        "    place = [places[question.image] for question in questions]",
        "    order = list(places)\n    place = [order.index(question.image) for question in questions]",
    ),
    "ids looked up in a list": (
        POPE,
        "    missing, strange = ",
        "    order = list(answers)\n    missing, strange = ",
        "PARSERS[parser](answers[name])",
        "PARSERS[parser](answers[order[order.index(name)]])",
    ),
    "all questions for each image": (
        POPE,
        "    place = [places[question.image] for question in questions]",
        "    place = [places[question.image] for question in questions]\n"
        "    for image in places:\n        [one for one in questions if one.image == image]",
    ),
}


def changes(row: tuple) -> dict[str, str]:
    return replaced(row[0], *zip(row[1::2], row[2::2], strict=False))


@pytest.fixture(scope="module")
def found():
    """Verdicts on all of them, from one process."""
    answers = {name: changes(row) for name, row in (WRONG_ANSWERS | RIGHT_ANSWERS).items()}
    return verdicts("a6", answers | {WHOLE: WHOLE, HOLLOW: HOLLOW}, QUICK)


def test_the_row():
    assert ROW.points == 100
    assert sum(map(len, ROW.holes.values())) == 7


def test_the_reference_is_right(found):
    assert set(states(found, WHOLE).values()) == {RIGHT}


def test_holes_are_open(found):
    assert set(states(found, HOLLOW).values()) == {OPEN}


@pytest.mark.parametrize("answer", WRONG_ANSWERS)
def test_a_wrong_answer_is_found(found, answer):
    red = {test for test, state in states(found, answer).items() if state not in (RIGHT, OPEN)}
    for part in WRONG_ANSWERS[answer][-1].split():
        assert any(part in test for test in red), f"{part} is not red, only {sorted(red)}"


@pytest.mark.parametrize("answer", RIGHT_ANSWERS)
def test_another_right_answer_is_right(found, answer):
    assert faults(found[answer]) == {}


def test_another_seed_judges_alike():
    """Chance must neither save a wrong answer nor spoil a right one."""
    wrong = {name: changes(row) for name, row in list(WRONG_ANSWERS.items())[::4]}
    found = verdicts("a6", wrong | {name: changes(row) for name, row in RIGHT_ANSWERS.items()}, QUICK, "another seed")
    for name in wrong:
        red = {test for test, state in states(found, name).items() if state != RIGHT}
        assert all(any(part in test for test in red) for part in WRONG_ANSWERS[name][-1].split()), name
    assert all(set(states(found, name).values()) == {RIGHT} for name in RIGHT_ANSWERS)


@pytest.mark.slow
@pytest.mark.parametrize("answer", [WHOLE, *SLOW_ANSWERS])
def test_searching_lists_takes_too_long(answer, tmp_path):
    """A wrong answer gets the least time that there is."""
    task = next(task for task in ROW.tasks if task.test == FAST)
    project = write_version(ROW, tmp_path / "project", WHOLE if answer == WHOLE else changes(SLOW_ANSWERS[answer]))
    seconds = 60.0 if answer == WHOLE else LEAST
    (outcome,) = supervise(project, KIT / ROW.tests, [Job(FAST, seed_of(SEED, ROW, task), seconds, task.megabytes)])
    assert outcome.status == ("ran" if answer == WHOLE else "too slow"), outcome
