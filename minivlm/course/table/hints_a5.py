"""Hints for assignment a5: a question, a pointer and a near-solution for each test."""

from minivlm.course.hint import Hint

HINTS = {
    "test_pooled_map": Hint(
        "Masses .10 .80 .40 .05, half of the heads: which two, and by what is their sum divided?",
        "The example by hand in piece 1 and its table of mistakes; lecture 06, step 1; lecture 05, section 1.",
        """
        Cut out the columns of the span. Each head's mass is their sum, for each row.
        How many heads: the share of all, rounded up, less the slack. Mark these heads, row by row.
        Add up the marked heads' maps, unscaled, and bring the result to a sum of 1.
        """,
    ),
    "test_pooled_map_of_a_batch": Hint(
        "Which columns of the span are no patch of this sample? In which dtype do you sum?",
        "The drawing of the layout; the traps of piece 1; `at_least_fp32` and `normalised`.",
        """
        Widen the span's columns first. Multiply by what `layout.patches` says.
        The choice of heads has the shape (B, H, R). `normalised` leaves rows of zeros as they are.
        """,
    ),
    "test_outliers_are_cut": Hint(
        "Twelve patches, one gain of 1: is yours cut to .9125, to 0, or to something else?",
        "The example by hand in piece 2 and the first three traps.",
        """
        Mean and variance over the patches, divided by N. The limit is the mean and three deviations.
        The smaller of value and limit, everywhere; nothing from below.
        """,
    ),
    "test_outliers_among_what_a_row_sees": Hint(
        "A column that the row does not see holds 0. What does it add to the sum of squared distances?",
        "The sentence on N in piece 2, and the trap about the root of 0.",
        """
        N: the seen patches of each row, and 1 where there is none.
        Blot out unseen columns among the squared distances before they are summed.
        Lift the variance to the smallest number of its dtype before the root.
        """,
    ),
    "test_anchor": Hint(
        "Patch 1 rises in one anchor layer and falls in the other. Is it in your anchor?",
        'The example by hand in piece 3, and "The order matters"; lecture 06, step 2.',
        """
        n: the mean of the noise layers that are named. c: the mean of the anchor layers.
        The gain: in each anchor layer what lies above n, else 0; then the mean of these.
        Outliers, then the largest, then a sum of 1, then the control.
        """,
    ),
    "test_anchor_without_gain": Hint(
        "Where nothing rises, g is all 0. What do you divide it by? And who is n if roles are swapped?",
        '"Where nothing rises" and "Swapped" in piece 3.',
        """
        `normalised` divides by what is never 0. Where the setting says swapped, let the two tuples of layers
        change places before anything is computed, so that n and c follow.
        """,
    ),
    "test_shuffled_anchor": Hint(
        "Two rows see the same patches. Do their values go to the same places?",
        '"How to get there without a loop over rows" in piece 4; lecture 06, the controls.',
        """
        A table of chance, one number a patch, looked up by the patches' numbers: (B, P).
        Sort each row's columns twice, unseen ones last: by chance, and by the patches' own numbers.
        Fetch values in the first order, lay them down in the second.
        """,
    ),
    "test_random_anchor": Hint(
        "What does your control give in a row whose anchor is all 0, and what does it know of the anchor else?",
        '"Random" in piece 4, and rules 2, 3 and 5.',
        """
        The same table of chance, looked up by the patches' numbers, 0 where the row sees none; brought to a sum of 1.
        Times whether the row has an anchor at all.
        """,
    ),
    "test_controls_of_a_sample_alone": Hint(
        "Move a picture three columns to the right: does your control move with it, unchanged?",
        "Rules 1 and 4 of piece 4; `Layout.numbers`.",
        """
        Draw the table from the seed alone, as long as the picture with most patches, and never by rows or columns.
        Chance belongs to a patch's number; columns only look it up.
        """,
    ),
    "test_gate": Hint(
        "cos(c, n) is .7606 and cos(P, n) is .9791. On which scale is .9128?",
        "The number line and the example of piece 5; lecture 06, step 3.",
        """
        The pooled map of these weights, with the setting's share of heads. Its cosine with n, less that of c with n,
        over what is left from the latter to 1. Cut to the range from 0 to 1.
        """,
    ),
    "test_gate_of_a_batch": Hint(
        "Which rows must have a gate of 0 whatever they look at, even where the gate is held open?",
        '"Two rules more" in piece 5.',
        """
        A row is ready if its anchor is not all 0. Held open: ready as numbers, in the dtype of the maps.
        Else: the quotient, times ready. A cosine that guards against zeros is in torch.
        """,
    ),
    "test_gate_without_room": Hint(
        "1 - cos(c, n) may come out as 0, or a little below. What is your quotient then?",
        "The second trap of piece 5.",
        """
        Lift the divisor to the dtype's eps before you divide; no larger number, and no repair of nan afterwards.
        """,
    ),
    "test_attention_is_shared_out_anew": Hint(
        "Before: mass .50. After, with kappa 1: how much lies on the picture, and which columns may differ?",
        'The table by hand in piece 6, and "Which rows", "Which columns".',
        """
        The share of each patch: what is wanted over its sum, times the head's mass.
        Rows: chosen, text among the last R, and something wanted. Columns: this sample's patches.
        There the share, elsewhere the old number; put the span back into a copy.
        """,
    ),
    "test_kappa": Hint(
        "With kappa 1.5 the row sums to 1.25. Who is divided by it, and who must not be?",
        "The last line of the table in piece 6.",
        """
        Scale the mass by kappa before it is shared out. Then bring the touched rows, as a whole, to a sum of 1;
        all other rows stay bit for bit.
        """,
    ),
    "test_pull": Hint(
        "omega r = .4, m = .5: with which factor does the anchor come into t? With which the head's own map?",
        "The example by hand in piece 7; lecture 06, step 4; the equations at the top of `clva.py`.",
        """
        p: the head's weights on the patches, widened; m: their sum. Scale a and n by m.
        What is left of p, and the anchor's part, less the noise's part, each by its strength times the gate.
        Not below 0. Share out by that, where the gate is above 0, with the setting's kappa.
        """,
    ),
    "test_pull_while_words_are_written": Hint(
        "While a word is written there is one row. Which column of `layout.text` is it?",
        '"Which rows" in piece 6.',
        """
        Count rows from the end, never from the beginning: the last R of the text's columns.
        What comes back has the dtype of what came in.
        """,
    ),
    "test_the_model_with_your_clva": Hint(
        "Which test above is the first that is not green?",
        "`Attention.anchor` in `minivlm/model/attention.py`: who calls your functions, in which layers.",
        """
        Mend the tests above in their order. If all are green, compare dtypes and the shape of the gate, (B, R).
        """,
    ),
    "test_a_planted_drift_is_mended": Hint(
        "With plain attention the model says what is usual. Where must the deep layers look instead?",
        "The cell with `planted-drift`; lecture 06, its first section; `weights/planted-drift/README.md`.",
        """
        Nothing new is to be written. Look at the gate first: it must be open in most rows here.
        Then at the anchor: not all 0, and not the noise.
        """,
    ),
    "test_all_rows_at_once": Hint(
        "Where does Python go round over patches, or over rows within layers?",
        '"All of it" in the handout.',
        """
        All rows, heads and patches are axes: sort, gather and scatter along the last one. A loop over layers is fine.
        """,
    ),
    "test_the_picture_alone_is_widened": Hint(
        "How many columns does your fp32 tensor have: those of the picture, or all K?",
        'The last trap of piece 1, and "How." in piece 6.',
        """
        Cut the span out first, then widen. One copy of the whole in its own dtype, into which the span is put back.
        """,
    ),
}
