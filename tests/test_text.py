"""The tokenizer: nothing is lost, nothing is unknown, and the merges are those of the paper."""

import copy
import importlib.util
import json
import random
import sys
import unicodedata
from collections import Counter

import pytest
import torch

from minit2i import text as module
from minit2i.text import WORD, Tokenizer, normalise


def captions(n, seed=0):
    rng = random.Random(seed)
    thing = [
        ("small", "large", "tiny", "big"),
        ("red", "green", "blue", "yellow", "white", "crimson"),
        ("circle", "square", "triangle", "cross", "disc"),
    ]
    joins = ("left of a", "right of a", "above a", "below the", "and a", "next to a", "- a", ", a")
    some = lambda: " ".join(rng.choice(words) for words in thing)  # noqa: E731
    return [f"A {some()} {rng.choice(joins)} {some()}" for _ in range(n)]


def anything(rng, longest=40):
    """Random text of every alphabet: letters, marks, blanks, control characters, surrogates."""
    ranges = [(0, 0x80)] * 4 + [(0x80, 0x600), (0x900, 0x980), (0x1F00, 0x2100), (0, 0x110000)]
    ends = (rng.choice(ranges) for _ in range(rng.randrange(longest)))
    return "".join(chr(rng.randrange(*end)) for end in ends)


ALPHABETS = [
    "Ein GROẞER roter Kreis, straße",
    "маленький красный круг",
    "小さな赤い円、左に青い四角",
    "דג אדום קטן",
    "مربع أزرق كبير",
    "छोटा लाल वृत्त",
    "👩‍👩‍👧‍👦 🟥🔵 ❤️",
    "naïve café, cafe\u0301",
    "a_b__c 3.14 1/2 ½ x² don't #!?",
]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(captions(2000) + ALPHABETS, 420)


@pytest.fixture(scope="module")
def plain():
    """The module as its users meet it: no annotation is checked, only what it checks itself."""
    spec = importlib.util.spec_from_file_location("plain_text", module.__file__)
    result = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(result)
    return result


# -- the text -----------------------------------------------------------------------------------


def test_texts_that_read_alike_are_normalised_alike():
    for one, other in [
        ("  A\tRED\n\ncircle ", "a red circle"),
        ("a\x00red\x1b circle\x7f", "a red circle"),
        ("a\u3000red\u00a0circle\u2029", "a red circle"),
        ("STRASSE", "straße"),
        ("ΣΟΦΟΣ", "σοφος"),
        ("caf\u0065\u0301", "CAFÉ"),
        ("\u212b", "å"),  # the sign of the ångström
        ("α\u0345\u0301", "Α\u0301\u0345"),  # marks in either order
        ("red\udcff circle\ud800", "red\ufffd circle\ufffd"),
        ("\udc80", "\udfff"),
    ]:
        assert normalise(one) == normalise(other), (one, other)
    assert normalise("red circle") != normalise("redcircle")


def test_normal_text_stays_as_it_is():
    rng = random.Random(1)
    for text in [*ALPHABETS, *(anything(rng) for _ in range(3000))]:
        normal = normalise(text)
        assert normalise(normal) == normal, ascii(text)
        assert unicodedata.is_normalized("NFC", normal) and normal == " ".join(normal.split())
        normal.encode()  # no surrogate is left


def test_words_add_up_to_the_text():
    """Every character there is belongs to a word: none is dropped between two."""
    for first in range(0, sys.maxunicode + 1, 256):
        for gap in ("", " ", "a", "1 "):
            text = " " + normalise(gap.join(map(chr, range(first, first + 256))))
            assert text == " " or "".join(WORD.findall(text)) == text, hex(first)
    assert WORD.findall(" it's 2 red_dots,") == [" it", "'", "s", " 2", " red", "_", "dots", ","]


# -- there and back -----------------------------------------------------------------------------


@pytest.mark.parametrize("trained", [True, False])
def test_decoding_gives_the_normalised_text(tokenizer, trained):
    rng = random.Random(2)
    subject = tokenizer if trained else Tokenizer()
    for text in [*ALPHABETS, *captions(200, seed=3), *(anything(rng) for _ in range(2000))]:
        ids = subject.encode(text)
        assert subject.decode(ids) == normalise(text), ascii(text)
        assert all(0 <= i < len(subject) for i in ids)
        assert not {subject.pad, subject.start, subject.end} & set(ids)
        assert subject.encode(text) == ids  # now from the cache


def test_texts_join_as_their_ids_do(tokenizer):
    """A word is spelt alike wherever it stands: also first, last, or in a text of its own."""
    rng = random.Random(4)
    for _ in range(1000):
        one, other = anything(rng), anything(rng)
        assert tokenizer.encode(f"{one} {other}") == tokenizer.encode(one) + tokenizer.encode(other)


def test_characters_may_break_but_never_raise(tokenizer):
    (char,) = "円"
    ids = tokenizer.encode(char)
    assert Tokenizer().decode(char.encode()[:1]) == "\ufffd"
    assert tokenizer.decode([tokenizer.start, *ids, tokenizer.end, tokenizer.pad]) == char
    assert tokenizer.decode([]) == tokenizer.decode([tokenizer.pad]) == ""


# -- the merges ---------------------------------------------------------------------------------


def replay(ids, k, pair):
    """Merge k in place, from the left."""
    for i in range(len(ids)):
        if ids[i : i + 2] == pair:
            ids[i : i + 2] = [259 + k]


def train_naively(corpus, size):
    """Algorithm 1 of Sennrich et al. on bytes: recount all pairs, merge the best everywhere."""
    split = [w for text in corpus for w in WORD.findall(" " + normalise(text))]
    words = [list(w.encode()) for w in split]
    merges = []
    while 259 + len(merges) < size:
        counts = Counter(pair for word in words for pair in zip(word, word[1:], strict=False))
        if not counts or max(counts.values()) < 2:
            break
        best = min(counts, key=lambda pair: (-counts[pair], *pair))
        merges.append(list(best))
        for word in words:
            replay(word, len(merges) - 1, list(best))
    return merges


@pytest.mark.parametrize("corpus", ["captions", "alphabets", "letters"])
def test_merges_are_those_of_the_naive_algorithm(corpus):
    rng = random.Random(5)
    letters = ["".join(rng.choices("ab -", (5, 3, 1, 1), k=30)) for _ in range(30)]
    texts = {"captions": captions(300), "alphabets": 2 * ALPHABETS, "letters": letters}[corpus]
    merges = train_naively(texts, 500)
    assert len(merges) > 40
    assert Tokenizer.train(texts, 500).merges == merges


def test_encoding_replays_the_merges_in_their_order(tokenizer):
    rng = random.Random(6)
    for text in ALPHABETS + captions(100, seed=7) + [anything(rng) for _ in range(300)]:
        expected = []
        for word in WORD.findall(f" {normalise(text)}"):
            ids = list(word.encode())
            for k, pair in enumerate(tokenizer.merges):
                replay(ids, k, pair)
            expected += ids
        assert tokenizer.encode(text) == expected, ascii(text)


def test_a_smaller_vocabulary_is_the_start_of_a_larger_one():
    large = Tokenizer.train(captions(300), 340)
    for size in (259, 260, 300, 339):
        small = Tokenizer.train(captions(300), size)
        assert len(small) == size and small.merges == large.merges[: size - 259]


def test_only_counts_matter_not_their_order():
    texts = captions(300)
    merges = Tokenizer.train(texts, 340).merges
    random.Random(8).shuffle(texts)
    assert Tokenizer.train(iter(texts), 340).merges == merges
    assert Tokenizer.train(texts * 3, 340).merges == merges


def test_training_stops_where_no_pair_occurs_twice():
    assert Tokenizer.train(["abcd"], 1000).merges == []
    assert Tokenizer.train([], 1000).merges == Tokenizer.train(["", " \n"], 1000).merges == []
    assert [Tokenizer.train(["ab", "ab"], 1000).decode([i]) for i in (259, 260)] == ["a", "ab"]
    all_words = Tokenizer.train(["red red circle circle"], 1000)
    assert [all_words.decode([i]) for i in all_words.encode("red circle")] == ["red", "circle"]


def test_a_frequent_word_becomes_one_token_and_a_rare_one_does_not(tokenizer):
    for word in ("red", "Triangle", "  small "):
        assert len(tokenizer.encode(word)) == 1
    assert len(tokenizer.encode("A small red circle left of a large blue square")) == 10
    assert len(tokenizer.encode("octopus")) > 1


def test_no_token_reaches_into_another_word(tokenizer):
    tokens = [tokenizer._bytes[i] for i in range(259, len(tokenizer))]
    assert all(b" " not in token[1:] for token in tokens)
    assert len(Tokenizer.train(["red circle"] * 9, 900).encode("red circle")) == 2


# -- batches ------------------------------------------------------------------------------------


def test_a_batch_holds_what_encode_gives(tokenizer):
    texts = ["", " \n", "red", *captions(50, seed=9), "red " * 5000, *ALPHABETS]
    for length in (2, 3, 12, 40):
        rows = tokenizer.batch(texts, length)
        assert rows.shape == (len(texts), length) and rows.dtype == torch.int64
        for text, row in zip(texts, rows.tolist(), strict=True):
            kept = tokenizer.encode(text)[: length - 2]
            own = [tokenizer.start, *kept, tokenizer.end]
            assert row == own + [tokenizer.pad] * (length - len(own))
        assert (rows == tokenizer.end).sum(1).eq(1).all()  # where CLIP pools: once a row
    assert tokenizer.batch([], 7).shape == (0, 7)
    assert tokenizer.batch(iter(["red"]), 3).shape == (1, 3)


def test_a_row_decodes_to_its_text(tokenizer):
    text = "A small red circle left of a large blue square"
    (row,) = tokenizer.batch([text], 20)
    assert tokenizer.decode(row) == tokenizer.decode(row.tolist()) == normalise(text)


# -- keeping, copying, remembering --------------------------------------------------------------


def test_a_card_holds_a_tokenizer(tokenizer):
    assert (Tokenizer.pad, Tokenizer.start, Tokenizer.end) == (256, 257, 258)  # as weights know
    again = Tokenizer(json.loads(json.dumps(tokenizer.merges)))
    assert again.merges == tokenizer.merges and len(again) == len(tokenizer)
    for text in captions(50, seed=10) + ALPHABETS:
        assert again.encode(text) == tokenizer.encode(text)
    assert copy.deepcopy(tokenizer).encode("red circle") == tokenizer.encode("red circle")


def test_answers_may_be_changed_by_their_owner(tokenizer):
    before = tokenizer.encode("octopus")
    tokenizer.encode("octopus").append(0)
    assert tokenizer.encode("octopus") == before


def test_the_cache_stays_small(tokenizer, monkeypatch):
    monkeypatch.setattr(module, "_CACHED", 10)
    subject = copy.deepcopy(tokenizer)
    rng = random.Random(11)
    words = ["".join(rng.choices("abcdefg", k=5)) for _ in range(100)]
    assert [subject.encode(w) for w in words] == [
        Tokenizer(subject.merges).encode(w) for w in words
    ]
    assert 0 < len(subject._cache) <= 10


# -- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", [3, None, b"red", ["red"], 2.5])
def test_what_is_not_a_text_is_refused(plain, text):
    subject = plain.Tokenizer()
    for call in (
        lambda: subject.encode(text),
        lambda: subject.batch(["red", text], 8),
        lambda: plain.Tokenizer.train(["red", text], 300),
    ):
        with pytest.raises(ValueError, match=f"a text is a str, got {type(text).__name__}: "):
            call()


def test_one_text_is_not_several(plain):
    for call in (
        lambda: plain.Tokenizer().batch("red", 8),
        lambda: plain.Tokenizer.train("r", 300),
    ):
        with pytest.raises(ValueError, match=r"got one, 'r.*put it in a list"):
            call()


def test_lengths_and_sizes_have_a_least_value():
    with pytest.raises(ValueError, match=r"length is at least 2.* got 1"):
        Tokenizer().batch(["red"], 1)
    with pytest.raises(ValueError, match=r"size is at least 259 \(256 bytes .* got 258"):
        Tokenizer.train(["red"], 258)


@pytest.mark.parametrize(
    "bad",
    [[1], [1, 2, 3], [97, 260], [-1, 97], [256, 97], [97, 258], [97, 98], [97, 9.5], "ab", None],
)
def test_merges_that_cannot_be_are_refused(plain, bad):
    with pytest.raises(ValueError, match=r"merge 1 is .*below 260 .*Tokenizer\.train"):
        plain.Tokenizer([[97, 98], bad])
    assert len(plain.Tokenizer([[97, 98], [259, 259]])) == 261


@pytest.mark.parametrize("bad", [-1, 259, 1.0, "a", None, float("nan")])
def test_unknown_ids_are_refused(plain, bad):
    with pytest.raises(ValueError, match="ids are whole numbers from 0 to 258, got "):
        plain.Tokenizer().decode([97, bad])


def test_long_texts_are_encoded(tokenizer):
    for text in ("a" * 10_000, "red " * 2500, "円" * 10_000, "\x00" * 10_000, "\ud800" * 10_000):
        assert tokenizer.decode(tokenizer.encode(text)) == normalise(text)
    assert max(map(len, WORD.findall("a" * 10_000))) == 64  # what bounds the work on one word
