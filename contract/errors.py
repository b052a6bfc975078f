"""The one catalogue of error codes: exit codes, gRPC `ErrorInfo.reason` and RFC 9457 problem types all come from here.

docs/errors.md is generated from it (`make errors`) and a test holds the two together. Codes are only ever added.
"""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """What a code means everywhere it can appear.

    `exit_code` is the process's exit status, `http_status` the REST status, `grpc_status` the name of the gRPC status code.
    """

    title: str
    cure: str
    exit_code: int
    http_status: int
    grpc_status: str


class ErrorCode(Enum):
    """Every error that a user, a device or an API client can be told."""

    ARGUMENT_INVALID = ErrorKind(
        "An argument cannot be used", "Correct the value that the message names.", 2, 422, "INVALID_ARGUMENT"
    )
    TASK_INVALID = ErrorKind(
        "The task file cannot be run",
        "Run `tutti task check TASK.yaml`: it lists every fault with its key and its cure.",
        3, 422, "INVALID_ARGUMENT",
    )  # fmt: skip
    DATA_INVALID = ErrorKind(
        "A data file cannot be read",
        "Mend the line that the message names, or leave it out; `tutti data check FILE` lists all of them.",
        4, 422, "INVALID_ARGUMENT",
    )  # fmt: skip
    NOT_FOUND = ErrorKind(
        "No such thing", "Look at `tutti runs list`; a run may be named by id, prefix or `latest`.", 5, 404, "NOT_FOUND"
    )
    BUDGET_EXCEEDED = ErrorKind(
        "The privacy budget does not allow this",
        "Ask for fewer rounds or more noise (`tutti cost TASK.yaml`), or have the budget changed, with a reason on record.",
        6, 409, "FAILED_PRECONDITION",
    )  # fmt: skip
    ENTRY_NOT_COMMITTED = ErrorKind(
        "The model's ledger entry is not committed",
        "Wait for the round to commit; a model is never shown before its privacy cost is on the record.",
        7, 409, "FAILED_PRECONDITION",
    )  # fmt: skip
    LEDGER_BROKEN = ErrorKind(
        "The ledger does not verify",
        "Run `tutti ledger verify` for the place, keep the store as it is, and compare with an earlier checkpoint.",
        8, 500, "DATA_LOSS",
    )  # fmt: skip
    SCHEMA_MISMATCH = ErrorKind(
        "The store has another schema than this version",
        "Run `tutti db upgrade` (it makes a backup first), or use the version that wrote the store.",
        9, 503, "FAILED_PRECONDITION",
    )  # fmt: skip
    RUN_STATE = ErrorKind(
        "The run is not in a state that allows this",
        "See `tutti runs show RUN` for its state.",
        10, 409, "FAILED_PRECONDITION",
    )  # fmt: skip
    TOO_FEW_DEVICES = ErrorKind(
        "Too few devices took part",
        "Lower cohort.report_goal or minimum_reports, or add devices; `tutti sessions RUN` shows where they left.",
        11, 503, "UNAVAILABLE",
    )  # fmt: skip
    MECHANISM_UNSUPPORTED = ErrorKind(
        "This combination cannot be priced or run",
        "Choose one that the message names; privacy is never switched off silently.",
        12, 422, "INVALID_ARGUMENT",
    )  # fmt: skip
    AUDIT_FAILED = ErrorKind(
        "The audit measured more leakage than the proof allows",
        "Treat the privacy claim as void until the cause is known: either the proof or the code is wrong.",
        13, 409, "FAILED_PRECONDITION",
    )  # fmt: skip
    UNAVAILABLE = ErrorKind(
        "The server cannot be reached or is shutting down",
        "Check the address and that `tutti serve` runs.",
        14,
        503,
        "UNAVAILABLE",
    )
    UNAUTHENTICATED = ErrorKind(
        "No valid token", "Pass a bearer token made by `tutti token create`.", 15, 401, "UNAUTHENTICATED"
    )
    FORBIDDEN = ErrorKind(
        "The token's scope does not allow this",
        "Use a token with the scope that the message names.",
        16,
        403,
        "PERMISSION_DENIED",
    )
    LEASE_HELD = ErrorKind(
        "Another process owns this population or plays this run",
        "Wait until the other process ends or its lease expires, or stop it; a server that owns no population answers reads only.",
        17, 409, "ABORTED",
    )  # fmt: skip
    CONFLICT = ErrorKind(
        "This was already done with other content",
        "Use a new idempotency key, or send the same content.",
        18,
        409,
        "ALREADY_EXISTS",
    )
    TOO_LARGE = ErrorKind(
        "The request is larger than allowed", "Send less at once; the message names the limit.", 19, 413, "RESOURCE_EXHAUSTED"
    )
    RATE_LIMITED = ErrorKind("Too many requests", "Wait as long as Retry-After says.", 20, 429, "RESOURCE_EXHAUSTED")
    ABORTED = ErrorKind(
        "The server no longer takes this contribution",
        "Nothing to do: the goal was reached or the deadline passed. The device comes back later.",
        21, 409, "ABORTED",
    )  # fmt: skip
    ENGINE_MISSING = ErrorKind(
        "The engine's environment is not installed", "Run the command that the message names.", 22, 503, "FAILED_PRECONDITION"
    )
    INTERRUPTED = ErrorKind("Interrupted", "Go on with `tutti runs resume RUN`.", 130, 503, "CANCELLED")
    INTERNAL = ErrorKind(
        "A fault of ours",
        "Please report it with the message; the round was abandoned and nothing was revealed.",
        70,
        500,
        "INTERNAL",
    )

    @property
    def slug(self) -> str:
        """The code as it stands on the wire and in URLs.

        >>> ErrorCode.BUDGET_EXCEEDED.slug
        'budget-exceeded'
        """
        return self.name.lower().replace("_", "-")


class TuttiError(Exception):
    """Something a user or peer can be told: a code from the catalogue and a sentence with the facts.

    >>> str(TuttiError(ErrorCode.NOT_FOUND, "no run starts with 'abc'"))
    "no run starts with 'abc'"
    """

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a task or data file: where (`privacy.clip_norm`, `file:12`), what, and how to cure it."""

    path: str
    message: str
    cure: str
