"""Assignment a3: the attention module's two lanes."""

from minivlm.course.row import Assignment, Task

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
        "course/lanes.py": ("foretold", "explained"),
    },
    tasks=(
        Task("test_who_may_see_whom", 10, "causal_mask", "Draw the mask of `. . a b c`, then its last two rows."),
        Task("test_heads_share_keys", 6, "repeat_heads", "G = 3, a group of 2: the order is 0 0 1 1 2 2."),
        Task("test_heads_apart_and_together", 10, "project, merge", "Numbers 0 to d - 1 belong to head 0."),
        Task("test_fused_attention", 10, "fused_attention", "Does the kernel obey this mask, with shared keys, too?"),
        Task("test_weights_written_out", 10, "attention_weights", "Print the weights of the handout's example."),
        Task("test_weights_at_the_edges", 8, "attention_weights", "Hidden is exactly 0; fp32 inside, rounded once."),
        Task("test_shapes_foretold", 8, "foretold", "Behind a cache there are more keys than queries."),
        Task("test_forward_in_the_fast_lane", 7, "forward", "Go on with what `cache.write` returns."),
        Task("test_both_lanes_give_the_same", 5, "forward", "Fused rows come first, written ones behind them."),
        Task("test_steps_in_their_order", 6, "forward, causal_mask", "Each step takes what the one before it gave."),
        Task("test_failing_layers_explained", 8, "explained", "What could you compute from the rest, to compare?"),
        Task("test_many_small_maps", 4, "attention_weights", "No loop over single rows.", seconds=3.0, times=4.0),
        Task("test_memory_of_a_map", 5, "attention_weights", "Finish a stripe of rows at a time.", megabytes=450),
        Task("test_one_row_costs_one_row", 3, "forward", "Write out the rows from `first` on.", megabytes=400),
    ),
)
