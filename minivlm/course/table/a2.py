"""Assignment a2: norms, rotary positions, the cache."""

from minivlm.course.row import Assignment, Task

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
