"""Which tensor goes where, decided from the headers of the files: all is checked here before memory is taken."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from minivlm.checkpoints.configs import ConfigReading, read_config
from minivlm.checkpoints.folder import BYTES_OF, CheckpointFolder, TensorHeader, open_folder
from minivlm.checkpoints.names import NAMING_SCHEMES, NamingScheme, reason_to_drop, recognise
from minivlm.checkpoints.openclip import OPENAI_HUB_NAME, OPENAI_TOWER, tower_from_open_clip
from minivlm.checkpoints.shards import open_shard
from minivlm.checkpoints.small_files import check_small_files
from minivlm.errors import CheckpointError, ConfigError
from minivlm.files import listed, shown
from minivlm.model.config import LlavaConfig
from minivlm.model.llava import Llava

HEAD, EMBEDDING = "lm_head.weight", "text.embed_tokens.weight"
OWN_HEAD = (
    "config.json ties the head to the embedding (tie_word_embeddings), but the files hold another head: it is the one "
    "that is used, as in transformers."
)


@dataclass(frozen=True)
class Plan:
    """A model without memory (on the meta device) and the tensor that belongs in each of its places."""

    folder: CheckpointFolder
    layout: NamingScheme
    reading: ConfigReading
    model: Llava
    taken: Mapping[str, TensorHeader]  # canonical name -> tensor of the folder
    tower: Mapping[str, Tensor]  # canonical name -> tensor of the separate vision tower, where the files have none
    dropped: Mapping[str, str]  # key -> why it is left out

    @property
    def bytes(self) -> int:
        """Bytes of the tensors that are taken, in the dtype of their files."""
        return sum(header.bytes for header in self.taken.values()) + sum(t.nbytes for t in self.tower.values())

    @property
    def parameters(self) -> int:
        """Numbers that the model will hold."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def make_plan(path: str | Path, vision_tower: str | Path | None = None) -> Plan:
    """Read the headers and the configuration in the folder `path`, and check that they fit together.

    `vision_tower`: see `tower_from_open_clip`; only for checkpoints that come without a tower. Raises CheckpointError
    or ConfigError for whatever does not fit.
    """
    folder = open_folder(path)
    layout = recognise(folder.tensors)
    taken, dropped, unexpected = sort_keys(folder, layout)
    own_tower = {name: header.shape for name, header in taken.items() if name.startswith("vision.")}
    tower: dict[str, Tensor] = {}
    if vision_tower is not None:
        require_no_tower(folder, own_tower, vision_tower)
        tower = tower_from_open_clip(vision_tower, download=True)

    def tower_shapes(named: str) -> Mapping[str, tuple[int, ...]]:
        if not own_tower and not tower:
            tower.update(named_tower(folder, layout, named))
        return own_tower or {name: tuple(tensor.shape) for name, tensor in tower.items()}

    reading = read_config(folder.path, tower_shapes)
    check_small_files(folder.path)
    if layout is None:
        raise CheckpointError(not_recognised(folder))
    if reading.config.tie_word_embeddings and HEAD in taken:
        reading = settle_tied_head(folder, reading, taken, dropped)
    require_plausible(folder, reading.config)
    model = blank_model(reading.config)
    plan = Plan(folder, layout, reading, model, taken, tower, dropped)
    require_fit(plan, unexpected)
    require_dtypes(plan)
    return plan


def settle_tied_head(
    folder: CheckpointFolder, reading: ConfigReading, taken: dict[str, TensorHeader], dropped: dict[str, str]
) -> ConfigReading:
    """The reading for files that hold a head although config.json ties it to the embedding; as transformers does it:
    a head with the same values is dropped, another one is kept, and one without an embedding is the embedding.
    """
    if EMBEDDING not in taken:
        taken[EMBEDDING] = taken.pop(HEAD)
    elif is_same_tensor(folder, taken[HEAD], taken[EMBEDDING]):
        dropped[taken.pop(HEAD).key] = "the configuration ties the head to the embedding, which has the same values"
    else:
        config = replace(reading.config, tie_word_embeddings=False)
        return replace(reading, config=config, unused=(*reading.unused, OWN_HEAD))
    return reading


def is_same_tensor(folder: CheckpointFolder, one: TensorHeader, other: TensorHeader) -> bool:
    """Whether two tensors of the files have the same shape, dtype and values."""
    if one.shape != other.shape or one.dtype != other.dtype or one.dtype not in BYTES_OF:
        return False
    with open_shard(folder.path / one.shard) as first, open_shard(folder.path / other.shard) as second:
        return torch.equal(first.get_tensor(one.key), second.get_tensor(other.key))


def blank_model(config: LlavaConfig) -> Llava:
    """The model on the meta device: names and shapes without memory."""
    try:
        with torch.device("meta"), WithoutRandomValues():
            return Llava(config)
    except (RuntimeError, TypeError) as cause:  # sizes whose product no machine can count
        raise ConfigError(f"A model of this configuration cannot be built: {shown(str(cause))}.") from cause


class WithoutRandomValues(TorchFunctionMode):
    """A context in which layers are made without random first values.

    They would be replaced anyway; and to draw them on the meta device torch imports its compiler, which takes longer
    than loading a model.
    """

    DRAWS = (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call `function`, unless it draws random values: then return its tensor as it is."""
        kwargs = kwargs or {}
        if function in self.DRAWS:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def expected_shapes(model: Llava) -> dict[str, tuple[int, ...]]:
    """Canonical name -> shape of every tensor a checkpoint must have; a tied head is not one of them."""
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def sort_keys(
    folder: CheckpointFolder, layout: NamingScheme | None
) -> tuple[dict[str, TensorHeader], dict[str, str], list[str]]:
    """The tensors that are taken, by canonical name; those that are dropped, with the reason; and unexpected keys."""
    taken: dict[str, TensorHeader] = {}
    dropped: dict[str, str] = {}
    unexpected: list[str] = []
    for key, header in folder.tensors.items():
        name = layout.canonical(key) if layout else None
        if reason := reason_to_drop(key):
            dropped[key] = reason
        elif name is None:
            unexpected.append(key)
        else:
            taken[name] = header
    return taken, dropped, unexpected


def named_tower(folder: CheckpointFolder, layout: NamingScheme | None, named: str) -> dict[str, Tensor]:
    """The tower that an original LLaVA checkpoint does not hold but names."""
    if layout is None:
        raise CheckpointError(not_recognised(folder))
    if OPENAI_HUB_NAME not in named:
        raise CheckpointError(
            f"{folder.path} has no vision tower and names {named[:80]!r}; only {OPENAI_HUB_NAME} is found by itself. "
            "Give the file: vision_tower='path/to/a.safetensors'."
        )
    return tower_from_open_clip(OPENAI_TOWER)


def require_no_tower(folder: CheckpointFolder, own: Mapping[str, object], source: str | Path) -> None:
    if own:
        raise CheckpointError(f"{folder.path} has a vision tower of its own; leave out vision_tower={str(source)!r}.")


def require_plausible(folder: CheckpointFolder, config: LlavaConfig) -> None:
    """Raise `ConfigError` if there are far more layers than tensors: even on the meta device, layers take memory."""
    layers = config.text_config.num_hidden_layers + config.vision_config.num_hidden_layers
    tensors = (
        2 * len(folder.tensors) + 1000
    )  # generous: a separate tower is not counted, and a damaged file may lack some
    if layers > tensors:
        raise ConfigError(
            f"{folder.path / 'config.json'} describes {layers:,} layers, "
            f"but the files have {len(folder.tensors)} tensors."
        )


def require_fit(plan: Plan, unexpected: list[str]) -> None:
    """Raise `CheckpointError` unless the tensors are exactly those that the model expects, with their exact shapes."""
    expected = expected_shapes(plan.model)
    shapes = {name: header.shape for name, header in plan.taken.items()}
    shapes |= {name: tuple(tensor.shape) for name, tensor in plan.tower.items()}
    missing = [plan.layout.key(name) for name in expected if name not in shapes]
    unexpected = unexpected + [plan.layout.key(name) for name in shapes if name not in expected]
    other_shapes = [
        f"{plan.layout.key(name)} has {shapes[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != shape
    ]
    problems = [
        f"{len(names)} {what}: {listed(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", other_shapes))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{plan.folder.path}: the tensors do not fit config.json. Recognised layout {plan.layout.letter} "
            f"({plan.layout.written_by}). {'; '.join(problems)}.{missing_hint(missing)}"
        )


def missing_hint(missing: list[str]) -> str:
    if any("lm_head" in key for key in missing):
        return " The head may be absent only where tie_word_embeddings is true."
    return " Is this a LLaVA 1.5 checkpoint of llava-hf or liuhaotian, and is it complete?" if missing else ""


def require_dtypes(plan: Plan) -> None:
    strange = [f"{header.key} is {header.dtype}" for header in plan.taken.values() if header.dtype not in BYTES_OF]
    strange += [f"{name} is {tensor.dtype}" for name, tensor in plan.tower.items() if not is_computed(tensor.dtype)]
    if strange:
        raise CheckpointError(
            f"{plan.folder.path}: {len(strange)} tensors have dtypes that are not computed with ({listed(strange)}). "
            f"Supported are {', '.join(BYTES_OF)}: take an unquantised copy of the model; weights='int8' quantises it."
        )


def is_computed(dtype: torch.dtype) -> bool:
    """Whether weights of this dtype are loaded."""
    return dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def not_recognised(folder: CheckpointFolder) -> str:
    letters = ", ".join(layout.letter for layout in NAMING_SCHEMES)
    return (
        f"{folder.path}: the tensor names are of none of the layouts {letters} that LLaVA checkpoints have; "
        f"found {len(folder.tensors)} tensors: {listed(list(folder.tensors), 3)}."
    )
