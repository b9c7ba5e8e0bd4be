"""Hints for assignment a4: a question, a pointer and a near-solution for each test."""

from minivlm.course.hint import Hint

HINTS = {
    "test_scores_by_hand": Hint(
        "Column y1 of head 0: which rows are later, and does x1 itself count?",
        "The table by hand in piece 1 and the one of mistakes; lecture 04, section 1; the docstring of `sinks.py`.",
        """
        Add up each column over all rows. Take off what its own row gives: that is the diagonal,
        which begins K - Q columns to the right. Count the rows that may see a column likewise.
        Divide; where nobody is left, by 1.
        """,
    ),
    "test_scores_of_padded_batches": Hint(
        "In `a b c . .` four rows come after `a`. By how many is its sum divided?",
        '"With padding" in piece 1; the mask\'s drawings above it.',
        """
        The divisor is counted in the mask, as the sum is in the weights: along the rows, without the diagonal.
        It has one head, and serves all by broadcasting.
        """,
    ),
    "test_scores_in_half_precision": Hint(
        "Add 1,500 times 0.001 in bf16, one after the other: where does the sum stop growing?",
        '"Precision" and "Traps" in piece 1; `help(torch.sum)`, its `dtype`.',
        """
        Give the sum along the rows a dtype: the wider one of the weights' and fp32.
        Change what comes in neither in place nor through a view, the diagonal's view least of all.
        """,
    ),
    "test_sinks_and_their_density": Hint(
        "At a threshold of 0.125, is a patch that scores 0.125 a sink? And is column y0 ever one?",
        "The table of piece 2; lecture 04, section 2; arXiv 2411.09968, its definition of a vision sink.",
        """
        Compare with "above", and let only columns pass that `image` marks, with an axis for the heads.
        The density: sinks of a head over patches of the sample; where there is no patch, divide by 1.
        """,
    ),
    "test_the_chosen_head": Hint(
        "Counts 2 5 5 1: which is densest, which is second? Whose dice does your random head throw?",
        "The table and the traps of piece 3; `help(torch.argsort)`, its `stable`.",
        """
        Sort the heads by their counts, most first, and so that equals keep their order.
        Densest: place 0. Second: place 1, or the only one there is.
        Random: a generator of its own, seeded by the setting; one whole number below H, the same for all samples.
        """,
    ),
    "test_the_densest_head": Hint(
        "The answer's two rows are cut off. How many columns must go with them, and why?",
        "The drawing and the trap of piece 4; `Layout`, its `prompt_rows` and `past`.",
        """
        Rows: as many as belong to the prompt. Columns: the past and these.
        Scores of that part, sinks of these scores above the threshold, their number for each head, the chosen head.
        A sample in which no head has a sink: -1.
        """,
    ),
    "test_one_head_in_all_heads": Hint(
        "Which map do you get from index -1, and what must a sample with -1 keep?",
        "The example by hand in piece 5 and its traps; lecture 04, section 4.",
        """
        For each sample pick the map of its head, with any valid head in the place of -1; keep an axis for the heads.
        Choose, number by number, between that map and the old weights:
        the map where the row is asked for and the head is not below 0.
        """,
    ),
    "test_eah": Hint(
        'A generated row alone, `decode` "keep": which rows change, and where does the head come from?',
        "The table of four calls in piece 5; `EAH.acts`; the docstring of `eah.py`.",
        """
        Rows: those that are no padding, at their own columns, the last Q of the mask of tokens.
        With "pass", only the first ones, those of the prompt.
        Head: if the prompt has rows here, find it. If not, the one that was kept; if there is none, raise.
        Broadcast, and give back the head as well.
        """,
    ),
    "test_many_small_maps": Hint(
        "Is there a Python loop over rows or columns in your scores?",
        '"Speed and memory" in piece 1.',
        """
        Sums along an axis for all columns at once; the diagonal is one call as well.
        If you add up in stripes, let them be tens of rows high.
        """,
    ),
    "test_scores_without_a_map": Hint(
        "Row i of the stripe that begins at row f: which column is its own?",
        "The drawing and the traps of piece 6; lecture 04, section 8.",
        """
        Keys repeated to all heads. For each stripe of queries and its part of the mask: the written weights,
        over all columns. Blot out each row's own column, in weights and in mask.
        Add both up along the rows, onto what the stripes before gave. At the end divide.
        """,
    ),
    "test_scores_of_a_long_prompt": Hint(
        "Besides the weights, what else of yours has Q times K entries, and how many bytes has each?",
        "The traps of piece 6: the sum of a mask is made in int64.",
        """
        Cut the mask into stripes, too, and count within the stripe. Nothing is as high as all Q rows
        but the queries, the keys and the mask that were given.
        """,
    ),
    "test_broadcast_without_a_map": Hint(
        "On what does head n's map depend: on its queries, its keys, its values?",
        "The algebra of piece 6 and its example with 6, 5, 3; lecture 04, section 8.",
        """
        For each sample and head write down whose map it uses: the broadcast one, or its own where that is -1.
        Pick queries by that, and keys by the group that it belongs to.
        Values: each head's own, repeated from their groups. Then the fused kernel.
        """,
    ),
    "test_broadcast_in_a_long_prompt": Hint(
        "Does any line of yours hold a map, if only for one head?",
        '"Broadcasting" in piece 6: the function that never holds weights is there already.',
        """
        Pick queries and keys by index, and leave softmax and product to the fused kernel.
        """,
    ),
    "test_all_together": Hint(
        "Each part is right alone. Which two of them disagree about a shape or about -1?",
        "The tables of shapes in pieces 4 to 6.",
        """
        Go along: scores (B, H, K), sinks (B, H, K), counts (B, H), head (B,), new weights as the old ones.
        The way without a map takes the same head and gives what the weights would have mixed.
        """,
    ),
    "test_a_layer_led_astray_is_mended": Hint(
        "Which head did we not lead astray, and does your choice find it?",
        "The cell with `planted-sinks`; `weights/planted-sinks/README.md`.",
        """
        Nothing new is to be written. The first red test of pieces 1 to 5 is the cause:
        a wrong head lends a map that looks at the beginning of the sentence, and the answers stay blind.
        """,
    ),
}
