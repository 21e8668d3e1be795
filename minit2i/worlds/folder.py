"""A user's own captioned pictures: a folder in the convention of Hugging Face image folders.

    holiday/
      metadata.jsonl            one line for each picture, in UTF-8:
      beach.jpg                   {"file_name": "beach.jpg", "text": "the sun over a calm sea"}
      2024/hill.png               {"file_name": "2024/hill.png", "text": "a green hill at dusk"}

or `metadata.csv` in its place, with commas and the header `file_name,text`; a caption that holds a
comma goes "in quotes". Having both is an error. Other columns are ignored; a backslash in a
name counts as /. Pictures are PNG, JPEG or WebP (whatever the suffix says), of any size and mode.

    pictures = load("holiday", 64)
    print(pictures.report())
    pictures.images[:8], pictures.captions[:8]     # uint8 (8, 3, 64, 64), list of 8 strings

How a picture becomes (3, size, size): the first frame, turned upright by its EXIF orientation; the
largest square in its middle, resized by Pillow's antialiased bicubic filter (smaller pictures
are enlarged); its colour profile converted to sRGB (none, or one that does not fit: taken as sRGB,
and CMYK by the plain formula); transparent parts laid on white. 16-bit channels are cut to 8 bits.
A JPEG is decoded at the 1/2, 1/4 or 1/8 that still leaves 2·size pixels a side.

A single bad line or picture is left out and reported (`problems`, `report`); of several lines with
one name the first stands. The folder as a whole is refused when its metadata cannot be read,
when nothing is usable, or when more than a fifth of its lines are bad: a few broken files change
little, but that many mean one cause that can be mended (a wrong column, half a download), and what
is left over would no longer be the data that was meant.

The result is cached in the hidden folder `.minit2i` of the folder itself; where that may not be
written, in `minit2i/` of $XDG_CACHE_HOME or ~/.cache; or in the folder given as `cache`. Where the
metadata, or the size in bytes or modification time of a picture, has changed, all is read anew and
the old cache of that size removed.
"""

import codecs
import csv
import hashlib
import io
import json
import math
import os
import posixpath
import shutil
import stat
import tempfile
import threading
import time
import unicodedata
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cache as remember
from functools import lru_cache
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms, UnidentifiedImageError
from tqdm import tqdm

KINDS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
METADATA = ("metadata.jsonl", "metadata.csv")
LONGEST_CAPTION = 1000  # characters
LARGEST_SIDE = 1024
MOST_BAD = 0.2  # of the lines of the metadata
GROUND = "white"
FORMAT = 1  # of the cache: raise it with every change in how pixels come about
HIDDEN = ".minit2i"
DRAFT = "draft-"
MOST_THREADS = 8
ABANDONED = 3600.0  # seconds after its last write that an unfinished cache counts as a dead run's

OTHER_KINDS = {
    b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"%PDF": "PDF",
    b"8BPS": "PSD", b"<svg": "SVG", b"<?xml": "SVG or XML", b"\0\0\x01\0": "icon",
}  # fmt: skip
# What the EXIF orientation asks for; 1 is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
ORIENTATION = 0x0112
# Which modes a profile of each colour space can describe; grey pixels may carry an RGB profile.
DESCRIBES = {"GRAY": ("L",), "RGB ": ("RGB", "L"), "CMYK": ("CMYK",)}

SRGB = ImageCms.createProfile("sRGB")
TO_EIGHT_BITS = np.round(np.arange(65536) / 257).astype(np.uint8)
EXAMPLE = 'each picture has a line like {"file_name": "a.jpg", "text": "what a.jpg shows"}'

LARGE = 1 << 24  # pixels; such pictures are decoded one at a time, whatever the number of threads
_one_large = threading.Lock()


@dataclass(frozen=True)
class Problem:
    """A line of the metadata that gave no picture; the reason reads after a count: "3 missing"."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class CaptionedPictures:
    """Pictures with one caption and one name each, in the order of the metadata.

    images        a read-only memory map
    problems      what was left out
    unnamed       pictures in the folder that the metadata does not name
    source        the metadata file
    fingerprint   SHA-256 of captions and pixels in order, for a model card
    """

    images: UInt8[np.ndarray, "n 3 s s"]
    captions: list[str]
    names: list[str]
    problems: list[Problem]
    unnamed: int
    source: Path
    fingerprint: str

    def report(self) -> str:
        """What was kept and what was left out, in one paragraph."""
        kept, size = len(self.names), self.images.shape[-1]
        total = kept + len(self.problems)
        text = f"kept {kept:,} of {total:,} pictures of {self.source.name} at {size}×{size}"
        text += f": left out {_summary(self.problems)}" if self.problems else ""
        if self.unnamed:
            text += f"; {self.unnamed:,} more in the folder have no line in {self.source.name}"
        return text


class _Row(NamedTuple):
    """A line of the metadata; name and caption are whatever stands there."""

    line: int
    name: Any
    caption: Any


class _Entry(NamedTuple):
    """A picture that is there to be read, with its caption."""

    name: str
    path: str
    bytes: int
    changed: int
    caption: str


class _Bad(Exception):
    """A line or picture to leave out; the message is its reason."""


class _TooMany(Exception):
    """More bad pictures than may be left out."""

    def __init__(self, problems: list[Problem]):
        self.problems = problems


_CUT = object()  # stands for a caption that went over into further columns


def load(
    folder: Path | str, size: int, cache: Path | str | None = None, progress: bool = True
) -> CaptionedPictures:
    """The folder's pictures as squares of `size` pixels, from the cache where it is up to date.

    cache      where to keep the cache instead of the places above

    Raises ValueError where the folder as a whole cannot be used (see above), naming the line or
    file and the remedy, and where no cache can be written.
    """
    if not 1 <= size <= LARGEST_SIDE:
        raise ValueError(f"size must be 1 to {LARGEST_SIDE} pixels, got {size}")
    root, source = _find(Path(folder))
    raw = _content(source)
    rows = list(_from_json(source, raw) if source.suffix == ".jsonl" else _from_csv(source, raw))
    if not rows:
        raise ValueError(f"{source} names no picture: {EXAMPLE}")
    entries, problems = _select(root, rows)
    spare = int(MOST_BAD * len(rows)) - len(problems)
    if not entries or spare < 0:
        raise _refusal(source, problems, len(rows))
    shelf = f"{size}-{_key(entries, source.name, raw)}"
    homes = _homes(root, cache)
    found = next(filter(None, (_recall(home / shelf, size) for home in homes)), None)
    for home in homes:
        _clear_drafts(home)
    try:
        images, card = found or _make(homes, shelf, entries, size, spare, progress)
    except _TooMany as stop:
        raise _refusal(source, problems + stop.problems, len(rows)) from None
    bad = {name for name, _ in card["problems"]}
    kept = [entry for entry in entries if entry.name not in bad]
    return CaptionedPictures(
        images=images,
        captions=[entry.caption for entry in kept],
        names=[entry.name for entry in kept],
        problems=problems + [Problem(name, reason) for name, reason in card["problems"]],
        unnamed=_count_unnamed(root, rows),
        source=source,
        fingerprint=card["fingerprint"],
    )


# -- the folder and its metadata --


def _find(folder: Path) -> tuple[str, Path]:
    """The folder with its links resolved, and its metadata file."""
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise ValueError(f"{folder}: {what}; give a folder that holds pictures and {METADATA[0]}")
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise ValueError(f"cannot read the folder {folder}: {error.strerror}") from None
    if not names:
        raise ValueError(f"{folder} is empty: put pictures there and a {METADATA[0]}")
    found = [folder / name for name in METADATA if name in names]
    if len(found) == 2:
        raise ValueError(f"{folder} holds both {' and '.join(METADATA)}: keep one of them")
    if not found:
        deeper = next((p for name in METADATA for p in sorted(folder.glob(f"*/{name}"))), None)
        hint = f"{deeper.parent} has one: did you mean that folder?" if deeper else EXAMPLE
        raise ValueError(f"{folder} holds neither {METADATA[0]} nor {METADATA[1]}; {hint}")
    return os.path.realpath(folder), found[0]


def _content(source: Path) -> bytes:
    try:
        return source.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise ValueError(f"cannot read {source}: {error.strerror}") from None


def _from_json(source: Path, raw: bytes) -> Iterator[_Row]:
    for number, line in enumerate(raw.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{source}, line {number}: not JSON ({error}); {EXAMPLE}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{source}, line {number}: not an object in braces; {EXAMPLE}")
        yield _Row(number, row.get("file_name"), row.get("text"))


def _from_csv(source: Path, raw: bytes) -> Iterator[_Row]:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        number = raw[: error.start].count(b"\n") + 1
        raise ValueError(f"{source}, line {number}: not UTF-8; save it as UTF-8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    try:
        header = list(reader.fieldnames or [])
        if missing := [name for name in ("file_name", "text") if name not in header]:
            raise ValueError(
                f"{source}, line 1: no column {missing[0]!r} in {header}; the header is "
                "file_name,text with a comma between"
            )
        for row in reader:
            overfull = None in row  # more fields than the header: the caption was cut at its comma
            yield _Row(reader.line_num, row["file_name"], _CUT if overfull else row["text"])
    except csv.Error as error:
        number = reader.line_num + 1  # where the row begins that did not end well
        raise ValueError(f"{source}, line {number}: not CSV ({error})") from None


def _select(root: str, rows: Iterable[_Row]) -> tuple[list[_Entry], list[Problem]]:
    """What there is to read, and what need not be tried."""
    entries, problems, seen = [], [], set()
    resolve = remember(os.path.realpath)  # most pictures share their folder
    for row in rows:
        try:
            name = _name(row.name)
            entry = _Entry(name, *_locate(root, name, resolve), _caption(row.caption))
            if entry.path in seen:
                raise _Bad("named a second time")
        except _Bad as bad:
            named = isinstance(row.name, str) and row.name.strip()
            problems.append(Problem(row.name if named else f"line {row.line}", str(bad)))
        else:
            seen.add(entry.path)
            entries.append(entry)
    return entries, problems


def _name(name: Any) -> str:
    """A file name in one spelling, inside the folder as far as its letters go."""
    if not isinstance(name, str) or not name.strip():
        raise _Bad("without a file name")
    name = name.replace("\\", "/")
    if name.startswith("/") or PureWindowsPath(name).drive:
        raise _Bad("outside the folder")
    name = posixpath.normpath(name)
    if name == ".." or name.startswith("../"):
        raise _Bad("outside the folder")
    return name


def _locate(root: str, name: str, resolve: Callable[[str], str]) -> tuple[str, int, int]:
    """Path, size in bytes and time of last change of a regular file within the folder."""
    # Some systems store é as e with an accent; the metadata may spell it the other way.
    spellings = {name: None} | {unicodedata.normalize(form, name): None for form in ("NFC", "NFD")}
    for path in (os.path.join(root, spelling) for spelling in spellings):
        try:
            found = os.lstat(path)
            inside = resolve(os.path.dirname(path))
            real = os.path.join(inside, os.path.basename(path))
            if stat.S_ISLNK(found.st_mode):
                real = os.path.realpath(path)
                found = os.stat(real)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError):  # a zero byte, half a character, a name too long, no access
            raise _Bad("that cannot be opened") from None
        if not real.startswith(os.path.join(root, "")):
            raise _Bad("outside the folder")
        if not stat.S_ISREG(found.st_mode):
            raise _Bad("not a file")
        if not os.access(real, os.R_OK):
            raise _Bad("that cannot be opened")
        return path, found.st_size, found.st_mtime_ns
    raise _Bad("missing")


def _caption(caption: Any) -> str:
    if caption is _CUT:
        raise _Bad('with a comma too many (put the caption in "quotes")')
    if caption is None or (isinstance(caption, str) and not caption.strip()):
        raise _Bad("without a caption")
    if not isinstance(caption, str):
        raise _Bad("with a caption that is not text")
    if len(caption := caption.strip()) > LONGEST_CAPTION:
        raise _Bad(f"with a caption over {LONGEST_CAPTION:,} characters")
    try:
        caption.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell
        raise _Bad("with a caption that is not text") from None
    return caption


def _count_unnamed(root: str, rows: Iterable[_Row]) -> int:
    """Pictures, by their suffix, that no line names; hidden files and folders aside."""
    named, count = set(), 0
    for row in rows:
        with suppress(_Bad):
            named.add(unicodedata.normalize("NFC", _name(row.name)))
    for here, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = os.path.relpath(here, root).replace(os.sep, "/")
        for file in files:
            if file.lower().endswith(SUFFIXES) and not file.startswith("."):
                name = posixpath.normpath(f"{inside}/{file}")
                count += unicodedata.normalize("NFC", name) not in named
    return count


def _summary(problems: Iterable[Problem]) -> str:
    """Counts and first names by reason, the most frequent first."""
    groups: dict[str, list[str]] = {}
    for problem in problems:
        groups.setdefault(problem.reason, []).append(_printable(problem.name))
    return ", ".join(
        f"{len(names):,} {reason} ({', '.join(names[:3] + ['…'] * (len(names) > 3))})"
        for reason, names in sorted(groups.items(), key=lambda group: -len(group[1]))
    )


def _printable(name: str) -> str:
    name = name if len(name) <= 60 else f"{name[:40]}…{name[-19:]}"
    return name if name.isprintable() else ascii(name)


def _refusal(source: Path, problems: list[Problem], total: int) -> ValueError:
    return ValueError(
        f"{source}: too much is bad to go on: at least {len(problems):,} of {total:,} pictures, "
        f"where {MOST_BAD:.0%} are allowed: {_summary(problems)}. Such numbers have one cause: "
        "mend it, or take those lines out of the file"
    )


# -- one picture --


def _read(path: str, size: int) -> UInt8[np.ndarray, "3 s s"] | str:
    """The picture as the module says, or why there is none.

    Raises ValueError where disk or memory fails: that says nothing about the picture.
    """
    try:
        with open(path, "rb") as file, _opened(file) as image:
            image.draft(None, (2 * size, 2 * size))
            with _one_large if image.width * image.height > LARGE else nullcontext():
                return _square(image, size)
    except _Bad as bad:
        return str(bad)
    except MemoryError:
        raise ValueError(
            f"too little memory to read {path}; nothing was cached: free some, or take the picture "
            "out of the metadata"
        ) from None
    except Exception as error:  # decoders meet damage with errors of many types
        if isinstance(error, OSError) and error.errno is not None:
            raise ValueError(f"cannot read {path}: {error.strerror}; nothing was cached") from None
        return "truncated or damaged"


def _opened(file: BinaryIO) -> Image.Image:
    """An image of which only the header was read."""
    limit = Image.MAX_IMAGE_PIXELS or math.inf
    try:
        image = Image.open(file, formats=KINDS)
    except Image.DecompressionBombError:
        raise _Bad(f"over {limit:,} pixels") from None
    except UnidentifiedImageError:
        file.seek(0)
        raise _Bad(_kind(file.read(16))) from None
    if image.width * image.height > limit:  # there Pillow only warns
        raise _Bad(f"over {limit:,} pixels")
    return image


def _kind(start: bytes) -> str:
    """What a file is that cannot be identified, from its first bytes."""
    for mark, kind in OTHER_KINDS.items():
        if start.startswith(mark):
            return f"of an unsupported kind ({kind})"
    if start[4:8] == b"ftyp":
        return "of an unsupported kind (AVIF, HEIC or film)"
    known = start.startswith((b"\x89PNG", b"\xff\xd8")) or start[8:12] == b"WEBP"
    return "truncated or damaged" if known else "not a picture"


def _square(image: Image.Image, size: int) -> UInt8[np.ndarray, "3 s s"]:
    image.load()
    profile = image.info.get("icc_profile")
    turn = TURNS.get(_orientation(image))
    image = _eight_bits(image)
    image = image.transpose(turn) if turn is not None else image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    image = image.resize((size, size), Image.Resampling.BICUBIC)
    if image.mode not in ("LA", "RGBA"):
        return np.asarray(_to_srgb(image, profile)).transpose(2, 0, 1)
    colours = _to_srgb(image.convert(image.mode[:-1]), profile)
    ground = Image.new("RGB", colours.size, GROUND)
    ground.paste(colours, mask=image.getchannel("A"))
    return np.asarray(ground).transpose(2, 0, 1)


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # damaged EXIF: the picture is shown as it lies
        return int(image.getexif().get(ORIENTATION, 1))
    return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image as L, LA, RGB, RGBA or CMYK, which can be resized without false colours."""
    see_through = image.info.get("transparency")
    if image.mode.startswith("I"):  # 16-bit grey: 65,535 becomes 255
        values = np.asarray(image).clip(0, 65535).astype(np.uint16)
        grey = Image.fromarray(TO_EIGHT_BITS[values])
        if isinstance(see_through, int):
            grey.putalpha(Image.fromarray(np.where(values == see_through, 0, 255).astype(np.uint8)))
        return grey
    if image.mode in ("LA", "RGBA"):
        return image
    if see_through is not None or image.mode in ("PA", "La", "RGBa"):
        return image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    transform = _transform(profile, image.mode) if profile else None
    if transform is None:
        return image.convert("RGB")
    if transform.input_mode != image.mode:
        image = image.convert(transform.input_mode)
    return ImageCms.applyTransform(image, transform)


@lru_cache(maxsize=32)  # few cameras in one folder; building one takes longer than using it
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None if it is damaged or describes other colours than `mode`."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        accepted = DESCRIBES.get(source.profile.xcolor_space, ())
        if mode not in accepted:
            return None
        return ImageCms.buildTransform(source, SRGB, accepted[0], "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None


# -- the cache --


def _key(entries: Iterable[_Entry], source: str, raw: bytes) -> str:
    """A hash of all but the size that decides the result, short enough for a folder's name."""
    digest = hashlib.sha256(f"{FORMAT} {source} {len(raw)}\n".encode() + raw)
    for entry in entries:
        digest.update(f"{entry.name}\0{entry.bytes}\0{entry.changed}\n".encode(errors="replace"))
    return digest.hexdigest()[:32]


def _homes(root: str, cache: Path | str | None) -> list[Path]:
    """Where a cache of this folder may stand, the preferred place first."""
    own = f"pictures-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}"
    if cache is not None:
        return [Path(cache) / own]
    user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    homes = [Path(root) / HIDDEN, Path(user) / "minit2i" / own]
    return homes if os.path.isabs(user) else homes[:1]  # there are users without a home


def _recall(shelf: Path, size: int) -> tuple[np.ndarray, dict[str, Any]] | None:
    """A finished cache; None if there is none, or none that can be believed."""
    try:
        card = json.loads((shelf / "card.json").read_bytes())
        images = np.lib.format.open_memmap(shelf / "images.npy", mode="r")
        fits = images.dtype == np.uint8 and images.shape == (card["kept"], 3, size, size)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (images, card) if fits else None


def _make(
    homes: list[Path], shelf: str, entries: list[_Entry], size: int, spare: int, progress: bool
) -> tuple[np.ndarray, dict[str, Any]]:
    """Reads all pictures into a new cache, which gets its name only when it is whole.

    Raises _TooMany; ValueError where there is no room for it.
    """
    draft = _draft(homes, len(entries) * 3 * size * size)
    target = draft.parent / shelf
    try:
        _fill(draft, entries, size, spare, progress)
        found = _shelve(draft, target, size)
    except OSError as error:
        raise ValueError(
            f"cannot write the cache in {draft.parent}: {error.strerror}; give another place as "
            "cache="
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    if found is None:
        raise ValueError(f"the cache {target} vanished while it was made; try again")
    _clear(target, size)
    return found


def _shelve(draft: Path, target: Path, size: int) -> tuple[np.ndarray, dict[str, Any]] | None:
    """Gives a finished cache its name, unless another process was faster: then that is as good."""
    aside = Path(f"{draft}-aside")
    for _ in range(20):  # others may be at the same place
        with suppress(OSError):
            os.rename(draft, target)
        if found := _recall(target, size):
            return found
        with suppress(OSError):  # what lies there is damaged, or was a moment ago: look again
            os.rename(target, aside)
            if _recall(aside, size) is not None:
                os.rename(aside, target)
        shutil.rmtree(aside, ignore_errors=True)
        time.sleep(0.02)
    return None


def _draft(homes: list[Path], need: int) -> Path:
    """A new folder in the first place that can be written and has room."""
    reasons = []
    for home in homes:
        try:
            home.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(home).free > need:
                return Path(tempfile.mkdtemp(prefix=DRAFT, dir=home))
            reasons.append(f"{home}: less than {need / 1e6:,.1f} MB free")
        except OSError as error:
            reasons.append(f"{home}: {error.strerror}")
    raise ValueError(f"no place for the cache ({'; '.join(reasons)}); give one as cache=")


def _clear(current: Path, size: int) -> None:
    """Removes what other states of the folder left at this size."""
    for other in current.parent.iterdir():
        if other.name.startswith(f"{size}-") and other.name != current.name:
            shutil.rmtree(other, ignore_errors=True)


def _clear_drafts(home: Path) -> None:
    """Removes what dead runs left."""
    with suppress(OSError):  # no such place yet, or gone meanwhile
        for draft in home.glob(f"{DRAFT}*"):
            written = [p.stat().st_mtime for p in draft.iterdir()] or [draft.stat().st_mtime]
            if time.time() - max(written) > ABANDONED:
                shutil.rmtree(draft, ignore_errors=True)


def _fill(draft: Path, entries: list[_Entry], size: int, spare: int, progress: bool) -> None:
    """images.npy, and card.json with what was left out. Raises _TooMany beyond `spare` of those.

    The pictures are written one after another, so that a full disk is an error here and not a
    signal from a memory map; the header, whose length is fixed, is set right at the end.
    """
    problems, digest, kept = [], hashlib.sha256(), 0
    with open(draft / "images.npy", "wb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata in pictures; bombs are refused without it
        _header(file, 0, size)
        for entry, picture in _in_order(entries, size, progress):
            if isinstance(picture, str):
                problems.append(Problem(entry.name, picture))
                if len(problems) > spare:
                    raise _TooMany(problems)
                continue
            pixels = picture.tobytes()
            file.write(pixels)
            digest.update(entry.caption.encode() + b"\0" + pixels)
            kept += 1
        file.seek(0)
        _header(file, kept, size)
        file.flush()
        os.fsync(file.fileno())
    card = {"kept": kept, "problems": [[p.name, p.reason] for p in problems]}
    card["fingerprint"] = digest.hexdigest()
    (draft / "card.json").write_text(json.dumps(card), "utf-8")


def _header(file: BinaryIO, n: int, size: int) -> None:
    array = {"descr": "|u1", "fortran_order": False, "shape": (n, 3, size, size)}
    np.lib.format.write_array_header_1_0(file, array)


def _in_order(
    entries: Iterable[_Entry], size: int, progress: bool
) -> Iterator[tuple[_Entry, np.ndarray | str]]:
    """Reads on all cores (decoders let go of Python's lock), a few pictures ahead at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = min(cores or 1, MOST_THREADS)
    waiting: deque[tuple[_Entry, Future]] = deque()
    bar = tqdm(total=len(entries), desc="reading pictures", unit="", disable=not progress)
    with ThreadPoolExecutor(threads) as pool, bar:
        for entry in entries:
            waiting.append((entry, pool.submit(_read, entry.path, size)))
            if len(waiting) == 8 * threads:
                entry, future = waiting.popleft()
                yield entry, future.result()
                bar.update()
        for entry, future in waiting:
            yield entry, future.result()
            bar.update()
