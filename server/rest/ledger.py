"""Routes of the ledger: entries, checkpoint, proofs. Whoever keeps a checkpoint can find out about a changed history."""

import json
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from contract.errors import ErrorCode, TuttiError
from privacy.ledger import checkpoint, merkle
from privacy.ledger.entries import EntryKind
from server.rest import bodies, caching, cursors
from server.rest.access import Reader, ServicesOf, check_population, find_run
from server.rest.caching import IfNoneMatch
from server.rest.cursors import Cursor, Limit
from server.rest.problems import describes
from server.rest.runs import READ, READ_ONE, PopulationFilter
from server.store.values import Entry
from server.tokens import Principal

router = APIRouter(prefix="/v1", tags=["ledger"])
MOST = 2**31 - 1
"""Entries are counted in 32 bits."""
Position = Annotated[int, Query(ge=0, le=MOST)]
Size = Annotated[int | None, Query(ge=1, le=MOST, description="Entries of the tree; all of them unless given.")]


@router.get("/ledger/entries", responses=READ_ONE)
def list_entries(
    services: ServicesOf,
    principal: Reader,
    limit: Limit = 50,
    cursor: Cursor = None,
    population: PopulationFilter = None,
    run: Annotated[str | None, Query(min_length=1, max_length=64, pattern="^[a-z0-9]+$")] = None,
    kind: Annotated[EntryKind | None, Query()] = None,
) -> bodies.Page[bodies.EntryBody]:
    """Entries in order, by population, run and kind. The bodies are the bytes that are hashed."""
    start = cursors.number(cursor, default=-1) + 1
    if population is not None:
        check_population(principal, population)
    whole_run = None if run is None else find_run(services, principal, run).id
    found: list[Entry] = []
    for entry in services.store.ledger.entries(
        run=whole_run, population=population, kind=None if kind is None else kind.value, start=start
    ):
        if visible(principal, entry):
            found.append(entry)
        if len(found) > limit:
            break
    page, following = cursors.cut(found, limit, lambda entry: str(entry.index))
    return bodies.Page(items=[entry_body(entry) for entry in page], next=following)


@router.get("/ledger/entries/{index}", response_model=bodies.EntryBody, responses={**READ_ONE, **caching.NOT_MODIFIED})
def show_entry(
    services: ServicesOf, principal: Reader, index: Annotated[int, Path(ge=0, le=MOST)], if_none_match: IfNoneMatch = None
) -> Response:
    """One entry."""
    entry = services.store.ledger.entry(index)
    if not visible(principal, entry):
        raise TuttiError(ErrorCode.NOT_FOUND, f"the ledger has no entry {index}")
    body = entry_body(entry)
    return caching.immutable(body, tag=body.leaf_hash, if_none_match=if_none_match)


@router.get("/ledger/checkpoint", responses=READ | describes(ErrorCode.LEDGER_BROKEN))
def show_checkpoint(services: ServicesOf, _principal: Reader) -> bodies.CheckpointBody:
    """The signed head of the ledger. Keep it: a later ledger must extend it."""
    key = services.signer
    note = services.store.ledger.sign(key)
    head = checkpoint.unverified(note)
    return bodies.CheckpointBody(size=head.size, root_hash=head.root.hex(), note=note, verifier_key=str(key.verifier))


@router.get("/ledger/proofs/inclusion", response_model=bodies.InclusionBody, responses={**READ_ONE, **caching.NOT_MODIFIED})
def prove_inclusion(
    services: ServicesOf, _principal: Reader, index: Position, size: Size = None, if_none_match: IfNoneMatch = None
) -> Response:
    """The proof that entry `index` is in the tree of `size` entries (RFC 9162, section 2.1.3)."""
    ledger = services.store.ledger
    whole = ledger.head().size if size is None else size
    path = ledger.inclusion_proof(index, whole)
    leaf, root = merkle.leaf_hash(ledger.entry(index).body), ledger.root(whole)
    body = bodies.InclusionBody(
        index=index, size=whole, leaf_hash=leaf.hex(), root_hash=root.hex(), path=[step.hex() for step in path]
    )
    return caching.immutable(body, tag=f"i{index}-{whole}-{root.hex()[:16]}", if_none_match=if_none_match)


@router.get("/ledger/proofs/consistency", response_model=bodies.ConsistencyBody, responses={**READ, **caching.NOT_MODIFIED})
def prove_consistency(
    services: ServicesOf,
    _principal: Reader,
    first: Annotated[int, Query(ge=1, le=MOST)],
    second: Size = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The proof that the tree of `second` entries begins with that of `first` (RFC 9162, section 2.1.4)."""
    ledger = services.store.ledger
    whole = ledger.head().size if second is None else second
    path = ledger.consistency_proof(first, whole)
    old, new = ledger.root(first), ledger.root(whole)
    body = bodies.ConsistencyBody(
        first=first, second=whole, first_root_hash=old.hex(), second_root_hash=new.hex(), path=[step.hex() for step in path]
    )
    return caching.immutable(body, tag=f"c{first}-{whole}-{new.hex()[:16]}", if_none_match=if_none_match)


def entry_body(entry: Entry) -> bodies.EntryBody:
    """An entry as the API tells it."""
    text = entry.body.decode()
    return bodies.EntryBody(
        index=entry.index, kind=entry.kind, leaf_hash=merkle.leaf_hash(entry.body).hex(), body=text, entry=json.loads(text)
    )


def visible(principal: Principal, entry: Entry) -> bool:
    """Whether an entry lies within a token's limits."""
    if principal.populations is None:
        return True
    population = str(json.loads(entry.body).get("population") or "")
    return not population or principal.sees(population)
