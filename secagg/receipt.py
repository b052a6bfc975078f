"""A device's signed record of one round: what it agreed to, for whoever asks later what its contribution was part of."""

from dataclasses import dataclass

from contract import canonical
from contract.canonical import Json
from contract.collusion import colluding_devices
from secagg import authority
from secagg.authority import Certificate, OneTimeIdentity
from secagg.context import Context
from secagg.hashing import encode
from secagg.thresholds import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What was agreed to, as canonical JSON, under the device's one-time key.

    Args:
      body: round, model digest, ledger checkpoint, roster size, k, t, corrupt devices allowed for, survivor floor, lanes.
      certificate: of the one-time identity.
      signature: over the body.
    """

    body: bytes
    certificate: Certificate
    signature: bytes


def write_receipt(context: Context, ctx1: bytes, topology: Topology, identity: OneTimeIdentity) -> Receipt:
    """The receipt of a device whose roster is fixed."""
    parameters = context.parameters
    lanes: list[Json] = [
        {"name": vector.name, "length": vector.length, "lane_bits": vector.lane_bits, "kind": vector.kind.value}
        for vector in parameters.vectors
    ]
    body = canonical.encode(
        {
            "round": context.round_id,
            "context": ctx1.hex(),
            "model_digest": context.model_digest,
            "config_digest": context.config_digest,
            "ledger_checkpoint": context.ledger_checkpoint,
            "cohort": topology.roster_size,
            "degree": topology.degree,
            "threshold": topology.threshold,
            "corrupt": colluding_devices(parameters.corrupt_fraction, topology.roster_size),
            "minimum_survivors": parameters.minimum_survivors,
            "vectors": lanes,
        }
    )
    return Receipt(body=body, certificate=identity.certificate, signature=identity.sign(encode("receipt", body)))


def is_genuine(receipt: Receipt, authority_key: bytes, epoch: int) -> bool:
    """Whether a device that the authority certified for `epoch` signed the receipt."""
    certified = authority.is_certified(receipt.certificate, authority_key, epoch)
    return certified and authority.verifies(receipt.certificate.identity, receipt.signature, encode("receipt", receipt.body))
