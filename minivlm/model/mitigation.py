"""What a call changes in the attention, as a value that is passed to the call.

    model(tokens, pixels, mitigation=Mitigation(EAH(), CLVA()))

A mitigation belongs to one call, never to the model: one set of loaded weights answers plainly and mitigated, side by
side, and nothing has to be undone. With both methods on, EAH comes first: where its layer is a noise layer of CLVA, as
it is at LLaVA's depths, the noise holds the map that was broadcast.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from minivlm.errors import ConfigError
from minivlm.model.aim import Aim
from minivlm.model.clva import CLVA
from minivlm.model.config import LlavaConfig
from minivlm.model.eah import EAH
from minivlm.model.layout import Layout


@dataclass(frozen=True)
class Mitigation:
    """Which layer does what."""

    eah: EAH | None = None
    clva: CLVA | None = None
    aim: Aim | None = None

    def __post_init__(self) -> None:
        for name, kind in KINDS.items():
            if not isinstance(getattr(self, name), kind | None):
                raise ConfigError(f"Mitigation.{name} must be {kind.__name__} settings, found {getattr(self, name)!r}.")

    @classmethod
    def of(cls, given: Any) -> "Mitigation":
        """A mitigation as it is; or one made of None, of one method's settings, or of several in a list."""
        if isinstance(given, cls):
            return given
        parts = {}
        for settings in given if isinstance(given, (list, tuple)) else [given] * (given is not None):
            name = next((name for name, kind in KINDS.items() if isinstance(settings, kind)), None)
            if name is None or name in parts:
                raise ConfigError(
                    f"A mitigation is made of one EAH, one CLVA and one Aim at most, found {given!r}. "
                    "Pass for instance EAH(), or Mitigation(EAH(), CLVA())."
                )
            parts[name] = settings
        return cls(**parts)

    def fitted(self, config: LlavaConfig) -> "Mitigation":
        """With all that depends on the model filled in. Raises `ConfigError` where a layer does not exist."""
        settings = {name: getattr(self, name) for name in KINDS}
        return replace(self, **{name: part.fitted(config) for name, part in settings.items() if part is not None})

    def as_dict(self) -> dict:
        """The settings of the methods that there are, in JSON types; `Aim.target` is left out because it is large."""
        found = {}
        for name in KINDS:
            if (part := getattr(self, name)) is not None:
                names = [field.name for field in fields(part) if field.name != "target"]
                found[name] = {setting: getattr(part, setting) for setting in names}
        return found

    def first_row(self, layer: int, layout: Layout) -> int:
        """From which row on this layer must write its weights out; `layout.queries` if no step needs any."""
        if self.eah and self.eah.acts(layer, layout):
            return 0
        text_layers = (*self.clva.read_layers, *self.clva.deep_layers) if self.clva else ()
        aimed = self.aim.layers if self.aim else ()
        return layout.queries - layout.text_rows * (layer in (*text_layers, *aimed))


KINDS = {"eah": EAH, "clva": CLVA, "aim": Aim}
NO_MITIGATION = Mitigation()
