"""Hints for assignment a3: a question, a pointer and a near-solution for each test."""

from minivlm.course.hint import Hint

HINTS = {
    "test_who_may_see_whom": Hint(
        "Five tokens, two of them queries: which columns are the queries' own?",
        "The formula of piece 1 and its drawings; lecture 02, step 2, and step 6 for padding.",
        """
        Number the columns; the queries' numbers are the last of them, as a column vector.
        Earlier: the key's number is below the query's. Both: the query is no padding, and the key is none.
        Earlier and both, or the same number. Then an axis for the heads.
        """,
    ),
    "test_heads_share_keys": Hint(
        "Three heads 0 1 2 for groups of two: does yours say 0 0 1 1 2 2 or 0 1 2 0 1 2?",
        "The drawing of piece 2; lecture 02, step 5; arXiv 2305.13245, section 2.2.",
        """
        Each entry of the axis of heads is written `group` times before the next one comes.
        There is a method of a tensor for that, with the axis as an argument; the other one tiles.
        """,
    ),
    "test_heads_apart_and_together": Hint(
        "Two heads of d = 4: to which head and place belongs number 5 of the projection?",
        "The drawing of piece 3; the shapes at the top of `attention.py`.",
        """
        Call each linear layer. Cut its last axis into (as many heads as come out, d); then heads before tokens.
        Back: tokens before heads, the two last axes into one, then the layer that leads back.
        """,
    ),
    "test_fused_attention": Hint(
        "A single new token behind a cache of eight: how many keys does your kernel let it see?",
        "The traps of piece 4; lecture 02, step 3; `help(F.scaled_dot_product_attention)`, its `enable_gqa`.",
        """
        One call of the kernel, with the mask as it came, and nothing scaled before it.
        Where there are fewer key heads than heads, say so by its argument, or repeat keys and values first.
        """,
    ),
    "test_weights_written_out": Hint(
        "Row x2 of head 0 should be 0.576 0.212 0.212 0. Which row of the handout's table is yours?",
        "The example by hand in piece 5 and the table of mistakes below it; arXiv 1706.03762, equation 1.",
        """
        For one stripe of rows: products with all keys, times one over the root of the head's width.
        Where the mask is False, minus infinity. Softmax over the keys, in fp32, and back to the queries' dtype.
        Collect the stripes and join them along the rows.
        """,
    ),
    "test_weights_at_the_edges": Hint(
        "Which number do hidden scores have before your softmax, and is it below -15,000 for sure?",
        '"Precision" and "Hidden means exactly 0" in piece 5.',
        """
        Minus infinity, not a large number. The products stay in the dtype of the queries;
        `softmax` takes the dtype to compute in; what it gives is rounded once, at the end.
        """,
    ),
    "test_shapes_foretold": Hint(
        "Seven queries behind a cache of five, `first` is 4: how many rows, and how many columns, has the written map?",
        "The drawing of piece 6 and the table of letters; write B H G Q K R d beside each arrow.",
        """
        Queries have H heads, keys G; behind the cache there are K of the latter. R is what is left of Q after `first`.
        A map has a number for each head, row and column; what it mixes has d in the place of columns.
        What leaves the layer has no heads any more.
        """,
    ),
    "test_forward_in_the_fast_lane": Hint(
        "Which keys do the queries look at: those that you have just made, or those that the cache gave back?",
        "Step 1 in piece 6; `KVCache.write`, its docstring.",
        """
        Project; turn queries and keys, not values; if there is a cache, go on with what its `write` returns.
        Ask the call for the first visible row. All rows before it go through the kernel.
        If that is all of them: merge, and hand back the carry that came in.
        """,
    ),
    "test_both_lanes_give_the_same": Hint(
        "The visible rows are the last ones. Which rows of the mask belong to them?",
        "Step 2b in piece 6; lecture 02, step 1: one equation, two programs.",
        """
        Cut queries and mask at the same row, along the rows, and keep all columns.
        Written weights of these queries and of keys repeated to all heads, times values repeated likewise.
        Fast rows, then these, joined along the rows; merge.
        """,
    ),
    "test_steps_in_their_order": Hint(
        "Which weights does each of the four steps get, and which of them mix the values?",
        "The table of steps 3 to 5 in piece 6; the docstrings of `broadcast`, `anchor`, `aim` and `record`.",
        """
        Keep the written weights under a name of their own. Hand them to step 3, its result to 4a, that to 4b;
        the carry travels along. The record gets the first and the last. The last ones mix the values.
        """,
    ),
    "test_failing_layers_explained": Hint(
        "Of a right case you could compute three things yourself from the others. Which?",
        "The list of names in piece 6c, and the docstring of `Case`.",
        """
        Hidden weights first: is a weight above 0 where the row may not see? Next, is what came out
        the fast rows followed by the mixed ones? If the first rows are not the fast ones, it is the order;
        if the last rows are the plain weights' mixture although the weights were changed, it is the mixing.
        Compare with a tolerance.
        """,
    ),
    "test_many_small_maps": Hint(
        "How often does Python go round for one map of 128 rows?",
        '"Speed" in piece 5; `STRIPE` at the top of the file.',
        """
        A stripe of as many rows as the constant says, not of one. Within it: products of matrices, no loop.
        """,
    ),
    "test_memory_of_a_map": Hint(
        "At the worst moment, how many tensors of Q times K times H numbers are there, and in which dtype?",
        '"Memory" in piece 5.',
        """
        Go round over stripes of rows; in each round finish everything, rounding included, and keep only the result.
        Join once, at the end.
        """,
    ),
    "test_one_row_costs_one_row": Hint(
        "One row is asked for. How many rows does your map have?",
        "Step 2 in piece 6, and the first of its traps.",
        """
        Cut the queries at the first visible row before weights are written out, and not the weights afterwards.
        """,
    ),
}
