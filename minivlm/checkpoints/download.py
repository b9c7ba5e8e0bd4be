"""Finding a checkpoint: a folder on this machine, the hub's cache, or the hub, which is asked only for a hub name.

Only safetensors and small text files are ever fetched. The hub's own client resumes interrupted downloads, locks what
two processes fetch at once, and shows its progress.
"""

import re
import shutil
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from minivlm.checkpoints.folder import INDEX_FILE, SINGLE_FILE, read_index
from minivlm.checkpoints.known import hub_name
from minivlm.errors import CheckpointError
from minivlm.files import listed, path_of

SMALL = 50_000_000  # bytes; a JSON file larger than this is no configuration
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def find_or_download(name: str | Path, *, revision: str | None = None) -> Path:
    """The folder of a checkpoint: `name` is a folder, a short name of `minivlm models`, or a name on the hub such as
    "llava-hf/llava-1.5-7b-hf".

    A complete copy in the hub's cache is used without asking the hub. `revision`: a branch, tag or commit. Raises
    CheckpointError with the next step if it is neither here nor there.
    """
    folder = path_of(name)
    if folder.exists():
        return folder
    name = hub_name(str(name))
    if not HUB_NAME.fullmatch(name):
        raise CheckpointError(
            f"There is no folder {name}; nor is it a short name that `minivlm models` lists, or a hub name such as "
            "llava-hf/llava-1.5-7b-hf."
        )
    try:
        return find_in_cache(name, revision) or download(name, revision=revision)
    except CheckpointError as cause:  # perhaps a folder was meant
        raise CheckpointError(f"There is no folder {name}, and no such model could be fetched: {cause}") from cause


def find_in_cache(name: str, revision: str | None = None) -> Path | None:
    """The cached snapshot of a model, by its short name or the hub's; None if there is none or it lacks files."""
    name = hub_name(name)
    try:
        config = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError:
        return None
    folder = Path(config).parent if isinstance(config, str) else None  # not a string: the hub is known to have none
    return folder if folder and is_complete(folder) else None


def is_complete(folder: Path) -> bool:
    """Whether a folder has its config.json and all the shards that its index names; a damaged index names none."""
    if not (folder / "config.json").exists():
        return False
    if (folder / SINGLE_FILE).exists():
        return True
    try:
        return all((folder / shard).exists() for shard in set(read_index(folder / INDEX_FILE).values()))
    except CheckpointError:  # no index, or not all of it
        return False


def download(name: str, *, revision: str | None = None) -> Path:
    """Fetch a model's safetensors and small files into the hub's cache, and return its folder there.

    `name`: a short name, or one on the hub. An interrupted download is resumed. The hub's client stores which commit it
    fetched for `revision`, so that `find_in_cache` finds it. Raises `CheckpointError`.
    """
    name = hub_name(name)
    sizes = sizes_on_hub(name, revision)
    wanted = wanted_files(name, sizes)
    require_disk_space(name, sum(sizes[file] for file in wanted))
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except Exception as cause:
        raise CheckpointError(
            explain_failure(name, revision, cause) + " What was fetched is kept; the next try resumes."
        ) from cause


def sizes_on_hub(name: str, revision: str | None) -> dict[str, int]:
    """File name -> its size in bytes, for all files of a model on the hub."""
    try:
        info = HfApi().model_info(name, revision=revision, files_metadata=True)
    except Exception as cause:  # the client's errors have no common base class: network, HTTP, validation, ...
        raise CheckpointError(explain_failure(name, revision, cause)) from cause
    return {file.rfilename: file.size or 0 for file in info.siblings or ()}


def wanted_files(name: str, sizes: dict[str, int]) -> list[str]:
    """The files to fetch: safetensors and small text files of the top folder."""
    top = [file for file in sizes if "/" not in file]
    if not any(file.endswith(".safetensors") for file in top):
        raise CheckpointError(
            f"{name} has no safetensors files on the hub (it has {listed(sorted(top))}), and minivlm reads no other "
            "format. For LLaVA 1.5, llava-hf/llava-1.5-7b-hf holds the same weights."
        )
    weights = [file for file in top if file.endswith(".safetensors")]
    small = [file for file in top if file.endswith((".json", ".jinja")) and sizes[file] <= SMALL]
    return weights + small


def require_disk_space(name: str, needed: int) -> None:
    cache = Path(HF_HUB_CACHE)
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise CheckpointError(
            f"{name} takes {needed / 1e9:.1f} GB and {existing} has {free / 1e9:.1f} GB free. "
            "Make room, or set HF_HOME to a larger disk."
        )


def explain_failure(name: str, revision: str | None, cause: Exception) -> str:
    if isinstance(cause, GatedRepoError):
        return f"{name} asks for its terms to be accepted on the hub; accept them, then log in with `hf auth login`."
    if isinstance(cause, RevisionNotFoundError):
        return f"{name} has no revision {revision!r} on the hub."
    if isinstance(cause, RepositoryNotFoundError):
        return f"There is no model {name} on the hub, or it is private. Check the name's spelling."
    if isinstance(cause, HfHubHTTPError):
        return f"The hub refused to give {name}: {cause}."
    return (
        f"{name} is not on this machine and the hub could not be reached ({type(cause).__name__}: {cause}). "
        "Go online, or copy the model's folder here and give its path."
    )
