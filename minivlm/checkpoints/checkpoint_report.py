"""The report on a checkpoint: where each of its tensors goes."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from minivlm.checkpoints.plan import Plan, expected_shapes
from minivlm.files import printable

COLUMNS = ("module", "in the file", "count", "shape", "dtype", "MB", "shards", "seconds")

PLANTING = "planting.json"  # beside weights of `minivlm train planted-drift` and `planted-sinks`: how they were made
PLANTED = "Where this model looks was planted by us: what it shows says nothing about LLaVA (see its README.md)."


@dataclass(frozen=True)
class Group:
    """The tensors that have the same name in every layer."""

    module: str  # canonical, "*" for the layer's number
    key: str  # its name in the file, "*" as above
    count: int
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    shards: tuple[str, ...]
    seconds: float | None  # None where nothing was loaded


@dataclass(frozen=True)
class CheckpointReport:
    """The tensors of a folder by module, what was left out of it, and what was filled in."""

    path: str
    layout: str
    written_by: str
    style: str
    shards: tuple[str, ...]
    tensors: int
    parameters: int
    bytes: int
    groups: tuple[Group, ...]
    dropped: Mapping[str, str]  # key -> why it is left out
    filled: tuple[str, ...]  # settings that config.json does not have
    notes: tuple[str, ...] = ()
    dtype: str | None = None  # of the loaded model; None where nothing was loaded
    device: str | None = None
    seconds: float | None = None
    memory: str | None = None  # on a CPU: "mapped" or "resident"
    weights: str | None = None  # how the decoder's matrices are quantised; None where they are not

    def card(self) -> str:
        """The whole report as text, with one line for each group."""
        blocks = [self._head(), table(self.groups)]
        blocks += [
            titled_list("Dropped on purpose", [f"{key}: {why}" for key, why in by_pattern(self.dropped).items()])
        ]
        blocks += [
            titled_list("Filled in, because config.json is silent", self.filled),
            titled_list("Notes", self.notes),
        ]
        return "\n\n".join(block for block in blocks if block)

    def as_dict(self) -> dict[str, Any]:
        """The same in JSON types."""
        return asdict(self)

    def _head(self) -> str:
        files = "file" if len(self.shards) == 1 else "files"
        lines = [
            self.path,
            f"layout {self.layout}: {self.written_by}; config.json in the {self.style} style",
            f"{self.tensors} tensors, {self.parameters:,} parameters, {self.bytes / 1e9:.2f} GB "
            f"in {len(self.shards)} {files}: {', '.join(self.shards)}",
        ]
        if self.dtype:
            where = {"mapped": ", weights in their files", "resident": ", weights in memory"}.get(self.memory or "", "")
            lines.append(f"computed in {self.dtype} on {self.device}{where}, loaded in {self.seconds:.2f} s")
        if self.weights:
            lines.append(
                f"the matrices of the decoder's blocks quantised to {self.weights} and held in memory, all else in "
                f"{self.dtype}"
            )
        return "\n".join(lines)


def report_of(
    plan: Plan,
    times: Mapping[str, float] | None = None,
    *,
    notes: tuple[str, ...] = (),
    dtype: str | None = None,
    device: str | None = None,
    seconds: float | None = None,
    weights: str | None = None,
    memory: str | None = None,
) -> CheckpointReport:
    """The report of a plan. `times`: canonical name -> seconds to load its tensor; others: fields of the report."""
    return CheckpointReport(
        path=str(plan.folder.path),
        layout=plan.layout.letter,
        written_by=plan.layout.written_by,
        style=plan.reading.style,
        shards=plan.folder.shards,
        tensors=len(plan.taken) + len(plan.tower),
        parameters=plan.parameters,
        bytes=plan.bytes,
        groups=tuple(grouped(plan, times)),
        dropped=plan.dropped,
        filled=plan.reading.filled,
        notes=(*plan.folder.notes, *remarks_on(plan), *notes),
        dtype=dtype,
        device=device,
        seconds=seconds,
        weights=weights,
        memory=memory,
    )


def pattern_of(name: str) -> str:
    """A tensor's name with `*` for the layer's number."""
    return re.sub(r"\.\d+\.", ".*.", name)


def remarks_on(plan: Plan) -> list[str]:
    """What a user of this checkpoint should know before using it."""
    text, dtypes = plan.reading.config.text_config, sorted({header.dtype for header in plan.taken.values()})
    remarks = [*plan.reading.unused]
    if text.context_length < text.max_position_embeddings:
        remarks.append(f"A sliding window is not implemented: prompts of more than {text.sliding_window} are refused.")
    if plan.reading.config.image_token_index == text.vocab_size:
        remarks.append(f"Image slots have the id {text.vocab_size}, one past the embedding.")
    if (plan.folder.path / PLANTING).is_file():
        remarks.append(PLANTED)
    if len(dtypes) > 1:
        remarks.append(f"The files mix {' and '.join(dtypes)}.")
    return remarks


def grouped(plan: Plan, times: Mapping[str, float] | None) -> list[Group]:
    rows = [
        (name, header.key, header.shape, header.dtype, header.bytes, header.shard)
        for name, header in plan.taken.items()
    ]
    rows += [(name, "", tuple(t.shape), str(t.dtype), t.nbytes, "(vision tower)") for name, t in plan.tower.items()]
    order = {name: place for place, name in enumerate(expected_shapes(plan.model))}
    together: dict[tuple, list[tuple]] = {}
    for row in sorted(rows, key=lambda row: order[row[0]]):
        together.setdefault((pattern_of(row[0]), row[2], row[3]), []).append(row)
    return [group_of(pattern, members, times) for (pattern, _, _), members in together.items()]


def group_of(pattern: str, members: list[tuple], times: Mapping[str, float] | None) -> Group:
    _, key, shape, dtype, size, _ = members[0]
    return Group(
        module=pattern,
        key=pattern_of(key),
        count=len(members),
        shape=shape,
        dtype=dtype.removeprefix("torch."),
        bytes=size * len(members),
        shards=tuple(sorted({member[5] for member in members})),
        seconds=None if times is None else sum(times.get(member[0], 0.0) for member in members),
    )


def table(groups: tuple[Group, ...]) -> str:
    rows = [COLUMNS, *(table_row(group) for group in groups)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def table_row(group: Group) -> tuple[str, ...]:
    shape = "×".join(map(str, group.shape)) or "one number"
    seconds = "" if group.seconds is None else f"{group.seconds:.3f}"
    shards = ", ".join(map(short_shard, group.shards))
    return (group.module, group.key, str(group.count), shape, group.dtype, f"{group.bytes / 1e6:.1f}", shards, seconds)


def short_shard(name: str) -> str:
    """`model-00002-of-00003.safetensors` -> `2/3`."""
    numbers = re.fullmatch(r".*?(\d+)-of-(\d+)\.safetensors", name)
    return f"{int(numbers[1])}/{int(numbers[2])}" if numbers else name


def by_pattern(dropped: Mapping[str, str]) -> dict[str, str]:
    return {printable(pattern_of(key)): reason for key, reason in dropped.items()}


def titled_list(title: str, lines: list[str] | tuple[str, ...]) -> str:
    return "\n".join([f"{title}:", *(f"  {line}" for line in lines)]) if lines else ""
