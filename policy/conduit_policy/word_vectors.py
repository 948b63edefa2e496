"""The meaning of words as vectors of small integers: a table for known words, and hashes for all others."""

from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

__all__ = ["HASHED", "MEANING", "WordSums", "WordVectors"]

MEANING = 40
"""Number of components for the meaning of words in the table."""

HASHED = 8
"""Number of components for the signed hashes of other words."""

_REMEMBERED = 50_000


class WordSums(NamedTuple):
    """The summed vectors of a text's words."""

    vector: NDArray[np.float64]
    """Shape (MEANING + HASHED,): the sum over the known words, then the sum over the hashes of the unknown ones."""
    unknown: float
    """The share of words that are not in the table."""


class WordVectors:
    """Sums the vectors of words.

    Each of 21,745 English words has a vector distilled from the sentence encoder all-MiniLM-L6-v2
    (``policy/distill_words.py``), so that similar requests have similar contexts. Every other word (names, numbers,
    other languages) adds 1 to one of eight hashed components or subtracts 1 from it (Weinberger et al. 2009, "Feature
    Hashing for Large Scale Multitask Learning"). All numbers are integers, so sums, and sums of their squares, are the
    same on every machine.

    Examples
    --------
    >>> vectors = WordVectors()
    >>> sums = vectors.sums([b"integral", b"00"])
    >>> sums.vector.shape, sums.unknown
    ((48,), 0.5)
    """

    def __init__(self) -> None:
        self._rows = _Rows()
        self._vectors = _table()[1]

    def sums(self, words: list[bytes]) -> WordSums:
        """Return the sums over lower-case words, of which there must be at least one."""
        rows = np.array(list(map(self._rows.__getitem__, words)), np.intp)
        # A matrix product adds faster than a reduction. Sums of small integers are exact in single precision, too.
        vector = np.ones(len(rows), np.float32).dot(self._vectors.take(rows, axis=0))
        return WordSums(vector.astype(np.float64), int(np.count_nonzero(rows < 2 * HASHED)) / len(words))


class _Rows(dict[bytes, int]):
    """Caches each word's row. It is bounded, and cleared when full."""

    def __missing__(self, word: bytes) -> int:
        if len(self) >= _REMEMBERED:
            self.clear()
        known = _table()[0].get(word)
        row = self[word] = crc32(word) % (2 * HASHED) if known is None else known
        return row


@lru_cache(maxsize=1)
def _table() -> tuple[dict[bytes, int], NDArray[np.float32]]:
    """Return each word's row number, and the rows. The first ``2 * HASHED`` rows are for the hashes."""
    with (
        files("conduit_policy").joinpath("word_vectors.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        words: list[bytes] = stored["words"].tobytes().split(b"\n")
        meanings = stored["vectors"]
    rows = np.zeros((2 * HASHED + len(words), MEANING + HASHED), np.float32)
    rows[:HASHED, MEANING:] = np.eye(HASHED)
    rows[HASHED : 2 * HASHED, MEANING:] = -np.eye(HASHED)
    rows[2 * HASHED :, :MEANING] = meanings
    return {word: row for row, word in enumerate(words, 2 * HASHED)}, rows
