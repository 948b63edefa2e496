"""Reproducible random numbers: the same id gives the same number in every process and in every audit."""

from hashlib import blake2b

__all__ = ["random_number"]


def random_number(text: str, purpose: str = "") -> float:
    """Return a random number from 0 to 1 that a text determines: uniform over texts, and independent for each purpose.

    Parameters
    ----------
    text
        For example, the id of a decision.
    purpose
        Up to 16 characters. For drawing an arm it is empty.

    Examples
    --------
    >>> random_number("d1") == random_number("d1") != random_number("d1", "judge")
    True
    """
    digest = blake2b(text.encode("utf-8", "replace"), digest_size=8, person=purpose.encode()).digest()
    return int.from_bytes(digest, "big") / 2.0**64
