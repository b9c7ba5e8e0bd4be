"""Assignment a4: sinks and EAH."""

from minivlm.course.row import Assignment, Task

A4 = Assignment(
    name="a4",
    title="Sinks, and the head that has most of them",
    minutes=180,
    holes={
        "model/sinks.py": ("vision_sink_scores", "vision_sinks", "sink_density"),
        "model/eah.py": ("chosen_head", "densest_head", "broadcast_head", "broadcast_densest_head"),
        "lens/without_map.py": ("sink_scores_without_map", "broadcast_without_map"),
    },
    tasks=(
        Task("test_scores_by_hand", 8, "vision_sink_scores", "Which rows are in the mean of that column?"),
        Task("test_scores_of_padded_batches", 10, "vision_sink_scores", "Count the rows that may see the column."),
        Task(
            "test_scores_in_half_precision",
            6,
            "vision_sink_scores",
            "Give `sum` a dtype; change neither the weights nor the mask.",
        ),
        Task("test_many_small_maps", 4, "vision_sink_scores", "No loop over columns or rows.", seconds=2.5, times=5.0),
        Task("test_sinks_and_their_density", 8, "vision_sinks, sink_density", "Above is not at; count patches."),
        Task(
            "test_the_chosen_head",
            10,
            "chosen_head",
            "Is it the lowest of equals? Only a stable sort keeps their order. Has the seed its own generator?",
        ),
        Task(
            "test_the_densest_head",
            12,
            "densest_head",
            "It is -1 if no head has a sink; and an answer's rows and columns are cut off first.",
        ),
        Task(
            "test_one_head_in_all_heads",
            10,
            "broadcast_head",
            "Head 0 is a head, -1 is none; what comes back is new, and what was given stays as it was.",
        ),
        Task(
            "test_eah",
            12,
            "broadcast_densest_head",
            "Which rows are an answer's, and are they to change? A prompt finds its own head, an answer is told it.",
        ),
        Task("test_scores_without_a_map", 4, "sink_scores_without_map", "Each row's own column; all K in a softmax."),
        Task(
            "test_scores_of_a_long_prompt",
            4,
            "sink_scores_without_map",
            "A few rows at a time, and nothing else of Q times K numbers: a sum of a mask counts in int64.",
            megabytes=220,
        ),
        Task("test_broadcast_without_a_map", 4, "broadcast_without_map", "Exchange q and k, not v."),
        Task(
            "test_broadcast_in_a_long_prompt",
            4,
            "broadcast_without_map",
            "Which function of `attention.py` never holds the weights?",
            megabytes=300,
        ),
        Task("test_all_together", 2, "all of them", "Each part is right by itself: which of them differ in shape?"),
        Task(
            "test_a_layer_led_astray_is_mended",
            2,
            "the functions of sinks.py and eah.py",
            "Which task above is not green? It decides which head's map all heads get.",
        ),
    ),
)
