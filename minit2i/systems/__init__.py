"""Whole systems that draw pictures from prompts; each file reads like its paper's figure."""

from importlib import import_module

SYSTEMS = {"base": "Base", "digits": "Digits"}
"""The class in the module of each name."""


def get(name: str) -> type:
    """The system of that name; its module is imported when it is asked for.

    Raises ValueError for an unknown name.
    """
    if name not in SYSTEMS:
        raise ValueError(f"unknown system {name!r}: choose one of {', '.join(SYSTEMS)}")
    return getattr(import_module(f".{name}", __package__), SYSTEMS[name])
