"""Every reason to leave a round, to end it, or to turn a message away. A peer's fault is one of these values, never an exception."""

from dataclasses import dataclass
from enum import Enum


class AbortReason(Enum):
    """Why a device or the server ends its part of a round. Nothing is released afterwards."""

    BELOW_FLOORS = "the parameters are below what this device accepts"
    UNSOUND_ROSTER = "this roster is too small for its graph to be secure"
    MALFORMED = "a message has fields of the wrong size or order"
    UNEXPECTED_MESSAGE = "the message does not belong to this phase"
    WRONG_CONTEXT = "the message belongs to another round, model, configuration or roster"
    OWN_KEY_MISSING = "the roster does not hold this device's keys"
    ROSTER_UNSORTED = "an identity is on the roster twice, or the roster is out of order"
    WRONG_NEIGHBOURS = "the neighbours do not follow from the committed keys"
    SUBSTITUTED_KEY = "a neighbour's keys are not those that the roster commits to"
    UNCERTIFIED = "a neighbour's identity is not certified for this epoch"
    BAD_SIGNATURE = "a signature does not verify"
    LOW_ORDER_POINT = "a neighbour's public key gives a shared secret that everybody knows"
    WRONG_SHARERS = "the shares handed over are not those of the announced sharers"
    TOO_FEW_SHARERS = "fewer neighbours shared keys than the threshold asks"
    UNUSABLE_SHARES = "fewer of the neighbours' shares could be opened than the threshold asks"
    WRONG_INPUT = "the input does not have the declared vectors, lengths or range"
    WRONG_SURVIVORS = "the survivors are not a subset of the sharers that holds this device"
    TOO_FEW_SURVIVORS = "fewer devices survive than the floor or the graph asks"
    TOO_FEW_SIGNATURES = "fewer neighbours than the threshold signed the same survivors"
    ALREADY_RELEASED = "this device has released its shares, once and for all"
    SECOND_REQUEST = "a phase was asked for again with other contents"
    TOO_FEW_DEVICES = "too few devices advertised keys"
    TOO_FEW_SHARES = "fewer shares of a secret arrived than the threshold asks"
    DEALER_INCONSISTENT = "a device dealt shares that do not give back its secret"
    LEFT = "this device has left the round"


@dataclass(frozen=True, slots=True)
class Abort:
    """The end of a party's round.

    Args:
      reason: what kind.
      detail: the public facts; never a secret.
      culprits: slots of the devices whose fault it is, as far as that is proved.
    """

    reason: AbortReason
    detail: str = ""
    culprits: tuple[int, ...] = ()


class Refusal(Enum):
    """Why the server turned one message away. The device that sent it counts as dropped where its phase then closes."""

    OUT_OF_PHASE = "late, early or replayed: the message does not belong to the phase that is open"
    ROSTER_FULL = "the roster has as many devices as the round takes"
    NOT_ON_ROSTER = "the device is not on the roster, or has dropped out"
    DUPLICATE = "the device has already answered in this phase"
    IDENTITY_TAKEN = "another device advertised keys under the same identity"
    WRONG_CONTEXT = "the message belongs to another round, model, configuration or roster"
    UNCERTIFIED = "the identity is not certified for this epoch"
    BAD_SIGNATURE = "the signature does not verify"
    LOW_ORDER_POINT = "a public key is a point of low order"
    MALFORMED = "a field has the wrong size, or the addressees are wrong"
    WRONG_LENGTH = "the masked vector has the wrong number of words"
    WRONG_RELEASES = "the released shares are not exactly one of the right kind for each neighbour"
    WRONG_SHARE = "a released share is not the one that its dealer committed to"
