"""The conditions of a comparison by name: plain, the methods, and their controls.

A control removes from a method the idea that it claims to work by and keeps the rest: EAH with any head instead of the
densest, CLVA with an anchor that does not come from the picture, or with anchor and noise exchanged. A gain that the
control has too is not due to the idea.
"""

from collections.abc import Sequence
from dataclasses import replace

from minivlm.errors import EvaluationError
from minivlm.evaluation.settings import GROUPS, PLAIN
from minivlm.model import CLVA, EAH, Mitigation


def methods(names: Sequence[str], eah: EAH | None = None, clva: CLVA | None = None) -> dict[str, Mitigation]:
    """Name -> mitigation, in order; `names` may hold groups, see `GROUPS`. `eah`, `clva`: settings instead of defaults.

    Raises `EvaluationError` for unknown names, without a name, and for settings that none of the methods uses.
    """
    given = {"eah": eah, "clva": clva}
    eah, clva = eah or EAH(), clva or CLVA()
    known = {
        PLAIN: Mitigation(),
        "eah": Mitigation(eah),
        "clva": Mitigation(clva=clva),
        "both": Mitigation(eah, clva),
        "eah-random-head": Mitigation(replace(eah, head="random")),
        "clva-random-anchor": Mitigation(clva=replace(clva, anchor="random")),
        "clva-shuffled-anchor": Mitigation(clva=replace(clva, anchor="shuffled")),
        "clva-swapped": Mitigation(clva=replace(clva, swapped=True)),
    }
    wanted = [name for group in names for name in GROUPS.get(group, (group,))]
    if strange := [name for name in wanted if name not in known]:
        raise EvaluationError(
            f"There is no method {strange[0]!r}; known are {', '.join(known)}, and the groups {', '.join(GROUPS)}."
        )
    if not wanted:
        raise EvaluationError("No method was named: give at least one, such as plain.")
    chosen = {name: known[name] for name in dict.fromkeys(wanted)}
    for part, settings in given.items():
        if settings is not None and not any(getattr(mitigation, part) for mitigation in chosen.values()):
            raise EvaluationError(f"Settings of {part} were given, but no method of {', '.join(chosen)} uses them.")
    return chosen
