"""What a round is about, as bytes that everything in it is bound to.

`ctx0` names the round, the model, the configuration and the ledger; every device signs it with its keys. `ctx1` adds the roster. A
server that tells two devices different things gets signatures that do not verify and masks that do not cancel.
"""

from dataclasses import dataclass

from contract import canonical
from secagg.hashing import tagged_hash
from secagg.parameters import LARGEST_NUMBER, Parameters

PROTOCOL = "tutti-secagg-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The public facts of a round before anybody joins.

    Args:
      round_id: never used twice.
      model_digest: of the model that the devices train.
      config_digest: of everything else that decides what is computed: plan, clipping, noise.
      ledger_checkpoint: the ledger's head that the server shows at the start.
      epoch: of the certificates, in [0, 2^53).
      parameters: of the aggregation.

    Raises:
      ValueError: for an epoch out of range or text that is no Unicode, of which there is no digest.
    """

    round_id: str
    model_digest: str
    config_digest: str
    ledger_checkpoint: str
    epoch: int
    parameters: Parameters

    def __post_init__(self) -> None:
        if not 0 <= self.epoch <= LARGEST_NUMBER:
            raise ValueError(f"epoch must lie in [0, 2^53), not {self.epoch}")
        for text in (self.round_id, self.model_digest, self.config_digest, self.ledger_checkpoint):
            text.encode()  # half of a surrogate pair, as JSON can carry it, is a ValueError here and not at the digest

    def digest(self) -> bytes:
        """ctx0, 32 bytes."""
        return tagged_hash("context", PROTOCOL.encode(), canonical.encode(canonical.plain(self)))


def with_roster(ctx0: bytes, identities: bytes, key_digests: bytes) -> bytes:
    """ctx1, 32 bytes: the context once the roster is fixed.

    Args:
      identities, key_digests: of all devices by slot, 32 bytes each.
    """
    return tagged_hash("context with roster", ctx0, identities, key_digests)
