"""`minivlm models`: the published models with short names, and which of them fit this machine. Nothing is fetched."""

from typing import Any

from minivlm.checkpoints.known import BYTES, KNOWN_MODELS
from minivlm.cli import doctor

COME_ALONG = (
    "With minivlm come tiny, the default, and two positive controls: healthy-reader and planted-drift for CLVA,",
    "healthy-sinks and planted-sinks for EAH. Where those look was planted by us.",
)


def examine() -> dict[str, Any]:
    """Each model by its short name, in JSON types: sizes in bytes, and whether it fits into the free memory."""
    facts = doctor.examine()
    room = 0 if facts["problems"] else doctor.most_free_memory(facts)[0]
    cached = facts["cache"]["models"] if facts["cache"] else []
    return {
        model.name: {
            "hub": model.hub,
            "parameters": model.parameters,
            "disk": model.bytes,
            "memory": {kind: model.memory(kind) for kind in BYTES},
            "fits in": [kind for kind in BYTES if model.memory(kind) <= room],
            "licence": model.licence,
            "downloaded": model.name in cached,
        }
        for model in KNOWN_MODELS
    }


def as_text(models: dict[str, Any]) -> str:
    """A table, and what to type next."""
    head = ("name", "parameters", "on disk", *(f"in {kind}" for kind in BYTES), "fits here", "licence")
    rows = [head, *(row(name, model) for name, model in models.items())]
    widths = [max(len(line[column]) for line in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in rows]
    lines += [
        "",
        *COME_ALONG,
        "",
        "* is on this machine. Memory is a rough estimate, with one picture in the prompt; int8, int4: with --weights.",
        "",
    ]
    return "\n".join([*lines, f"minivlm download {next(iter(models))}"])


def row(name: str, model: dict[str, Any]) -> tuple[str, ...]:
    """The cells of one model."""
    memory = (doctor.gigabytes(model["memory"][kind]) for kind in BYTES)
    size = f"{model['parameters'] / 1e9:.2f} billion"
    star = "*" if model["downloaded"] else ""
    fits = ", ".join(model["fits in"]) or "no"
    return (name + star, size, doctor.gigabytes(model["disk"]), *memory, fits, model["licence"])
