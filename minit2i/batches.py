"""From a table, or a function, to batches; of several processes, to the share of each."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from . import checkpoint, parallel

Batch = dict[str, Tensor]
Column = Tensor | np.ndarray
Data = Mapping[str, Column] | Callable[[int, np.random.Generator], Batch]
"""Equally long columns, of which batches are drawn with replacement; or (n, rng) -> batch.

Bytes are pictures: a uint8 tensor reaches the model as floats in [-1, 1]. A table is moved to the
model's device once, but for memory-mapped columns (`numpy.memmap`), which are read batch by batch.

A column "order" does not reach the model: it lists the rows so that neighbours are alike, captions
of one length, say. A batch is then drawn from a random stretch of it, the `WINDOWS`-th part of all
rows and at least eight batches long (the end goes on at the beginning). Every row is as frequent as
before, but those of a batch are alike, so that on a CPU less padding is computed.
"""
WINDOWS = 16
"""See `Data`."""


def _share(size: int) -> slice:
    """The part of a joint batch that is this process's."""
    mine = size // parallel.world()
    return slice(parallel.rank() * mine, (parallel.rank() + 1) * mine)


def batches(
    data: Data, device: torch.device | str = "cpu"
) -> Callable[[int, np.random.Generator], Batch]:
    """(n, rng) -> this process's share of a batch of n, on the device, checked once where the data
    is a table. Memory-mapped columns are not searched for NaN: that would read them whole."""
    if callable(data):

        def share(size: int, rng: np.random.Generator) -> Batch:
            batch = data(size, rng)
            if parallel.world() > 1:
                batch = {name: tensor[_share(size)] for name, tensor in batch.items()}
            return {name: tensor.to(device) for name, tensor in batch.items()}

        return share
    if not isinstance(data, Mapping):
        raise ValueError(
            f"data is a dict of tensors such as {{'x': points}}, or a function (n, rng) -> dict; "
            f"got a {type(data).__name__}"
        )
    if not data or len({len(column) for column in data.values()}) != 1:
        sizes = {name: len(column) for name, column in data.items()}
        raise ValueError(f"the columns of the data must be equally long, got {sizes}")
    n = len(next(iter(data.values())))
    if n == 0:
        raise ValueError("the data is empty")
    order = data.get("order")
    if order is not None:
        order = torch.as_tensor(order).cpu().numpy()
        if order.dtype.kind != "i" or not np.array_equal(np.sort(order), np.arange(n)):
            raise ValueError(f"the column 'order' must list each of the {n} rows once")
    table = {
        name: _settle(name, column, device) for name, column in data.items() if name != "order"
    }

    def draw(size: int, rng: np.random.Generator) -> Batch:
        if order is None:
            index = rng.integers(n, size=size)[_share(size)]
        else:
            stretch = min(n, max(n // WINDOWS, 8 * size))
            among = rng.integers(n) + rng.integers(stretch, size=size)
            index = order[among[_share(size)] % n]
        rows = torch.from_numpy(index).to(device)
        return {
            name: column[rows]
            if isinstance(column, Tensor)
            else torch.from_numpy(np.array(column[index])).to(device)
            for name, column in table.items()
        }

    return draw


def _settle(name: str, column: Column, device: torch.device | str) -> Column:
    """A column where batches are drawn from it: on the device, or left in its file."""
    if isinstance(column, np.memmap):
        return column
    column = torch.as_tensor(column).to(device)
    if column.is_floating_point():
        rows = max(1, 2**22 // max(1, column[0].numel()))  # in pieces: the check needs little room
        if not all(part.isfinite().all() for part in column.split(rows)):
            raise ValueError(f"the data's {name!r} holds NaN or infinity; clean it first")
    return column


def floats(tensor: Tensor) -> Tensor:
    """Bytes as pictures in [-1, 1]; anything else as it is."""
    return tensor.float().div_(127.5).sub_(1) if tensor.dtype == torch.uint8 else tensor


def identity(data: Data) -> str:
    """What tells one table from another in a saved run; of a memory-mapped column, its type, shape
    and 256 of its rows."""
    if callable(data):
        return "a function"
    parts, shapes = {}, {}
    for name, column in data.items():
        if isinstance(column, np.memmap):
            shapes[name] = f"{column.dtype} {column.shape}"
            column = np.array(column[np.linspace(0, len(column) - 1, 256).astype(int)])
        parts[name] = torch.as_tensor(column)
    return checkpoint.fingerprint(parts, shapes)[:16]
