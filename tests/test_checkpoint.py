"""Checkpoints: whole or refused."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from minit2i.checkpoint import (
    CheckpointError,
    check_folder,
    fingerprint,
    load,
    restore,
    save,
    write,
)

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3), "h": torch.ones(4).half()}
CARD = {"name": "toy", "steps": 10, "note": "ε"}


@pytest.fixture
def toy(tmp_path):
    save(tmp_path / "toy", TENSORS, CARD)
    return tmp_path / "toy"


def test_what_was_saved_is_loaded(toy):
    tensors, card = load(toy)
    assert card == CARD and set(tensors) == set(TENSORS)
    assert all(
        torch.equal(tensors[k], v) and tensors[k].dtype == v.dtype for k, v in TENSORS.items()
    )
    assert json.loads(toy.with_suffix(".json").read_text()) == CARD
    assert load(toy.with_suffix(".safetensors"))[1] == CARD  # with or without its ending
    assert all(file.stat().st_mode & 0o444 == 0o444 for file in toy.parent.iterdir())  # for all


def test_names_with_dots_stay_apart(tmp_path):
    save(tmp_path / "v1.0", TENSORS, {"n": 0})
    save(tmp_path / "v1.1", TENSORS, {"n": 1})
    assert [load(tmp_path / f"v1.{n}")[1]["n"] for n in (0, 1)] == [0, 1]


def test_missing_says_how_to_make_it(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint .*none.*make it anew with: do this"):
        load(tmp_path / "none", make="do this")


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_truncated(toy, keep):
    file = toy.with_suffix(".safetensors")
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load(toy)


def test_a_changed_weight_is_noticed(toy):
    file = toy.with_suffix(".safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="was altered"):
        load(toy)


def test_a_changed_card_is_noticed_in_the_weights_and_beside_them(toy):
    from safetensors import safe_open

    file = toy.with_suffix(".safetensors")
    with safe_open(file, "pt") as opened:
        header = opened.metadata()
    save_file(load_file(file), file, {**header, "card": header["card"].replace("10", "99")})
    with pytest.raises(CheckpointError, match="was altered"):
        load(toy)
    save(toy, TENSORS, CARD)
    toy.with_suffix(".json").write_text("{}")
    with pytest.raises(CheckpointError, match="delete it"):
        load(toy)
    toy.with_suffix(".json").unlink()
    assert load(toy)[1] == CARD


def test_foreign(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="not a checkpoint of this course"):
        load(tmp_path / "other")


@pytest.mark.parametrize("card", ["no json", "[1]"])
def test_a_card_that_is_none_is_foreign(tmp_path, card):
    save_file({"w": torch.ones(2)}, tmp_path / "other.safetensors", {"card": card, "sha256": "0"})
    with pytest.raises(CheckpointError, match="not a checkpoint of this course"):
        load(tmp_path / "other")


def test_a_readable_card_that_is_no_text(toy):
    toy.with_suffix(".json").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="is not the card of"):
        load(toy)


def test_loaded_tensors_do_not_hang_on_the_file(toy):
    """Windows does not replace a file that is mapped, and a resumed training saves over its own."""
    tensors, _ = load(toy)
    file = toy.with_suffix(".safetensors")
    with file.open("r+b") as opened:
        opened.write(bytes(file.stat().st_size))
    assert all(torch.equal(tensors[k], v) for k, v in TENSORS.items())


def test_weights_that_are_not_finite_are_refused():
    module = torch.nn.Linear(1, 1)
    with pytest.raises(CheckpointError, match="NaN or infinity in bias"):
        restore(module, {"weight": torch.ones(1, 1), "bias": torch.tensor([float("nan")])})
    assert module.bias.isfinite().all()


def test_another_model_is_refused_and_left_alone():
    module = torch.nn.Linear(2, 3)
    before = fingerprint(module.state_dict())
    for bad, says in [
        ({"weight": torch.zeros(3, 2)}, "no bias"),
        (
            {"weight": torch.zeros(3, 2), "bias": torch.zeros(3), "more": torch.ones(1)},
            "unknown more",
        ),
        ({"weight": torch.zeros(3, 3), "bias": torch.zeros(3)}, r"shape \(3, 3\)"),
    ]:
        with pytest.raises(CheckpointError, match=says):
            restore(module, bad)
        assert fingerprint(module.state_dict()) == before
    restore(module, {"weight": torch.ones(3, 2).half(), "bias": torch.zeros(3)})
    assert module.weight.dtype == torch.float32 and (module.weight == 1).all()


def test_a_save_that_fails_leaves_the_good_file(toy, monkeypatch):
    def broken(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", broken)
        with pytest.raises(ValueError, match=r"No space left.*nothing was changed"):
            save(toy, {"a": torch.zeros(1)}, {"name": "new"})
    assert load(toy)[1] == CARD
    assert sorted(p.name for p in toy.parent.iterdir()) == ["toy.json", "toy.safetensors"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"cannot write to .*choose a folder"):
        write(tmp_path / "file" / "x", b"")
    with pytest.raises(ValueError, match=r"cannot write to .*choose a folder"):
        check_folder(tmp_path / "file")
    check_folder(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_fingerprint_sees_names_shapes_types_and_card():
    base = {"a": torch.zeros(2, 3)}
    others = [{"b": torch.zeros(2, 3)}, {"a": torch.zeros(3, 2)}, {"a": torch.zeros(2, 3).int()}]
    two = {**others[0], **base}
    assert fingerprint(two) == fingerprint(dict(reversed(two.items())))  # whatever their order
    assert len({fingerprint(t) for t in [base, *others]} | {fingerprint(base, {"k": 1})}) == 5
