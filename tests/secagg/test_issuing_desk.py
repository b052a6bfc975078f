"""One device cannot fill a roster: the authority's desk counts what it issues to whom, by epoch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.entropy import system_entropy
from secagg.authority import DeviceAuthority, is_certified, verifies
from secagg.issuance import IssuingDesk


def identity(number):
    return number.to_bytes(32, "big")


@given(asked=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.booleans()), max_size=40), most=st.integers(1, 3))
def test_no_order_of_asking_gets_more_than_the_limit(asked, most):
    desk, had = IssuingDesk(authority=DeviceAuthority(bytes(32)), epoch=0, most=most), {}
    for device, number, turns in asked:
        if turns:
            desk.begin(desk.epoch + 1)
        found = desk.issue(device, identity(number))
        if found is not None:
            assert is_certified(found, desk.authority.public, desk.epoch)
            had.setdefault((device, desk.epoch), set()).add(found.identity)
    assert all(len(identities) <= most for identities in had.values())
    owners = [(identity, epoch) for (_, epoch), identities in had.items() for identity in identities]
    assert len(owners) == len(set(owners))  # nobody gets a certificate for an identity that another device brought


def test_enrolment_counts_too():
    desk = IssuingDesk(authority=DeviceAuthority(bytes(32)), epoch=3, most=2)
    enrolled = [desk.enrol("a", system_entropy) for _ in range(3)]
    assert enrolled[2] is None
    assert len({one.certificate.identity for one in enrolled[:2]}) == 2
    assert verifies(enrolled[0].certificate.identity, enrolled[0].sign(b"statement"), b"statement")


def test_limit_below_one_and_an_epoch_that_is_over_are_errors():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        IssuingDesk(authority=DeviceAuthority(bytes(32)), epoch=0, most=0)
    with pytest.raises(ValueError, match="the epoch after 4 cannot be 4"):
        IssuingDesk(authority=DeviceAuthority(bytes(32)), epoch=4, most=1).begin(4)
