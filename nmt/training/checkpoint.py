"""Checkpoints: one safetensors file each, replaced in one rename, with the counters as JSON in its header.

``last`` holds all that a training goes on from, ``best`` the model's weights only. A copy of the counters for readers
stands beside each file as JSON; it is never read back, so a kill between the two does no harm.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nmt.errors import RunError

_COUNTERS = "counters"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, in main memory, and the counters (plain JSON values) that belong to them."""

    tensors: dict[str, Tensor]
    counters: dict[str, Any]


def checkpoint_path(folder: Path, name: str) -> Path:
    """Return where the checkpoint ``name`` (``last`` or ``best``) lies in the folder ``checkpoints``."""
    return folder / f"{name}.safetensors"


def save_checkpoint(folder: Path, name: str, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
    """Write the checkpoint ``name``; a kill at any instant leaves the old or the new one, whole."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    header = {_COUNTERS: json.dumps(counters)}
    _replace(checkpoint_path(folder, name), lambda partial: save_file(plain, partial, header))
    _replace(folder / f"{name}.json", lambda partial: partial.write_text(json.dumps(counters, indent=2) + "\n"))


def load_checkpoint(folder: Path, name: str) -> Checkpoint:
    """Read the checkpoint ``name``.

    Raises:
        RunError: there is none, or the file is not a checkpoint of this program.
    """
    path = checkpoint_path(folder, name)
    if not path.is_file():
        raise RunError(f"{path} does not exist; the run has no checkpoint {name!r}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            counters = json.loads(file.metadata()[_COUNTERS])
            return Checkpoint({key: file.get_tensor(key) for key in file.keys()}, counters)  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is not a checkpoint of this program, or is damaged ({error})") from None


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's parameters and persistent buffers by name, a shared one once."""
    persistent = model.state_dict().keys()
    named = chain(model.named_parameters(), model.named_buffers())
    return {name: tensor for name, tensor in named if name in persistent}


@torch.no_grad()
def load_model_tensors(model: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Copy what :func:`model_tensors` returned into ``model``, in place.

    Raises:
        RunError: names or shapes are not the model's; the message says which of them and names ``where``.
    """
    expected = model_tensors(model)
    for name in sorted(expected.keys() ^ tensors.keys()):
        problem = f"lacks {name}" if name in expected else f"has {name}, which the model has not"
        raise RunError(f"{where} {problem}; it was made with another configuration")
    for name, tensor in expected.items():
        given = tensors[name]
        if given.shape != tensor.shape:
            raise RunError(f"{where} has {name} of shape {list(given.shape)}; the model's is {list(tensor.shape)}")
        tensor.copy_(given)


def load_best(folder: Path, model: nn.Module) -> dict[str, Any]:
    """Load the weights of the checkpoint ``best`` into ``model`` and return its counters.

    Raises:
        RunError: there is no such checkpoint, or it is not the model's.
    """
    checkpoint = load_checkpoint(folder, "best")
    load_model_tensors(model, checkpoint.tensors, checkpoint_path(folder, "best"))
    return checkpoint.counters


def generator_tensors(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's default generators, which dropout draws from: the CPU's and ``device``'s own."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_generators(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Set what :func:`generator_tensors` returned; a run that changed its device has no state for the new one."""
    torch.set_rng_state(tensors["cpu"])
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path`` and move it there once it is safe on the disk."""
    partial = path.with_name(path.name + ".partial")
    write(partial)
    _sync(partial)
    os.replace(partial, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Wait until the file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
