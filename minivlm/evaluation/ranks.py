"""The processes of one run, as torchrun starts them: how the work is divided, and where they wait for each other.

    torchrun --nproc-per-node 2 -m minivlm evaluate chair …      RANK=0 WORLD_SIZE=2, RANK=1 WORLD_SIZE=2

Processes synchronize only at the beginning and at the end, through gloo on the CPU, and share their results through the
run's folder, which must be the same for all of them. The processes that share one model (tensor parallel) must ask the
same questions: together they are one rank here. A single process needs none of this.
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

TIMEOUT = timedelta(days=14)  # of a barrier: the fastest process waits for the slowest
T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process is rank `rank` of `world`. Of the processes that share a rank, only the `writer` records."""

    rank: int = 0
    world: int = 1
    writer: bool = True
    group: Any = None  # the torch process group of all processes; None for a single process

    @property
    def first(self) -> bool:
        """Whether this process prepares the folder, merges the records, and prints."""
        return self.rank == 0 and self.writer

    def share(self, work: Sequence[T]) -> Sequence[T]:
        """The pieces of work of this rank: every `world`-th. Sizes differ by at most one piece between ranks."""
        return work[self.rank :: self.world]

    def wait(self) -> None:
        """A barrier: return once all processes have called it. Raises `EvaluationError` if one of them failed."""
        if self.group is not None:
            with peers_alive():
                dist.barrier(self.group)

    def require_same(self, data: Any, what: str) -> None:
        """Raise `EvaluationError` unless all processes pass equal `data` (JSON types); `what` names it in the message.

        All processes must call this, and wait here for each other.
        """
        if self.group is None:
            return
        tensor = torch.frombuffer(bytearray.fromhex(digest(data)), dtype=torch.uint8)
        digests = [torch.empty_like(tensor) for _ in range(dist.get_world_size(self.group))]
        with peers_alive():
            dist.all_gather(digests, tensor, self.group)
        others = [rank for rank, other in enumerate(digests) if not torch.equal(other, digests[0])]
        if others:
            raise EvaluationError(
                f"Of {len(digests)} processes, {', '.join(map(str, others))} and 0 do not agree on {what}. "
                "All of them need the same command, files and versions, and one folder for the results."
            )


ALONE = Ranks()


@contextmanager
def joined(tensor_parallel: int = 1) -> Iterator[Ranks]:
    """The ranks of this process, from torchrun's environment variables; `tensor_parallel` processes make one rank.

    Raises `EvaluationError` if the number of processes does not fit, or if they cannot connect.
    """
    rank, world = place()
    if world % tensor_parallel:
        raise EvaluationError(
            f"A model split over {tensor_parallel} processes needs that many or a multiple of it, found {world}: "
            f"start with torchrun --nproc-per-node {tensor_parallel}."
        )
    if world == 1:
        yield ALONE
        return
    started_here = not dist.is_initialized()
    try:
        if started_here:
            dist.init_process_group("gloo", timeout=TIMEOUT)
        group = dist.new_group(backend="gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError) as cause:
        raise EvaluationError(
            f"The {world} processes of this run did not find each other: {cause} Start them with torchrun."
        ) from cause
    try:
        yield Ranks(rank // tensor_parallel, world // tensor_parallel, rank % tensor_parallel == 0, group)
    finally:
        if started_here:
            dist.destroy_process_group()


def place() -> tuple[int, int]:
    """The rank of this process and the number of processes; (0, 1) without torchrun's variables."""
    try:
        rank, world = torchrun("RANK", alone=0), torchrun("WORLD_SIZE", alone=1)
    except ConfigError as cause:
        raise EvaluationError(f"RANK and WORLD_SIZE in the environment must be whole numbers: {cause}") from cause
    if not 0 <= rank < world:
        raise EvaluationError(f"RANK is {rank} and WORLD_SIZE is {world}: a rank from 0 to {world - 1} was expected.")
    return rank, world


@contextmanager
def peers_alive() -> Iterator[None]:
    """Raise `EvaluationError` if a peer has ended meanwhile: it closes its connections, and torch reports that here."""
    try:
        yield
    except RuntimeError as cause:
        raise EvaluationError("Another process of this run has ended; its own message says why.") from cause
