"""Assignment a4: sinks and EAH."""

from minivlm.course.row import Assignment, Task

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
