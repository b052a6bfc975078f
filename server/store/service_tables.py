"""Tables of the service around the ledger: jobs, audits, tokens, answered requests, policies. Nothing here is a guarantee."""

from sqlalchemy import Float, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from server.store.tables import Base


class JobRow(Base):
    """A run or an audit that a runner should play; `id` is its own.

    Whoever holds the lease plays it; a lease that is not renewed is free for the next.
    """

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    population: Mapped[str] = mapped_column(String(64), index=True)
    state: Mapped[str] = mapped_column(String(20), index=True)
    workers: Mapped[int | None] = mapped_column(Integer)
    requested_by: Mapped[str] = mapped_column(String(64))
    holder: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[float] = mapped_column(Float)
    attempts: Mapped[int] = mapped_column(Integer)
    problem: Mapped[str | None] = mapped_column(String(40))
    detail: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[str] = mapped_column(String(40))


class AuditRow(Base):
    """An audit that was asked for: `spec` is its file as JSON, `data_digests` what its runs train on, `result` its object once it ended."""

    __tablename__ = "audits"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    task: Mapped[str] = mapped_column(String(64))
    population: Mapped[str] = mapped_column(String(64), index=True)
    spec: Mapped[str] = mapped_column(Text)
    data_digests: Mapped[str] = mapped_column(Text)
    progress: Mapped[str] = mapped_column(Text)
    result: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[str] = mapped_column(String(40))


class TokenRow(Base):
    """A bearer token: the SHA-256 of its secret, never the secret."""

    __tablename__ = "tokens"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    scopes: Mapped[str] = mapped_column(String(120))
    populations: Mapped[str] = mapped_column(Text)
    created_at: Mapped[str] = mapped_column(String(40))
    expires_at: Mapped[float | None] = mapped_column(Float)
    revoked: Mapped[bool]


class AnsweredRequestRow(Base):
    """The answer to a request with an `Idempotency-Key`, so that the same request is answered again and not done again."""

    __tablename__ = "answered_requests"
    principal: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column("request_key", String(200), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None] = mapped_column(Integer)
    body: Mapped[str | None] = mapped_column(Text)
    location: Mapped[str | None] = mapped_column(Text)
    began_at: Mapped[float] = mapped_column(Float)


class PopulationPolicyRow(Base):
    """Whether runs of a population start, and their models leave, only after a second person's approval."""

    __tablename__ = "population_policies"
    population: Mapped[str] = mapped_column(String(64), primary_key=True)
    approval_required: Mapped[bool]
