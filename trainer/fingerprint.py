"""FarmHash's Fingerprint64, by which the text-selection model finds the embedding of a piece of a word.

Notation follows FarmHash (github.com/google/farmhash, namespace farmhashna, MIT licence): 64-bit words, little-endian,
arithmetic modulo 2^64. The fingerprint is frozen by its authors and is also BigQuery's FARM_FINGERPRINT (there as a signed
integer).
"""

_MASK = (1 << 64) - 1
_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F


def fingerprint64(data: bytes) -> int:
    """The 64-bit fingerprint of `data`, in 0 .. 2^64 - 1.

    >>> fingerprint64(b"hello")
    13009744463427800296
    """
    length = len(data)
    if length <= 16:
        return _up_to_16(data)
    mul = (_K2 + 2 * length) & _MASK
    if length <= 32:
        a, b = _word(data, 0) * _K1, _word(data, 8)
        c, d = _word(data, length - 8) * mul, _word(data, length - 16) * _K2
        return _mix(_rotate(a + b, 43) + _rotate(c, 30) + d, a + _rotate(b + _K2, 18) + c, mul)
    return _up_to_64(data, mul) if length <= 64 else _long(data)


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _rotate(value: int, bits: int) -> int:
    value &= _MASK
    return ((value >> bits) | (value << (64 - bits))) & _MASK


def _shift_mix(value: int) -> int:
    value &= _MASK
    return value ^ (value >> 47)


def _mix(u: int, v: int, mul: int) -> int:
    a = _shift_mix((u ^ v) * mul)
    return (_shift_mix(((v & _MASK) ^ a) * mul) * mul) & _MASK


def _up_to_16(data: bytes) -> int:
    length = len(data)
    mul = (_K2 + 2 * length) & _MASK
    if length >= 8:
        a, b = _word(data, 0) + _K2, _word(data, length - 8)
        return _mix(_rotate(b, 37) * mul + a, (_rotate(a, 25) + b) * mul, mul)
    if length >= 4:
        first, last = int.from_bytes(data[:4], "little"), int.from_bytes(data[-4:], "little")
        return _mix(length + (first << 3), last, mul)
    if length:
        y, z = data[0] + (data[length >> 1] << 8), length + (data[-1] << 2)
        return (_shift_mix((y * _K2) ^ (z * _K0)) * _K2) & _MASK
    return _K2


def _up_to_64(data: bytes, mul: int) -> int:
    length = len(data)
    a, b = _word(data, 0) * _K2, _word(data, 8)
    c, d = _word(data, length - 8) * mul, _word(data, length - 16) * _K2
    y = _rotate(a + b, 43) + _rotate(c, 30) + d
    z = _mix(y, a + _rotate(b + _K2, 18) + c, mul)
    e, f = _word(data, 16) * mul, _word(data, 24)
    g, h = (y + _word(data, length - 32)) * mul, (z + _word(data, length - 24)) * mul
    return _mix(_rotate(e + f, 43) + _rotate(g, 30) + h, e + _rotate(f + a, 18) + g, mul)


def _weak(data: bytes, at: int, a: int, b: int) -> tuple[int, int]:
    w, x, y, z = (_word(data, at + 8 * i) for i in range(4))
    a += w
    b = _rotate(b + a + z, 21)
    c = a
    a += x + y
    b += _rotate(a, 44)
    return (a + z) & _MASK, (b + c) & _MASK


def _long(data: bytes) -> int:
    length, seed = len(data), 81
    x, y = seed * _K2 + _word(data, 0), seed * _K1 + 113
    z = _shift_mix(y * _K2 + 113) * _K2
    v, w = (0, 0), (0, 0)
    for at in range(0, (length - 1) // 64 * 64, 64):
        x = _rotate(x + y + v[0] + _word(data, at + 8), 37) * _K1
        y = _rotate(y + v[1] + _word(data, at + 48), 42) * _K1
        x = (x ^ w[1]) & _MASK
        y += v[0] + _word(data, at + 40)
        z = _rotate(z + w[0], 33) * _K1
        v = _weak(data, at, v[1] * _K1, x + w[0])
        w = _weak(data, at + 32, z + w[1], y + _word(data, at + 16))
        z, x = x, z
    mul = _K1 + ((z & 0xFF) << 1)
    at, tail = length - 64, (length - 1) & 63
    w = ((w[0] + tail) & _MASK, w[1])
    v = ((v[0] + w[0]) & _MASK, v[1])
    w = ((w[0] + v[0]) & _MASK, w[1])
    x = _rotate(x + y + v[0] + _word(data, at + 8), 37) * mul
    y = _rotate(y + v[1] + _word(data, at + 48), 42) * mul
    x = (x ^ (w[1] * 9)) & _MASK
    y += v[0] * 9 + _word(data, at + 40)
    z = _rotate(z + w[0], 33) * mul
    v = _weak(data, at, v[1] * mul, x + w[0])
    w = _weak(data, at + 32, z + w[1], y + _word(data, at + 16))
    z, x = x, z
    mul &= _MASK
    return _mix(_mix(v[0], w[0], mul) + _shift_mix(y) * _K0 + z, _mix(v[1], w[1], mul) + x, mul)
