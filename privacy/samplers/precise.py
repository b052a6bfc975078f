"""The two functions that exact sampling needs, in decimal arithmetic of 110 digits."""

from decimal import Context, Decimal, localcontext

CONTEXT = Context(prec=110, Emin=-(10**6), Emax=10**6)


def bell(x: Decimal, deviation: Decimal) -> Decimal:
    """exp(-x^2 / (2 deviation^2)).

    >>> round(bell(Decimal(1), Decimal(1)), 6)
    Decimal('0.606531')
    """
    with localcontext(CONTEXT):
        return (-(x * x) / (2 * deviation * deviation)).exp()


def area(x: Decimal, deviation: Decimal) -> Decimal:
    """The integral of `bell` from 0 to x >= 0, in units of deviation sqrt(2); grows to sqrt(pi) / 2.

    The series exp(-t^2) sum_n 2^n t^(2n+1) / (2n+1)!! has positive terms only; it is summed until they no longer count.

    Source: Abramowitz and Stegun, 7.1.6.

    >>> round(area(Decimal(3), Decimal(1)) * Decimal("1.1283791670955"), 6)
    Decimal('0.997300')
    """
    with localcontext(CONTEXT):
        t = x / (deviation * Decimal(2).sqrt())
        square = 2 * t * t
        term, total, odd = t, t, 1
        while term * Decimal(10) ** 108 > total:
            odd += 2
            term = term * square / odd
            total += term
        return total * (-t * t).exp()


def scaled(x: Decimal, bits: int) -> int:
    """x 2^bits as the integer below.

    >>> scaled(Decimal("0.75"), 2)
    3
    """
    with localcontext(CONTEXT):
        return int((x * (1 << bits)).to_integral_value(rounding="ROUND_FLOOR"))
