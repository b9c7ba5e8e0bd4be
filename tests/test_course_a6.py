"""Assignment a6: the reference is green, holes are open, known wrong answers are red and other right ones green.

What rows of the tables mean, `support/course_answers.py` says. Time and memory are limited in the last tests only,
where solutions must be told apart by them.
"""

import pytest

from minivlm.course.assignments import assignment
from minivlm.course.reference import LEAST
from minivlm.course.verdict import OPEN, RIGHT
from support.course_answers import Answers, changed
from support.course_tools import HOLLOW, WHOLE, endings, faults, states

ROW = assignment("a6")
FAST = "test_thousands_of_questions"  # its limit is tested last
QUICK = {task.test for task in ROW.tasks} - {FAST}

IN_CHAIR = "evaluation/chair.py", "chair"
IN_LEXICON__JOINED = "evaluation/lexicon.py", "Lexicon._joined"
IN_MATCHED = "evaluation/pope.py", "matched"
IN_POPE = "evaluation/pope.py", "pope"
IN_SAID_BY_FIRST_WORD = "evaluation/pope.py", "said_by_first_word"
IN_SAID_BY_ORIGINAL = "evaluation/pope.py", "said_by_original"
IN_RATIO_VALUE = "stats.py", "Ratio.value"

VALUE = "return divided(self.part.sum(axis=0), self.whole.sum(axis=0))"
RATIOS = {
    "the mean of ratios": (
        "ratio_of_sums chair pope",
        (IN_RATIO_VALUE, VALUE, "return divided(self.part, self.whole).mean(axis=0)"),
    ),
    "the ratio of means of what has something": (
        "ratio_of_sums",
        (
            IN_RATIO_VALUE,
            VALUE,
            "return divided(self.part.sum(axis=0), self.whole.sum(axis=0)) * (self.whole > 0).mean(axis=0)",
        ),
    ),
    "nothing over nothing": (
        "ratio_of_sums silent",
        (IN_RATIO_VALUE, VALUE, "return self.part.sum(axis=0) / self.whole.sum(axis=0)"),
    ),
    "all layers in one": (
        "ratio_of_sums",
        (IN_RATIO_VALUE, VALUE, "return divided(self.part.sum(), self.whole.sum())"),
    ),
    "upside down": (
        "ratio_of_sums",
        (IN_RATIO_VALUE, VALUE, "return divided(self.whole.sum(axis=0), self.part.sum(axis=0))"),
    ),
}

PHRASE = 'phrase = self.phrases.get(f"{token.word} {following.word}")'
YIELD = "yield Token(phrase, token.start, following.stop) if phrase else token"
SKIP = "skipped = phrase is not None and not skipped"
WORDS = {
    "no phrases at all": ("two_words overlap", (IN_LEXICON__JOINED, PHRASE, "phrase = None")),
    "the second word is there again": ("two_words overlap", (IN_LEXICON__JOINED, SKIP, "")),
    "a word serves twice": ("overlap", (IN_LEXICON__JOINED, SKIP, "skipped = phrase is not None")),
    "the first word's place alone": (
        "two_words overlap",
        (IN_LEXICON__JOINED, "Token(phrase, token.start, following.stop)", "Token(phrase, token.start, token.stop)"),
    ),
    "the second word's place alone": (
        "two_words",
        (
            IN_LEXICON__JOINED,
            "Token(phrase, token.start, following.stop)",
            "Token(phrase, following.start, following.stop)",
        ),
    ),
    "the name of the object for the word": (
        "",
        (
            IN_LEXICON__JOINED,
            YIELD,
            "yield Token(self.names.get(phrase, phrase), token.start, following.stop) if phrase else token",
        ),
    ),
    "what phrases mean is not looked up": (
        "overlap",
        (IN_LEXICON__JOINED, YIELD, YIELD.replace("Token(phrase,", 'Token(f"{token.word} {following.word}",')),
    ),
    "the list of objects for the phrases": ("overlap", (IN_LEXICON__JOINED, "self.phrases.get", "self.names.get")),
    "the last word is lost": (
        "two_words overlap",
        (IN_LEXICON__JOINED, 'pairwise([*tokens, Token("", 0, 0)])', "pairwise(tokens)"),
    ),
    "phrases alone": (
        "two_words",
        (IN_LEXICON__JOINED, YIELD, "if phrase:\n    yield Token(phrase, token.start, following.stop)"),
    ),
}

RECALL, PRECISION = '"recall": Ratio.of(found, there)', '"precision": Ratio.of(found, named)'
LENGTH, INVENTED = '"words": Ratio.of([one.words for one in judged], each)', "[len(one.hallucinated) for one in judged]"
CAPTIONS = {
    "an invention counts once a caption": (
        "chair",
        (IN_CHAIR, INVENTED, "[len(set(one.hallucinated)) for one in judged]"),
    ),
    "mentions count once a caption": ("chair", (IN_CHAIR, "len(one.mentions)", "len(one.named)")),
    "both count once": (
        "chair",
        (IN_CHAIR, INVENTED, "[len(set(one.hallucinated)) for one in judged]"),
        (IN_CHAIR, "len(one.mentions)", "len(one.named)"),
    ),
    "inventions over what is there": ("chair", (IN_CHAIR, "len(one.mentions)", "len(one.truth)")),
    "inventions over all words": ("chair", (IN_CHAIR, "len(one.mentions)", "one.words")),
    "what is true over all mentions": (
        "chair",
        (
            IN_CHAIR,
            "Ratio.of(invented, [len(one.mentions) for one in judged])",
            "Ratio.of([one.invented.count(False) for one in judged], [len(one.mentions) for one in judged])",
        ),
    ),
    "a caption counts as often as it invents": ("chair", (IN_CHAIR, "[count > 0 for count in invented]", "invented")),
    "captions with an object, not captions": (
        "silent",
        (
            IN_CHAIR,
            "Ratio.of([count > 0 for count in invented], each)",
            "Ratio.of([count > 0 for count in invented], [len(one.mentions) > 0 for one in judged])",
        ),
    ),
    "captions with mostly inventions": (
        "chair",
        (
            IN_CHAIR,
            "[count > 0 for count in invented]",
            "[2 * len(one.hallucinated) > len(one.mentions) for one in judged]",
        ),
    ),
    "recall over what is named": ("chair", (IN_CHAIR, "Ratio.of(found, there)", "Ratio.of(found, named)")),
    "recall counts mentions": (
        "chair",
        (
            IN_CHAIR,
            "Ratio.of(found, there)",
            "Ratio.of([len(one.mentions) - len(one.hallucinated) for one in judged], there)",
        ),
    ),
    "recall over all objects of all pictures": (
        "chair",
        (
            IN_CHAIR,
            "Ratio.of(found, there)",
            "Ratio.of(found, [len(set().union(*(one.truth for one in judged)))] * len(judged))",
        ),
    ),
    "recall is the mean over pictures": (
        "chair",
        (
            IN_CHAIR,
            "Ratio.of(found, there)",
            "Ratio.of([a / b if b else 0 for a, b in zip(found, there, strict=True)], each)",
        ),
    ),
    "chair_i is the mean over captions": (
        "chair",
        (
            IN_CHAIR,
            "Ratio.of(invented, [len(one.mentions) for one in judged])",
            "Ratio.of([sum(one.invented) / max(1, len(one.invented)) for one in judged], each)",
        ),
    ),
    "precision and recall exchanged": (
        "chair",
        (IN_CHAIR, "Ratio.of(found, there)", "Ratio.of(found, named)"),
        (
            IN_CHAIR,
            "{\n"
            '        "chair_s": Ratio.of([count > 0 for count in invented], each),\n'
            '        "chair_i": Ratio.of(invented, [len(one.mentions) for one in judged]),\n'
            '        "recall": Ratio.of(found, named),\n'
            '        "precision": Ratio.of(found, named),\n'
            '        "f1": Ratio.of([2 * count for count in found], [a + b for a, b in zip(there, named,'
            " strict=True)]),\n"
            '        "words": Ratio.of([one.words for one in judged], each),\n'
            "    }",
            "{\n"
            '        "chair_s": Ratio.of([count > 0 for count in invented], each),\n'
            '        "chair_i": Ratio.of(invented, [len(one.mentions) for one in judged]),\n'
            '        "recall": Ratio.of(found, named),\n'
            '        "precision": Ratio.of(found, there),\n'
            '        "f1": Ratio.of([2 * count for count in found], [a + b for a, b in zip(there, named,'
            " strict=True)]),\n"
            '        "words": Ratio.of([one.words for one in judged], each),\n'
            "    }",
        ),
    ),
    "precision counts mentions": (
        "chair",
        (
            IN_CHAIR,
            "Ratio.of(found, named)",
            "Ratio.of([one.invented.count(False) for one in judged], [len(one.invented) for one in judged])",
        ),
    ),
    "f1 is the mean of F1s": (
        "chair",
        (
            IN_CHAIR,
            "Ratio.of([2 * count for count in found], [a + b for a, b in zip(there, named, strict=True)])",
            "Ratio.of([2 * a / (b + c) if b + c else 0 for a, b, c in zip(found, there, named, strict=True)], each)",
        ),
    ),
    "f1 without the two": ("chair", (IN_CHAIR, "[2 * count for count in found]", "[count for count in found]")),
    "the sum of words": (
        "chair",
        (
            IN_CHAIR,
            "Ratio.of([one.words for one in judged], each)",
            "Ratio.of([one.words for one in judged], [1] + [0] * (len(judged) - 1))",
        ),
    ),
    "silent captions are left out": (
        "silent",
        (
            IN_CHAIR,
            'if not judged:\n    raise EvaluationError("CHAIR needs at least one caption, found none.")',
            "judged = [one for one in judged if one.mentions]\n"
            'if not judged:\n    raise EvaluationError("CHAIR needs at least one caption, found none.")',
        ),
    ),
    "pictures without objects are left out": (
        "silent",
        (
            IN_CHAIR,
            'if not judged:\n    raise EvaluationError("CHAIR needs at least one caption, found none.")',
            "if not judged:\n"
            '    raise EvaluationError("CHAIR needs at least one caption, found none.")\n'
            "judged = [one for one in judged if one.truth]",
        ),
    ),
    "no captions, no error": (
        "silent",
        (
            IN_CHAIR,
            'if not judged:\n    raise EvaluationError("CHAIR needs at least one caption, found none.")',
            'if False:\n    raise EvaluationError("CHAIR needs at least one caption, found none.")',
        ),
    ),
    "sums without images": (
        "chair_by_image",
        (
            IN_CHAIR,
            "Ratio.of(invented, [len(one.mentions) for one in judged])",
            "Ratio.of([sum(invented)], [sum(len(one.mentions) for one in judged)])",
        ),
    ),
    "captions in another order": (
        "chair_by_image",
        (IN_CHAIR, "Ratio.of(found, there)", "Ratio.of(sorted(found), sorted(there))"),
    ),
    "a figure is missing": (
        "chair",
        (
            IN_CHAIR,
            "{\n"
            '        "chair_s": Ratio.of([count > 0 for count in invented], each),\n'
            '        "chair_i": Ratio.of(invented, [len(one.mentions) for one in judged]),\n'
            '        "recall": Ratio.of(found, there),\n'
            '        "precision": Ratio.of(found, named),\n'
            '        "f1": Ratio.of([2 * count for count in found], [a + b for a, b in zip(there, named,'
            " strict=True)]),\n"
            '        "words": Ratio.of([one.words for one in judged], each),\n'
            "    }",
            "{\n"
            '        "chair_s": Ratio.of([count > 0 for count in invented], each),\n'
            '        "chair_i": Ratio.of(invented, [len(one.mentions) for one in judged]),\n'
            '        "recall": Ratio.of(found, there),\n'
            '        "precision": Ratio.of(found, named),\n'
            '        "f1": Ratio.of([2 * count for count in found], [a + b for a, b in zip(there, named,'
            " strict=True)]),\n"
            "        \n"
            "    }",
        ),
    ),
}

ORIGINAL = (
    'words = first_sentence(answer).replace(",", "").split(" ")\n'
    'return not any(word in NOES or word.endswith("n\'t") for word in words)'
)
SPLIT, ANY = 'first_sentence(answer).replace(",", "").split(" ")', 'word in NOES or word.endswith("n\'t")'
FIRST = 'word = WORD.search(answer)\nreturn {"yes": True, "no": False}.get(word[0].lower()) if word else None'
PARSERS = {
    "all sentences": ("original", (IN_SAID_BY_ORIGINAL, SPLIT, SPLIT.replace("first_sentence(answer)", "answer"))),
    "commas stay": ("original", (IN_SAID_BY_ORIGINAL, SPLIT, SPLIT.replace('.replace(",", "")', ""))),
    "commas part words": ("original", (IN_SAID_BY_ORIGINAL, SPLIT, SPLIT.replace('(",", "")', '(",", " ")'))),
    "split at any blank": ("original", (IN_SAID_BY_ORIGINAL, SPLIT, SPLIT.replace('(" ")', "()"))),
    "all marks part words": ("original", (IN_SAID_BY_ORIGINAL, SPLIT, "WORD.findall(first_sentence(answer))")),
    "any case": ("original", (IN_SAID_BY_ORIGINAL, ANY, 'word.lower() in NOES or word.endswith("n\'t")')),
    "small letters alone": ("original", (IN_SAID_BY_ORIGINAL, ANY, 'word in {"no", "not"} or word.endswith("n\'t")')),
    "n't is forgotten": ("original", (IN_SAID_BY_ORIGINAL, ANY, "word in NOES")),
    "any word that begins with no": (
        "original",
        (IN_SAID_BY_ORIGINAL, ANY, 'word.lower().startswith("no") or word.endswith("n\'t")'),
    ),
    "a no anywhere in the text": (
        "original",
        (
            IN_SAID_BY_ORIGINAL,
            ORIGINAL,
            'return not any(word in first_sentence(answer) for word in ("no", "No", "NO", "n\'t"))',
        ),
    ),
    "yes must be said": ("original", (IN_SAID_BY_ORIGINAL, ORIGINAL, 'return "yes" in first_sentence(answer).lower()')),
    "the first word alone": (
        "original",
        (IN_SAID_BY_ORIGINAL, ORIGINAL, ORIGINAL.replace("in words)", "in words[:1])")),
    ),
    "yes and no exchanged": ("original", (IN_SAID_BY_ORIGINAL, ORIGINAL, ORIGINAL.replace("not any", "any"))),
    "silence is a no": (
        "original",
        (IN_SAID_BY_ORIGINAL, ORIGINAL, ORIGINAL.replace("return not any", "return bool(answer) and not any")),
    ),
    "neither is a no": (
        "first_word find_their",
        (IN_SAID_BY_FIRST_WORD, FIRST, FIRST.replace("get(word[0].lower())", "get(word[0].lower(), False)")),
    ),
    "neither is a yes": (
        "first_word find_their",
        (IN_SAID_BY_FIRST_WORD, FIRST, FIRST.replace("get(word[0].lower())", "get(word[0].lower(), True)")),
    ),
    "silence is no None": (
        "first_word",
        (IN_SAID_BY_FIRST_WORD, FIRST, FIRST.replace("if word else None", "if word else False")),
    ),
    "case counts": (
        "first_word",
        (
            IN_SAID_BY_FIRST_WORD,
            FIRST,
            FIRST.replace('{"yes": True, "no": False}', '{"Yes": True, "No": False}').replace(".lower()", ""),
        ),
    ),
    "the word with its marks": (
        "first_word",
        (
            IN_SAID_BY_FIRST_WORD,
            FIRST,
            'words = answer.split()\nreturn {"yes": True, "no": False}.get(words[0].lower()) if words else None',
        ),
    ),
    "a word that begins with yes or no": (
        "first_word",
        (
            IN_SAID_BY_FIRST_WORD,
            FIRST,
            "text = answer.lower().strip()\n"
            'return True if text.startswith("yes") else False if text.startswith("no") else None',
        ),
    ),
    "yes or no anywhere": (
        "first_word",
        (
            IN_SAID_BY_FIRST_WORD,
            FIRST,
            "words = [word.lower() for word in WORD.findall(answer)]\n"
            'return True if "yes" in words else False if "no" in words else None',
        ),
    ),
    "not is a no, too": (
        "first_word",
        (IN_SAID_BY_FIRST_WORD, FIRST, FIRST.replace('"no": False', '"no": False, "not": False')),
    ),
}

READ = "return [PARSERS[parser](answers[name]) for name in asked]"
MATCHING = {
    "by order": ("find_their", (IN_MATCHED, READ, "return [PARSERS[parser](text) for text in answers.values()]")),
    "in the order of ids": ("find_their", (IN_MATCHED, READ, READ.replace("in asked", "in sorted(asked)"))),
    "always the original's parser": (
        "find_their",
        (IN_MATCHED, READ, READ.replace("PARSERS[parser]", "said_by_original")),
    ),
    "a missing answer is silence": (
        "do_not_fit",
        (IN_MATCHED, "missing or strange", "strange"),
        (IN_MATCHED, READ, READ.replace("answers[name]", 'answers.get(name, "")')),
    ),
    "a missing answer is a KeyError": ("do_not_fit", (IN_MATCHED, "missing or strange", "strange")),
    "strange answers are passed over": ("do_not_fit", (IN_MATCHED, "missing or strange", "missing")),
    "numbers are compared, not ids": ("do_not_fit", (IN_MATCHED, "missing or strange", "len(answers) != len(asked)")),
    "ids that are there twice": ("do_not_fit", (IN_MATCHED, "len(asked) < len(questions)", "False")),
    "an unknown parser is a KeyError": ("do_not_fit", (IN_MATCHED, "parser not in PARSERS", "False")),
    "all is refused": ("do_not_fit find_their", (IN_MATCHED, "missing or strange", "True")),
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
    "the yes-ratio of the labels": ("pope", (IN_POPE, "Ratio.of(said, asked)", "Ratio.of(there, asked)")),
    "the yes-ratio among the true": ("pope", (IN_POPE, "Ratio.of(said, asked)", "Ratio.of(hits, asked)")),
    "precision and recall exchanged": (
        "pope",
        (IN_POPE, "Ratio.of(hits, said)", "Ratio.of(hits, there)"),
        (
            IN_POPE,
            "{\n"
            '        "accuracy": Ratio.of(true, asked),\n'
            '        "precision": Ratio.of(hits, there),\n'
            '        "recall": Ratio.of(hits, there),\n'
            '        "f1": Ratio.of(2 * hits, said + there),\n'
            '        "yes_ratio": Ratio.of(said, asked),\n'
            "    }",
            "{\n"
            '        "accuracy": Ratio.of(true, asked),\n'
            '        "precision": Ratio.of(hits, there),\n'
            '        "recall": Ratio.of(hits, said),\n'
            '        "f1": Ratio.of(2 * hits, said + there),\n'
            '        "yes_ratio": Ratio.of(said, asked),\n'
            "    }",
        ),
    ),
    "no is what is looked for": (
        "pope",
        (IN_POPE, "np.bincount(place, label & yes)", "np.bincount(place, ~label & ~yes)"),
    ),
    "accuracy without the true no": ("pope", (IN_POPE, "Ratio.of(true, asked)", "Ratio.of(hits, asked)")),
    "f1 is the mean of both": (
        "pope",
        (IN_POPE, "Ratio.of(2 * hits, said + there)", "Ratio.of(hits * (said + there), 2 * said * there)"),
    ),
    "f1 is the mean over images": (
        "pope",
        (
            IN_POPE,
            "Ratio.of(2 * hits, said + there)",
            "Ratio.of(2 * hits / np.maximum(said + there, 1), np.ones(len(asked)))",
        ),
    ),
    "f1 without the two": ("pope", (IN_POPE, "Ratio.of(2 * hits, said + there)", "Ratio.of(hits, said + there)")),
    "accuracy is the mean over images": (
        "pope",
        (IN_POPE, "Ratio.of(true, asked)", "Ratio.of(true / asked, np.ones(len(asked)))"),
    ),
    "unreadable is a yes": (
        "unreadable",
        (IN_POPE, SAID, "yes = np.array([answer is None or bool(answer) for answer in answers])"),
    ),
    "unreadable is a no, and right where no is": ("unreadable", (IN_POPE, TRUE, "np.bincount(place, label == yes)")),
    "unreadable is right": (
        "unreadable",
        (IN_POPE, TRUE, "np.bincount(place, [a is None or b for a, b in zip(answers, right(questions, answers))])"),
    ),
    "unreadable is left out": (
        "unreadable",
        (
            IN_POPE,
            "if len(questions) != len(answers) or not questions:\n"
            "    raise EvaluationError(\n"
            '        f"POPE needs one answer for each question, found {len(answers)} answers and'
            ' {len(questions)} questions."\n'
            "    )",
            "if len(questions) != len(answers) or not questions:\n"
            "    raise EvaluationError(\n"
            '        f"POPE needs one answer for each question, found {len(answers)} answers and'
            ' {len(questions)} questions."\n'
            "    )\n"
            "questions, answers = zip(*[pair for pair in zip(questions, answers) if pair[1] is not None]) if"
            " any(a is not None for a in answers) else (questions, answers)",
        ),
    ),
    "too few answers are taken": (
        "unreadable",
        (
            IN_POPE,
            "if len(questions) != len(answers) or not questions:\n"
            "    raise EvaluationError(\n"
            '        f"POPE needs one answer for each question, found {len(answers)} answers and'
            ' {len(questions)} questions."\n'
            "    )",
            "questions, answers = questions[: len(answers)], answers[: len(questions)]\n"
            "if not questions:\n"
            "    raise EvaluationError(\n"
            '        f"POPE needs one answer for each question, found {len(answers)} answers and'
            ' {len(questions)} questions."\n'
            "    )",
        ),
    ),
    "each question is an image": (
        "by_image",
        (IN_POPE, "place = [places[question.image] for question in questions]", "place = list(range(len(questions)))"),
    ),
    "images by name, not in the order of the questions": (
        "by_image",
        (
            IN_POPE,
            "dict.fromkeys(question.image for question in questions)",
            "sorted({question.image for question in questions})",
        ),
    ),
    "all in one": (
        "by_image",
        (IN_POPE, "place = [places[question.image] for question in questions]", "place = [0] * len(questions)"),
    ),
    "an image ends where another begins": (
        "by_image",
        (
            IN_POPE,
            "place = [places[question.image] for question in questions]",
            "place = np.cumsum([a.image != b.image for a, b in zip(questions, [questions[0], *questions])]).tolist()",
        ),
    ),
}


RIGHT_ANSWERS = {
    "numpy's errors are silenced": (
        (
            IN_RATIO_VALUE,
            VALUE,
            'with np.errstate(all="ignore"):\n'
            "    return np.nan_to_num(self.part.sum(axis=0) / self.whole.sum(axis=0), posinf=0)",
        ),
    ),
    "phrases by index": (
        (
            IN_LEXICON__JOINED,
            "skipped = False",
            "place, tokens = 0, list(tokens)\n"
            "while place < len(tokens):\n"
            "    two = tokens[place : place + 2]\n"
            '    phrase = self.phrases.get(" ".join(token.word for token in two)) if len(two) == 2 else None\n'
            "    yield Token(phrase, two[0].start, two[1].stop) if phrase else two[0]\n"
            "    place += 2 if phrase else 1\n"
            "return\n"
            "skipped = False",
        ),
    ),
    "a list of tokens": (
        (IN_LEXICON__JOINED, YIELD, "yield from [ Token(phrase, token.start, following.stop) if phrase else token]"),
    ),
    "f1 in halves": (
        (
            IN_CHAIR,
            "Ratio.of([2 * count for count in found], [a + b for a, b in zip(there, named, strict=True)])",
            "Ratio.of(found, [(a + b) / 2 for a, b in zip(there, named, strict=True)])",
        ),
    ),
    "other order of figures": (
        (
            IN_CHAIR,
            "{\n"
            '        "chair_s": Ratio.of([count > 0 for count in invented], each),\n'
            '        "chair_i": Ratio.of(invented, [len(one.mentions) for one in judged]),\n'
            '        "recall": Ratio.of(found, there),\n'
            '        "precision": Ratio.of(found, named),\n'
            '        "f1": Ratio.of([2 * count for count in found], [a + b for a, b in zip(there, named,'
            " strict=True)]),\n"
            '        "words": Ratio.of([one.words for one in judged], each),\n'
            "    }",
            "{\n"
            "        \n"
            '        "chair_i": Ratio.of(invented, [len(one.mentions) for one in judged]),\n'
            '        "recall": Ratio.of(found, there),\n'
            '        "precision": Ratio.of(found, named),\n'
            '        "f1": Ratio.of([2 * count for count in found], [a + b for a, b in zip(there, named,'
            " strict=True)]),\n"
            '        "words": Ratio.of([one.words for one in judged], each),\n'
            "    }",
        ),
        (
            IN_CHAIR,
            "{\n"
            "        \n"
            '        "chair_i": Ratio.of(invented, [len(one.mentions) for one in judged]),\n'
            '        "recall": Ratio.of(found, there),\n'
            '        "precision": Ratio.of(found, named),\n'
            '        "f1": Ratio.of([2 * count for count in found], [a + b for a, b in zip(there, named,'
            " strict=True)]),\n"
            '        "words": Ratio.of([one.words for one in judged], each),\n'
            "    }",
            "{\n"
            "        \n"
            '        "chair_i": Ratio.of(invented, [len(one.mentions) for one in judged]),\n'
            '        "recall": Ratio.of(found, there),\n'
            '        "precision": Ratio.of(found, named),\n'
            '        "f1": Ratio.of([2 * count for count in found], [a + b for a, b in zip(there, named,'
            " strict=True)]),\n"
            '        "words": Ratio.of([one.words for one in judged], each),\n'
            '        "chair_s": Ratio.of([count > 0 for count in invented], each),\n'
            "    }",
        ),
    ),
    "a loop over words": (
        (
            IN_SAID_BY_ORIGINAL,
            ORIGINAL,
            'for word in first_sentence(answer).replace(",", "").split(" "):\n'
            '    if word in NOES or word.endswith("n\'t"):\n'
            "        return False\n"
            "return True",
        ),
    ),
    "another pattern": (
        (
            IN_SAID_BY_FIRST_WORD,
            FIRST,
            'found = re.match(r"[\\W\\d_]*(yes|no)(?![^\\W\\d_])", answer, re.IGNORECASE)\n'
            'return found[1].lower() == "yes" if found else None',
        ),
    ),
    "sets of ids": ((IN_MATCHED, "missing or strange", "set(asked) != set(answers)"),),
    "counts in dictionaries": (
        (
            IN_POPE,
            "asked, there, said = np.bincount(place), np.bincount(place, label), np.bincount(place, yes)\n"
            "hits, true = np.bincount(place, label & yes), np.bincount(place, right(questions, answers))",
            "counts = np.zeros((5, len(places)))\n"
            "for where, question, answer in zip(place, questions, answers, strict=True):\n"
            "    hit = question.label and answer is True\n"
            "    one = (1, question.label, answer is True, hit, answer is question.label)\n"
            "    counts[:, where] += one\n"
            "asked, there, said, hits, true = counts",
        ),
    ),
}
ANSWERS = Answers(
    "a6",
    frozenset(QUICK),
    {
        "ratio": (RATIOS, "two_words original"),
        "words": (WORDS, "ratio_of_sums original"),
        "chair": (CAPTIONS, "ratio_of_sums original"),
        "parsers": (PARSERS, "ratio_of_sums two_words"),
        "matched": (MATCHING, "ratio_of_sums original"),
        "pope": (YES_OR_NO, "ratio_of_sums original"),
    },
    RIGHT_ANSWERS,
)
TELLING = list(ANSWERS.wrong)[::4]


SLOW_ANSWERS = {
    "images looked up in a list": (
        (
            IN_POPE,
            "place = [places[question.image] for question in questions]",
            "order = list(places)\nplace = [order.index(question.image) for question in questions]",
        ),
    ),
    "ids looked up in a list": (
        (
            IN_MATCHED,
            "if len(asked) < len(questions):\n"
            "    raise EvaluationError(\n"
            '        f"{len(questions)} questions have only {len(asked)} different ids. Read each file with'
            ' its split."\n'
            "    )",
            "if len(asked) < len(questions):\n"
            "    raise EvaluationError(\n"
            '        f"{len(questions)} questions have only {len(asked)} different ids. Read each file with'
            ' its split."\n'
            "    )\n"
            "order = list(answers)",
        ),
        (IN_MATCHED, "PARSERS[parser](answers[name])", "PARSERS[parser](answers[order[order.index(name)]])"),
    ),
    "all questions for each image": (
        (
            IN_POPE,
            "place = [places[question.image] for question in questions]",
            "place = [places[question.image] for question in questions]\n"
            "for image in places:\n"
            "    [one for one in questions if one.image == image]",
        ),
    ),
}


@pytest.fixture(scope="module")
def found():
    """Verdicts on all of them, from one process."""
    return ANSWERS.judged()


def test_the_row():
    assert ROW.points == 100
    assert sum(map(len, ROW.holes.values())) == 7


def test_the_reference_is_right(found):
    assert set(states(found, WHOLE).values()) == {RIGHT}


def test_holes_are_open(found):
    assert set(states(found, HOLLOW).values()) == {OPEN}


@pytest.mark.parametrize("answer", ANSWERS.wrong)
def test_a_wrong_answer_is_found(found, answer):
    ANSWERS.check_wrong(found, answer)


@pytest.mark.parametrize("answer", RIGHT_ANSWERS)
def test_another_right_answer_is_right(found, answer):
    assert faults(found[answer]) == {}


def test_another_seed_judges_alike():
    """Chance must neither save a wrong answer nor spoil a right one: some of each, on other inputs."""
    found = ANSWERS.judged(TELLING, "another seed")
    for name in TELLING:
        ANSWERS.check_wrong(found, name)
    assert all(faults(found[name]) == {} for name in RIGHT_ANSWERS.keys() & found.keys())


@pytest.fixture(scope="module")
def measured():
    """What came of the speed test on all of them. A wrong answer gets the least time that there is."""
    versions = {WHOLE: WHOLE} | {name: changed(*exchanges) for name, exchanges in SLOW_ANSWERS.items()}
    seconds = {answer: {FAST: 60.0 if answer == WHOLE else LEAST} for answer in versions}
    return endings(ROW.name, versions, seconds)


@pytest.mark.slow
@pytest.mark.parametrize("answer", [WHOLE, *SLOW_ANSWERS])
def test_searching_lists_takes_too_long(measured, answer):
    ended = measured[answer][FAST]
    assert ended.status == ("ran" if answer == WHOLE else "too slow"), ended
