"""Secure aggregation: sums of integer vectors of which no single one can be read. It knows nothing of privacy mechanisms.

Start with `choose` (parameters), `Context`, `Client` and `Server`; `secagg.testing.run_round` shows them together. docs/secagg.md
tells the protocol, SECURITY.md what it withstands.
"""

from secagg.authority import Certificate, DeviceAuthority, OneTimeIdentity
from secagg.client import Client
from secagg.context import Context
from secagg.floors import LOWEST_FLOORS, Floors
from secagg.issuance import IssuingDesk
from secagg.parameters import Infeasible, MaskCipher, Parameters, Vector, VectorKind, choose
from secagg.reasons import Abort, AbortReason, Refusal
from secagg.receipt import Receipt
from secagg.server import Phase, Result, Server
from secagg.transcript import Transcript, audit

__all__ = [
    "LOWEST_FLOORS",
    "Abort",
    "AbortReason",
    "Certificate",
    "Client",
    "Context",
    "DeviceAuthority",
    "Floors",
    "Infeasible",
    "IssuingDesk",
    "MaskCipher",
    "OneTimeIdentity",
    "Parameters",
    "Phase",
    "Receipt",
    "Refusal",
    "Result",
    "Server",
    "Transcript",
    "Vector",
    "VectorKind",
    "audit",
    "choose",
]
