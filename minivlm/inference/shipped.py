"""The models that come with the package, and where they are."""

from pathlib import Path

from minivlm.checkpoints.download import HUB_NAME, find_in_cache
from minivlm.checkpoints.known import hub_name
from minivlm.errors import CheckpointError, ConfigError
from minivlm.files import path_of

TINY = "tiny"  # the model that is loaded if none is named
HEALTHY, PLANTED = "healthy-reader", "planted-drift"  # a positive control for CLVA, see `planted_drift`
HEALTHY_SINKS, PLANTED_SINKS = "healthy-sinks", "planted-sinks"  # one for EAH, see `planted_sinks`
SHIPPED = (TINY, HEALTHY, PLANTED, HEALTHY_SINKS, PLANTED_SINKS)


def shipped_model(name: str = TINY) -> Path:
    """The folder of one of SHIPPED, in the installed package or in the repository. Raises `CheckpointError`."""
    package = Path(__file__).resolve().parents[1]
    places = package / "shipped", package.parent / "weights"
    for place in places:
        if (place / name / "config.json").is_file():
            return place / name
    if broken := next((place / name for place in places if (place / name).is_symlink()), None):
        raise CheckpointError(
            f"{broken} is a link to {broken.readlink()}, where no model is. It was made on another machine, or minivlm "
            "was moved: begin the folder anew with `minivlm course start NAME DIR --copy-weights`."
        )
    made_by = {TINY: "", HEALTHY: f" {PLANTED}", PLANTED: f" {PLANTED}"}.get(name, f" {PLANTED_SINKS}")
    raise CheckpointError(
        f"The shipped model {name} was not found, neither in {places[0]} nor in {places[1]}. "
        f"Install minivlm again, or make the model with `minivlm train{made_by}`."
    )


def is_shipped(name: str | Path | None) -> bool:
    """Whether `load` takes a name for a shipped model's: one of SHIPPED, and no folder here is called so."""
    return name is None or (str(name) in SHIPPED and not Path(name).exists())


def refuse_revision_here(name: str | Path | None, revision: str | None) -> None:
    """Raise `ConfigError` for a `revision` of a model that has none: one that comes with minivlm, or a folder."""
    if revision is not None and (is_shipped(name) or path_of(str(name)).exists()):
        raise ConfigError(
            f"revision must be left out for {name or 'the shipped model'}, found {revision!r}: only a name on the hub "
            "has revisions."
        )


def folder_here(name: str, revision: str | None = None) -> Path:
    """The folder of a model that is on this machine, by its name as `load` takes it; a folder need not exist.

    Raises `CheckpointError` for a name on the hub that was never downloaded.
    """
    refuse_revision_here(name, revision)
    if is_shipped(name):
        return shipped_model(name)
    folder = path_of(name)
    if folder.exists() or not HUB_NAME.fullmatch(hub_name(name)):
        return folder
    if (cached := find_in_cache(name, revision)) is None:
        options = f" --revision {revision}" if revision else ""
        raise CheckpointError(
            f"{name} is no folder, and the hub's cache has no complete copy of a model of that name. "
            f"Fetch it with `minivlm download {name}{options}`."
        )
    return cached
