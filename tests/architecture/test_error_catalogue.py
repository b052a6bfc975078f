"""One catalogue of errors: unique, valid on every wire, and the same as its page."""

from collections import Counter

import grpc
import pytest

from contract import error_page
from contract.errors import ErrorCode


def test_page_is_what_the_catalogue_says() -> None:
    assert error_page.main(["--check"]) == 0


def test_stale_page_is_reported(tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(error_page, "_HEAD", "another head\n")
    assert error_page.main(["--check"]) == 1
    assert "make errors" in capsys.readouterr().err


@pytest.mark.parametrize("field", ["slug", "exit_code", "title"])
def test_no_two_codes_share_their(field: str) -> None:
    values = Counter(code.slug if field == "slug" else getattr(code.value, field) for code in ErrorCode)
    assert not [value for value, times in values.items() if times > 1]


@pytest.mark.parametrize("code", list(ErrorCode), ids=lambda code: code.slug)
def test_code_can_be_said_on_every_wire(code: ErrorCode) -> None:
    kind = code.value
    assert 2 <= kind.exit_code <= 130  # 0 is success, 1 is Python's own
    assert 400 <= kind.http_status < 600
    assert kind.grpc_status in grpc.StatusCode.__members__
    assert kind.title
    assert kind.cure.endswith(".")
