"""A user's own pictures: what a file becomes, what is left out or refused, what a cache may claim.

All pictures are made here. References: torch's antialiased bicubic for the resize, the colour
formulas of sRGB and Display P3 for profiles.
"""

import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import unicodedata
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from minit2i.worlds import folder
from minit2i.worlds.folder import load

RED, GREEN, WHITE = (200, 30, 40), (20, 160, 60), (255, 255, 255)


def noise(w, h, seed=0, low=0, high=256):
    values = np.random.default_rng(seed).integers(low, high, (h, w, 3), dtype=np.uint8)
    return Image.fromarray(values)


def smooth(w, h):
    """A picture that JPEG keeps well, and in which all directions differ."""
    x, y = np.meshgrid(np.linspace(0, 1, w), np.linspace(0, 1, h))
    bands = [40 + 150 * x, 220 - 160 * y, 120 + 60 * np.sin(5 * x + 3 * y)]
    return Image.fromarray(np.stack(bands, -1).round().astype(np.uint8))


def halves(left, right, mode="RGB", w=24, h=16):
    """Colours of the left and right half."""
    image = Image.new(mode, (w, h), left)
    image.paste(right, (w // 2, 0, w, h))
    return image


def put(root, name, picture, **how):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(picture, bytes):
        path.write_bytes(picture)
    else:
        picture.save(path, **how)


def jsonl(root, rows):
    text = "".join(json.dumps({"file_name": n, "text": t}) + "\n" for n, t in rows)
    (root / "metadata.jsonl").write_text(text, "utf-8")


def only(root, picture, name="a.png", size=16, **how):
    """The array of a folder's single picture."""
    put(root, name, picture, **how)
    jsonl(root, [(name, "one")])
    return load(root, size, progress=False).images[0]


def many(root, n=10, size=8):
    """A folder of n good pictures; its rows."""
    rows = [(f"good{i}.png", f"good {i}") for i in range(n)]
    for i, (name, _) in enumerate(rows):
        put(root, name, noise(size, size, seed=i))
    jsonl(root, rows)
    return rows


def near(image, *colours, within=1):
    """Whether the columns of an array, from left to right, are of these colours in equal parts."""
    parts = np.split(image.astype(int), len(colours), axis=2)
    inner = [part[:, :, 2:-2].reshape(3, -1).T for part in parts]  # the seam is blurred
    return all(
        abs(part - colour).max() <= within for part, colour in zip(inner, colours, strict=True)
    )


class TestPixels:
    def test_shape_type_and_order(self, tmp_path):
        rows = many(tmp_path, 40)
        pictures = load(tmp_path, 8, progress=False)
        assert isinstance(pictures.images, np.memmap) and pictures.images.dtype == np.uint8
        assert not pictures.images.flags.writeable
        assert list(zip(pictures.names, pictures.captions, strict=True)) == rows
        for i, image in enumerate(pictures.images):  # of the same size: nothing is resized
            assert np.array_equal(image, np.asarray(noise(8, 8, seed=i)).transpose(2, 0, 1))

    @pytest.mark.parametrize("w, h", [(64, 48), (31, 90), (16, 16), (9, 7), (1, 1), (300, 2)])
    def test_central_square_resized_as_torch_does(self, tmp_path, w, h):
        picture, side = noise(w, h, 0, 64, 192), min(w, h)  # far from where values are clipped
        w0, h0 = (w - side) // 2, (h - side) // 2
        square = np.asarray(picture)[h0 : h0 + side, w0 : w0 + side].transpose(2, 0, 1)
        expected = torch.nn.functional.interpolate(
            torch.tensor(square)[None].double(), (16, 16), mode="bicubic", antialias=True
        )
        got = only(tmp_path, picture)
        # half a level of rounding after each of two passes, the first of which the second spreads
        assert abs(expected[0].numpy() - got).max() <= 1.25

    def test_reduced_decoding_of_jpeg_changes_little(self, tmp_path):
        plain = only(tmp_path, smooth(640, 480), "a.png")
        for k, (w, h) in enumerate([(640, 480), (639, 479), (250, 250), (40, 34)]):
            got = only(tmp_path, smooth(w, h), f"{k}.jpg", quality=95, subsampling=0)
            if (w, h) == (640, 480):
                assert abs(got.astype(int) - plain).max() <= 3
            exact = only(tmp_path, smooth(w, h), f"{k}.png")
            assert abs(got.astype(int) - exact).max() <= 5

    @pytest.mark.parametrize("kind", ["png", "webp", "jpg"])
    def test_the_eight_orientations_of_one_picture_agree(self, tmp_path, kind):
        upright = noise(24, 18) if kind != "jpg" else smooth(48, 36)
        stored = {1: upright, **{k: upright.transpose(UNDO[k]) for k in UNDO}}
        how = {"png": {}, "webp": {"lossless": True}, "jpg": {"quality": 95, "subsampling": 0}}
        for k, picture in stored.items():
            exif = Image.Exif()
            exif[0x0112] = k
            put(tmp_path, f"{k}.{kind}", picture, exif=exif, **how[kind])
        jsonl(tmp_path, [(f"{k}.{kind}", str(k)) for k in stored])
        images = load(tmp_path, 12, progress=False).images.astype(int)
        assert abs(images - images[0]).max() <= (3 if kind == "jpg" else 0)
        mirrored = images[0][:, :, ::-1]
        assert abs(images[0] - mirrored).max() > 20  # a picture on which a turn shows

    @pytest.mark.parametrize(
        "junk", [b"", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM", b"Exif\0\0no TIFF"]
    )
    def test_damaged_exif_is_no_reason_to_lose_a_picture(self, tmp_path, junk):
        got = only(tmp_path, halves(RED, GREEN), "a.jpg", exif=junk, quality=95, subsampling=0)
        assert near(got, RED, GREEN, within=4)
        assert near(only(tmp_path, halves(RED, GREEN), "a.png", exif=junk or b"x"), RED, GREEN)


UNDO = {  # what turns the upright picture into the stored one
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
}  # fmt: skip


def grey16(left, right):
    values = np.full((16, 24), left, np.uint16)
    values[:, 12:] = right
    return Image.fromarray(values)


class TestModes:
    @pytest.mark.parametrize("kind", ["png", "webp"])
    def test_colour(self, tmp_path, kind):
        how = {"lossless": True} if kind == "webp" else {}
        assert near(only(tmp_path, halves(RED, GREEN), f"a.{kind}", **how), RED, GREEN)

    @pytest.mark.parametrize(
        "picture, left, right",
        [
            (halves(0, 255, "1"), (0,) * 3, WHITE),
            (halves(50, 180, "L"), (50,) * 3, (180,) * 3),
            (grey16(12_950, 46_200), (50,) * 3, (180,) * 3),
            (grey16(0, 65535), (0,) * 3, WHITE),
            (halves(RED, GREEN).quantize(4), RED, GREEN),
            (halves((*RED, 255), (*GREEN, 0), "RGBA"), RED, WHITE),
            (halves((*RED, 0), (0, 0, 0, 128), "RGBA"), WHITE, (127,) * 3),
            (halves((50, 255), (0, 128), "LA"), (50,) * 3, (127,) * 3),
        ],
        ids=["1", "L", "I;16", "I;16 ends", "P", "RGBA", "RGBA half", "LA"],
    )
    def test_png_of_every_mode(self, tmp_path, picture, left, right):
        assert near(only(tmp_path, picture), left, right)

    @pytest.mark.parametrize(
        "picture, key, left",
        [
            (halves(RED, GREEN).quantize(4), None, RED),
            (halves(RED, GREEN), GREEN, RED),
            (halves(50, 180, "L"), 180, (50,) * 3),
            (halves(0, 255, "1"), 255, (0,) * 3),
            (grey16(257 * 50, 257 * 180), 257 * 180, (50,) * 3),
        ],
        ids=["P", "RGB", "L", "1", "I;16"],
    )
    def test_a_colour_marked_as_transparent_becomes_white(self, tmp_path, picture, key, left):
        key = picture.getpixel((23, 0)) if key is None else key
        assert near(only(tmp_path, picture, transparency=key), left, WHITE)

    def test_hidden_colours_do_not_bleed(self, tmp_path):
        """Red beside transparent black, on white: the red channel is 255 throughout, seam too."""
        picture = halves((255, 0, 0, 255), (0, 0, 0, 0), "RGBA", 99, 99)
        assert only(tmp_path, picture)[0].min() == 255

    def test_jpeg_of_every_mode(self, tmp_path):
        how = {"quality": 100}
        assert near(only(tmp_path, halves(50, 180, "L"), "a.jpg", **how), *[(50,) * 3, (180,) * 3])
        inks = halves((0, 255, 255, 0), (0, 0, 0, 255), "CMYK")
        assert near(only(tmp_path, inks, "b.jpg", **how), (255, 0, 0), (0, 0, 0), within=3)

    @pytest.mark.parametrize("kind", ["png", "webp"])
    def test_the_first_frame_of_an_animation(self, tmp_path, kind):
        frames = {"save_all": True, "append_images": [halves(GREEN, RED)], "duration": 100}
        how = frames | ({"lossless": True} if kind == "webp" else {})
        assert near(only(tmp_path, halves(RED, GREEN), f"a.{kind}", **how), RED, GREEN)


def profile(space, tags):
    """A version 2 ICC profile by hand: `tags` maps signatures to (x, y, z), or to a gamma."""
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        if isinstance(value, tuple):
            data = b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in value)
        else:
            data = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256)) + b"\0\0"
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    head = struct.pack(">8xI4s4s4s12x4s28xiii", 0x02100000, b"mntr", space, b"XYZ ", b"acsp",
                       63190, 65536, 54061)  # fmt: skip
    head = struct.pack(">I", start + len(body)) + head[4:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


WHITE_POINT = (0.9642, 1.0, 0.8249)  # D50, to which all columns below are adapted
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])  # fmt: skip  # noqa: E501
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])  # fmt: skip  # noqa: E501
GAMMA = 563 / 256  # as a profile writes 2.2
CURVES = {b"rTRC": GAMMA, b"gTRC": GAMMA, b"bTRC": GAMMA}
COLUMNS = {name: tuple(P3[:, i]) for i, name in enumerate([b"rXYZ", b"gXYZ", b"bXYZ"])}
WIDE = profile(b"RGB ", {b"wtpt": WHITE_POINT, **COLUMNS, **CURVES})
LINEAR_GREY = profile(b"GRAY", {b"wtpt": WHITE_POINT, b"kTRC": 1.0})


def encoded(linear):
    """sRGB's curve, in grey levels."""
    linear = np.clip(linear, 0, 1)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return 255 * curve


class TestColourProfiles:
    def test_wide_gamut_becomes_srgb_by_the_matrices(self, tmp_path):
        for i, colour in enumerate([(120, 90, 60), (200, 190, 180), (70, 120, 100)]):
            got = only(tmp_path, Image.new("RGB", (20, 20), colour), f"{i}.png", icc_profile=WIDE)
            light = np.linalg.solve(SRGB, P3 @ (np.array(colour) / 255) ** GAMMA)
            assert abs(got[:, 0, 0] - encoded(light)).max() < 2
            assert np.ptp(got[:, 0, 0].astype(int)) > np.ptp(colour)  # as vivid, in a smaller gamut

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
    def test_every_mode_that_a_profile_describes_is_converted(self, tmp_path, mode):
        picture = Image.new("RGB", (20, 20), (120, 90, 60))
        picture = picture.quantize(4) if mode == "P" else picture.convert(mode)
        put(tmp_path, "with.png", picture, icc_profile=WIDE)
        put(tmp_path, "same.png", picture.convert("RGB"), icc_profile=WIDE)
        jsonl(tmp_path, [("with.png", "a"), ("same.png", "b")])
        a, b = load(tmp_path, 8, progress=False).images
        assert np.array_equal(a, b)

    @pytest.mark.parametrize("picture", [Image.new("L", (9, 9), 64), Image.new("LA", (9, 9), (64, 255)), grey16(64 * 257, 64 * 257)])  # fmt: skip  # noqa: E501
    def test_grey_profiles(self, tmp_path, picture):
        got = only(tmp_path, picture, icc_profile=LINEAR_GREY)
        assert abs(got - encoded(np.array(64 / 255))).max() < 2

    @pytest.mark.parametrize("bad", [b"junk", WIDE[:200], LINEAR_GREY, b"\0" * 500])
    def test_a_profile_that_does_not_fit_is_ignored(self, tmp_path, bad):
        assert near(only(tmp_path, halves(RED, GREEN), icc_profile=bad), RED, GREEN)

    def test_an_rgb_profile_in_a_cmyk_picture_is_ignored(self, tmp_path):
        inks = halves((0, 255, 255, 0), (0, 0, 0, 255), "CMYK")
        got = only(tmp_path, inks, "a.jpg", quality=100, icc_profile=WIDE)
        assert near(got, (255, 0, 0), (0, 0, 0), within=3)


def png_header(w, h):
    """A PNG that claims w × h pixels and holds next to nothing."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000))


def encoded_as(kind, picture=None):
    buffer = io.BytesIO()
    (picture or noise(40, 40)).save(buffer, kind)
    return buffer.getvalue()


def big_text(root):
    """A picture with a compressed text of 100 MB."""
    extra = PngImagePlugin.PngInfo()
    extra.add_text("comment", "a" * 100_000_000, zip=True)
    put(root, "talkative.png", noise(8, 8), pnginfo=extra)


def hurt(root):
    """One bad line or picture of every sort: file_name, text, reason."""
    outside = root.parent / "outside.png"
    noise(8, 8).save(outside)
    neighbour = root.with_suffix(".png")  # whose path begins like the folder's
    noise(8, 8).save(neighbour)
    (root / "link.png").symlink_to(neighbour)
    (root / "door").symlink_to(root.parent)
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "folder.png").mkdir()
    os.mkfifo(root / "pipe.png")
    files = {
        "cut.jpg": encoded_as("JPEG")[:700], "cut.png": encoded_as("PNG")[:700],
        "cut.webp": encoded_as("WEBP")[:200], "stub.png": encoded_as("PNG")[:12],
        "words.png": b"these are words", "nothing.png": b"", "film.gif": encoded_as("GIF"),
        "bitmap.png": encoded_as("BMP"), "huge.png": png_header(50_000, 50_000),
        "large.png": png_header(10_000, 9_000), "ok.png": encoded_as("PNG"),
    }  # fmt: skip
    for name, data in files.items():
        (root / name).write_bytes(data)
    damaged = "truncated or damaged"
    bomb = "over 89,478,485 pixels"
    return [
        ("cut.jpg", "a", damaged), ("cut.png", "a", damaged), ("cut.webp", "a", damaged),
        ("stub.png", "a", damaged), ("words.png", "a", "not a picture"),
        ("nothing.png", "a", "not a picture"), ("film.gif", "a", "of an unsupported kind (GIF)"),
        ("bitmap.png", "a", "of an unsupported kind (BMP)"), ("huge.png", "a", bomb),
        ("large.png", "a", bomb), ("gone.png", "a", "missing"), ("words.png/x", "a", "missing"),
        ("../outside.png", "a", "outside the folder"), ("a/../../x.png", "a", "outside the folder"),
        (str(outside), "a", "outside the folder"), ("C:\\x.png", "a", "outside the folder"),
        ("..\\outside.png", "a", "outside the folder"), ("link.png", "a", "outside the folder"),
        ("door/outside.png", "a", "outside the folder"), ("folder.png", "a", "not a file"),
        ("pipe.png", "a", "not a file"), ("loop.png", "a", "that cannot be opened"),
        ("zero\0.png", "a", "that cannot be opened"), ("x" * 300, "a", "that cannot be opened"),
        ("\ud800.png", "a", "that cannot be opened"), (None, "a", "without a file name"),
        (" ", "a", "without a file name"), (7, "a", "without a file name"),
        ("ok.png", None, "without a caption"), ("ok.png", " \n", "without a caption"),
        ("ok.png", 3, "with a caption that is not text"),
        ("ok.png", ["a"], "with a caption that is not text"),
        ("ok.png", "\ud83d", "with a caption that is not text"),
        ("ok.png", "a" * 1001, "with a caption over 1,000 characters"),
        ("good0.png", "again", "named a second time"),
        ("./good0.png", "again", "named a second time"),
    ]  # fmt: skip


class TestWhatIsLeftOut:
    def test_every_sort_of_fault_is_named_and_the_rest_goes_on(self, tmp_path):
        root = tmp_path / "pictures"
        root.mkdir()
        good = many(root, 144, size=2)
        bad = hurt(root)
        assert len(bad) / (len(bad) + len(good)) == folder.MOST_BAD
        jsonl(root, [*good, *[row[:2] for row in bad]])
        pictures = load(root, 2, progress=False)
        assert list(zip(pictures.names, pictures.captions, strict=True)) == good
        lines = {145 + i: row for i, row in enumerate(bad)}
        expected = [
            (name if isinstance(name, str) and name.strip() else f"line {i}", reason)
            for i, (name, _, reason) in lines.items()
        ]
        assert sorted((p.name, p.reason) for p in pictures.problems) == sorted(expected)
        report = pictures.report()
        assert report.startswith("kept 144 of 180 pictures of metadata.jsonl at 2×2: left out ")
        assert "4 truncated or damaged (cut.jpg, cut.png, cut.webp, …)" in report
        assert "7 outside the folder (../outside.png, a/../../x.png, " in report
        assert "2 not a picture (words.png, nothing.png)" in report
        assert report.encode() and report.isprintable()

    def test_a_fifth_may_be_bad_but_no_more(self, tmp_path):
        rows = many(tmp_path, 8)
        jsonl(tmp_path, [*rows, ("x.png", "a"), ("y.png", "a")])
        assert len(load(tmp_path, 8, progress=False).names) == 8
        jsonl(tmp_path, [*rows[:7], ("x.png", "a"), ("y.png", "a")])
        with pytest.raises(ValueError, match=r"2 of 9 pictures, where 20% are allowed: 2 missing"):
            load(tmp_path, 8, progress=False)

    def test_damaged_and_missing_pictures_count_together(self, tmp_path):
        rows = many(tmp_path, 8)
        (tmp_path / "good3.png").write_bytes(b"no picture")
        jsonl(tmp_path, [*rows, ("x.png", "a"), ("y.png", "a")])
        with pytest.raises(ValueError, match=r"2 missing \(x.png, y.png\), 1 not a picture"):
            load(tmp_path, 8, progress=False)
        assert not list((tmp_path / ".minit2i").iterdir())

    def test_the_first_usable_line_of_a_name_stands(self, tmp_path):
        rows = many(tmp_path, 10)
        jsonl(tmp_path, [("good0.png", ""), *rows, ("good0.png", "another")])
        assert load(tmp_path, 8, progress=False).captions[0] == "good 0"

    def test_links_and_dots_that_stay_inside_are_fine(self, tmp_path):
        many(tmp_path, 1)
        put(tmp_path, "deep/er/b.png", noise(8, 8, seed=7))
        (tmp_path / "link.png").symlink_to("deep/er/b.png")
        names = ["link.png", "deep/../good0.png", "deep\\er\\b.png"]
        jsonl(tmp_path, [(name, " a\n") for name in names])
        pictures = load(tmp_path, 8, progress=False)
        assert pictures.captions == ["a", "a", "a"]
        assert pictures.names == ["link.png", "good0.png", "deep/er/b.png"]
        assert np.array_equal(pictures.images[0], pictures.images[2])

    def test_the_suffix_does_not_decide(self, tmp_path):
        assert near(only(tmp_path, encoded_as("PNG", halves(RED, GREEN)), "a.txt"), RED, GREEN)

    def test_pictures_without_a_line_are_counted(self, tmp_path):
        rows = many(tmp_path, 4)
        put(tmp_path, unicodedata.normalize("NFD", "sub/é.png"), noise(8, 8))
        jsonl(tmp_path, [*rows[:3], (rows[3][0], ""), ("./sub/é.png", "a")])
        for name in ("more.JPG", "sub/more.webp", "notes.txt", ".hidden.png", ".git/x.png"):
            put(tmp_path, name, b"")
        pictures = load(tmp_path, 8, progress=False)
        assert pictures.unnamed == 2
        assert "2 more in the folder have no line in metadata.jsonl" in pictures.report()

    def test_a_picture_with_an_endless_text_is_left_out(self, tmp_path):
        rows = many(tmp_path, 4)
        big_text(tmp_path)
        jsonl(tmp_path, [*rows, ("talkative.png", "a")])
        assert [p.name for p in load(tmp_path, 8, progress=False).problems] == ["talkative.png"]


class TestMetadata:
    CAPTIONS = ("солнце над морем", "a 🌞 over\u2028the sea", 'a "hill", green', "line\nline")

    def test_jsonl_and_csv_in_every_dress_say_the_same(self, tmp_path):
        names = ["море.png", "🌞.png", "a b.png", "c,d.png"]
        for i, name in enumerate(names):
            put(tmp_path, name, noise(8, 8, seed=i))
        rows = list(zip(names, self.CAPTIONS, strict=True))
        lines = [json.dumps({"id": 1, "text": t, "file_name": n}) for n, t in rows]
        plain = [json.dumps({"text": t, "file_name": n}, ensure_ascii=False) for n, t in rows]
        cells = [["7", n, '"' + t.replace('"', '""') + '"'] for n, t in rows]
        cells[3][1] = '"c,d.png"'
        table = ["id,file_name,text", *map(",".join, cells)]
        dresses = [
            ("metadata.jsonl", "\n".join(lines)),
            ("metadata.jsonl", "\r\n".join(plain) + "\r\n\r\n"),
            ("metadata.jsonl", "\ufeff" + "\n\n".join(plain)),
            ("metadata.csv", "\n".join(table)),
            ("metadata.csv", "\ufeff" + "\r\n".join(table) + "\r\n\r\n"),
            ("metadata.csv", "\n".join(table).replace("id,file_name", "id, file_name")),
        ]
        prints = set()
        for source, text in dresses:
            (tmp_path / source).write_bytes(text.encode())
            pictures = load(tmp_path, 8, progress=False)
            assert (pictures.names, pictures.captions) == (names, list(self.CAPTIONS))
            prints.add(pictures.fingerprint)
            (tmp_path / source).unlink()
        assert len(prints) == 1

    def test_accents_in_either_spelling(self, tmp_path):
        composed, parted = "é.png", unicodedata.normalize("NFD", "é.png")
        assert composed != parted
        put(tmp_path, parted, noise(8, 8))
        jsonl(tmp_path, [(composed, "a")])
        assert load(tmp_path, 8, progress=False).names == [composed]

    def test_a_caption_with_an_unquoted_comma_is_not_cut(self, tmp_path):
        rows = many(tmp_path, 5)
        (tmp_path / "metadata.jsonl").unlink()
        text = "\n".join(f"{n},{t}" for n, t in rows) + ", with a comma"
        (tmp_path / "metadata.csv").write_text("file_name,text\n" + text)
        (problem,) = load(tmp_path, 8, progress=False).problems
        assert problem.name == "good4.png" and "comma too many" in problem.reason

    @pytest.mark.parametrize(
        "source, data, message",
        [
            (
                "metadata.jsonl",
                b'{"file_name": "a", "text": "b"}\n{"file_name"\n',
                "line 2: not JSON",
            ),
            ("metadata.jsonl", b'\n\n["a", "b"]\n', "line 3: not an object in braces"),
            ("metadata.jsonl", b'{}\n{"text": "\xff"}', "line 2: not JSON"),
            ("metadata.jsonl", b"[" * 100_000, "line 1: not JSON"),
            ("metadata.jsonl", '{"a": 1}'.encode("utf-16"), "line 1: not JSON"),
            ("metadata.jsonl", b"\n \n", "names no picture"),
            ("metadata.csv", b"", "line 1: no column 'file_name'"),
            ("metadata.csv", b"file_name,text\n", "names no picture"),
            ("metadata.csv", b"file_name;text\na;b\n", "line 1: no column 'file_name' in"),
            ("metadata.csv", b"file_name,caption\na,b\n", "line 1: no column 'text' in"),
            ("metadata.csv", b'file_name,text\na,"b"c\n', "line 2: not CSV"),
            ("metadata.csv", b'file_name,text\na,b\nc,"d\n', "line 3: not CSV"),
            ("metadata.csv", b"file_name,text\na,\xff\n", "line 2: not UTF-8"),
            ("metadata.csv", b"file_name,text\na," + b"b" * 200_000, "line 2: not CSV"),
        ],
    )
    def test_metadata_that_cannot_be_read_stops_at_its_line(self, tmp_path, source, data, message):
        put(tmp_path, "a", encoded_as("PNG"))
        (tmp_path / source).write_bytes(data)
        with pytest.raises(ValueError, match=message):
            load(tmp_path, 8, progress=False)

    def test_folders_that_are_none(self, tmp_path):
        def refused(path, message, size=8):
            with pytest.raises(ValueError, match=message):
                load(path, size, progress=False)

        refused(tmp_path / "nowhere", "no such folder")
        refused(tmp_path, "is empty")
        put(tmp_path, "train/a.png", noise(8, 8))
        refused(tmp_path, r"neither metadata.jsonl nor metadata.csv; each picture has a line")
        refused(tmp_path / "train" / "a.png", "not a folder")
        jsonl(tmp_path / "train", [("a.png", "a")])
        refused(tmp_path, r"train has one: did you mean that folder\?")
        refused(tmp_path / "train", "size must be 1 to 1024 pixels, got 0", 0)
        refused(tmp_path / "train", "size must be 1 to 1024 pixels, got 1025", 1025)
        (tmp_path / "train" / "metadata.csv").write_text("file_name,text\na.png,a\n")
        refused(tmp_path / "train", "holds both metadata.jsonl and metadata.csv: keep one")
        (tmp_path / "train" / "metadata.csv").unlink()
        jsonl(tmp_path / "train", [("b.png", "a")])
        refused(tmp_path / "train", r"1 of 1 pictures, .* 1 missing \(b.png\)")


@pytest.fixture
def reads(monkeypatch):
    """The pictures that are really read, by name."""
    names, read = [], folder._read
    monkeypatch.setattr(
        folder, "_read", lambda path, size: names.append(os.path.basename(path)) or read(path, size)
    )
    return names


def again(root, reads, size=8, **how):
    """How many pictures another load reads."""
    reads.clear()
    pictures = load(root, size, progress=False, **how)
    return len(reads), pictures


class TestCache:
    def test_a_second_load_reads_no_picture_and_gives_the_same(self, tmp_path, reads):
        jsonl(tmp_path, [*many(tmp_path, 9), ("cut.png", "a")])
        (tmp_path / "cut.png").write_bytes(encoded_as("PNG")[:500])
        first = load(tmp_path, 8, progress=False)
        count, second = again(tmp_path, reads)
        assert count == 0 and np.array_equal(first.images, second.images)
        for name in ("captions", "names", "problems", "unnamed", "fingerprint"):
            assert getattr(first, name) == getattr(second, name)
        assert len(second.problems) == 1

    def test_whatever_changes_is_read_anew_and_replaces_the_old(self, tmp_path, reads):
        rows = many(tmp_path, 6)
        before = load(tmp_path, 8, progress=False)
        load(tmp_path, 4, progress=False)
        put(tmp_path, "good2.png", noise(8, 8, seed=99))
        os.utime(tmp_path / "good2.png", (1, 1))  # another time, whatever the clock's grain
        count, after = again(tmp_path, reads)
        assert count == 6 and after.fingerprint != before.fingerprint
        assert np.array_equal(after.images[2], np.asarray(noise(8, 8, seed=99)).transpose(2, 0, 1))
        assert before.images[2].any()  # who has the old map open keeps it
        jsonl(tmp_path, [*rows[:5], (rows[5][0], "other words")])
        count, worded = again(tmp_path, reads)
        assert count == 6 and worded.captions[5] == "other words"
        assert worded.fingerprint != after.fingerprint
        (tmp_path / "good5.png").unlink()
        assert again(tmp_path, reads)[0] == 5
        shelves = sorted(p.name.split("-")[0] for p in (tmp_path / ".minit2i").iterdir())
        assert shelves == ["4", "8"]  # one cache of each size

    def test_the_fingerprint_is_of_the_data_and_not_of_the_place(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        many(tmp_path / "a", 3)
        many(tmp_path / "b", 3)
        a, b = (load(tmp_path / name, 8, progress=False) for name in "ab")
        assert a.fingerprint == b.fingerprint
        assert a.fingerprint != load(tmp_path / "a", 4, progress=False).fingerprint

    @pytest.mark.parametrize("file", ["images.npy", "card.json"])
    @pytest.mark.parametrize("left", [0, 0.5, None])
    def test_a_damaged_cache_is_not_believed(self, tmp_path, reads, file, left):
        many(tmp_path, 4)
        before = load(tmp_path, 8, progress=False).images.copy()
        (path,) = (tmp_path / ".minit2i").glob(f"8-*/{file}")
        data = path.read_bytes()
        path.unlink()
        if left is not None:
            path.write_bytes(data[: int(left * len(data))])
        count, pictures = again(tmp_path, reads)
        assert count == 4 and np.array_equal(pictures.images, before)
        assert again(tmp_path, reads)[0] == 0

    def test_pixels_of_another_number_or_version_are_not_believed(
        self, tmp_path, reads, monkeypatch
    ):
        many(tmp_path, 4)
        load(tmp_path, 8, progress=False)
        (path,) = (tmp_path / ".minit2i").glob("8-*/images.npy")
        np.save(path, np.zeros((3, 3, 8, 8), np.uint8))
        assert again(tmp_path, reads)[0] == 4
        np.save(path, np.zeros((4, 3, 8, 8), np.int8))
        assert again(tmp_path, reads)[0] == 4
        monkeypatch.setattr(folder, "FORMAT", folder.FORMAT + 1)
        assert again(tmp_path, reads)[0] == 4

    def test_a_killed_run_leaves_nothing_that_is_believed(self, tmp_path, reads):
        many(tmp_path, 40)
        code = (
            "import os, signal, sys\n"
            "from minit2i.worlds import folder\n"
            "read = folder._read\n"
            "def fatal(path, size):\n"
            "    if path.endswith('good30.png'): os.kill(os.getpid(), signal.SIGKILL)\n"
            "    return read(path, size)\n"
            "folder._read = fatal\n"
            "folder.load(sys.argv[1], 8, progress=False)\n"
        )
        dead = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
        assert dead.returncode == -signal.SIGKILL
        (draft,) = (tmp_path / ".minit2i").iterdir()  # this is what it left
        assert (draft / "images.npy").exists()
        count, pictures = again(tmp_path, reads)
        assert count == 40 and len(pictures.images) == 40
        assert draft.exists()  # for all we know it is still being written
        old = time.time() - folder.ABANDONED - 1
        os.utime(draft / "images.npy", (old, old))
        jsonl(tmp_path, many(tmp_path, 39))
        again(tmp_path, reads)
        assert not draft.exists()

    def test_an_interrupt_leaves_nothing(self, tmp_path, monkeypatch):
        many(tmp_path, 4)

        def interrupted(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(folder, "_read", interrupted)
            with pytest.raises(KeyboardInterrupt):
                load(tmp_path, 8, progress=False)
        assert not list((tmp_path / ".minit2i").iterdir())

    def test_two_makers_at_once_end_with_one_good_cache(self, tmp_path, reads, monkeypatch):
        """While one makes it, another finishes: the first takes what is there."""
        many(tmp_path, 4)
        fill, others = folder._fill, []

        def slow(*arguments):
            fill(*arguments)
            if not others:
                others.append(None)
                others[0] = load(tmp_path, 8, progress=False)

        monkeypatch.setattr(folder, "_fill", slow)
        mine = load(tmp_path, 8, progress=False)
        assert mine.images.filename == others[0].images.filename
        assert len(list((tmp_path / ".minit2i").iterdir())) == 1

    def test_a_good_cache_of_another_process_is_never_removed(self, tmp_path, monkeypatch):
        """Both find the old cache damaged; the other puts a good one there in between."""
        many(tmp_path, 4)
        load(tmp_path, 8, progress=False)
        (images,) = (tmp_path / ".minit2i").glob("8-*/images.npy")
        images.write_bytes(b"")
        fill, recall, remove = folder._fill, folder._recall, folder.shutil.rmtree
        others, removed, filled = [], [], []

        def late(path, size):
            found = recall(path, size)
            if filled and not others and found is None:
                others.append(None)
                others[0] = load(tmp_path, 8, progress=False)
            return found

        monkeypatch.setattr(folder, "_fill", lambda *a: (fill(*a), filled.append(None)))
        monkeypatch.setattr(folder, "_recall", late)
        monkeypatch.setattr(
            folder.shutil,
            "rmtree",
            lambda path, **how: (removed.append(bool(recall(path, 8))), remove(path, **how)),
        )
        mine = load(tmp_path, 8, progress=False)
        assert others and np.array_equal(mine.images, others[0].images)
        assert True not in removed[:-1]  # the last is the own draft, which was not needed
        assert len(list((tmp_path / ".minit2i").iterdir())) == 1

    def test_dead_runs_are_cleared_away_where_the_cache_is_good(self, tmp_path, reads):
        many(tmp_path, 4)
        load(tmp_path, 8, progress=False)
        old, new, empty = (tmp_path / ".minit2i" / f"draft-{k}" for k in ("old", "new", "empty"))
        for draft in (old, new, empty):
            draft.mkdir()
        (old / "images.npy").touch()
        (new / "images.npy").touch()
        past = time.time() - folder.ABANDONED - 1
        os.utime(old / "images.npy", (past, past))
        os.utime(empty, (past, past))
        assert again(tmp_path, reads)[0] == 0
        assert [draft.exists() for draft in (old, new, empty)] == [False, True, False]

    def test_a_lack_of_memory_is_no_verdict_on_the_picture(self, tmp_path, monkeypatch):
        many(tmp_path, 10)

        def full(*_):
            raise MemoryError

        with monkeypatch.context() as patch:
            patch.setattr(folder, "_square", full)
            with pytest.raises(ValueError, match=r"too little memory to read .*good0.png; nothing"):
                load(tmp_path, 8, progress=False)
        assert not list((tmp_path / ".minit2i").iterdir())

    def test_a_failing_disk_is_no_verdict_on_the_picture(self, tmp_path, monkeypatch):
        many(tmp_path, 10)

        def broken(*_):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(folder, "_square", broken)
        with pytest.raises(ValueError, match=r"good0.png: Input/output error; nothing was cached"):
            load(tmp_path, 8, progress=False)
        assert not list((tmp_path / ".minit2i").iterdir())


class TestPlaces:
    @pytest.fixture
    def home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
        return tmp_path / "home"

    @pytest.fixture(params=["a file in the way", "no permission"])
    def sealed(self, tmp_path, request):
        """A folder in which no cache can be made."""
        root = tmp_path / "sealed"
        root.mkdir()
        many(root, 4)
        if request.param == "a file in the way":
            (root / ".minit2i").write_text("")
        elif os.geteuid() == 0:
            pytest.skip("nothing is forbidden to root")
        else:
            root.chmod(0o555)
        yield root
        root.chmod(0o755)

    def test_a_sealed_folder_is_cached_in_the_users_place(self, sealed, home, reads):
        assert again(sealed, reads)[0] == 4
        count, pictures = again(sealed, reads)
        assert count == 0 and (home / "minit2i") in pictures.images.filename.parents

    def test_two_folders_do_not_disturb_each_other(self, tmp_path, reads):
        for name in "ab":
            (tmp_path / name).mkdir()
            many(tmp_path / name, 3)
            again(tmp_path / name, reads, cache=tmp_path / "cache")
        put(tmp_path, "cache/8-mine.txt", b"mine")
        for name in "ab":
            assert again(tmp_path / name, reads, cache=tmp_path / "cache")[0] == 0
            assert not (tmp_path / name / ".minit2i").exists()
        assert (tmp_path / "cache" / "8-mine.txt").exists()

    def test_no_place_at_all(self, sealed, home):
        home.write_text("")
        with pytest.raises(ValueError, match=r"no place for the cache \(.*; .*give one as cache="):
            load(sealed, 8, progress=False)
        with pytest.raises(ValueError, match="no place for the cache"):
            load(sealed, 8, cache=home, progress=False)

    def test_a_full_disk(self, tmp_path, home, monkeypatch):
        many(tmp_path, 4)

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(folder, "_header", full)
            with pytest.raises(ValueError, match=r"No space left on device; give another place"):
                load(tmp_path, 8, progress=False)
        assert not list((tmp_path / ".minit2i").iterdir())
        usage = folder.shutil.disk_usage(tmp_path)._replace(free=4 * 3 * 64)
        monkeypatch.setattr(folder.shutil, "disk_usage", lambda _: usage)
        with pytest.raises(ValueError, match=r"less than 0\.0 MB free"):
            load(tmp_path, 8, progress=False)


def test_only_a_few_pictures_are_read_ahead(tmp_path, reads):
    many(tmp_path, 200, size=2)
    entries, _ = folder._select(
        str(tmp_path), [folder._Row(i, f"good{i}.png", "a") for i in range(200)]
    )
    running = folder._in_order(entries, 2, False)
    next(running)
    time.sleep(0.05)
    assert len(reads) <= 8 * folder.MOST_THREADS
    assert len(list(running)) == 199 and len(reads) == 200


@pytest.mark.parametrize("large, most", [(0, 1), (10**9, 2)])
def test_large_pictures_are_decoded_one_at_a_time(tmp_path, monkeypatch, large, most):
    many(tmp_path, 12)
    square, inside, peak = folder._square, [], []

    def counted(image, size):
        inside.append(None)
        peak.append(len(inside))
        time.sleep(0.005)
        inside.pop()
        return square(image, size)

    monkeypatch.setattr(folder, "_square", counted)
    monkeypatch.setattr(folder, "LARGE", large)
    monkeypatch.setattr(folder.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    load(tmp_path, 8, progress=False)
    assert max(peak) == most


def test_the_bar_shows_when_it_is_wanted(tmp_path, capsys):
    many(tmp_path, 4)
    load(tmp_path, 8, progress=False)
    assert capsys.readouterr().err == ""
    load(tmp_path, 4)
    assert "reading pictures: 100%" in capsys.readouterr().err
