"""Text to tokens: byte-pair encoding (Sennrich et al. 2016) over bytes, as in GPT-2.

Text is normalised, split into words that keep the space before them, and spelt in bytes; then
the learned merges join neighbours inside a word, oldest merge first. As every byte is a token,
no text of any alphabet is outside the vocabulary.
"""

import heapq
import operator
import re
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from numbers import Integral

import torch
from jaxtyping import Int
from torch import Tensor

# A space and the letters, digits or other signs that follow it; longer runs are cut at 64, which
# bounds the work on one word. Marks that no letter absorbs (NFC) count as signs, as in GPT-2.
WORD = re.compile(r" ?[^\W\d_]{1,64}| ?\d{1,64}| ?(?:[^\w\s]|_){1,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_CACHED = 2**16  # strings between blanks; a corpus has fewer that are frequent


def normalise(text: str) -> str:
    """Case folded, canonically composed (NFC), words apart by one space, none at the ends.

    Control characters count as white space. A lone surrogate, which is what Python makes of an
    undecodable byte on the command line, becomes U+FFFD, the replacement character.
    """
    return " ".join(_split(text))


class Tokenizer:
    """Ids 0 … 255 are bytes, 256 padding, 257 start, 258 end; 259 + k is what merge k makes.

    merges   pairs of ids, oldest first, as lists of plain numbers: a card can hold them
    """

    pad, start, end = 256, 257, 258

    def __init__(self, merges: Sequence[Sequence[int]] = ()):
        self.merges: list[list[int]] = []
        self._bytes = [bytes([i]) for i in range(256)] + 3 * [b""]
        self._ids: dict[tuple[int, int], int] = {}  # of a pair: what it merges into
        self._cache: dict[str, list[int]] = {}
        for merge in merges:
            self._append(merge)

    def _append(self, merge: Sequence[int]) -> None:
        new = len(self)
        try:
            left, right = map(operator.index, merge)
        except (TypeError, ValueError):
            left = right = -1
        usable = all(0 <= i < new and self._bytes[i] for i in (left, right))
        if not usable or (left, right) in self._ids:
            raise ValueError(
                f"merge {len(self.merges)} is {merge!r:.80}; a merge is a new pair of ids below "
                f"{new} other than {self.pad}, {self.start}, {self.end}: restore the list of "
                "merges from its card, or make it with Tokenizer.train"
            )
        self.merges.append([left, right])
        self._ids[left, right] = new
        self._bytes.append(self._bytes[left] + self._bytes[right])

    def __len__(self) -> int:
        return len(self._bytes)

    @classmethod
    def train(cls, corpus: Iterable[str], size: int) -> "Tokenizer":
        """Merges the most frequent pair of neighbours until there are `size` ids, or until no
        pair occurs twice; of equally frequent pairs, the one with the smallest ids. Occurrences
        that overlap all count."""
        tokenizer = cls()
        if size < len(tokenizer):
            raise ValueError(
                f"size is at least {len(tokenizer)} (256 bytes and 3 special tokens), got {size}"
            )
        parts = Counter(part for text in _texts(corpus) for part in _split(text))
        counts: Counter[str] = Counter()
        for part, count in parts.items():
            for word in _words(part):
                counts[word] += count
        pairs = _Pairs([(list(word.encode()), count) for word, count in counts.items()])
        while len(tokenizer) < size and (pair := pairs.pop()):
            pairs.merge(pair, len(tokenizer))
            tokenizer._append(pair)
        return tokenizer

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without start and end. Words are independent: encode("a b") is
        encode("a") + encode("b"). Raises ValueError for what is not a text."""
        ids = []
        for part in _split(text):
            if part not in self._cache:
                if len(self._cache) >= _CACHED:
                    self._cache.clear()
                self._cache[part] = [i for word in _words(part) for i in self._spell(word)]
            ids += self._cache[part]
        return ids

    def _spell(self, word: str) -> list[int]:
        """Ids of one word: its bytes, then the oldest merge first."""
        ids = list(word.encode())
        none = len(self)
        while len(ids) > 1:
            new, pair = min((self._ids.get(pair, none), pair) for pair in pairwise(ids))
            if new == none:
                break
            ids = _merged(ids, pair, new)
        return ids

    def batch(self, texts: Iterable[str], length: int) -> Int[Tensor, "b length"]:
        """Rows start, tokens, end, padding, int64. A text that is too long is cut after its first
        length - 2 tokens, so that every row has its end token."""
        if length < 2:
            raise ValueError(f"length is at least 2, for start and end, got {length}")
        rows = array("q")
        for text in _texts(texts):
            ids = self.encode(text)[: length - 2]
            rows.extend([self.start, *ids, self.end] + [self.pad] * (length - 2 - len(ids)))
        return torch.tensor(rows, dtype=torch.int64).view(-1, length)

    def decode(self, ids: Iterable[int] | Int[Tensor, "n"]) -> str:
        """The normalised text of ids; special tokens are left out, and bytes that are not UTF-8
        (half a character) become U+FFFD. Raises ValueError for an unknown id."""
        ids = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        for i in ids:
            if not isinstance(i, Integral) or not 0 <= i < len(self):
                raise ValueError(f"ids are whole numbers from 0 to {len(self) - 1}, got {i!r:.80}")
        return b"".join(self._bytes[i] for i in ids).decode(errors="replace").removeprefix(" ")


class _Pairs:
    """How often each pair of neighbours occurs in words, and in which: kept while merging."""

    def __init__(self, words: list[tuple[list[int], int]]):
        self.words = words
        self.counts: Counter[tuple[int, int]] = Counter()
        self.places: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        for place, (ids, count) in enumerate(words):
            for pair in pairwise(ids):
                self.counts[pair] += count
                self.places[pair].add(place)
        self.heap = [(-count, pair) for pair, count in self.counts.items()]
        heapq.heapify(self.heap)

    def pop(self) -> tuple[int, int] | None:
        """The pair to merge next, or None if no pair occurs twice."""
        while self.heap:
            count, pair = heapq.heappop(self.heap)
            if self.counts[pair] == -count:  # otherwise outdated: the true count came later
                return pair if -count > 1 else None
        return None

    def merge(self, pair: tuple[int, int], new: int) -> None:
        """Joins a pair wherever it occurs, and recounts the pairs of those words only."""
        changed = set()
        for place in self.places.pop(pair):
            ids, count = self.words[place]
            after = _merged(ids, pair, new)
            for old in pairwise(ids):
                self.counts[old] -= count
            for made in pairwise(after):
                self.counts[made] += count
                self.places[made].add(place)
            changed.update(pairwise(ids), pairwise(after))
            self.words[place] = after, count
        for pair in changed:
            heapq.heappush(self.heap, (-self.counts[pair], pair))


def _merged(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """`ids` with every `pair` of neighbours, from the left, replaced by `new`."""
    result, i = [], 0
    while i < len(ids):
        found = tuple(ids[i : i + 2]) == pair
        result.append(new if found else ids[i])
        i += 2 if found else 1
    return result


def _split(text: str) -> list[str]:
    """A text, normalised, between its blanks."""
    if not isinstance(text, str):
        raise ValueError(f"a text is a str, got {type(text).__name__}: {text!r:.80}")
    text = _SURROGATE.sub("\ufffd", _CONTROL.sub(" ", text))
    # Decomposed first: a few marks fold rightly only when they stand alone (Unicode, D145).
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold()).split()


def _words(part: str) -> list[str]:
    """The words of what stands between blanks. The first of a text has a space before it too, so
    that a word is spelt alike wherever it stands."""
    return WORD.findall(f" {part}")


def _texts(texts: Iterable[str]) -> Iterable[str]:
    """Refuses one text where several are wanted: it would be taken letter by letter."""
    if isinstance(texts, str):
        raise ValueError(f"several texts are wanted, got one, {texts!r:.80}: put it in a list")
    return texts
