"""Logarithm, exponential and constants with the same bits on every machine.

``math.log`` and ``math.exp`` come from the C library, whose last bit differs between platforms. These functions use
only operations that IEEE 754 defines to the bit.
"""

from math import frexp, ldexp

__all__ = ["LN_2", "NORMAL_95", "exp", "ln"]

LN_2 = 0.6931471805599453
NORMAL_95 = 1.959963984540054
"""Half the width of a 95 % interval of a normal distribution, in standard deviations."""


def ln(value: float) -> float:
    """Return the natural logarithm of a positive number.

    It is computed as ln(m * 2**e) = e ln 2 + 2 artanh((m - 1) / (m + 1)) with m between sqrt(1/2) and sqrt(2). There,
    eleven terms of the series of artanh reach double precision.

    Examples
    --------
    >>> ln(1.0), round(ln(10.0), 12)
    (0.0, 2.302585092994)
    """
    mantissa, exponent = frexp(value)
    if mantissa < _SQRT_HALF:
        mantissa *= 2.0
        exponent -= 1
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    z = ratio * ratio
    # A single expression, because it is evaluated for every amount that is learned.
    series = (
        (((((((_C21 * z + _C19) * z + _C17) * z + _C15) * z + _C13) * z + _C11) * z + _C9) * z + _C7) * z + _C5
    ) * z + _C3
    return exponent * LN_2 + 2.0 * ratio * (series * z + 1.0)


def exp(value: float) -> float:
    """Return e to the power of a number that is not positive. Below -700 it is 0.

    It is computed as exp(x) = 2**k exp(r) with r between -ln 2 / 2 and ln 2 / 2. There, fourteen terms of the series
    suffice.

    Examples
    --------
    >>> exp(0.0), round(exp(-1.0), 15)
    (1.0, 0.367879441171442)
    """
    if value < -700.0:
        return 0.0
    power = round(value / LN_2)
    rest = value - power * LN_2
    series = 1.0
    for term in range(14, 0, -1):
        series = 1.0 + series * rest / term
    return ldexp(series, power)


_SQRT_HALF = 0.7071067811865476
_C3, _C5, _C7, _C9, _C11, _C13, _C15, _C17, _C19, _C21 = (1.0 / k for k in range(3, 22, 2))
