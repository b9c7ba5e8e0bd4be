"""The command `minivlm doctor`: what this machine has, what it can run, and what to type next.

Nothing is downloaded or changed.
"""

import importlib
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from minivlm import __version__
from minivlm.checkpoints.known import KNOWN_MODELS, KnownModel

PACKAGES = ("torch", "einops", "tokenizers", "safetensors", "huggingface_hub", "pillow", "open_clip_torch", "tqdm")
MODULES = {"pillow": "PIL", "open_clip_torch": "open_clip"}
KINDS = ("bfloat16", "int8", "int4")  # of weights, the most exact first
SLOW = ("open_clip_torch",)  # slow to import: only its installed version is looked up
FIRST_WITH_BF16 = (8, 0)  # Ampere; torch says that older GPUs support bf16, too, but they only emulate it


def examine() -> dict[str, Any]:
    """All facts about this machine, in JSON types.

    "problems" are sentences about what keeps minivlm from working; "next" are commands to type. Memory is in bytes.
    """
    packages, problems = versions()
    facts: dict[str, Any] = {
        "minivlm": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": packages,
        "gpus": [],
        "memory": None,
    }
    if "torch" not in problems:
        facts |= {"torch": torch_build(), "gpus": gpus(), "mps": mps(), "memory": memory()}
        facts["device"] = default_device(facts)
        facts["largest"] = largest(most_free_memory(facts)[0])
    facts["shipped_model"] = shipped_model() if not problems else None
    facts["cache"] = cache() if "huggingface_hub" not in problems else None
    facts["problems"] = list(problems.values())
    facts["next"] = what_next(facts)
    return facts


def versions() -> tuple[dict[str, str | None], dict[str, str]]:
    """The version of each package (None: not installed), and a sentence for each that is missing or broken."""
    installed: dict[str, str | None] = {}
    problems = {}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
            if package not in SLOW:
                importlib.import_module(MODULES.get(package, package))
        except metadata.PackageNotFoundError:
            installed[package] = None
            problems[package] = f"{package} is not installed."
        except Exception as error:  # a broken package may raise anything
            problems[package] = f"{package} cannot be imported ({error}); install it again."
    return installed, problems


def torch_build() -> dict[str, Any]:
    """For which CUDA torch was built (None: without), its CPU threads, and whether it can use Apple's GPU."""
    import torch

    return {
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "mps": torch.backends.mps.is_available(),
    }


def gpus() -> list[dict[str, Any]]:
    """Every CUDA device: its name, capability, whether it has bf16 hardware, and bytes of memory, all and free."""
    import torch

    devices = []
    for index in range(torch.cuda.device_count()):
        capability = torch.cuda.get_device_capability(index)
        free, total = torch.cuda.mem_get_info(index)
        devices.append(
            {
                "device": f"cuda:{index}",
                "name": torch.cuda.get_device_name(index),
                "capability": f"{capability[0]}.{capability[1]}",
                "bf16": capability >= FIRST_WITH_BF16,
                "memory": total,
                "free": free,
            }
        )
    return devices


def mps() -> dict[str, Any] | None:
    """Apple's GPU: whether torch can compute there, and in bf16, and the free bytes of memory; None without one."""
    import torch

    from minivlm.checkpoints.devices import computes
    from minivlm.checkpoints.load import free_memory

    if not torch.backends.mps.is_available():
        return None
    if not computes("mps", torch.float32):  # a virtual Mac, or another user's session
        return {"computes": False, "bf16": False, "free": None}
    return {"computes": True, "bf16": computes("mps", torch.bfloat16), "free": free_memory(torch.device("mps"))}


def default_device(facts: dict[str, Any]) -> dict[str, str]:
    """The device on which minivlm computes by default, the dtype, and the reason; see `checkpoints/devices.py`."""
    if facts["gpus"]:
        old = "" if facts["gpus"][0]["bf16"] else ", and float16 for bfloat16"
        return {"name": "cuda", "dtype": f"that of the files{old}", "why": "the first GPU that torch sees"}
    why = "torch sees no GPU"
    if facts["mps"]:
        why = "minivlm has not been tried on Apple's GPUs, so they are taken only when asked for"
    return {"name": "cpu", "dtype": "float32 for models of less than 4 GB, else bfloat16", "why": why}


def memory() -> dict[str, int | None]:
    """The free bytes of main memory; None if they are not known."""
    from minivlm.checkpoints.load import free_host_memory

    return {"free": free_host_memory()}


def shipped_model() -> str | None:
    """The folder of the model that comes with minivlm; None if it is missing."""
    from minivlm.errors import CheckpointError
    from minivlm.inference.shipped import shipped_model

    try:
        return str(shipped_model())
    except CheckpointError:
        return None


def cache() -> dict[str, Any]:
    """The hub's cache: its folder, the free bytes there, and which of `KNOWN_MODELS` it holds completely."""
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    from minivlm.checkpoints.download import find_in_cache

    folder = Path(HF_HUB_CACHE)
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    return {
        "folder": str(folder),
        "writable": os.access(existing, os.W_OK),
        "free": shutil.disk_usage(existing).free,
        "models": [model.name for model in KNOWN_MODELS if find_in_cache(model.hub) is not None],
        "offline": HF_HUB_OFFLINE,
    }


def what_next(facts: dict[str, Any]) -> list[str]:
    """Commands to type, the most useful first."""
    if facts["problems"]:
        return [f"{Path(sys.executable).name} -m pip install .  # in minivlm's repository"]
    if facts["shipped_model"] is None:
        return ["minivlm train"]
    commands = ["minivlm demo", 'minivlm ask photo.jpg "What is in the image?"']
    free, option = most_free_memory(facts)
    fitting = {model.name: kind for model in KNOWN_MODELS if (kind := best_kind(model, free))}
    cached = [name for name in fitting if name in facts["cache"]["models"]]
    if cached:
        weights = "" if fitting[cached[-1]] == KINDS[0] else f" --weights {fitting[cached[-1]]}"
        commands.append(f'minivlm ask photo.jpg "What is in the image?" --model {cached[-1]}{option}{weights}')
    elif fitting and not facts["cache"]["offline"]:
        commands.append(f"minivlm download {next(iter(fitting))}")
    return commands


def largest(free: int) -> dict[str, str]:
    """Of the known models the largest that fits in each of KINDS, by name, and the most exact kind in which it does."""
    fits = {kind: [model for model in KNOWN_MODELS if model.memory(kind) <= free] for kind in KINDS}
    return {models[-1].name: best_kind(models[-1], free) or kind for kind, models in fits.items() if models}


def best_kind(model: KnownModel, free: int) -> str | None:
    """The first of KINDS in which a model fits into the `free` bytes; None if it does in none."""
    return next((kind for kind in KINDS if model.memory(kind) <= free), None)


def most_free_memory(facts: dict[str, Any]) -> tuple[int, str]:
    """The free bytes where a large model would run (0 if they are not known), and the option that chooses this device,
    with a space before it; "" for the default device.
    """
    if facts["gpus"]:
        return max(gpu["free"] for gpu in facts["gpus"]), ""
    if facts.get("mps") and facts["mps"]["free"]:
        return facts["mps"]["free"], " --device mps"
    return facts["memory"]["free"] or 0, ""


# --- as text -------------------------------------------------------------------------------------------------------


def as_text(facts: dict[str, Any]) -> str:
    """The facts of `examine` as lines of a name and a value."""
    packages = ", ".join(f"{name} {version or 'MISSING'}" for name, version in facts["packages"].items())
    rows = [
        ("minivlm", f"{facts['minivlm']}, Python {facts['python']}, {facts['system']}"),
        ("packages", packages),
        *(("GPU", describe_gpu(gpu)) for gpu in facts["gpus"]),
    ]
    if not facts["gpus"] and "torch" in facts:
        rows.append(("GPU", describe_mps(facts["mps"]) if facts["mps"] else describe_no_gpu(facts["torch"])))
    if "device" in facts:
        rows.append(("computes on", "{name}: {why}; in {dtype}".format(**facts["device"])))
    if facts["memory"]:
        rows.append(("memory", f"{gigabytes(facts['memory']['free'])} free, {facts['torch']['threads']} CPU threads"))
        largest = [f"{name} in {kind}" for name, kind in facts["largest"].items()]
        rows.append(("fits here", "; ".join(largest) or "none of `minivlm models`"))
    rows.append(("shipped model", facts["shipped_model"] or "not found"))
    if facts["cache"]:
        rows.append(("hub's cache", describe_cache(facts["cache"])))
    rows += [("PROBLEM", problem) for problem in facts["problems"]]
    rows += [("next" if number == 0 else "", command) for number, command in enumerate(facts["next"])]
    return "\n".join(f"{name:14} {value}" for name, value in rows)


def describe_gpu(gpu: dict[str, Any]) -> str:
    bf16 = "bf16 in hardware" if gpu["bf16"] else "no bf16 in hardware: float16 is used"
    room = f"{gigabytes(gpu['free'])} of {gigabytes(gpu['memory'])} free"
    return f"{gpu['device']} {gpu['name']}, capability {gpu['capability']} ({bf16}), {room}"


def describe_mps(mps: dict[str, Any]) -> str:
    if not mps["computes"]:
        return "Apple's (mps) is seen, but torch cannot compute there"
    bf16 = "bfloat16" if mps["bf16"] else "no bfloat16 (macOS 14 has it): float32 is used"
    return f"Apple's (mps) with {bf16}, no float64, {gigabytes(mps['free'])} free; ask for it with --device mps"


def describe_no_gpu(torch: dict[str, Any]) -> str:
    return f"none seen (torch is built for CUDA {torch['cuda']})" if torch["cuda"] else "none (torch is built for CPUs)"


def describe_cache(cache: dict[str, Any]) -> str:
    held = ", ".join(cache["models"]) or "no known model"
    parts = [f"{cache['folder']}: {held}", f"{gigabytes(cache['free'])} free"]
    if cache["offline"]:
        parts.append("offline")
    if not cache["writable"]:
        parts.append("not writable")
    return ", ".join(parts)


def gigabytes(size: int | None) -> str:
    """A number of bytes in units of 10^9, such as "16.0 GB"."""
    return "unknown" if size is None else f"{size / 1e9:.1f} GB"
