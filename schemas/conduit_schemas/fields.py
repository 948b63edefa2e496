"""The field types that events and snapshots share, each with its bounds."""

import sys
from array import array
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["FRACTION_BITS", "Context", "Count", "Float32Vector", "Id", "Label", "Probability", "Record"]

SCHEMA_VERSION = "1.0"
MAJOR = 1

FRACTION_BITS = 10
"""A context component is a 16-bit fixed-point number with this many fraction bits.

Products of two such numbers are multiples of 2**-20, so double precision adds millions of them without
rounding. A sum of products is therefore the same in every order, on every machine and with every linear
algebra library. This is why a replay reproduces a snapshot bit for bit.
"""

MAX_DIMENSION = 1024
MAX_ARMS = 256


class Record(BaseModel):
    """The base of every record on a topic.

    Fields that this version does not know are kept, so that a record of a newer minor version can be read and
    written again without loss.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        allow_inf_nan=False,
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )


def _whole_components(vector: bytes) -> bytes:
    if len(vector) % 2:
        raise ValueError(
            f"a context holds 16-bit components, so its length must be even, but it has {len(vector)} bytes"
        )
    return vector


def _finite_components(vector: bytes) -> bytes:
    if len(vector) % 4:
        raise ValueError(
            f"a vector holds 32-bit components, so its length must be a multiple of 4, but it has {len(vector)} bytes"
        )
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    # No sum of 32-bit floats overflows a double, so the sum is finite if and only if every component is.
    total = sum(numbers)
    if total - total != 0.0:
        raise ValueError("every component of a vector must be finite")
    return vector


_NO_CONTROL_CHARACTERS = r"^[^\x00-\x1f\x7f]+$"

Id = Annotated[str, Field(min_length=1, max_length=256, pattern=_NO_CONTROL_CHARACTERS)]
"""An identifier: 1 to 256 characters, none of them a control character."""

Label = Annotated[str, Field(max_length=256)]
"""A short text for people. It may be empty."""

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]

Probability = Annotated[float, Field(ge=0.0, le=1.0)]

Context = Annotated[bytes, Field(max_length=2 * MAX_DIMENSION), AfterValidator(_whole_components)]
"""A context vector: little-endian signed 16-bit integers in units of ``2**-FRACTION_BITS``."""

Float32Vector = Annotated[bytes, Field(max_length=4 * MAX_DIMENSION), AfterValidator(_finite_components)]
"""A vector of little-endian 32-bit floats, all finite."""
