"""The table of assignments: which functions are taken out, which tests judge them, points, time and memory.

A row is all that an assignment is, beside its tests (`kit/test_a1.py` …) and its handout (`notebooks/assignments`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from minivlm.errors import CourseError


@dataclass(frozen=True)
class Task:
    """One test, and what it is worth."""

    test: str  # a function of the assignment's test file
    points: int
    needs: str  # the functions that it wants written
    hint: str = ""  # where to look first if it fails
    seconds: float = 20.0
    times: float | None = None  # a speed test: at most so many times what the reference takes, in place of `seconds`
    megabytes: int = 1000  # beyond what the process held before
    bug: str = ""  # of the zoo: the test must fail under this bug, and pass without


@dataclass(frozen=True)
class Assignment:
    """One row of the table. Holes and tasks stand in the order in which they are best done."""

    name: str
    title: str
    minutes: int  # that a student should plan
    tasks: tuple[Task, ...]
    holes: Mapping[str, tuple[str, ...]]  # functions, by the file of the package that they stand in
    hidden: tuple[str, ...] = ()  # files of the package that would give the solution away

    @property
    def points(self) -> int:
        return sum(task.points for task in self.tasks)

    @property
    def tests(self) -> str:
        """The file of its tests."""
        return "test_zoo.py" if self.is_zoo else f"test_{self.name}.py"

    @property
    def is_zoo(self) -> bool:
        """Whether the student writes the tests, and the package is whole."""
        return not self.holes

    @property
    def handed_in(self) -> tuple[str, ...]:
        """What a student hands in, as paths in the student's folder."""
        return (f"tests/{self.tests}",) if self.is_zoo else tuple(f"minivlm/{file}" for file in self.holes)


A1 = Assignment(
    name="a1",
    title="The tower and the projector",
    minutes=120,
    holes={
        "model/layers.py": ("quick_gelu",),
        "model/vision.py": (
            "VisionEmbeddings.forward",
            "VisionAttention.forward",
            "VisionBlock.forward",
            "VisionTower.forward",
        ),
        "model/projector.py": ("select_features", "Projector.forward"),
    },
    tasks=(
        Task("test_quick_gelu", 5, "quick_gelu", "The constant has three decimals, and the dtype stays what it was."),
        Task(
            "test_patches_stand_in_reading_order",
            10,
            "VisionEmbeddings.forward",
            "Draw what the convolution gives for a picture of 3 × 3 patches, axis by axis, then flatten row by row.",
        ),
        Task(
            "test_class_token_first_then_positions",
            10,
            "VisionEmbeddings.forward",
            "Position 0 belongs to the class token, position 1 to the first patch.",
        ),
        Task(
            "test_embeddings_of_any_picture",
            5,
            "VisionEmbeddings.forward",
            "In which dtype do pixels come, in which do the tower's weights stand, and what happens to a margin?",
        ),
        Task(
            "test_embeddings_refuse_other_pictures",
            5,
            "VisionEmbeddings.forward",
            "Look at the number of axes before you look at their sizes; raise ImageError before the convolution.",
        ),
        Task(
            "test_attention",
            15,
            "VisionAttention.forward",
            "The scale belongs to the width of a head; heads are contiguous slices of the width.",
        ),
        Task(
            "test_attention_over_many_tokens",
            5,
            "VisionAttention.forward",
            "Which tensor has tokens × tokens × heads numbers, and which function of PyTorch never makes it?",
            seconds=20,
            megabytes=250,
        ),
        Task(
            "test_block_normalises_before_each_branch",
            10,
            "VisionBlock.forward",
            "The straight line from the input to the output passes through no norm.",
        ),
        Task(
            "test_tower_hands_out_its_states",
            10,
            "VisionTower.forward",
            "Four layers have five states, the first of them behind `pre_layrnorm`; a depth of 0 is a depth.",
        ),
        Task(
            "test_features_are_those_named",
            10,
            "select_features",
            "What does -2 mean in a tower of four layers of which only three were computed?",
        ),
        Task("test_projector", 5, "Projector.forward", "This GELU is the exact one."),
        Task(
            "test_a_model_sees",
            10,
            "all seven functions",
            "If all tests above are right: does something cut the path of the gradients?",
        ),
    ),
)

A2 = Assignment(
    name="a2",
    title="Rotary positions, RMSNorm and the cache",
    minutes=120,
    holes={
        "model/layers.py": ("RMSNorm.forward", "GatedMLP.forward", "rotary_angles", "rotate"),
        "model/cache.py": ("KVCache.mark", "KVCache.write", "KVCache.branch"),
    },
    tasks=(
        Task("test_rmsnorm", 10, "RMSNorm.forward", "No mean is subtracted, and eps stands under the root."),
        Task(
            "test_rmsnorm_in_sixteen_bits",
            10,
            "RMSNorm.forward",
            "In which dtype is the mean taken, and what is done first: rounding, or multiplying by the weight?",
        ),
        Task("test_gated_mlp", 5, "GatedMLP.forward", "Which of the two projections is the gate?"),
        Task(
            "test_angles_near_the_start",
            10,
            "rotary_angles",
            "Compute the table of the handout by hand: positions 0, 1, 2, four numbers a head, theta 100.",
        ),
        Task(
            "test_angles_far_away_and_in_sixteen_bits",
            10,
            "rotary_angles",
            "The cast is the very last step: positions, frequencies and angles are fp32.",
        ),
        Task(
            "test_rotate",
            15,
            "rotate",
            "Turn (1, 2, 3, 4) by a quarter on paper; the axis of the heads is missing in cos and sin.",
        ),
        Task("test_cache_notes_the_patches", 5, "KVCache.mark", "What comes back covers the old tokens, too."),
        Task(
            "test_cache_writes_behind_what_is_there",
            15,
            "KVCache.write",
            "All layers of one forward write at the same spot, so `length` is not yours to move.",
        ),
        Task(
            "test_cache_is_fast",
            5,
            "KVCache.mark, KVCache.write",
            "Anything that makes a new tensor of all keys copies the whole conversation for each word.",
            seconds=5,
            times=4,
        ),
        Task(
            "test_cache_holds_nothing_twice",
            5,
            "KVCache.write",
            "A slice of a tensor is a view and costs nothing; cat, clone and contiguous are copies.",
            megabytes=480,
        ),
        Task(
            "test_cache_branches",
            5,
            "KVCache.mark, KVCache.write, KVCache.branch",
            "What does `copy` copy of an object that holds tensors, and what do the two then share?",
        ),
        Task(
            "test_a_prompt_in_pieces",
            5,
            "all but KVCache.branch",
            "If all tests above are right, this one is: read its message from the first piece on.",
        ),
    ),
)

A3 = Assignment(
    name="a3",
    title="The attention module's two lanes",
    minutes=150,
    holes={
        "model/decoder.py": ("causal_mask",),
        "model/attention.py": (
            "repeat_heads",
            "Attention.project",
            "Attention.merge",
            "fused_attention",
            "attention_weights",
            "Attention.forward",
        ),
    },
    tasks=(
        Task("test_who_may_see_whom", 10, "causal_mask", "Draw the mask of `. . a b c`, then its last two rows."),
        Task("test_heads_share_keys", 6, "repeat_heads", "G = 3, a group of 2: the order is 0 0 1 1 2 2."),
        Task("test_heads_apart_and_together", 10, "project, merge", "Numbers 0 to d - 1 belong to head 0."),
        Task("test_fused_attention", 10, "fused_attention", "Does the kernel obey this mask, with shared keys, too?"),
        Task("test_weights_written_out", 10, "attention_weights", "Print the weights of the handout's example."),
        Task("test_weights_at_the_edges", 8, "attention_weights", "Hidden is exactly 0; fp32 inside, rounded once."),
        Task("test_forward_in_the_fast_lane", 12, "forward", "Go on with what `cache.write` returns."),
        Task("test_both_lanes_give_the_same", 10, "forward", "Fused rows come first, written ones behind them."),
        Task("test_steps_in_their_order", 10, "forward, causal_mask", "Each step takes what the one before it gave."),
        Task("test_many_small_maps", 4, "attention_weights", "No loop over single rows.", seconds=3.0, times=4.0),
        Task("test_memory_of_a_map", 5, "attention_weights", "Finish a stripe of rows at a time.", megabytes=450),
        Task("test_one_row_costs_one_row", 5, "forward", "Write out the rows from `first` on.", megabytes=400),
    ),
)

A4 = Assignment(
    name="a4",
    title="Sinks, and the head that has most of them",
    minutes=180,
    holes={
        "model/sinks.py": ("vision_sink_scores", "vision_sinks", "sink_density"),
        "model/eah.py": ("chosen_head", "densest_head", "broadcast_head", "broadcast_densest_head"),
        "model/frugal.py": ("sink_scores_without_map", "broadcast_without_map"),
    },
    tasks=(
        Task("test_scores_by_hand", 8, "vision_sink_scores", "Which rows are in the mean of column 1?"),
        Task("test_scores_of_padded_batches", 12, "vision_sink_scores", "Count the rows that may see the column."),
        Task("test_scores_in_half_precision", 6, "vision_sink_scores", "Give `sum` a dtype; work on nothing given."),
        Task("test_many_small_maps", 4, "vision_sink_scores", "No loop over columns or rows.", seconds=2.5, times=4.0),
        Task("test_sinks_and_their_density", 8, "vision_sinks, sink_density", "Above is not at; count patches."),
        Task("test_the_chosen_head", 10, "chosen_head", "Is the sort stable? Has the seed dice of its own?"),
        Task("test_the_densest_head", 12, "densest_head", "Cut the answer's rows and columns off first."),
        Task("test_one_head_in_all_heads", 10, "broadcast_head", "Head 0 is a head; -1 is none."),
        Task("test_eah", 12, "broadcast_densest_head", "Which rows change: no padding, and whose is an answer's?"),
        Task("test_scores_without_a_map", 8, "sink_scores_without_map", "Stripes of rows.", megabytes=220),
        Task("test_broadcast_without_a_map", 8, "broadcast_without_map", "Expand q and k, not v.", megabytes=300),
        Task("test_all_together", 2, "all of them", "Each part is right by itself: which of them differ in shape?"),
    ),
)

A5 = Assignment(
    name="a5",
    title="The anchor, its fusion and its controls",
    minutes=150,
    holes={
        "model/clva.py": (
            "pooled_map",
            "without_outliers",
            "find_anchor",
            "controlled",
            "drift_gate",
            "redistributed",
            "pull_to_anchor",
        )
    },
    tasks=(
        Task("test_pooled_map", 8, "pooled_map", "Does each row choose its own heads, and how many?"),
        Task("test_pooled_map_of_a_batch", 6, "pooled_map", "`layout.patches` differs from sample to sample."),
        Task("test_outliers_are_cut", 6, "without_outliers", "Cut down to mean + 3 deviations, not to 0."),
        Task("test_outliers_among_what_a_row_sees", 6, "without_outliers", "Count the patches in `layout.seen`."),
        Task("test_anchor", 11, "find_anchor, controlled", "What rises in each layer; then the mean."),
        Task("test_anchor_without_gain", 6, "find_anchor, controlled", "What is 0 / 0? Who is who if swapped?"),
        Task("test_shuffled_anchor", 8, "controlled, find_anchor", "One exchange of patches for all rows."),
        Task("test_random_anchor", 6, "controlled", "Chance has a seed and knows no anchor but whether there is one."),
        Task("test_controls_of_a_sample_alone", 4, "controlled", "Patches have numbers: `layout.numbers`."),
        Task("test_gate", 8, "drift_gate, pooled_map", "Compute the handout's example."),
        Task("test_gate_of_a_batch", 5, "drift_gate", "What is the gate of a row without an anchor?"),
        Task("test_attention_is_shared_out_anew", 8, "redistributed", "Which rows, which columns, how much in all?"),
        Task("test_kappa", 4, "redistributed", "Scale the picture, then the whole row, if the row is touched at all."),
        Task("test_pull", 6, "pull_to_anchor, redistributed", "All is scaled by the head's own mass m."),
        Task("test_pull_while_words_are_written", 2, "pull_to_anchor, drift_gate", "One row: the last of `layout`."),
        Task("test_the_model_with_your_clva", 2, "all seven", "Are all tasks above green?"),
        Task("test_all_rows_at_once", 2, "all seven", "No loop over rows.", seconds=5.0, times=6.0),
        Task("test_the_picture_alone_is_widened", 2, "pull_to_anchor", "Cut out `layout.span`.", megabytes=300),
    ),
)

A6 = Assignment(
    name="a6",
    title="CHAIR and POPE",
    minutes=120,
    holes={
        "stats.py": ("Ratio.value",),
        "evaluation/lexicon.py": ("Lexicon._joined",),
        "evaluation/chair.py": ("chair",),
        "evaluation/pope.py": ("said_by_original", "said_by_first_word", "matched", "pope"),
    },
    tasks=(
        Task("test_ratio_of_sums", 8, "Ratio.value", "Add up first, divide once."),
        Task("test_two_words_are_one_object", 10, "_joined", "A hot dog is no dog: what becomes of the second word?"),
        Task("test_phrases_that_overlap", 6, "_joined", "From left to right; a word serves once."),
        Task("test_chair", 14, "chair, value", "Count mentions for CHAIR_i, captions for CHAIR_s, objects for recall."),
        Task("test_silent_captions", 6, "chair, value", "Who says nothing invents nothing, and is a caption still."),
        Task("test_chair_by_image", 6, "chair", "One entry of each part for each caption, in their order."),
        Task("test_what_the_original_reads", 10, "said_by_original", "Blanks alone part words; only commas go."),
        Task("test_what_the_first_word_says", 8, "said_by_first_word", "There is a third answer: None."),
        Task("test_answers_find_their_questions", 8, "matched", "By id, whatever the order."),
        Task("test_answers_that_do_not_fit", 6, "matched", "What if ids are missing, unknown or there twice?"),
        Task("test_pope", 10, "pope, value", "Write down the four counts of yes and no first."),
        Task("test_unreadable_answers", 4, "pope, value", "None is wrong, and no yes."),
        Task("test_pope_by_image", 2, "pope", "Images in the order in which they are first asked about."),
        Task("test_thousands_of_questions", 2, "matched, pope", "No search through a list.", seconds=5.0, times=5.0),
    ),
    hidden=("toyworld/trials.py", "toyworld/anatomy.py", "toyworld/methods.py", "toyworld/tuning.py"),
)

A7 = Assignment(
    name="a7",
    title="The bug zoo",
    minutes=150,
    holes={},
    tasks=(
        Task("test_label_ratio", 6, "a body", "A model that always says yes has which figures?", bug="label_ratio"),
        Task("test_missing_space", 7, "a body", "How should the prompt read, letter by letter?", bug="missing_space"),
        Task("test_head_zero", 8, "a body", "Who is head 0 if the heads change places?", bug="head_zero"),
        Task("test_first_row", 8, "a body", "What does a row of a batch get alone?", bug="first_row"),
        Task("test_short_slice", 8, "a body", "Count what is there, and what was touched.", bug="short_slice"),
        Task("test_wrong_activation", 8, "a body", "Change a setting: what changes with it?", bug="wrong_activation"),
        Task("test_sloped_scores", 10, "a body", "Make weights whose means you know.", bug="sloped_scores"),
        Task("test_loose_loading", 10, "a body", "Damage a checkpoint yourself.", bug="loose_loading"),
        Task("test_silent_decode", 12, "a body", "Can the same answer be had another way?", bug="silent_decode"),
        Task("test_padded_positions", 13, "a body", "Where can padding stand but on the left?", bug="padded_positions"),
        Task("test_shuffled_groups", 10, "a body", "There are two lanes. Who takes which?", bug="shuffled_groups"),
    ),
)

ASSIGNMENTS = {row.name: row for row in (A1, A2, A3, A4, A5, A6, A7)}


def assignment(name: str) -> Assignment:
    """The row of that name."""
    if name not in ASSIGNMENTS:
        raise CourseError(f"There is no assignment {name!r}; there are {', '.join(ASSIGNMENTS)}.")
    return ASSIGNMENTS[name]
