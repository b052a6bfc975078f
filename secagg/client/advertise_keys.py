"""Phase 0, AdvertiseKeys: the device checks the parameters against its floors and signs two fresh public keys for this round."""

from dataclasses import dataclass, field

from contract.entropy import Entropy
from secagg import keys, statements
from secagg.authority import OneTimeIdentity
from secagg.context import Context
from secagg.floors import Floors
from secagg.keys import KeyPair
from secagg.messages import AdvertiseKeys
from secagg.reasons import Abort, AbortReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a device brings to a round.

    Args:
      context: the round as this device understands it, put together from what it downloaded itself.
      authority: public key of the `DeviceAuthority`.
      identity: used in this round and never again.
      floors: what the device insists on.
      entropy: the operating system's, except in seeded simulations.
    """

    context: Context
    authority: bytes
    identity: OneTimeIdentity
    floors: Floors
    entropy: Entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertised:
    """The device has advertised and waits for the roster."""

    device: Device
    ctx0: bytes
    cipher_pair: KeyPair = field(repr=False)
    mask_pair: KeyPair = field(repr=False)
    sent: AdvertiseKeys


def advertise_keys(device: Device) -> Advertised | Abort:
    """Fresh keys and their advertisement (`sent`), or a refusal of the parameters."""
    fault = device.floors.fault(device.context.parameters)
    if fault is not None:
        return Abort(AbortReason.BELOW_FLOORS, fault)
    if device.identity.certificate.epoch != device.context.epoch:
        return Abort(AbortReason.UNCERTIFIED, "this device's own certificate is of another epoch")
    ctx0 = device.context.digest()
    cipher_pair, mask_pair = keys.generate(device.entropy), keys.generate(device.entropy)
    sent = AdvertiseKeys(
        certificate=device.identity.certificate,
        cipher_key=cipher_pair.public,
        mask_key=mask_pair.public,
        signature=device.identity.sign(statements.advertisement(ctx0, cipher_pair.public, mask_pair.public)),
    )
    return Advertised(device=device, ctx0=ctx0, cipher_pair=cipher_pair, mask_pair=mask_pair, sent=sent)
