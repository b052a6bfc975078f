import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_sim import masking
from client_sim.filters import FilterRules, count_names, prepare
from client_sim.masking import MASK, luhn, mask, my_number, spanish_id

NUMBERS = ("4111111111111111", "378282246310005", "5555-5555-5555-4444", "6011 1111 1111 1117")


def selection(text: str, tap: tuple[int, int], chosen: tuple[int, int]) -> dict[str, object]:
    return {"text": text, "tap": list(tap), "selection": list(chosen), "entity": "address"}


class TestMasks:
    @pytest.mark.parametrize("number", NUMBERS)
    def test_payment_cards_are_masked_in_place(self, number: str) -> None:
        text, (found,) = mask(f"my card {number}, thanks")
        assert text == f"my card {MASK * len(number)}, thanks"
        assert (found.kind, found.start, found.end) == ("card", 8, 8 + len(number))

    @pytest.mark.parametrize("text", ["123-45-6789", "12345678Z", "X1234567L", "1234 5678 9018"])
    def test_national_ids_of_several_countries_are_masked(self, text: str) -> None:
        assert mask(f"id {text}.")[0] == f"id {MASK * len(text)}."

    @pytest.mark.parametrize(
        "text",
        [
            "password: hunter22",
            "api_key=abcd1234",
            "la contraseña es gatito99",
            "use ghp_abcdefghijklmnopqrstuv",
            "パスワード\uff1ahimitsu1",
        ],
    )
    def test_secrets_are_masked(self, text: str) -> None:
        masked, found = mask(text)
        assert [item.kind for item in found] == ["secret"]
        assert len(masked) == len(text)
        assert text[found[0].start : found[0].end] not in masked

    @pytest.mark.parametrize(
        "text",
        [
            "call 415-555-0199 now",
            "555 0199",
            "000-12-3456",
            "12345678A",
            "1234 5678 9010",
            "at 1915 colfax street 60201",
            "the secret garden",
        ],
    )
    def test_phones_addresses_and_near_misses_are_left_alone(self, text: str) -> None:
        assert mask(text) == (text, ())

    @given(st.text(max_size=60), st.sampled_from(NUMBERS), st.text(max_size=60))
    @settings(max_examples=200, deadline=None)
    def test_length_never_changes_and_masking_twice_finds_nothing_more(self, before: str, number: str, after: str) -> None:
        text = f"{before} {number} {after}"
        masked, _ = mask(text)
        assert len(masked) == len(text)
        assert mask(masked) == (masked, ())

    @given(st.integers(0, 10**15 - 1))
    @settings(max_examples=100, deadline=None)
    def test_exactly_one_check_digit_holds(self, body: int) -> None:
        assert sum(luhn(f"{body:015d}{digit}") for digit in range(10)) == 1
        assert sum(my_number(f"{body % 10**11:011d}{digit}") for digit in range(10)) == 1
        assert sum(spanish_id(f"{body % 10**8:08d}{letter}") for letter in "TRWAGMYFPDXBNJZSQVHLCKE") == 1


class TestFilters:
    def test_each_reason_has_its_count(self) -> None:
        good = selection("go to 12 main st now", (9, 13), (6, 16))
        examples = [
            good, good, {"text": " "}, {"text": "x" * 3000}, selection("abc def", (4, 7), (0, 3)), selection("a" + " " * 9, (2, 3), (1, 6)),
            selection("pay 4111111111111111 ok", (4, 20), (4, 20)), selection("pay 4111111111111111 ok", (21, 23), (21, 23)),
            {"text": "это по-русски"},
        ]  # fmt: skip
        kept, counts = prepare(examples, FilterRules(locale="en"))
        assert [row["text"] for row in kept] == ["go to 12 main st now", f"pay {MASK * 16} ok"]
        assert counts == dict.fromkeys(count_names(), 0) | {
            "kept": 2, "dropped_duplicate": 1, "dropped_length": 2, "dropped_correction": 2, "dropped_masked_selection": 1,
            "dropped_language": 1, "masked_card": 2,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("locale", "text"), [("ja", "東京都渋谷区に行きます"), ("es", "¿dónde está la casa?"), ("en", "12:30 ok")]
    )
    def test_a_locale_keeps_its_own_scripts(self, locale: str, text: str) -> None:
        assert prepare([{"text": text}], FilterRules(locale=locale))[1]["kept"] == 1

    def test_an_unknown_locale_is_refused(self) -> None:
        with pytest.raises(ValueError, match="locale must be one of"):
            FilterRules(locale="xx")


PIECES = (
    "pa\u017fsword is hunter22", "PassWord: abcdef", "api key", "API_KEY=abcdefgh", "secret is openly", "my token: qwertyui",
    "contraseña es abierta",
    "ghp_" + "abcdefghijklmnopqrst", "AKIA" + "ABCDEFGHIJKLMNOP", "sk-" + "abcdefghij-klmnopqrst", "eyJ" + "abcdefghij.klmnopqrst.uvwxyz",
    "4111 1111 1111 1111", "12345678Z", "123-45-6789", "١٢٣٤", "see you at the lake", "-", ".", " ", "token", "night",
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), max_size=4).map(" ".join))
def test_what_is_passed_over_quickly_holds_nothing_that_a_pattern_would_find(text: str) -> None:
    quick = mask(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masking, "holds_none", "".__eq__)  # passes over the empty text alone
        assert mask(text) == quick


@pytest.mark.parametrize("text", PIECES[1:15])
def test_nothing_suspicious_is_passed_over(text: str) -> None:
    assert not masking.holds_none(text)


def test_ordinary_text_is_passed_over() -> None:
    assert masking.holds_none("See you at the lake tonight, right?")
