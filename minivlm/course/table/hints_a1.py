"""Hints for assignment a1: a question, a pointer and a near-solution for each test."""

from minivlm.course.hint import Hint

HINTS = {
    "test_quick_gelu": Hint(
        "What does the formula give for x = 1, to four digits, and what does yours?",
        "The table of piece 1, and arXiv 1606.08415, section 2: the approximation by a sigmoid.",
        """
        Take the number times the constant of the formula, three decimals and all.
        Send that through the sigmoid, and multiply the result by the number that came in.
        Call neither float() nor to(): a Python number does not change a tensor's dtype.
        """,
    ),
    "test_patches_stand_in_reading_order": Hint(
        "The convolution gives (B, D, rows, columns). Which axis must be last, and which of the others runs fastest?",
        "The drawing of piece 2; lecture 01, step 2; arXiv 2010.11929, section 3.1.",
        """
        Let the convolution cut the picture.
        Make one axis of rows and columns, in this order: (B, D, patches).
        Then exchange the last two axes. Both steps are one method of a tensor each.
        """,
    ),
    "test_class_token_first_then_positions": Hint(
        "With four patches there are five tokens. Which rows of the position table are used, and by whom?",
        "Steps 3 and 4 of piece 2, and the row of numbers below them: 100.0 0.1 1.2 2.3 3.4.",
        """
        Give the class embedding the axes of a batch with one token, the same for each picture.
        Put it in front of the patches, along the axis of tokens.
        Add the whole position table; its axis of pictures is made by broadcasting.
        """,
    ),
    "test_embeddings_of_any_picture": Hint(
        "What is the dtype of `pixels`, and which dtype does the tower's own parameter have?",
        "The last two traps of piece 2: the margin, and the dtype.",
        """
        Before the convolution, make a converted copy of the pixels; the dtype is the class embedding's.
        Leave the margin to the convolution: no reshape of the picture itself.
        """,
    ),
    "test_embeddings_refuse_other_pictures": Hint(
        "Which of the shapes (1, 3, 12, 12), (3, 15, 15) and (1, 1, 15, 15) would your condition let through?",
        '"Refusing" in piece 2; `ImageError` in `minivlm/errors.py`.',
        """
        The first thing in the function: compare all sizes behind the first with (3, S, S), and count the axes.
        If anything differs, raise the error with a sentence that holds S and the whole shape that was found.
        """,
    ),
    "test_attention": Hint(
        "A token has D = 12 numbers and there are 3 heads: which numbers are head 1's?",
        "The drawing of piece 3; lecture 02, step 1; arXiv 1706.03762, section 3.2.2.",
        """
        Three projections. Cut each one's last axis into (heads, d), heads outermost; then heads before tokens.
        Attend: the fused kernel scales by itself and needs no mask here.
        Tokens before heads again, heads side by side, the last projection.
        """,
    ),
    "test_attention_over_many_tokens": Hint(
        "Which tensor of yours has tokens times tokens times heads numbers?",
        '"Large pictures" in piece 3; `fused_attention` in `model/attention.py`; arXiv 2205.14135, section 3.1.',
        """
        Do not write the softmax out at all.
        Give queries, keys and values, heads before tokens, to the one function of torch.nn.functional
        that is named after the scaled dot product.
        """,
    ),
    "test_block_normalises_before_each_branch": Hint(
        "If attention and MLP both give zeros, what must the block give?",
        "The two lines of piece 4; arXiv 2010.11929, figure 1, right-hand side.",
        """
        The first branch: the norm of x, then attention; add what comes out to x, as a new tensor.
        The second branch: the other norm, of that sum, then the MLP; add it to that sum.
        """,
    ),
    "test_tower_hands_out_its_states": Hint(
        "Four blocks: how many states, and which norm has state 0 gone through?",
        "The table of piece 5; lecture 01, step 3; arXiv 2103.00020, section 2.4.",
        """
        Begin a list with the embedding, behind the first norm where there is one.
        For each block up to the depth, and for all of them where the depth is None: append what it makes of
        the last entry. A slice of the blocks knows None and 0.
        Give back a tuple.
        """,
    ),
    "test_features_are_those_named": Hint(
        "A tower of 4 layers stopped at depth 3. At which index of `states` does layer -2 stand?",
        "The table of piece 6, and the sentence in bold below it; lecture 01, step 4.",
        """
        A number below zero: add the whole tower's layers and one, taken from the config, not from `states`.
        Pick these states in the order named.
        Where the strategy is "default", drop the first entry of the axis of tokens.
        Join along the width.
        """,
    ),
    "test_projector": Hint(
        "For x = 1, is the GELU that stands between the two maps 0.8413 or 0.8458?",
        "The formula of piece 7; arXiv 2310.03744, where it speaks of an MLP between vision and language.",
        """
        First map, exact GELU, second map. The GELU of torch.nn.functional is exact unless it is told otherwise.
        """,
    ),
    "test_a_model_sees": Hint(
        "Is there an in-place assignment, a detach or a no_grad between the pixels and the features?",
        "`Llava.encode_images` in `minivlm/model/llava.py`: who calls your functions, and with which depth.",
        """
        Run the tests above one by one; the first red one is the place.
        If all are green: look for what stops gradients, such as .data, .item() or a tensor filled by assignment.
        """,
    ),
}
