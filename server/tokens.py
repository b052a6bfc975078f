"""Bearer tokens: `tutti_<id>_<secret>`, scopes, populations, expiry. The store holds only the SHA-256 of a secret.

A secret has 256 bits from the operating system, so a plain hash is enough: there is nothing to guess, and no salt would slow down a
search of 2^256.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from sqlalchemy import select

from contract.clock import wall_time
from contract.entropy import Entropy, system_entropy
from contract.errors import ErrorCode, TuttiError
from server.store.engine import Transactions
from server.store.service_tables import TokenRow

_FORM = re.compile(r"tutti_([a-z2-7]{8})_([A-Za-z0-9_-]{43})")
POPULATION = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""A population's name, as tasks have it."""
_EVERY = "*"
"""How a token without a limit is kept. Rows from before this mark have an empty column, whether they were meant without a limit or a
variable of a shell was empty: they count for nothing."""


class Scope(Enum):
    """What a token may do. Scopes do not contain each other, but for `admin`, which may do everything but approve its own request."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    PRIVACY_OFFICER = "privacy-officer"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whoever asks. `populations` is None for all of them."""

    id: str
    name: str
    scopes: frozenset[Scope]
    populations: frozenset[str] | None = None

    def may(self, *scopes: Scope) -> bool:
        """Whether any of `scopes` is held; `admin` holds them all.

        >>> Principal(id="a", name="a", scopes=frozenset({Scope.VIEWER})).may(Scope.OPERATOR)
        False
        """
        return Scope.ADMIN in self.scopes or bool(self.scopes.intersection(scopes))

    def sees(self, population: str) -> bool:
        """Whether the population is within this principal's limits."""
        return self.populations is None or population in self.populations


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as it may be listed. `populations` is None for all of them, and empty where the token does not say: it counts for nothing."""

    id: str
    name: str
    scopes: frozenset[Scope]
    populations: frozenset[str] | None
    created_at: str
    expires_at: float | None
    revoked: bool


@dataclass(frozen=True, slots=True)
class FreshToken:
    """A token and its secret text, which is shown once and kept nowhere."""

    token: Token
    text: str = field(repr=False)


def _seconds() -> float:
    return wall_time().timestamp()


class Tokens:
    """The tokens of one store."""

    def __init__(
        self, transactions: Transactions, *, entropy: Entropy = system_entropy, now_s: Callable[[], float] = _seconds
    ) -> None:
        self._transactions, self._entropy, self._now_s = transactions, entropy, now_s

    def create(
        self, *, name: str, scopes: Iterable[Scope], populations: Iterable[str] | None = None, valid_s: float | None = None
    ) -> FreshToken:
        """A new token.

        Args:
          populations: what it is limited to; None for no limit. An empty list is refused: it might mean either.

        Raises:
          ValueError: for no name, no scope, what is no population's name, or a validity that is not positive.
        """
        held, limits = frozenset(scopes), None if populations is None else frozenset(populations)
        if limits is not None and not (limits and all(map(POPULATION.fullmatch, limits))):
            raise ValueError(
                f"a token is limited to populations by their names (lower case, digits, '.', '_', '-'), not {sorted(limits)}"
            )
        if not name or len(name) > 64 or not held:
            raise ValueError(
                f"a token needs a name of at most 64 characters and a scope, not {name!r} and {sorted(s.value for s in held)}"
            )
        if valid_s is not None and valid_s <= 0:
            raise ValueError(f"a token is valid for a positive time, not {valid_s} s")
        number = base64.b32encode(self._entropy(5)).decode().lower()
        secret = base64.urlsafe_b64encode(self._entropy(32)).decode().rstrip("=")
        row = TokenRow(
            id=number, name=name, secret_hash=_hash(secret), scopes=" ".join(sorted(scope.value for scope in held)),
            populations=_EVERY if limits is None else " ".join(sorted(limits)), created_at=wall_time().isoformat(timespec="seconds"),
            expires_at=None if valid_s is None else self._now_s() + valid_s, revoked=False,
        )  # fmt: skip
        with self._transactions.begin() as session:
            session.add(row)
        return FreshToken(_token(row), f"tutti_{number}_{secret}")

    def principal(self, text: str) -> Principal:
        """Whose token this is.

        Raises:
          TuttiError: UNAUTHENTICATED, in the same words whether the token is malformed, unknown, revoked or expired; in others, to
            whoever has it, if it does not say which populations it is for.
        """
        refused = TuttiError(ErrorCode.UNAUTHENTICATED, "the bearer token is not valid")
        match = _FORM.fullmatch(text)
        if match is None:
            raise refused
        with self._transactions.read() as session:
            row = session.get(TokenRow, match[1])
        if not hmac.compare_digest(b"\x00" * 32 if row is None else row.secret_hash, _hash(match[2])) or row is None:
            raise refused
        if row.revoked or (row.expires_at is not None and row.expires_at <= self._now_s()):
            raise refused
        token = _token(row)
        if token.populations is not None and not token.populations:
            detail = (
                f"token {token.id} is of an older version and does not say which populations it is for: make another with "
                f"`tutti token create`, with --population or for all of them, and `tutti token revoke {token.id}`"
            )
            raise TuttiError(ErrorCode.UNAUTHENTICATED, detail)
        return Principal(id=token.id, name=token.name, scopes=token.scopes, populations=token.populations)

    def exist(self) -> bool:
        """Whether any token was ever made."""
        with self._transactions.read() as session:
            return session.scalar(select(TokenRow.id).limit(1)) is not None

    def all(self) -> list[Token]:
        """Every token ever made, the oldest first."""
        with self._transactions.read() as session:
            return [_token(row) for row in session.scalars(select(TokenRow).order_by(TokenRow.created_at, TokenRow.id))]

    def revoke(self, number: str) -> None:
        """Ends a token at once.

        Raises:
          TuttiError: NOT_FOUND if there is none with this id.
        """
        with self._transactions.begin() as session:
            row = session.get(TokenRow, number)
            if row is None:
                raise TuttiError(ErrorCode.NOT_FOUND, f"no token has the id {number!r}")
            row.revoked = True


def _hash(secret: str) -> bytes:
    return hashlib.sha256(b"tutti token\x00" + secret.encode()).digest()


def _limits(kept: str) -> frozenset[str] | None:
    return None if kept == _EVERY else frozenset(kept.split())


def _token(row: TokenRow) -> Token:
    return Token(
        id=row.id, name=row.name, scopes=frozenset(Scope(word) for word in row.scopes.split()),
        populations=_limits(row.populations), created_at=row.created_at, expires_at=row.expires_at, revoked=row.revoked,
    )  # fmt: skip
