"""Chance that anybody can repeat: the same id gives the same number, in every process and in every audit."""

from hashlib import blake2b

__all__ = ["random_number"]


def random_number(text: str, purpose: str = "") -> float:
    """Return a number from 0 to 1, evenly spread over texts, and independent for every purpose.

    Parameters
    ----------
    text
        What is to be decided about: a decision's id, say.
    purpose
        Up to 16 characters. The draw of an arm has the empty one.

    Examples
    --------
    >>> random_number("d1") == random_number("d1") != random_number("d1", "judge")
    True
    """
    digest = blake2b(text.encode("utf-8", "replace"), digest_size=8, person=purpose.encode()).digest()
    return int.from_bytes(digest, "big") / 2.0**64
