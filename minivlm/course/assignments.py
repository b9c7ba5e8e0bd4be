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
    holes={"model/projector.py": ("Projector.forward",)},
    tasks=(),
)

A2 = Assignment(
    name="a2",
    title="Rotary positions, RMSNorm and the cache",
    minutes=120,
    holes={"model/layers.py": ("RMSNorm.forward", "rotary_angles", "rotate")},
    tasks=(),
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
        Task("test_many_small_maps", 4, "attention_weights", "No loop over single rows.", seconds=3.0, times=5.0),
        Task("test_memory_of_a_map", 5, "attention_weights", "Finish a stripe of rows at a time.", megabytes=450),
        Task("test_one_row_costs_one_row", 5, "forward", "Write out the rows from `first` on.", megabytes=400),
    ),
)

A4 = Assignment(
    name="a4",
    title="Sinks, and the head that has most of them",
    minutes=150,
    holes={"model/sinks.py": ("vision_sink_scores",)},
    tasks=(),
)

A5 = Assignment(
    name="a5",
    title="The anchor, its fusion and its controls",
    minutes=150,
    holes={"model/clva.py": ("pooled_map", "find_anchor")},
    tasks=(),
)

A6 = Assignment(
    name="a6",
    title="CHAIR and POPE",
    minutes=120,
    holes={"evaluation/pope.py": ("pope",)},
    tasks=(),
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
