"""Tensor parallel: one model over the memories of several devices, where it is too large for one.

    torchrun --nproc-per-node 2 -m minivlm evaluate chair --tensor-parallel 2 …

Each process keeps a share of every large weight matrix and computes with that share; the results of all processes are
put together, so that between two projections each of them holds the same whole tensors:

    embeddings, q, k, v, lm_head   a share of the outputs   →  all-gather
    o                              a share of the inputs    →  all-reduce
    gate, up, then down            a share of the numbers between them  →  all-reduce

**Every process has all heads.** The usual way gives each device some of the heads; but EAH compares all heads of a
layer and CLVA pools over half of them, so here the projections are split and the attention is not. The attention, its
cache, the two methods and the traces need no change and give the same, up to the order of sums.

What it costs: the scores, the softmax and the mixing of values are computed N times instead of once, and so is the
vision tower; and each process holds the whole KV cache. By arithmetic, at two bytes a number, N processes:

    LLaVA-1.5    split       whole in each      per process: N = 2    N = 4    N = 8    and the cache, per token
    7B           13.48 GB    0.65 GB                       7.39 GB  4.02 GB  2.33 GB    0.52 MB
    13B          26.03 GB    0.67 GB                      13.69 GB  7.18 GB  3.92 GB    0.82 MB

The splitting is torch's own (DTensor and its `ParallelStyle`s), and those do it with forward hooks on the projections.
That minivlm uses no hooks is a promise about recording and mitigating, which work without any here, too; a model that
is not split has no hooks at all.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module

from minivlm.checkpoints.quantised import kind_of
from minivlm.errors import ConfigError
from minivlm.files import torchrun
from minivlm.model import Llava

PATIENCE = timedelta(hours=1)  # processes may read their files at very different speeds


@dataclass(frozen=True)
class TensorGroup:
    """This process and those that hold the model together with it: group `number` of `groups` that share the work."""

    mesh: DeviceMesh  # of one dimension
    device: torch.device  # of this process
    number: int  # of this group, from 0
    groups: int

    @property
    def first(self) -> bool:
        """Whether this is the process of its group that writes files; the others compute the same results."""
        return self.mesh.get_local_rank() == 0


def tensor_mesh(size: int, device: str | None = None) -> TensorGroup:
    """Put torchrun's processes into groups of `size` neighbours, (0 1) (2 3) … for two, and return this one's.

    `device`: "cpu" (they talk through gloo) or "cuda" (through nccl; process LOCAL_RANK takes that GPU, which becomes
    torch's current one); by default "cuda" where there is one. torch's process group is made if there is none yet; the
    caller has to end it. Raises `ConfigError` without torchrun, or if the processes or the GPUs do not suffice.
    """
    rank, world = torchrun_number("RANK"), torchrun_number("WORLD_SIZE")
    if size < 1 or world % size:
        least = max(size, 1)
        raise ConfigError(
            f"{world} processes cannot be put into groups of {size} that hold a model together. Start {least} or a "
            f"multiple of it: torchrun --nproc-per-node {least}."
        )
    target = process_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=PATIENCE)
    neighbours, _ = dist.new_subgroups(size, backend="nccl" if target.type == "cuda" else "gloo", timeout=PATIENCE)
    return TensorGroup(DeviceMesh.from_group(neighbours, target.type), target, rank // size, world // size)


def split(model: Llava, mesh: DeviceMesh) -> Llava:
    """Keep in each process of `mesh` only its share of the model's weights. The given model is changed, and returned.

    All processes call this with the same weights, each with its own copy: nothing is sent. A model too large for one
    GPU is loaded on the CPU, where its weights are the mapped files; then one tensor after the other goes to this
    process's GPU, whole, and its share stays. Tower, projector and norms stay whole and go there too.

    The forward and the generation take and return ordinary tensors as before, the same in every process; all must make
    the same calls in the same order, and sampling needs a seed. Sizes need not be divisible. For inference only.
    Raises `ConfigError`, before anything is changed, for a model that is split already or is being trained, and for a
    mesh of several dimensions.
    """
    require_fitting(model, mesh)
    parallelize_module(model, mesh, split_plan(), src_data_rank=None)
    for parameter in model.parameters():
        if not isinstance(parameter, DTensor):
            parameter.data = parameter.data.to(mesh.device_type)
    return model


class Gathered(ColwiseParallel):
    """A share of the outputs in each process, and all of them in each once the others' shares have arrived.

    torch's own style waits only where the output is used, so that queries, keys and values are under way together;
    with several gathers under way, gloo damages the process's memory (torch 2.14: crashes within some hundred tokens).
    """

    def __init__(self) -> None:
        super().__init__(output_layouts=Replicate())

    @staticmethod
    def _prepare_output_fn(layouts: Any, local: bool, module: nn.Module, share: DTensor, mesh: DeviceMesh) -> Tensor:
        return share.redistribute(placements=layouts, async_op=False).to_local()


def split_plan() -> dict[str, ParallelStyle]:
    """How each projection is split. Between `up` and `down` the tensors stay shares, which may differ in size."""
    whole = Replicate()
    return {
        "text.embed_tokens": Gathered(),
        "text.layers.*.self_attn.[qkv]_proj": Gathered(),
        "text.layers.*.self_attn.o_proj": RowwiseParallel(input_layouts=whole),
        "text.layers.*.mlp.gate_proj": ColwiseParallel(use_local_output=False),
        "text.layers.*.mlp.up_proj": ColwiseParallel(use_local_output=False),
        "text.layers.*.mlp.down_proj": RowwiseParallel(),
        "lm_head": Gathered(),
    }


def require_fitting(model: Llava, mesh: DeviceMesh) -> None:
    """Raise `ConfigError` for a model or a mesh that cannot be used."""
    if mesh.ndim != 1:
        raise ConfigError(
            f"A model is split over a mesh of one dimension, found {mesh.ndim}: pass one of its dimensions, such as "
            "`tensor_mesh` makes."
        )
    if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        raise ConfigError("This model is split already. Load it once more to split it in another way.")
    if kind := kind_of(model):
        raise ConfigError(f"A model with weights in {kind} cannot be split: load it without `weights`.")
    if any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(
            "A model is split for inference only, and this one is being trained: freeze it first with "
            "`model.requires_grad_(False)`."
        )


def torchrun_number(name: str) -> int:
    """A number that torchrun sets in the environment. Raises `ConfigError` if torchrun did not start this process."""
    try:
        return torchrun(name)
    except ConfigError as cause:
        raise ConfigError(
            f"To split a model over several processes, torchrun must start them: {cause} "
            "Put `torchrun --nproc-per-node N -m` before `minivlm`."
        ) from cause


def process_device(kind: str) -> torch.device:
    """The CPU, or the GPU of this process."""
    if kind not in ("cpu", "cuda"):
        raise ConfigError(f"The device of a split model must be 'cpu' or 'cuda', found {kind!r}.")
    if kind == "cpu":
        return torch.device(kind)
    index, seen = torchrun_number("LOCAL_RANK"), torch.cuda.device_count()
    if index >= seen:
        raise ConfigError(
            f"Process {index} of this machine (LOCAL_RANK) needs a GPU of its own, but torch sees {seen}: start at "
            f"most {seen} processes here, or pass 'cpu'."
        )
    torch.cuda.set_device(index)
    return torch.device(kind, index)
