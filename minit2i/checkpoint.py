"""Weights and cards: one safetensors file that carries its own card and hash.

NAME.safetensors holds the tensors, the card, and a SHA-256 of both; NAME.json beside it is the
same card for people. Files are replaced in one move, so that a reader meets the old file or the
new one, never half of one.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

SHIPPED = Path(__file__).parent.parent / "data" / "checkpoints"


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, altered, or not the one wanted."""


def check_folder(folder: Path | str) -> None:
    """Makes the folder where there is none. Raises ValueError if it cannot be written to: before
    long work, not after it."""
    handle, temporary = _temporary(Path(folder) / "check")
    os.close(handle)
    os.unlink(temporary)


def _temporary(path: Path) -> tuple[int, str]:
    """A new open file beside `path`, and its name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise ValueError(
            f"cannot write to {path.parent}: {error.strerror}; choose a folder you may write to"
        ) from None


def write(path: Path | str, data: bytes) -> None:
    """Replaces a file in one move. Raises ValueError if its folder cannot be written to."""
    path = Path(path)
    handle, temporary = _temporary(path)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}; nothing was changed") from None
    finally:
        Path(temporary).unlink(missing_ok=True)


def to_json(card: Mapping[str, Any]) -> str:
    """A card as it stands in its file."""
    return json.dumps(card, indent=2, ensure_ascii=False) + "\n"


def fingerprint(tensors: Mapping[str, Tensor], card: Mapping[str, Any] | None = None) -> str:
    """SHA-256 over names, types, shapes and bytes of the tensors in order of name, and the card."""
    digest = hashlib.sha256(to_json(card or {}).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save(
    path: Path | str,
    tensors: Mapping[str, Tensor],
    card: Mapping[str, Any],
    readable: bool = True,
) -> None:
    """Writes path.safetensors and, if `readable`, path.json. The card must be plain JSON."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"card": to_json(card), "sha256": fingerprint(tensors, card)}
    write(_file(path, ".safetensors"), to_bytes(tensors, metadata=header))
    if readable:
        write(_file(path, ".json"), header["card"].encode())


def load(path: Path | str, make: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and card of path.safetensors, after its hash and its readable card were verified.

    make   the command that makes this checkpoint, for the message where it is missing

    Raises CheckpointError for a file that is missing, truncated, altered, or of another origin.
    """
    file = _file(path, ".safetensors")
    remedy = f"make it anew with: {make}" if make else "make it anew, or restore it from its source"
    if not file.is_file():
        raise CheckpointError(f"there is no checkpoint {file}; {remedy}")
    try:
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata() or {}
            # Copies: a tensor that maps the file would keep Windows from replacing it.
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file} is truncated or damaged ({error}); {remedy}") from None
    try:
        card = json.loads(header["card"])
    except (KeyError, ValueError):
        card = None
    if not isinstance(card, dict):
        raise CheckpointError(f"{file} is not a checkpoint of this course: no card in it; {remedy}")
    if fingerprint(tensors, card) != header.get("sha256"):
        raise CheckpointError(f"{file} was altered: its hash does not fit its contents; {remedy}")
    readable = _file(path, ".json")
    if readable.is_file() and readable.read_text("utf-8", errors="replace") != header["card"]:
        raise CheckpointError(
            f"{readable} is not the card of {file.name}: edited, or left by an interrupted save; "
            f"delete it (the weights carry their own copy), or {remedy}"
        )
    return tensors, card


def restore(
    module: torch.nn.Module, tensors: Mapping[str, Tensor], name: str = "checkpoint"
) -> None:
    """Loads weights of any precision into a module.

    Raises CheckpointError naming the first difference, and leaves the module as it was.
    """
    own = module.state_dict()
    if missing := sorted(set(own) - set(tensors)):
        raise CheckpointError(f"{name} has no {missing[0]} ({len(missing)} missing): wrong model")
    if extra := sorted(set(tensors) - set(own)):
        raise CheckpointError(f"{name} has an unknown {extra[0]} ({len(extra)} such): wrong model")
    for key, tensor in tensors.items():
        if tensor.shape != own[key].shape:
            raise CheckpointError(
                f"{name} has {key} of shape {tuple(tensor.shape)}, this model "
                f"{tuple(own[key].shape)}: another configuration"
            )
        if not tensor.isfinite().all():
            raise CheckpointError(f"{name} holds NaN or infinity in {key}: its training failed")
    module.load_state_dict(dict(tensors))


def _file(path: Path | str, suffix: str) -> Path:
    """The file of a checkpoint, given its path with or without a suffix."""
    path = Path(path)
    stem = path.name.removesuffix(".safetensors").removesuffix(".json")
    return path.with_name(stem + suffix)
