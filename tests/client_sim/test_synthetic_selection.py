from collections import Counter
from typing import Literal, cast

import numpy as np
import pytest

from client_sim.data import Loader, SyntheticSelection, open_loader
from client_sim.data.jsonlines import parse_line
from client_sim.filters import FilterRules, prepare
from contract import canonical
from contract.task import DataSpec
from trainer.selection_text import split

Locale = Literal["en", "es", "ja"]
LOCALES: tuple[Locale, ...] = ("en", "es", "ja")


def rows_of(locale: Locale, devices: int = 60) -> list[dict[str, object]]:
    loader = SyntheticSelection(num_devices=devices, seed=1, locale=locale)
    return [dict(row) for device in range(devices) for row in loader.examples(device)]


@pytest.mark.parametrize("locale", LOCALES)
def test_every_correction_is_one_that_a_file_could_hold(locale: Locale) -> None:
    for row in rows_of(locale):
        line = canonical.encode(cast("canonical.Json", row | {"client_id": "u"}))
        assert not isinstance(parse_line(line, "selection"), str)


@pytest.mark.parametrize("locale", LOCALES)
def test_every_kind_of_entity_occurs_and_a_plain_word_stays_alone(locale: Locale) -> None:
    rows = rows_of(locale)
    counts = Counter(str(row["entity"]) for row in rows)
    assert set(counts) == {"none", "address", "phone", "email", "url"}
    for row in rows:
        start, end = cast("list[int]", row["selection"])
        chosen = str(row["text"])[start:end]
        assert chosen == chosen.strip()
        if row["entity"] == "none":
            assert row["tap"] == row["selection"]
            assert chosen.isalpha()
        else:
            assert len(chosen) > 5


@pytest.mark.parametrize("locale", LOCALES)
def test_devices_do_not_filter_their_own_language(locale: Locale) -> None:
    rows = rows_of(locale)
    counts = prepare(rows, FilterRules(locale=locale, drop_duplicates=False))[1]
    assert counts["kept"] >= 0.99 * len(rows)


@pytest.mark.parametrize("locale", LOCALES)
def test_a_selection_begins_and_ends_where_tokens_do(locale: Locale) -> None:
    for row in rows_of(locale):
        text, (start, end) = str(row["text"]), cast("list[int]", row["selection"])
        tokens = split(text)
        assert start in {place for token in tokens for place in (token.start, token.start + leading(token.text))}
        assert end in {place for token in tokens for place in (token.end, token.end - leading(token.text[::-1]))}


def leading(text: str) -> int:
    return len(text) - len(text.lstrip(".,:;!?、。"))


def test_a_device_taps_its_home_again_and_again() -> None:
    loader = SyntheticSelection(num_devices=200, seed=1)
    busiest = int(np.argmax(loader.num_examples(np.arange(200))))
    chosen = Counter(
        str(row["text"])[slice(*cast("list[int]", row["selection"]))]
        for row in loader.examples(busiest)
        if row["entity"] == "address"
    )
    assert chosen.most_common(1)[0][1] >= 0.2 * chosen.total()


def test_locale_is_the_only_change() -> None:
    for locale in LOCALES:
        loader = open_loader(DataSpec(devices=3, locale=locale), model="text_selection")
        assert isinstance(loader, Loader)
        assert loader.num_devices == 3
    assert len({SyntheticSelection(num_devices=3, seed=0, locale=locale).digest for locale in LOCALES}) == 3


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="locale must be one of"):
        SyntheticSelection(num_devices=3, seed=0, locale=cast("Locale", "fr"))
    with pytest.raises(ValueError, match="num_devices"):
        SyntheticSelection(num_devices=0, seed=0)
    with pytest.raises(ValueError, match="device 3"):
        SyntheticSelection(num_devices=3, seed=0).examples(3)
