"""The output of `minivlm demo`: captions with marked objects, what they invent and miss, and commands to try next."""

import re
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TextIO

from minivlm.evaluation.settings import PLAIN
from minivlm.experiments.demo import Account, Shown, is_right, totals
from minivlm.experiments.trials import WORDS
from minivlm.inference.effect import Effect
from minivlm.shell import quoted, shows_colors
from minivlm.toyworld.questions import Question
from minivlm.toyworld.scenes import Scene
from minivlm.toyworld.themes import COMPANION_OF
from minivlm.toyworld.words import a

LEGEND = (
    "In a caption, [name] is in the picture and !name! is invented. The same model writes three: plain, under EAH "
    "(the head with most vision sinks lends its map to all) and under CLVA (our reading of the abstract: deep layers "
    "are pulled to what the middle ones found)."
)
CAUTION = "A few scenes show what a method does, not whether it helps."
WIDTH, WIDEST = 100, 120  # columns without a terminal, and at most
LABEL = 7  # columns of a label such as "plain", with the blanks behind it
MARKED = re.compile(r"\[[^\]]+\]|right:|![^!]+!|WRONG:")
GREEN, RED, NORMAL = "\033[32m", "\033[1;31m", "\033[0m"
HARD_SPACE = "\xa0"  # a blank at which no line is broken


@dataclass(frozen=True)
class Page:
    """Width and colours of the output; without colours, the marks in the text say the same."""

    width: int = WIDTH  # columns
    color: bool = False

    @classmethod
    def of(cls, stream: TextIO) -> "Page":
        """The page for a stream: as wide as the terminal; colour on a terminal unless NO_COLOR is set."""
        color = stream.isatty() and shows_colors()
        columns = shutil.get_terminal_size((WIDTH, 0)).columns if stream.isatty() else WIDTH
        return cls(min(columns, WIDEST), color)

    def paragraph(self, text: str, label: str = "", margin: int = 0) -> str:
        """The text as lines with a hanging indent behind `margin` blanks and the label; marks are not broken."""
        whole = MARKED.sub(lambda mark: mark[0].replace(" ", HARD_SPACE), text)
        beginning = " " * margin + (f"{label:{LABEL}}" if margin else "")
        lines = textwrap.fill(
            whole,
            max(self.width, 40),
            initial_indent=beginning,
            subsequent_indent=" " * len(beginning),
            break_long_words=False,
            break_on_hyphens=False,
        )
        return MARKED.sub(self._inked, lines.replace(HARD_SPACE, " "))

    def _inked(self, mark: re.Match) -> str:
        if not self.color:
            return mark[0]
        return f"{GREEN if mark[0][0] in '[r' else RED}{mark[0]}{NORMAL}"


def tell(shown: Sequence[Shown], seed: int, seconds: float, page: Page, notes: Sequence[str] = ()) -> str:
    """The whole output: the legend with `notes` about the model, all scenes, and the summary.

    `seconds`: how long the answers took.
    """
    scenes = [describe(one, number, page) for number, one in enumerate(shown, 1)]
    legend = " ".join((f"Seed {seed}.", LEGEND, *notes))
    return "\n\n".join([page.paragraph(legend), *scenes, summary(shown, seconds, page)])


def describe(shown: Shown, number: int, page: Page) -> str:
    """A scene as text: its file; for each method the caption, its errors and the effect; the yes-no answers."""
    lines = [f"{number}. {shown.path}"]
    plain = shown.captions[PLAIN]
    for method, account in shown.accounts.items():
        same = method != PLAIN and account.caption == plain
        texts = ["as plain, word for word"] if same else [mark(account.caption, shown.scene.names), verdict(account)]
        texts += [moved(account.effect)] if account.effect is not None else []
        lines += [page.paragraph(text, "" if row else method, margin=3) for row, text in enumerate(texts)]
    for number, (question, answer) in enumerate(zip(shown.questions, shown.answers, strict=True)):
        lines.append(page.paragraph(f"{question.text} {graded(question, answer)}", "asked", margin=3))
        for method, answers in shown.answered.items():
            if is_right(question, answers[number]) != is_right(question, answer):
                lines.append(page.paragraph(f"under {method} {graded(question, answers[number])}", margin=3))
    return "\n".join(lines)


def graded(question: Question, answer: str) -> str:
    """An answer, and before it whether it is right."""
    return f"{'right:' if is_right(question, answer) else 'WRONG:'} {answer}"


def mark(text: str, present: Sequence[str]) -> str:
    """The text with every object in it marked: [name] is in the picture, !name! is not."""
    for mention in reversed(WORDS.mentions(text)):
        before, name, behind = text[: mention.start], text[mention.start : mention.stop], text[mention.stop :]
        text = f"{before}[{name}]{behind}" if mention.object in present else f"{before}!{name}!{behind}"
    return text


def verdict(account: Account) -> str:
    """The objects that a caption invents and misses, each with a likely reason."""
    invented = [name + reason(name, account.scene) for name in account.invented]
    missed = [name + difficulty(name, account.scene) for name in account.missed]
    parts = [f"{verb} {', '.join(names)}" for verb, names in (("invents", invented), ("misses", missed)) if names]
    return "; ".join(parts) or "invents nothing, misses nothing"


def reason(name: str, scene: Scene) -> str:
    """Why an object may be hallucinated: it is the usual companion of an object of the scene. Empty if it is not."""
    anchors = [anchor for anchor in scene.names if COMPANION_OF.get(anchor) == name]
    return f" (usual beside {a(anchors[0])})" if anchors else ""


def difficulty(name: str, scene: Scene) -> str:
    """Why an object is hard to see; empty if it is not."""
    kinds = [thing.hard for thing in scene.of(name)]
    return f" ({kinds[0]}, hard to see)" if all(kinds) else ""


def moved(effect: Effect) -> str:
    """What one method did, in fewer words than `str(effect)`."""
    moving = [layer for layer in effect.layers if layer.rows]
    if not moving:
        return "effect: nothing was changed"
    where = ", ".join(str(layer.layer) for layer in moving)
    head = f", map of head {moving[0].chosen[0]}" if moving[0].chosen else ""
    share = sum(layer.moved_mean for layer in moving) / len(moving)
    layers, rows = "layer" if len(moving) == 1 else "layers", max(layer.rows for layer in moving)
    return f"effect: {layers} {where}{head}; {share:.1%} of attention moved on {rows} rows"


def summary(shown: Sequence[Shown], seconds: float, page: Page) -> str:
    """The totals of all scenes as text."""
    counts = [f"{method} {' / '.join(map(str, count.values()))}" for method, count in totals(shown).items()]
    asked = sum(len(one.questions) for one in shown)
    right = []
    for method in shown[0].captions:
        rows = (zip(one.questions, one.answered.get(method, one.answers), strict=True) for one in shown)
        right.append(f"{method} {sum(is_right(*row) for row in chain(*rows))}")
    objects = page.paragraph(f"Objects named / of them invented / missed: {'; '.join(counts)}.")
    return objects + "\n" + page.paragraph(f"Answers right, of {asked}: {'; '.join(right)}. {CAUTION} {seconds:.1f} s.")


def try_next(
    shown: Sequence[Shown], seed: int, scenes: str = "", model: str = "", out: str = "", page: Page = Page()
) -> str:
    """Commands to try next. `scenes`, `model`, `out`: options of this call as they were typed, each after a blank."""
    name, picture = shown[0].scene.names[0], quoted(str(shown[0].path))
    lines = {
        f"minivlm demo{model}{out}": "new scenes",
        f"minivlm demo --seed {seed}{scenes}{model}{out}": "these scenes once more",
        f"minivlm demo --world substitutions{model}{out}": "other things where companions are expected",
        f'minivlm ask {picture} "Is there {a(name)} in the image?"{model}': "a question of your own",
        f'minivlm ask {picture} "Is there {a(name)} in the image?"{model} --eah': "under EAH, which acts on the prompt",
        f'minivlm ask {picture} "Describe the image."{model} --clva omega=1': "a method set by hand",
        f"minivlm chat {picture}{model}": "several questions about one picture",
        "minivlm doctor": "which larger models this machine can run",
    }
    width = max(map(len, lines))
    beside = 2 + width + 2 + max(map(len, lines.values())) <= page.width  # if not, explanations stand above commands
    rows = [f"  {line:{width}}  {what}" if beside else f"  # {what}\n  {line}" for line, what in lines.items()]
    return "\n".join(["Try next", *rows])
