"""The processes of one run, as torchrun starts them: who takes which share, and where they wait for each other.

    torchrun --nproc-per-node 2 -m minivlm evaluate chair …      RANK=0 WORLD_SIZE=2, RANK=1 WORLD_SIZE=2

One process by itself needs none of this. Processes meet only at the beginning and at the end, through gloo on the CPU,
and share their results through the run's folder, so this must be the same folder for all of them. A model that is split
over several processes (tensor parallel) needs these to ask the same questions: they are one rank here.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from minivlm.errors import ConfigError, EvaluationError
from minivlm.files import digest, torchrun

PATIENCE = timedelta(days=14)  # the fastest process waits for the slowest
T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Number `rank` of `world`. Of the processes that share one rank, only the writer writes."""

    rank: int = 0
    world: int = 1
    writer: bool = True
    group: Any = None  # the torch process group of all processes; None for a process by itself

    @property
    def first(self) -> bool:
        """Whether this is the process that prepares the folder, merges the records, and speaks."""
        return self.rank == 0 and self.writer

    def share(self, work: Sequence[T]) -> Sequence[T]:
        """Each piece of work is one rank's, and no rank has more than one piece more than another."""
        return work[self.rank :: self.world]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.group is not None:
            with reached():
                dist.barrier(self.group)

    def require_same(self, data: Any, what: str) -> None:
        """Raise `EvaluationError` unless all processes come with equal data, in JSON types; all of them wait here."""
        if self.group is None:
            return
        tensor = torch.frombuffer(bytearray.fromhex(digest(data)), dtype=torch.uint8)
        found = [torch.empty_like(tensor) for _ in range(dist.get_world_size(self.group))]
        with reached():
            dist.all_gather(found, tensor, self.group)
        others = [rank for rank, other in enumerate(found) if not torch.equal(other, found[0])]
        if others:
            raise EvaluationError(
                f"Of {len(found)} processes, {', '.join(map(str, others))} and 0 do not agree on {what}. "
                "All of them need the same command, files and versions, and one folder for the results."
            )


ALONE = Ranks()


@contextmanager
def joined(tensor_parallel: int = 1) -> Iterator[Ranks]:
    """The ranks of this process, by what torchrun says in its environment; `tensor_parallel` processes are one rank."""
    rank, world = place()
    if world % tensor_parallel:
        raise EvaluationError(
            f"A model split over {tensor_parallel} processes needs that many or a multiple of it, found {world}: "
            f"start with torchrun --nproc-per-node {tensor_parallel}."
        )
    if world == 1:
        yield ALONE
        return
    own = not dist.is_initialized()
    try:
        if own:
            dist.init_process_group("gloo", timeout=PATIENCE)
        group = dist.new_group(backend="gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as cause:
        raise EvaluationError(
            f"The {world} processes of this run did not find each other: {cause} Start them with torchrun."
        ) from cause
    try:
        yield Ranks(rank // tensor_parallel, world // tensor_parallel, rank % tensor_parallel == 0, group)
    finally:
        if own:
            dist.destroy_process_group()


def place() -> tuple[int, int]:
    """The rank of this process and the number of processes; (0, 1) where nobody says otherwise."""
    try:
        rank, world = torchrun("RANK", alone=0), torchrun("WORLD_SIZE", alone=1)
    except ConfigError as cause:
        raise EvaluationError(f"RANK and WORLD_SIZE in the environment must be whole numbers: {cause}") from cause
    if not 0 <= rank < world:
        raise EvaluationError(f"RANK is {rank} and WORLD_SIZE is {world}: a rank from 0 to {world - 1} was expected.")
    return rank, world


@contextmanager
def reached() -> Iterator[None]:
    """A process that fails closes its connections; the others then stop here."""
    try:
        yield
    except RuntimeError as cause:
        raise EvaluationError("Another process of this run has ended; its own message says why.") from cause
