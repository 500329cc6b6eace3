"""What a run's attention is called in tables and titles. Needs no torch."""

from typing import Any

from omegaconf import OmegaConf

from nmt.cli.train import config_folder
from nmt.config import Config


def attention_name(config: Config) -> str:
    """Return the preset and what was chosen beside it: ``bahdanau, score=dot, no input feeding, coverage``.

    The preset's own parts are those of its YAML as it is today. Without that file, as with a preset of someone else's
    configuration folder, they are not known, and its name stands alone; without a preset the name is empty.
    """
    preset = config.choices.get("attention", "")
    own = _parts(preset)
    chosen = {part: config.choices.get(f"attention/{part}", name) for part, name in own.items()}
    changes = [f"{part}={name}" for part, name in chosen.items() if name != own[part]]
    # a wiring that has no such choice has no such key
    if not config.attention["wiring"].get("input_feeding", True):
        changes.append("no input feeding")
    if config.attention.get("coverage"):
        changes.append("coverage")
    return ", ".join([preset, *changes]) if preset else ""


def _parts(preset: str) -> dict[str, str]:
    """Return the part of each group that a preset's defaults list names; empty without its YAML."""
    path = config_folder() / "attention" / f"{preset}.yaml"
    if not path.is_file():
        return {}
    content: Any = OmegaConf.to_container(OmegaConf.load(path))
    entries = [entry for entry in content.get("defaults", []) if isinstance(entry, dict)]
    return {str(group).removeprefix("override "): str(part) for entry in entries for group, part in entry.items()}
