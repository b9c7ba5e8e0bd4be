"""Words and their lemmas: "she is skiing past two women" → she, be, ski, past, two, woman.

simplemma knows lemmas but no parts of speech. A form in -ing or -ed is reduced to its verb only where `is_verb` says
that it is one. Its rules were made by comparison with the original CHAIR program, which has a tagger, on 500 captions
of LLaVA (see tests/test_chair.py); they are not a grammar of English.
"""

import re

from simplemma import lemmatize

TOKEN = re.compile(r"\w+(?:(?:-|['’]\w+-)\w+)*|[^\w\s]")  # one token each: snow-covered, bird's-eye (not a bird)
ORIGINAL_TOKEN = re.compile(r"\w+(?:(?:[-/]|['’]\w+-)\w+)*|[^\w\s]")  # to the original, cat/dog is one word, too
VERBAL = re.compile(r"\w{2,}(?:ing|ed)")
UNKNOWN_PLURALS = {  # of objects that simplemma does not know; the last one only in releases before 2.0
    "calves": "calf",
    "busses": "bus",
    "trolleybuses": "trolleybus",
    "pocketknives": "pocketknife",
}


def words(text: str) -> frozenset[str]:
    """The set of words in a text that blanks separate."""
    return frozenset(text.split())


BEFORE_NOUNS = words("a an the this these that those his her its their our my your some any each time")
PREPOSITIONS = words("about at for from in into of on with")
AFTER_VERBS = PREPOSITIONS | words(
    "to by as and or but while down up across over along inside outside near next together"
)
AFTER_VERBS |= words("a an the his her its their him it them . , ; : !")


def lemma(around: list[str]) -> str:
    """The lemma of the third of four lower-case words: two words before it and one behind it."""
    word = around[2]
    if VERBAL.fullmatch(word) and not is_verb(around):
        return word
    return UNKNOWN_PLURALS.get(word) or lemmatize(word, lang="en").lower()


def is_verb(around: list[str]) -> bool:
    """Whether the third of four words, in -ing or -ed, is a verb: "she is skiing", but "a skiing trip".

    It is a noun or an adjective behind an article, before another noun, and behind a preposition that belongs to a
    participle, as in "dressed for skiing".
    """
    far, before, _, behind = around
    if before in BEFORE_NOUNS or (before in PREPOSITIONS and VERBAL.fullmatch(far)):
        return False
    return not behind or behind in AFTER_VERBS
