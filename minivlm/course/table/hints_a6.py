"""Hints for assignment a6: a question, a pointer and a near-solution for each test."""

from minivlm.course.hint import Hint

HINTS = {
    "test_ratio_of_sums": Hint(
        "Parts 1 1 0, wholes 1 9 0: is yours .2 or .556?",
        "The table of piece 1; the helper for 0 over 0 in `stats.py`; lecture 07, section 1.",
        """
        Add up the parts along the first axis, the wholes likewise; hand both sums to the helper that divides.
        """,
    ),
    "test_two_words_are_one_object": Hint(
        'After "hot dog" has become one token, which token is next?',
        "Rules 1 and 3 of piece 2, and the drawing; the docstring of `Token`.",
        """
        Walk with an index. If this word and the next, with a blank between, are a phrase: give one token
        from the first's start to the second's stop, and go on two further.
        If not, or if there is no next one: give the token as it is, and go on one further.
        """,
    ),
    "test_phrases_that_overlap": Hint(
        '"wine glass bottle": which two words are taken together, and what is left?',
        "Rule 2 and the table of `self.phrases` in piece 2.",
        """
        From left to right, and a word that was taken is never looked at again.
        The token's word is what the mapping gives for the phrase, which need not be the phrase.
        """,
    ),
    "test_chair": Hint(
        '"A truck, a truck and one more truck.": how many mentions, how many inventions, how many named objects?',
        "The two tables by hand in piece 3; arXiv 1809.02156, its two equations; lecture 07, sections 1 and 2.",
        """
        For each caption one number for each column of the table: mentions, invented ones, named, found, there, words.
        Mentions are counted with repeats, objects once. Each figure is a pair of such columns.
        """,
    ),
    "test_silent_captions": Hint(
        "A caption without a mention: in which wholes does it count?",
        '"Silence is rewarded" and the traps of piece 3.',
        """
        Divide nowhere yourself, so that 0 over 0 does not occur. Each caption is 1 in the whole of chair_s.
        No caption at all: raise the evaluation's error, with a sentence, before anything else.
        """,
    ),
    "test_chair_by_image": Hint(
        "How many entries has the part of `recall` for ten captions?",
        '"Their parts stay apart" in piece 3; `Ratio.of` and `Ratio.resampled`.',
        """
        Lists with one entry a caption, in the order given; sums are the ratio's business.
        """,
    ),
    "test_what_the_original_reads": Hint(
        'What are the words of "Yes,no", and of "No! It is a cat"?',
        "The four steps of piece 4 and its table; POPE's `evaluate.py`; lecture 07, section 6.",
        """
        First sentence; commas away, nothing in their place; cut at single blanks.
        It is a no if any word is one of the spellings or ends in n't; else a yes.
        """,
    ),
    "test_what_the_first_word_says": Hint(
        'What does yours say to "Nothing", and to silence?',
        '"By the first word" in piece 4.',
        """
        Search the first run of letters. None of them: None. In small letters: yes is True, no is False,
        anything else is None.
        """,
    ),
    "test_answers_find_their_questions": Hint(
        "If answers come in another order than questions, what does yours return?",
        "Piece 5; `PARSERS`.",
        """
        For each question in order: the text under its id in the mapping, read by the parser of that name.
        """,
    ),
    "test_answers_that_do_not_fit": Hint(
        "One id is missing and one is strange: the numbers agree. Does yours notice?",
        '"Four things are refused" in piece 5.',
        """
        Before anything is read: is the parser known? Are the questions' ids all different, as a set?
        Ids of questions less those of answers, and the other way round: both must be empty.
        Each error says how many, and names one.
        """,
    ),
    "test_pope": Hint(
        "4 hits, 1 miss, 2 false yeses, 3 right noes: which of these does precision divide by?",
        "The two tables of piece 6; arXiv 2305.10355, where POPE's metrics are told; lecture 07, sections 6 and 7.",
        """
        For each question: 1 for itself, 1 if it is there, 1 if yes was said, 1 if both, 1 if right.
        Add these up by image. Each figure is a pair of them; F1 has twice the hits over yeses and what is there.
        """,
    ),
    "test_unreadable_answers": Hint(
        'A model says "42" to everything. What is its accuracy by yours?',
        "The last row of the table in piece 6.",
        """
        Said yes means: the answer is True. Right means: the answer equals the label, which None never does.
        """,
    ),
    "test_pope_by_image": Hint(
        "Questions about b, a, b, a, b: which image has the first entry?",
        '"Image by image" in piece 6, and its drawing.',
        """
        Give each image a place when it is first asked about, and remember it in a dictionary, which keeps that order.
        """,
    ),
    "test_thousands_of_questions": Hint(
        "How often is a list searched from its beginning, if there are 40,000 questions?",
        "The traps of pieces 5 and 6.",
        """
        Sets for ids, a dictionary for images' places, one addition by place.
        """,
    ),
}
