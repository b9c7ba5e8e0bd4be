"""Hints for assignment a2: a question, a pointer and a near-solution for each test."""

from minivlm.course.hint import Hint

HINTS = {
    "test_rmsnorm": Hint(
        "For (1, 5, -13, 17) the root of the mean square is 11. Where does eps go, before the root or behind it?",
        "The formula of piece 1 and its paragraph on small tokens; arXiv 1910.07467, its equation of RMSNorm.",
        """
        Square, take the mean over the last axis and keep that axis.
        Add eps, take the root, divide. Then the weight.
        """,
    ),
    "test_rmsnorm_in_sixteen_bits": Hint(
        "In which dtype is 320 squared no infinity? And which comes first, rounding or the weight?",
        'The three points of "In which dtype?" in piece 1, above all the drawing of the two orders.',
        """
        Remember the dtype of x and go to fp32.
        Mean square, eps, root, division: all of it there.
        Go back to the dtype of x. Only now multiply by the weight, and convert nothing after that.
        """,
    ),
    "test_gated_mlp": Hint(
        "A gate of 2 and an up of 3: is yours 5.2848 or 5.7154?",
        "The formula of piece 2; arXiv 2002.05202, section 2 (SwiGLU).",
        """
        Two projections of the same x. SiLU on the one that is called gate, and on nothing else.
        Multiply them number by number, project down.
        """,
    ),
    "test_angles_near_the_start": Hint(
        "d = 4, theta = 100: what are the two frequencies, and in which order do the four angles stand?",
        "The table of piece 3; arXiv 2104.09864, section 3.2.2 (the paper pairs neighbours, we pair halves).",
        """
        Exponents: 0, 2, 4, … up to before d, each over d. Frequencies: theta to minus the exponent.
        Give positions a new last axis and multiply: half as many angles as d.
        Put that behind itself along the last axis. Then cosine and sine.
        """,
    ),
    "test_angles_far_away_and_in_sixteen_bits": Hint(
        "What is 257 in bf16? At which of your steps do positions or angles meet that dtype?",
        "The first trap of piece 3, and the cell below it with position 3,999.",
        """
        Make exponents, frequencies and angles in fp32, whatever `dtype` is.
        Cosine and sine in fp32 as well.
        Cast these two to `dtype`, as the last thing of all.
        """,
    ),
    "test_rotate": Hint(
        "(1, 2, 3, 4), turned by a quarter: is yours (-3, -4, 1, 2) or (-2, 1, -4, 3)?",
        "The drawing of piece 4; arXiv 2104.09864, section 3.4.2, with halves instead of neighbours.",
        """
        Give cosine and sine an axis of heads, between rows and tokens.
        Cut x in two halves along its last axis. The partner: minus the second half, then the first.
        x times the cosine plus the partner times the sine, as a new tensor.
        """,
    ),
    "test_cache_notes_the_patches": Hint(
        "Length 3, two new tokens: which slots are written, and how many notes come back?",
        "The picture of slots before piece 5; the docstring of `KVCache`.",
        """
        The end is the length plus the number of new tokens.
        Write the new notes into the slots from the length up to the end.
        Give back all slots from the first up to the end. The length stays.
        """,
    ),
    "test_cache_writes_behind_what_is_there": Hint(
        "Who moves `length`, and when? What does layer 1 write over if layer 0 has moved it?",
        '"One forward of the decoder" before piece 5; lecture 02, step 4; `Decoder.forward`.',
        """
        As in `mark`, but in this layer's keys and in its values: the layer is the first axis, slots the last but one.
        Write in place, give back the two slices from slot 0 to the end. Do not touch the length.
        """,
    ),
    "test_cache_is_fast": Hint(
        "How many numbers does your `write` move for one new token behind 12,000: those of one token, or of all?",
        '"What it may cost" in piece 6.',
        """
        Assign the new keys to a slice of the tensor that is there. Build no new tensor of old and new.
        What comes back is a slice of it, too.
        """,
    ),
    "test_cache_holds_nothing_twice": Hint(
        "Does what you give back begin at the address of the cache's own tensor?",
        '"What it may cost" in piece 6: which operations are views and which are copies.',
        """
        Index by the layer's number and by slices with a colon only.
        No index tensors, no cat, no clone, no contiguous.
        """,
    ),
    "test_cache_branches": Hint(
        "After `copy`, are there two key tensors or one?",
        "The drawing of piece 7 and its last paragraph; `help(copy.copy)`.",
        """
        A copy of the object. For keys and for values: new tensors with the new numbers of rows and slots,
        and into their first slots the old ones of these rows, by an index along the axis of rows.
        The same for the notes, whose axes are others. Length and the rest came along.
        """,
    ),
    "test_a_prompt_in_pieces": Hint(
        "Which piece is the first to be off: the one at once, the second, or the single token?",
        "The last cell of the handout: the same on the shipped model; `model/decoder.py`, who marks and who writes.",
        """
        If the first piece is off, it is a norm, the MLP or a turn. If only later ones are, it is the cache:
        what comes back must hold the old tokens before the new ones.
        """,
    ),
}
