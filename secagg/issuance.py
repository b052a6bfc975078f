"""The authority's desk: a real device gets so many certificates an epoch and no more, so that few devices cannot fill a roster.

The corrupt fraction g counts identities on a roster. If an adversary holds m devices, and each gets `most` certificates of an epoch, then
no roster of that epoch has more than most * m of its identities: with one certificate an epoch g counts devices.
What makes a device real (attestation) is outside; here it has a name, which the authority keeps to itself.
"""

from dataclasses import dataclass, field

from contract.entropy import Entropy
from secagg.authority import Certificate, DeviceAuthority, OneTimeIdentity, fresh_key


@dataclass(slots=True, kw_only=True)
class IssuingDesk:
    """Hands out an authority's certificates for the epoch that it says it is, within a limit for each device.

    Args:
      authority: who signs.
      epoch: the epoch that has begun.
      most: certificates of one epoch for one device.

    Guarantee:
      Of each epoch a device has `most` certificates at most. Epochs only go on, so that what was issued in one may be forgotten when it
      is over; memory is bounded by the devices of one epoch.

    >>> desk = IssuingDesk(authority=DeviceAuthority(bytes(32)), epoch=5, most=1)
    >>> first = desk.issue("a", bytes(32))
    >>> desk.issue("a", bytes(32)) == first, desk.issue("a", b"1" * 32), desk.issue("b", bytes(32))
    (True, None, None)
    >>> desk.begin(6)
    >>> desk.issue("a", b"1" * 32).epoch
    6
    """

    authority: DeviceAuthority
    epoch: int
    most: int
    _issued: dict[str, dict[bytes, Certificate]] = field(default_factory=dict[str, dict[bytes, Certificate]], repr=False)
    _taken: set[bytes] = field(default_factory=set[bytes], repr=False)

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"most must be at least 1, not {self.most}")

    def begin(self, epoch: int) -> None:
        """The next epoch has begun; every device may have `most` certificates again.

        Raises:
          ValueError: for an epoch that is not later.
        """
        if epoch <= self.epoch:
            raise ValueError(f"the epoch after {self.epoch} cannot be {epoch}")
        self.epoch, self._issued, self._taken = epoch, {}, set()

    def issue(self, device: str, identity: bytes) -> Certificate | None:
        """A certificate for one of the device's identities; the same one if it asks again; None beyond the limit.

        An identity belongs to the device that first brought it.
        """
        mine = self._issued.setdefault(device, {})
        if identity in mine:
            return mine[identity]
        if len(mine) >= self.most or identity in self._taken:
            return None
        self._taken.add(identity)
        mine[identity] = self.authority.issue(identity, self.epoch)
        return mine[identity]

    def enrol(self, device: str, entropy: Entropy) -> OneTimeIdentity | None:
        """A fresh identity for a device, as its own side makes it; None beyond the limit."""
        seed, public = fresh_key(entropy)
        certificate = self.issue(device, public)
        return None if certificate is None else OneTimeIdentity(seed, certificate)
