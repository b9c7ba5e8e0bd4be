"""Common mistakes, by what they give for the examples that handouts work by hand."""

from minivlm.course.mistake import Mistake

GELU = "test_quick_gelu", "at_zero_one_and_minus_one", (1,)
ATTENTION = "test_attention", "by_hand", ()
BLOCK = "test_block_normalises_before_each_branch", "by_hand", ()
NORM = "test_rmsnorm", "small_by_hand", ()
ROUNDED = "test_rmsnorm_in_sixteen_bits", "by_hand", (2,)
GATED = "test_gated_mlp", "by_hand", ()
ANGLES = "test_angles_near_the_start", "cos_by_hand", (0, 1)
QUARTER = "test_rotate", "a_quarter_turn", ()
HEADS = "test_heads_share_keys", "numbered", ()
WEIGHTS = "test_weights_written_out", "by_hand", (0, 0, 2)
SCORES = "test_scores_by_hand", "whole", (0, 0)
POOLED = "test_pooled_map", "by_hand", ()
ANCHOR = "test_anchor", "by_hand", ()
CHAIR = "test_chair", "by_hand"

A1 = (
    Mistake(*GELU, (0.84134,), "this is the exact GELU"),
    Mistake(*GELU, (0.84119,), "this is the GELU by tanh"),
    Mistake(*GELU, (0.84553,), "the constant is 1.7"),
    Mistake(*ATTENTION, (0.98201, 0.01799), "the scores are not scaled"),
    Mistake(*BLOCK, (1.0, -1.0), "the norm stands behind the sum"),
)
A2 = (
    Mistake(*NORM, (0.99502,) * 3, "eps is added behind the root"),
    Mistake(*ROUNDED, (-1.77344,), "the weight is multiplied before the result is rounded"),
    Mistake(*GATED, (5.71544,), "SiLU is on the wrong one of the two projections"),
    Mistake(*ANGLES, (0.54030, 0.54030, 0.99500, 0.99500), "the angles are in the order of neighbours, not of halves"),
    Mistake(*QUARTER, (-2.0, 1.0, -4.0, 3.0), "neighbours form a pair, not halves"),
)
A3 = (
    Mistake(*HEADS, (0.0, 1.0, 2.0, 0.0, 1.0, 2.0), "the heads are tiled, so that neighbours do not share"),
    Mistake(*WEIGHTS, (0.78699, 0.10651, 0.10651, 0.0), "the scores are not scaled"),
    Mistake(*WEIGHTS, (0.00246, 0.00091, 0.00091, 0.0), "hidden after the softmax, not before it"),
    Mistake(*WEIGHTS, (0.47537, 0.17488, 0.17488, 0.17488), "hidden scores are set to 0, not to minus infinity"),
    Mistake(*WEIGHTS, (0.47537, 0.21194, 0.5, 0.0), "the softmax is taken over the queries"),
)
A4 = (
    Mistake(*SCORES, (0.46875, 0.41667, 0.1875, 0.5), "the diagonal counts"),
    Mistake(*SCORES, (0.21875, 0.1875, 0.03125, 0.0), "divided by all Q rows"),
    Mistake(*SCORES, (0.21875, 0.25, 0.0625, 0.0), "the diagonal is left out above, not below"),
)
A5 = (
    Mistake(*POOLED, (0.37037, 0.23704, 0.29630, 0.09630), "all heads are pooled"),
    Mistake(*POOLED, (0.25, 0.25, 0.375, 0.125), "each chosen head's map is normalised before the mean"),
    Mistake(*POOLED, (0.4, 0.3, 0.4, 0.1), "the map is not divided by the mass"),
    Mistake(*ANCHOR, (0.0, 0.0, 1.0, 0.0), "the mean of the layers is taken before what lies above n"),
)
A6 = (
    Mistake(*CHAIR, "chair_i", (0.5,), "an invention counts once a caption, not as often as it is mentioned"),
    Mistake(*CHAIR, "chair_i", (0.41667,), "this is the mean of the captions' ratios, with silence as 0"),
    Mistake(*CHAIR, "chair_s", (1.0,), "silent captions are left out"),
    Mistake(*CHAIR, "recall", (0.22222,), "this is the mean of the pictures' recalls"),
    Mistake(*CHAIR, "recall", (0.5,), "found is divided by named"),
)
MISTAKES = (*A1, *A2, *A3, *A4, *A5, *A6)
