"""Fingerprint64 against values of the reference implementation (pyfarmhash 0.4, which wraps FarmHash's C++)."""

import pytest

from trainer.fingerprint import fingerprint64

VECTORS = [
    (0, 11160318154034397263), (1, 16320338811297953562), (2, 12477847437384182517), (3, 4237981211716197537),
    (4, 9270494432271273215), (7, 9039017176427941284), (8, 1878791150451284974), (15, 1127657120681105795),
    (16, 9459498034667279557), (17, 11091883905907357176), (24, 956894928539892106), (32, 15400637170139054883),
    (33, 13261527417281327820), (48, 7207990053180200805), (64, 11995910726823181394), (65, 11411872738557501808),
    (127, 11337588782140913479), (128, 8750054398560823225), (129, 7635460496707031550), (300, 4477860179520940595),
]  # fmt: skip


@pytest.mark.parametrize(("length", "expected"), VECTORS)
def test_value_of_the_reference(length: int, expected: int) -> None:
    text = "".join(chr(33 + (i * 7 + length) % 90) for i in range(length))
    assert fingerprint64(text.encode()) == expected


@pytest.mark.parametrize(("text", "expected"), [("a", 12917804110809363939), ("hello", 13009744463427800296)])
def test_well_known_words(text: str, expected: int) -> None:
    assert fingerprint64(text.encode()) == expected
