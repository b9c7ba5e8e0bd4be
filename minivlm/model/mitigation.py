"""What a call changes in the attention, as a value that is passed to the call.

A mitigation belongs to one forward, never to the model: one set of loaded weights answers plainly and mitigated, side
by side. The methods themselves (EAH, arXiv 2411.09968; CLVA, arXiv 2603.25088) are to become its fields.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mitigation:
    """Which layer does what. So far there is nothing to choose: attention is always the plain one."""

    def needs_weights(self, layer: int) -> bool:
        """Whether `layer` must write its attention weights out, because a step reads or changes them there."""
        return False


NO_MITIGATION = Mitigation()
