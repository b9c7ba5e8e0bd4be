"""What a call changes in the attention, as a value that is passed to the call.

    model(tokens, pixels, mitigation=Mitigation(EAH(), CLVA()))

A mitigation belongs to one call, never to the model: the same loaded weights give plain and mitigated answers, and
nothing has to be undone. With both methods, EAH comes first: where its layer is a noise layer of CLVA, as it is at
LLaVA's depths, the noise is computed from the map that EAH has broadcast.
"""

from dataclasses import dataclass, fields
from typing import Any

from minivlm.errors import ConfigError
from minivlm.model.aim import Aim
from minivlm.model.clva import CLVA, ResolvedCLVA
from minivlm.model.config import LlavaConfig
from minivlm.model.eah import EAH, ResolvedEAH
from minivlm.model.layout import Layout


@dataclass(frozen=True)
class Mitigation:
    """The settings of each method, as a user gives them; None: this method is off. Several threads may share it."""

    eah: EAH | None = None
    clva: CLVA | None = None
    aim: Aim | None = None

    def __post_init__(self) -> None:
        for name, kind in KINDS.items():
            if not isinstance(getattr(self, name), kind | None):
                raise ConfigError(f"Mitigation.{name} must be {kind.__name__} settings, found {getattr(self, name)!r}.")

    @classmethod
    def of(cls, given: Any) -> "Mitigation":
        """`given` as a mitigation: it may be one, None, the settings of one method, or a list of such settings.

        Raises `ConfigError` for anything else, and for two settings of one method.
        """
        if given is None:
            return NO_MITIGATION
        if isinstance(given, Mitigation):
            return given
        parts: dict[str, Any] = {}
        for settings in given if isinstance(given, (list, tuple)) else (given,):
            name = next((name for name, kind in KINDS.items() if isinstance(settings, kind)), None)
            if name is None or name in parts:
                raise ConfigError(
                    f"A mitigation is made of one EAH, one CLVA and one Aim at most, found {given!r}. "
                    "Pass for instance EAH(), or Mitigation(EAH(), CLVA())."
                )
            parts[name] = settings
        return Mitigation(**parts)

    @property
    def empty(self) -> bool:
        """Whether all methods are off."""
        return self.eah is None and self.clva is None and self.aim is None

    def resolve(self, config: LlavaConfig) -> "ResolvedMitigation":
        """This mitigation for one model: each None has its value. Raises `ConfigError` for layers that do not exist."""
        return ResolvedMitigation(
            eah=None if self.eah is None else self.eah.resolve(config),
            clva=None if self.clva is None else self.clva.resolve(config),
            aim=None if self.aim is None else self.aim.resolve(config),
        )

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Method -> its settings, in JSON types, for methods that are on; without `Aim.target`, which is large."""
        methods = {name: getattr(self, name) for name in KINDS}
        return {
            name: {field.name: getattr(settings, field.name) for field in fields(settings) if field.name != "target"}
            for name, settings in methods.items()
            if settings is not None
        }


@dataclass(frozen=True)
class ResolvedMitigation(Mitigation):
    """A mitigation for one model: every setting has its value, and every layer exists."""

    eah: ResolvedEAH | None = None
    clva: ResolvedCLVA | None = None
    aim: Aim | None = None

    def first_row(self, layer: int, layout: Layout) -> int:
        """The first row whose weights `layer` must write out; `layout.queries` if no step needs any."""
        if self.eah and self.eah.acts(layer, layout):
            return 0
        clva_layers = (*self.clva.read_layers, *self.clva.deep_layers) if self.clva else ()
        aim_layers = self.aim.layers if self.aim else ()
        if layer in clva_layers or layer in aim_layers:
            return layout.queries - layout.text_rows
        return layout.queries


KINDS: dict[str, type] = {"eah": EAH, "clva": CLVA, "aim": Aim}
NO_MITIGATION = Mitigation()
UNMITIGATED = ResolvedMitigation()  # what NO_MITIGATION is for every model
