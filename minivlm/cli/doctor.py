"""`minivlm doctor`: what this machine has, what it can run, and what to type next. Nothing is fetched or changed."""

import importlib
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from minivlm import __version__
from minivlm.checkpoints.known import KNOWN_MODELS

PACKAGES = ("torch", "einops", "tokenizers", "safetensors", "huggingface_hub", "pillow", "open_clip_torch", "tqdm")
MODULES = {"pillow": "PIL", "open_clip_torch": "open_clip"}
SLOW = ("open_clip_torch",)  # not imported here; that it is installed has to do
FIRST_WITH_BF16 = (8, 0)  # Ampere; older GPUs compute bf16 by detours, which torch calls "supported"


def examine() -> dict[str, Any]:
    """All facts, in JSON types. "problems" lists what keeps minivlm from working; "next" is what to type."""
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
        facts["device"] = chosen(facts)
    facts["shipped_model"] = shipped_model() if not problems else None
    facts["cache"] = cache() if "huggingface_hub" not in problems else None
    facts["problems"] = list(problems.values())
    facts["next"] = what_next(facts)
    return facts


def versions() -> tuple[dict[str, str | None], dict[str, str]]:
    """Version of each package, and for those that are missing or broken a sentence."""
    found: dict[str, str | None] = {}
    problems = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
            if package not in SLOW:
                importlib.import_module(MODULES.get(package, package))
        except metadata.PackageNotFoundError:
            found[package] = None
            problems[package] = f"{package} is not installed."
        except Exception as error:  # a broken installation fails in any way it likes
            problems[package] = f"{package} cannot be imported ({error}); install it again."
    return found, problems


def torch_build() -> dict[str, Any]:
    """How torch was built and what it will compute with."""
    import torch

    return {
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "mps": torch.backends.mps.is_available(),
    }


def gpus() -> list[dict[str, Any]]:
    """Every CUDA device: its name, capability, whether it has bf16 hardware, and bytes of memory."""
    import torch

    found = []
    for index in range(torch.cuda.device_count()):
        capability = torch.cuda.get_device_capability(index)
        free, total = torch.cuda.mem_get_info(index)
        found.append(
            {
                "device": f"cuda:{index}",
                "name": torch.cuda.get_device_name(index),
                "capability": f"{capability[0]}.{capability[1]}",
                "bf16": capability >= FIRST_WITH_BF16,
                "memory": total,
                "free": free,
            }
        )
    return found


def mps() -> dict[str, Any] | None:
    """Apple's GPU: whether it computes bf16, and the bytes of memory that torch can take there; None without one."""
    import torch

    from minivlm.checkpoints.devices import computes
    from minivlm.checkpoints.load import free_memory

    if not torch.backends.mps.is_available():
        return None
    if not computes("mps", torch.float32):  # seen, but not for us: a virtual Mac, another user's
        return {"computes": False, "bf16": False, "free": None}
    return {"computes": True, "bf16": computes("mps", torch.bfloat16), "free": free_memory(torch.device("mps"))}


def chosen(facts: dict[str, Any]) -> dict[str, str]:
    """Where minivlm computes unless it is told otherwise, with which numbers, and why; see `checkpoints/devices.py`."""
    if facts["gpus"]:
        old = "" if facts["gpus"][0]["bf16"] else ", and float16 for bfloat16"
        return {"name": "cuda", "dtype": f"that of the files{old}", "why": "the first GPU that torch sees"}
    why = "torch sees no GPU"
    if facts["mps"]:
        why = "minivlm has not been tried on Apple's GPUs, so they are taken only when asked for"
    return {"name": "cpu", "dtype": "float32 for models of less than 4 GB, else bfloat16", "why": why}


def memory() -> dict[str, int | None]:
    """Bytes of main memory that can be taken now."""
    from minivlm.checkpoints.load import free_host_memory

    return {"free": free_host_memory()}


def shipped_model() -> str | None:
    """The folder of the model that comes with minivlm, None where it is missing."""
    from minivlm.errors import CheckpointError
    from minivlm.inference.load import shipped_model

    try:
        return str(shipped_model())
    except CheckpointError:
        return None


def cache() -> dict[str, Any]:
    """The hub's cache: its folder, the free bytes there, and which of the known models it holds in full."""
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
    apple = not facts["gpus"] and facts.get("mps") and facts["mps"]["free"]
    room = room_for_models(facts)
    fitting = [model.name for model in KNOWN_MODELS if model.memory(2) <= room]
    cached = [name for name in fitting if name in facts["cache"]["models"]]
    if cached:
        return [
            *commands,
            f'minivlm ask photo.jpg "What is in the image?" --model {cached[-1]}{" --device mps" * bool(apple)}',
        ]
    if fitting and not facts["cache"]["offline"]:
        commands.append(f"minivlm download {fitting[0]}")
    return commands


def room_for_models(facts: dict[str, Any]) -> int:
    """Bytes that are free where a model would compute: on the largest GPU, else in main memory."""
    if facts["gpus"]:
        return max(gpu["free"] for gpu in facts["gpus"])
    apple = facts.get("mps") and facts["mps"]["free"]
    return apple or facts["memory"]["free"] or 0


# --- as text -------------------------------------------------------------------------------------------------------


def as_text(facts: dict[str, Any]) -> str:
    """The facts in lines of a name and a value."""
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
    remarks = ["offline"] * bool(cache["offline"]) + ["not writable"] * (not cache["writable"])
    return ", ".join([f"{cache['folder']}: {held}", f"{gigabytes(cache['free'])} free", *remarks])


def gigabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e9:.1f} GB"
