"""Assignment a5: the anchor of CLVA and its controls."""

from minivlm.course.row import Assignment, Task

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
            "pull_to_anchor",
        ),
        "model/redistribute.py": ("redistributed",),
    },
    tasks=(
        Task("test_pooled_map", 8, "pooled_map", "Whose heads, how many, and divided by whose mass?"),
        Task(
            "test_pooled_map_of_a_batch",
            6,
            "pooled_map",
            "Which columns are patches, in which dtype is summed, what is 0 / 0? Whose choice are the heads?",
        ),
        Task("test_outliers_are_cut", 6, "without_outliers", "Down to mean + 3 deviations, not to 0; not from below."),
        Task(
            "test_outliers_among_what_a_row_sees",
            6,
            "without_outliers",
            "What is N, and what is the gradient of the root at 0?",
        ),
        Task("test_anchor", 11, "find_anchor, controlled", "What rises in each layer; then the mean."),
        Task("test_anchor_without_gain", 6, "find_anchor, controlled", "What is 0 / 0? Who is who if swapped?"),
        Task("test_shuffled_anchor", 8, "controlled, find_anchor", "One exchange of patches for all rows."),
        Task("test_random_anchor", 6, "controlled", "Chance has a seed and knows no anchor but whether there is one."),
        Task("test_controls_of_a_sample_alone", 4, "controlled", "Patches have numbers: `layout.numbers`."),
        Task("test_gate", 6, "drift_gate, pooled_map", "Compute the handout's example."),
        Task("test_gate_of_a_batch", 4, "drift_gate", "Which rows are shut, which heads count, and in which dtype?"),
        Task("test_gate_without_room", 3, "drift_gate", "What keeps 1 - cos(c, n) from 0, and from below 0?"),
        Task("test_attention_is_shared_out_anew", 8, "redistributed", "Which rows, which columns, how much in all?"),
        Task("test_kappa", 4, "redistributed", "Scale the picture, then the whole row, if the row is touched at all."),
        Task("test_pull", 6, "pull_to_anchor, redistributed", "All is scaled by the head's own mass m."),
        Task("test_pull_while_words_are_written", 2, "pull_to_anchor, drift_gate", "One row: the last of `layout`."),
        Task(
            "test_the_model_with_your_clva",
            1,
            "all seven",
            "Are all tasks above green?",
        ),
        Task(
            "test_a_planted_drift_is_mended",
            2,
            "all seven",
            "Which task above is not green? It decides where the deep layers look.",
        ),
        Task("test_all_rows_at_once", 1, "all seven", "No loops over rows and patches.", seconds=5.0, times=6.0),
        Task(
            "test_the_picture_alone_is_widened",
            2,
            "pull_to_anchor, drift_gate",
            "Cut `layout.span` out before you widen, and copy once.",
            megabytes=220,
        ),
    ),
)
