"""The settings as a file that people copy and fill in: `python -m service settings`."""

from __future__ import annotations

from pydantic import SecretStr

from service.core.settings import Settings


def env_example() -> str:
    """The text of `.env.example`: each setting with its meaning and its development default."""
    lines = ["# Made by `python -m service settings`; a test keeps it equal to the code.", ""]
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        elif isinstance(default, tuple):
            default = ",".join(default)
        elif isinstance(default, bool):
            default = str(default).lower()
        elif isinstance(default, dict):
            default = ""
        lines += [f"# {field.description}", f"{name.upper()}={default}", ""]
    return "\n".join(lines)
