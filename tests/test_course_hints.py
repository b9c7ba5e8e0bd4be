"""Hints and mistakes: each test has its own, none gives a solution away, and each follows only what it fits."""

import json
from pathlib import Path

import pytest
import torch

from minivlm.cli import main as cli
from minivlm.course.assignments import ASSIGNMENTS, assignment
from minivlm.course.folder import Folder
from minivlm.course.grade_report import GradeReport, advice
from minivlm.course.hint import LEVELS
from minivlm.course.hints import HINTS, limit_of, mistake_in
from minivlm.course.kit.show import Show
from minivlm.course.ladder import FREE, TAKEN, charged, hints_for, less_hints, note, taken
from minivlm.course.supervise import Outcome
from minivlm.course.table.mistakes import MISTAKES
from minivlm.course.verdict import OPEN, RIGHT, WRONG, Verdict, judge
from minivlm.errors import CourseError
from support.course_answers import changed
from support.course_tools import reference_shown, verdicts
from support.solution_lines import body_of, holes, said_by, squeezed

RUNGS = [(name, test) for name, hints in HINTS.items() for test in hints]
GELU = ("model/layers.py", "quick_gelu"), "x * torch.sigmoid(1.702 * x)"
NORM = ("model/layers.py", "RMSNorm.forward"), "torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + self.eps)"
ROUNDED = ("model/layers.py", "RMSNorm.forward"), "self.weight * exact.to(x.dtype)"
GATED = ("model/layers.py", "GatedMLP.forward"), "F.silu(self.gate_proj(x)) * self.up_proj(x)"
ANGLES = ("model/layers.py", "rotary_angles"), "torch.cat((angles, angles), dim=-1)"
ATTENTION = ("model/vision.py", "VisionAttention.forward"), "F.scaled_dot_product_attention(q, k, v)"
BLOCK = ("model/vision.py", "VisionBlock.forward"), "x = x + self.self_attn(self.layer_norm1(x))"
HEADS = ("model/attention.py", "repeat_heads"), 'repeat(x, "B G K d -> B (G group) K d", group=group)'
SCORES = ("model/attention.py", "attention_weights"), "rows @ k.transpose(-1, -2) * q.shape[-1] ** -0.5"
HIDE = ("model/attention.py", "attention_weights"), 'scores.masked_fill(~seen, float("-inf"))'
SOFTMAX = ("model/attention.py", "attention_weights"), "scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)"
OWN = (
    ("model/sinks.py", "vision_sink_scores"),
    "scores[..., past:] -= weights.diagonal(offset=past, dim1=2, dim2=3)",
    "pass",
)
OWN_ROW = (
    ("model/sinks.py", "vision_sink_scores"),
    "rows[..., past:] -= mask.diagonal(offset=past, dim1=2, dim2=3).long()",
    "pass",
)
MEAN = ("model/sinks.py", "vision_sink_scores"), "scores.clamp(min=0) / rows.clamp(min=1)"
POOLED = ("model/clva.py", "pooled_map"), "normalised((on_patches * chosen[..., None]).sum(dim=1))"
GAIN = ("model/clva.py", "find_anchor"), "(middle - noise).clamp(min=0).mean(dim=0)"
PAIRED = ("model/layers.py", "rotate"), "first, second = x.chunk(2, dim=-1)"
INVENTED = ("evaluation/chair.py", "chair"), "[len(one.hallucinated) for one in judged]"
MENTIONS = ("evaluation/chair.py", "chair"), "[len(one.mentions) for one in judged]"
EACH = ("evaluation/chair.py", "chair"), "[1] * len(judged)"
RATIO = ("stats.py", "Ratio.value"), "divided(self.part.sum(axis=0), self.whole.sum(axis=0))"
RECALL = ("evaluation/chair.py", "chair"), "Ratio.of(found, there)"
MEAN_OF_RATIOS = "(self.part / np.maximum(self.whole, 1)).mean(axis=0)"

MADE = {  # each mistake of the table, made: by assignment and sentence
    ("a1", "this is the exact GELU"): [(*GELU, "F.gelu(x)")],
    ("a1", "this is the GELU by tanh"): [(*GELU, 'F.gelu(x, approximate="tanh")')],
    ("a1", "the constant is 1.7"): [(*GELU, "x * torch.sigmoid(1.7 * x)")],
    ("a1", "the scores are not scaled"): [(*ATTENTION, "F.scaled_dot_product_attention(q, k, v, scale=1.0)")],
    ("a1", "the norm stands behind the sum"): [(*BLOCK, "x = self.layer_norm1(x + self.self_attn(x))")],
    ("a2", "eps is added behind the root"): [(*NORM, "1 / (exact.pow(2).mean(-1, keepdim=True).sqrt() + self.eps)")],
    ("a2", "the weight is multiplied before the result is rounded"): [
        (*ROUNDED, "(self.weight.float() * exact).to(x.dtype)")
    ],
    ("a2", "SiLU is on the wrong one of the two projections"): [
        (*GATED, "self.gate_proj(x) * F.silu(self.up_proj(x))")
    ],
    ("a2", "the angles are in the order of neighbours, not of halves"): [
        (*ANGLES, "angles.repeat_interleave(2, dim=-1)")
    ],
    ("a3", "the heads are tiled, so that neighbours do not share"): [(*HEADS, "x.repeat(1, group, 1, 1)")],
    ("a3", "the scores are not scaled"): [(*SCORES, "rows @ k.transpose(-1, -2)")],
    ("a3", "hidden after the softmax, not before it"): [
        (*HIDE, "scores"),
        (*SOFTMAX, "scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype) * seen"),
    ],
    ("a3", "hidden scores are set to 0, not to minus infinity"): [(*HIDE, "scores * seen")],
    ("a3", "the softmax is taken over the queries"): [(*SOFTMAX, "scores.softmax(dim=-2)")],
    ("a4", "the diagonal counts"): [OWN, OWN_ROW],
    ("a4", "divided by all Q rows"): [(*MEAN, "scores.clamp(min=0) / weights.shape[2]")],
    ("a4", "the diagonal is left out above, not below"): [OWN_ROW],
    ("a5", "all heads are pooled"): [(*POOLED, "normalised(on_patches.sum(dim=1))")],
    ("a5", "each chosen head's map is normalised before the mean"): [
        (*POOLED, "normalised((normalised(on_patches) * chosen[..., None]).sum(dim=1))")
    ],
    ("a5", "the map is not divided by the mass"): [(*POOLED, "(on_patches * chosen[..., None]).sum(dim=1)")],
    ("a5", "the mean of the layers is taken before what lies above n"): [
        (*GAIN, "(middle.mean(dim=0) - noise).clamp(min=0)")
    ],
    ("a6", "an invention counts once a caption, not as often as it is mentioned"): [
        (*INVENTED, "[len(set(one.hallucinated)) for one in judged]"),
        (*MENTIONS, "named"),
    ],
    ("a6", "this is the mean of the captions' ratios, with silence as 0"): [(*RATIO, MEAN_OF_RATIOS)],
    ("a6", "silent captions are left out"): [(*EACH, "[int(bool(one.mentions)) for one in judged]")],
    ("a6", "this is the mean of the pictures' recalls"): [
        (*RECALL, "Ratio.of([a / max(b, 1) for a, b in zip(found, there)], [1] * len(judged))")
    ],
    ("a6", "found is divided by named"): [(*RECALL, "Ratio.of(found, named)")],
}


# --- the tables -------------------------------------------------------------------------------------------------------


def test_every_test_but_those_of_the_zoo_has_a_hint():
    wanted = [(row.name, task.test) for row in ASSIGNMENTS.values() if not row.is_zoo for task in row.tasks]
    assert sorted(RUNGS) == sorted(wanted)


@pytest.mark.parametrize(("name", "test"), RUNGS)
def test_a_hint_asks_points_and_almost_tells(name, test):
    lines = HINTS[name][test].rungs(3)
    assert lines[0].startswith("Hint 1, a question: ")
    assert "?" in lines[0]
    assert lines[1].startswith("Hint 2, a pointer: ")
    assert lines[2].startswith("Hint 3, a near-solution:")
    assert lines[:1] == HINTS[name][test].rungs(1)
    assert all(0 < len(line) <= 140 for line in lines)


def test_no_hint_holds_a_line_of_any_solution():
    """Not even lines that stand elsewhere in the package, too, which `given_away` leaves out."""
    told = {(name, test): squeezed("\n".join(HINTS[name][test].rungs(3))) for name, test in RUNGS}
    for hole, source in holes().items():
        for line in filter(None, map(said_by, body_of(source))):
            assert not [where for where, text in told.items() if line in text], f"{hole}: {line}"


# --- mistakes are named by what they give -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made():
    """The verdicts on all mistakes of the table, made: by assignment and sentence."""
    found = {}
    for name in HINTS:
        versions = {key[1]: changed(*edits) for key, edits in MADE.items() if key[0] == name}
        tests = {m.test for m in MISTAKES} & {task.test for task in assignment(name).tasks}
        judged = verdicts(name, versions, dict.fromkeys(versions, tests))
        found |= {(name, sentence): list(judged[sentence].values()) for sentence in versions}
    return found


@pytest.mark.parametrize(("name", "sentence"), MADE)
def test_a_mistake_is_named(made, name, sentence):
    named = {verdict.mistake for verdict in made[name, sentence] if verdict.mistake}
    assert named == {f"The handout lists these values: {sentence}."}
    assert all(verdict.state == WRONG for verdict in made[name, sentence] if verdict.mistake)


def test_every_mistake_of_the_table_is_made_above_or_in_values():
    """That of neighbours, in `rotate`, needs a body of its own: its values are shown by hand."""
    known = {sentence for _, sentence in MADE} | {"neighbours form a pair, not halves"}
    assert {mistake.sentence for mistake in MISTAKES} == known
    show = Show()
    show(a_quarter_turn=torch.tensor([[[[-2.0, 1.0, -4.0, 3.0]]]]))
    rotate = next(task for task in assignment("a2").tasks if task.test == "test_rotate")
    assert "neighbours" in mistake_in(rotate, show.shown)


@pytest.mark.parametrize("name", HINTS)
def test_the_right_values_are_no_mistake(name):
    tests = frozenset(mistake.test for mistake in MISTAKES)
    tasks = {task.test: task for task in assignment(name).tasks if task.test in tests}
    shown = reference_shown(name, frozenset(tasks))
    assert [test for test in tasks if mistake_in(tasks[test], shown[test])] == []
    assert all(any(m.found(shown[test]) for m in MISTAKES if m.test == test) for test in tasks)


@pytest.mark.parametrize("value", [torch.ones(2, 2), torch.ones(()), None, "words", 3, {"chair_i": "?"}, [0.5]])
def test_whatever_was_shown_can_be_asked_for_mistakes(value):
    for mistake in MISTAKES:
        show = Show()
        show.named({mistake.name: value})
        assert not mistake.is_in(show.shown)


# --- a hint follows what it fits --------------------------------------------------------------------------------------


def task_of(name: str, test: str):
    return next(task for task in assignment(name).tasks if task.test == test)


def outcome_of(status: str = "ran", error: str = "", **values) -> Outcome:
    show = Show()
    show(**values)
    return Outcome("test", status, 1.0, error, "minivlm/model/layers.py, line 3", "no", shown=show.shown)


@pytest.mark.parametrize(
    ("name", "test", "found", "follows"),
    [
        ("a1", "test_quick_gelu", outcome_of(x=torch.zeros(2)), True),
        ("a1", "test_quick_gelu", outcome_of(x=torch.zeros(3)), False),  # of another shape
        ("a1", "test_quick_gelu", outcome_of(x=None), False),
        ("a1", "test_quick_gelu", outcome_of("raised", "AssertionError"), False),
        ("a1", "test_quick_gelu", outcome_of("raised", "RuntimeError"), False),
        ("a1", "test_quick_gelu", outcome_of("too slow"), False),
        ("a1", "test_quick_gelu", outcome_of("too much memory"), False),
        ("a1", "test_quick_gelu", outcome_of("crashed"), False),
        ("a1", "test_quick_gelu", outcome_of("forbidden"), False),
        ("a3", "test_many_small_maps", outcome_of("too slow"), True),
        ("a3", "test_many_small_maps", outcome_of("too much memory"), False),
        ("a3", "test_many_small_maps", outcome_of(x=torch.zeros(2)), False),
        ("a3", "test_memory_of_a_map", outcome_of("too much memory"), True),
        ("a3", "test_memory_of_a_map", outcome_of(x=torch.zeros(2)), False),
    ],
)
def test_a_hint_follows_only_what_it_fits(name, test, found, follows):
    show = Show()
    show(x=torch.ones(2))
    verdict = judge(task_of(name, test), found, show.shown, limit=1.0)
    assert verdict.state == WRONG
    assert (f"  Hint: {verdict.task.hint}" in advice(verdict)) is follows


def test_the_mistake_stands_in_the_place_of_the_hint():
    task, show = task_of("a1", "test_quick_gelu"), Show()
    show(at_zero_one_and_minus_one=torch.tensor([0, 0.8458, -0.1542]))
    found = outcome_of(at_zero_one_and_minus_one=torch.tensor([0, 0.84134, -0.15866]))
    lines = advice(judge(task, found, show.shown, limit=1.0))
    assert lines[2:] == ["  Hint: The handout lists these values: this is the exact GELU."]


def test_tests_of_time_and_memory_are_known_by_their_limits():
    about = {task.test: limit_of(task) for row in ASSIGNMENTS.values() for task in row.tasks if limit_of(task)}
    assert about["test_cache_is_fast"] == about["test_thousands_of_questions"] == "too slow"
    assert about["test_memory_of_a_map"] == about["test_attention_over_many_tokens"] == "too much memory"


# --- the ladder -------------------------------------------------------------------------------------------------------


def report_of(*states: str, name: str = "a2", **changes) -> GradeReport:
    row = assignment(name)
    return GradeReport(
        row, tuple(Verdict(task, state, **changes) for task, state in zip(row.tasks, states, strict=False))
    )


def test_a_rung_is_given_and_noted(tmp_path):
    folder = Folder(tmp_path, assignment("a2"))
    assert len(hints_for(folder, report_of(RIGHT, OPEN), 1)) == 1
    assert taken(tmp_path) == {"test_rmsnorm_in_sixteen_bits": 1}
    assert len(hints_for(folder, report_of(RIGHT, WRONG), 3)) > 4
    hints_for(folder, report_of(RIGHT, WRONG), 2)
    assert taken(tmp_path) == {"test_rmsnorm_in_sixteen_bits": 3}


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (report_of(RIGHT), "nothing to hint at"),
        (report_of(WRONG, helped=False), "No hint fits"),
        (report_of(OPEN, name="a7"), "handout"),
    ],
)
def test_where_no_hint_fits_none_is_noted(tmp_path, report, sentence):
    (line,) = hints_for(Folder(tmp_path, report.assignment), report, 3)
    assert sentence in line
    assert not (tmp_path / TAKEN).exists()


@pytest.mark.parametrize("text", ["[]", "{", '{"test_rotate": 4}', '{"test_rotate": true}', '{"test_rotate": "2"}'])
def test_a_damaged_note_is_refused(tmp_path, text):
    (tmp_path / TAKEN).write_text(text)
    with pytest.raises(CourseError, match=r"hints\.json"):
        taken(tmp_path)


def test_hints_cost_what_the_teacher_says_and_nothing_by_default():
    report = report_of(RIGHT, RIGHT, WRONG)
    rungs = {"test_rmsnorm": 1, "test_rmsnorm_in_sixteen_bits": 3, "test_gated_mlp": 3}
    assert report.points == less_hints(report, rungs, (0, 0, 0)).points == 20
    assert [verdict.points for verdict in less_hints(report, rungs, (1, 2, 3)).verdicts] == [9, 7, 0]
    assert less_hints(report, rungs, (50, 50, 50)).points == 0


def test_check_gives_a_hint(tmp_path, capsys, monkeypatch):
    """In a folder whose functions are still empty, and of which the tests need not run."""
    (tmp_path / "assignment.json").write_text(json.dumps({"assignment": "a2"}))
    monkeypatch.setattr("minivlm.course.check.check", lambda folder, only: report_of(OPEN))
    assert cli.main(["course", "check", str(tmp_path), "--hint", "2"]) == 1
    told = capsys.readouterr().out
    assert "Hint 1, a question: For (1, 5, -13, 17)" in told
    assert "Hint 2, a pointer" in told
    assert "Hint 3" not in told
    assert cli.main(["course", "check", str(tmp_path), "--hint", "1", "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["hints"]) == 1
    assert taken(Path(tmp_path)) == {"test_rmsnorm": len(LEVELS) - 1}


def test_grading_takes_hints_off_where_the_teacher_says_so(tmp_path):
    report = report_of(RIGHT, RIGHT)
    assert charged(report, tmp_path, (1, 1, 1)) == (report, [])
    note(tmp_path, "test_rmsnorm", 2)
    assert charged(report, tmp_path, FREE) == (report, [])
    paid, remarks = charged(report, tmp_path, (0, 3, 9))
    assert (paid.points, remarks) == (17, ["Hints cost 3 points."])
    (tmp_path / TAKEN).write_text("?")
    paid, remarks = charged(report, tmp_path, (0, 3, 9))
    assert paid == report
    assert "Hints were not counted" in remarks[0]


@pytest.mark.parametrize("costs", ["1", "1,2", "1,2,3,4", "1,2,x", "-1,0,0", ""])
def test_costs_are_three_whole_numbers(tmp_path, capsys, costs):
    command = ["course", "grade", str(tmp_path), "--seed", "word", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        cli.main([*command, f"--hint-costs={costs}"])
    assert "expected three whole numbers such as 0,1,2" in capsys.readouterr().err
