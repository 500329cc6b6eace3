"""What a result depends on beside the configuration: code revision, versions, hardware."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from nmt.model.kernels import written_in
from nmt.model.products import Rounding

_PACKAGES = ("torch", "numpy", "sentencepiece", "sacrebleu", "datasets", "hydra-core")


def git_revision() -> dict[str, Any]:
    """Return the revision of the program's own repository and whether files differ from it; null outside one."""
    package = Path(__file__).resolve().parents[1]
    # a package installed inside somebody else's repository is not that repository's revision
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return {"revision": None, "changed": None}
    return {"revision": _git(package, "rev-parse", "HEAD"), "changed": bool(_git(package, "status", "--porcelain"))}


def describe_environment(device: torch.device, *, rounding: Rounding, search_int8: bool) -> dict[str, Any]:
    """Return versions, processor, device, threads, what was decided of precision, whose elementwise operations."""
    return {
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "precision": rounding.value,
        "search_weights": "int8" if search_int8 else "float",
        "kernels": written_in(device),
    }


def _processor() -> str:
    try:
        return str(torch.cpu.get_capabilities()["cpu_name"])
    except (AttributeError, KeyError, RuntimeError):  # not in every torch that this program accepts
        return platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
