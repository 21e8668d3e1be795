"""A figure's metadata says what was drawn, and the drawing functions draw what they are given."""

import base64
import io
import json

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from minit2i import plot

GRID = torch.linspace(0, 1, 51)


@pytest.fixture
def ax():
    fig, ax = plt.subplots()
    yield ax
    plt.close(fig)


def described(ax):
    (axes,) = plot.describe(ax.figure)
    return axes


def test_the_description_names_every_artist_with_its_ranges(ax):
    ax.plot(GRID, 3 * GRID, label="line")
    ax.scatter([0, 2], [-1, 1], label="points")
    ax.bar([0, 1], [2, 4])
    ax.fill_between(GRID, GRID, 2 * GRID)
    ax.vlines([0.5], 0, 7)
    ax.text(0.5, 0.5, "here")
    ax.set(title="T", xlabel="time", ylabel="loss", yscale="symlog")
    ax.legend()
    axes = described(ax)
    labels = {key: axes[key] for key in ("title", "x", "y", "scales", "texts")}
    assert labels == {
        "title": "T", "x": "time", "y": "loss", "scales": ["linear", "symlog"], "texts": ["here"],
    }  # fmt: skip
    assert axes["legend"] == ["line", "points"]
    artists = axes["artists"]
    assert {kind: artist["count"] for kind, artist in artists.items()} == {
        "line": 1, "points": 1, "patch": 2, "area": 1, "segments": 1,
    }  # fmt: skip
    assert artists["line"]["ranges"] == [[[0.02, 0.98], [0.06, 2.94]]]
    assert artists["points"]["ranges"] == [[[0, 2], [-1, 1]]]
    assert artists["segments"]["ranges"] == [[[0.5, 0.5], [0, 7]]]
    ((across, up),) = artists["patch"]["ranges"]
    assert across == pytest.approx([-0.4, 1.4]) and up == pytest.approx([0, 4])


def test_images_and_arrows_are_described_by_their_values(ax):
    ax.imshow(np.arange(101.0).reshape(1, 101))
    ax.quiver([0, 1], [0, 1], [2, 3], [-5, 5])
    artists = described(ax)["artists"]
    assert artists["image"]["ranges"] == [[[2, 98]]]
    assert artists["arrows"]["ranges"] == [[[0, 1], [0, 1], [2, 3], [-5, 5]]]


def test_the_description_names_each_look_once(ax):
    ax.plot(GRID, GRID, "--", color=plot.RED)
    ax.plot(GRID, 2 * GRID, "--", color=plot.RED)
    ax.plot(GRID, 3 * GRID, "s", color=plot.BLUE, markersize=4)
    ax.scatter([0], [0], s=9, color=plot.GREEN)
    ax.scatter([0], [0], s=9, color=plot.GREEN, marker="^")
    ax.scatter([0, 1], [0, 1], c=[0, 1], cmap="viridis")
    ax.bar([0, 1], [1, 1], color=plot.PINK, hatch="//")
    ax.hist([0, 1], histtype="step", color=plot.SKY, linestyle=":")
    looks = {kind: artist["looks"] for kind, artist in described(ax)["artists"].items()}
    assert looks["line"] == [[plot.RED.lower(), "-- None", 1.8], [plot.BLUE.lower(), "None s", 4]]
    circle, triangle, mapped = looks["points"]
    assert circle[0] == triangle[0] == plot.GREEN.lower() and circle[2] == triangle[2] == 3
    assert circle[1] != triangle[1] and mapped == ["viridis", "map", 0]
    bars, steps = looks["patch"]
    assert bars == [plot.PINK.lower(), "filled //", 0]
    assert steps[0] == plot.SKY.lower() and "filled" not in steps[1]


def test_numbers_that_are_not_finite_and_artists_without_numbers_are_marked(ax):
    ax.plot([0, 1], [1, np.nan])
    ax.plot([], [])
    ranges = described(ax)["artists"]["line"]["ranges"]
    assert ranges == [[[0, 1], None], [[], []]]


def test_hidden_artists_do_not_count(ax):
    (line,) = ax.plot([0, 1], [0, 1])
    line.set_visible(False)
    assert described(ax)["artists"] == {}


def test_many_artists_share_one_range(ax):
    for k in range(plot.MANY + 1):
        ax.plot([0, 1], [k, k + 1])
    lines = described(ax)["artists"]["line"]
    assert lines["count"] == plot.MANY + 1 and len(lines["ranges"]) == 1
    assert lines["ranges"][0][1] == [1, plot.MANY]  # the 2nd and 98th percentile of 0 .. MANY + 1


def test_the_same_figure_gives_the_same_bytes():
    def png(trained):
        fig, ax = plt.subplots()
        ax.plot(GRID, GRID**2)
        data = plot.render(fig, trained)
        plt.close(fig)
        return data

    assert png(False) == png(False)
    image = Image.open(io.BytesIO(png(True)))
    assert image.text["Kind"] == "trained" and set(image.text) == {"Kind", "Artists"}
    assert json.loads(image.text["Artists"])[0]["artists"]["line"]["count"] == 1


def test_letters_are_legible():
    sizes = [mpl.rcParams[f"{what}.labelsize"] for what in ("axes", "xtick", "ytick")]
    sizes += [mpl.rcParams[key] for key in ("font.size", "legend.fontsize", "axes.titlesize")]
    assert min(sizes) >= 9 and mpl.rcParams["figure.dpi"] >= 80


def test_show_displays_picture_and_caption_and_closes_the_figure(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.get_ipython", object)
    monkeypatch.setattr("IPython.display.publish_display_data", lambda *args: shown.append(args))
    fig, ax = plt.subplots()
    ax.plot(GRID, GRID)
    plot.show(fig, "Figure 3. A line. It rises.", trained=True)
    (picture, about), (caption,) = shown
    image = Image.open(io.BytesIO(base64.b64decode(picture["image/png"])))
    assert image.text["Kind"] == "trained"
    assert about == {"image/png": {"alt": "Figure 3. A line. It rises."}}
    assert caption["text/markdown"] == "**Figure 3.** A line. It rises."
    assert not plt.fignum_exists(fig.number)


def test_show_without_a_notebook_prints_the_caption(capsys):
    fig, _ = plt.subplots()
    plot.show(fig, "Figure 1. Nothing.")
    assert capsys.readouterr().out == "Figure 1. Nothing.\n"
    assert not plt.fignum_exists(fig.number)


def test_points_keep_their_shape(ax):
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    cloud = plot.points(ax, x, extent=4)
    assert np.array_equal(cloud.get_offsets(), x.numpy())
    assert ax.get_aspect() == 1 and ax.get_xlim() == ax.get_ylim() == (-4, 4)


def test_points_take_one_number_each_as_colour(ax):
    cloud = plot.points(ax, np.eye(2), colour=torch.tensor([0.25, 0.75]))
    assert cloud.get_array().tolist() == [0.25, 0.75]


def test_strip_shows_every_frame_to_one_scale():
    frames = [k * np.eye(2) for k in (1, 2, 5)]
    fig = plot.strip(frames, titles=["a", "b", "c"], behind=np.zeros((4, 2)))
    assert [ax.get_title() for ax in fig.axes] == ["a", "b", "c"]
    assert {ax.get_xlim() for ax in fig.axes} == {(-5.5, 5.5)}
    for ax, frame in zip(fig.axes, frames, strict=True):
        behind, cloud = ax.collections
        assert len(behind.get_offsets()) == 4 and np.array_equal(cloud.get_offsets(), frame)
    plt.close(fig)


def test_the_longest_arrow_of_a_field_spans_one_cell(ax):
    arrows = plot.field(ax, lambda x: -x, extent=2, count=5)
    assert np.array_equal(arrows.U, -arrows.X) and np.array_equal(arrows.V, -arrows.Y)
    assert np.hypot(arrows.U, arrows.V).max() / arrows.scale == pytest.approx(1.0)


def test_a_field_that_vanishes_draws(ax):
    assert np.isfinite(plot.field(ax, torch.zeros_like).scale)


@pytest.mark.parametrize("centre, middle", [("median", 1.0), ("mean", 2.0)])
def test_band_shows_centre_range_and_every_seed(ax, centre, middle):
    samples = np.array([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]])
    plot.band(ax, [0, 1], samples, label="loss", centre=centre)
    on_top, *seeds = ax.lines
    assert on_top.get_ydata().tolist() == [middle, middle]
    assert [line.get_ydata().tolist() for line in seeds] == samples.tolist()
    assert described(ax)["artists"]["area"]["ranges"][0][1] == [0, 5]
    assert len(set(line.get_color() for line in ax.lines)) == 1


def test_pictures_lie_row_by_row_with_their_values(ax):
    images = torch.linspace(-1, 1, 6).reshape(6, 1, 1, 1).expand(6, 1, 4, 4)
    sheet = plot.pictures(ax, images, columns=3).get_array()
    assert sheet.shape == (2 * 5 + 1, 3 * 5 + 1)
    tops = [sheet[1, 1], sheet[1, 6], sheet[1, 11], sheet[6, 1], sheet[6, 6], sheet[6, 11]]
    assert tops == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_pictures_are_clipped_and_titled(ax):
    image = plot.pictures(ax, 9 * torch.ones(2, 3, 8, 8), titles=["one", "two"])
    assert image.get_array().max() == 1
    assert described(ax)["texts"] == ["one", "two"]


def test_pictures_refuses_two_channels(ax):
    with pytest.raises(ValueError, match="2 channels; pictures shows 1"):
        plot.pictures(ax, torch.zeros(1, 2, 4, 4))
