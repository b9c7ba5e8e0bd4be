"""Assignment a7: the bug zoo."""

from minivlm.course.row import Assignment, Task

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
