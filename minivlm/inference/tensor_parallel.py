"""Tensor parallel: one model over the memories of several devices, where it is too large for one.

    torchrun --nproc-per-node 2 -m minivlm evaluate chair --tensor-parallel 2 …

Each process keeps a share of every large weight matrix and computes with that share; what it finds is put together with
what the others found, so that between two projections all of them hold the same whole tensors:

    embeddings, q, k, v, lm_head   a share of the outputs   →  all-gather
    o                              a share of the inputs    →  all-reduce
    gate, up, then down            a share of the numbers between them  →  all-reduce

**Every process sees all heads.** The usual way gives each device some heads of its own; but EAH compares all heads of a
layer and CLVA pools over the better half of them, so here the projections are split and the attention is not. The
attention, its cache, the two methods and the traces run as they are and give the same, up to the order of sums.

What it costs: the scores, the softmax and the mixing of values are computed N times instead of once, and so is the
vision tower; and each process holds the whole KV cache. By arithmetic, at two bytes a number, N processes:

    LLaVA-1.5    split       whole in each      per process: N = 2    N = 4    N = 8    and the cache, a token a row
    7B           13.48 GB    0.65 GB                       7.39 GB  4.02 GB  2.33 GB    0.52 MB
    13B          26.03 GB    0.67 GB                      13.69 GB  7.18 GB  3.92 GB    0.82 MB

The splitting is torch's own (DTensor and its `ParallelStyle`s), and those do it with forward hooks on the projections.
That minivlm uses no hooks is a promise about looking and mitigating, which go on without any; a model that was not
split has none.
"""

from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module

from minivlm.errors import ConfigError
from minivlm.files import torchrun
from minivlm.model import Llava

PATIENCE = timedelta(hours=1)  # one process may read its files long after another


@dataclass(frozen=True)
class TensorGroup:
    """The processes that hold the model together with this one, as one of `groups` groups that share the work."""

    mesh: DeviceMesh  # of one dimension
    device: torch.device  # this process's own
    number: int
    groups: int

    @property
    def first(self) -> bool:
        """Whether this is the process of its group that writes: the others come to the same results."""
        return self.mesh.get_local_rank() == 0


def tensor_mesh(size: int, device: str | None = None) -> TensorGroup:
    """Put torchrun's processes into groups of `size` neighbours, (0 1) (2 3) … for two, and give this one's.

    `device`: "cpu" (they talk through gloo) or "cuda" (through nccl; process LOCAL_RANK takes that GPU, which becomes
    torch's current one); by default "cuda" where there is one. torch's process group is made if there is none yet, and
    to end it is the caller's. Raises `ConfigError` without torchrun, or if the processes or the GPUs do not suffice.
    """
    rank, world = torchrun_number("RANK"), torchrun_number("WORLD_SIZE")
    if size < 1 or world % size:
        least = max(size, 1)
        raise ConfigError(
            f"{world} processes cannot be put into groups of {size} that hold a model together. Start {least} or a "
            f"multiple of it: torchrun --nproc-per-node {least}."
        )
    own = process_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=PATIENCE)
    neighbours, _ = dist.new_subgroups(size, backend="nccl" if own.type == "cuda" else "gloo", timeout=PATIENCE)
    return TensorGroup(DeviceMesh.from_group(neighbours, own.type), own, rank // size, world // size)


def split(model: Llava, mesh: DeviceMesh) -> Llava:
    """Let each process of `mesh` keep its share of the model's weights; the model given is changed, and returned.

    All processes call this with the same weights, each with its own copy: nothing is sent. A model too large for one
    GPU is loaded on the CPU, where its weights are the mapped files; then one tensor after the other goes to this
    process's GPU, whole, and its share stays. Tower, projector and norms stay whole and go there too.

    The forward and the generation take and give ordinary tensors as before, the same in every process; all must make
    the same calls in the same order, and sampling needs a seed. Sizes need not be divisible. For inference only.
    Raises `ConfigError`, and has changed nothing, for a model that is split already or is being trained, and for a mesh
    of several dimensions.
    """
    require_fitting(model, mesh)
    parallelize_module(model, mesh, split_plan(), src_data_rank=None)
    for parameter in model.parameters():
        if not isinstance(parameter, DTensor):
            parameter.data = parameter.data.to(mesh.device_type)
    return model


def split_plan() -> dict[str, ParallelStyle]:
    """Which projection is split how. Between `up` and `down` the tensors know that they are shares, of any sizes."""
    whole = Replicate()
    return {
        "text.embed_tokens": ColwiseParallel(output_layouts=whole),
        "text.layers.*.self_attn.[qkv]_proj": ColwiseParallel(output_layouts=whole),
        "text.layers.*.self_attn.o_proj": RowwiseParallel(input_layouts=whole),
        "text.layers.*.mlp.gate_proj": ColwiseParallel(use_local_output=False),
        "text.layers.*.mlp.up_proj": ColwiseParallel(use_local_output=False),
        "text.layers.*.mlp.down_proj": RowwiseParallel(),
        "lm_head": ColwiseParallel(output_layouts=whole),
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
    if any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(
            "A model is split for inference only, and this one is being trained: freeze it first with "
            "`model.requires_grad_(False)`."
        )


def torchrun_number(name: str) -> int:
    """A number that torchrun has put into the environment. Raises `ConfigError` where torchrun started nothing."""
    try:
        return torchrun(name)
    except ConfigError as cause:
        raise ConfigError(
            f"To split a model over several processes, torchrun must start them: {cause} "
            "Put `torchrun --nproc-per-node N -m` before `minivlm`."
        ) from cause


def process_device(kind: str) -> torch.device:
    """The CPU, or this process's own GPU."""
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
