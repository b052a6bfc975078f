"""Checks a whole ledger offline, with nothing but its entries, the public key and checkpoints that somebody kept.

What an editor without the signing key can do is found by the signature; what an operator with the key can do (remove, edit, reorder, sign
another history) is found by any earlier checkpoint that was kept elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from privacy.ledger import checkpoint, forms, merkle
from privacy.ledger.checkpoint import Checkpoint
from privacy.ledger.entries import EntryKind
from privacy.ledger.history import History, LengthOf
from privacy.ledger.notes import NoteInvalid, SignerKey, VerifierKey, open_note
from privacy.ledger.problems import LedgerProblem, ProblemKind


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """An entry as it was found: its claimed index, its bytes, and the leaf hash that was stored beside it (None if none was)."""

    index: int
    body: bytes
    leaf: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found. `root` is that of the entries as they are, hex."""

    entries: int
    root: str
    problems: tuple[LedgerProblem, ...]
    checkpoints: int
    key: str | None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; every key is always there."""
        return {
            "ok": self.ok, "entries": self.entries, "root": self.root, "checkpoints": self.checkpoints, "key": self.key,
            "problems": [problem.to_json() for problem in self.problems],
        }  # fmt: skip


def verify(
    entries: Iterable[LoggedEntry],
    *,
    key: VerifierKey,
    checkpoints: Sequence[str],
    since: Sequence[str] = (),
    complete: bool = True,
    whole_tasks: bool = False,
    length_of: LengthOf | None = None,
    lengths: Mapping[str, int] | None = None,
) -> Verdict:
    """Everything that is wrong with a ledger, each with its place.

    Args:
      key: the log's public key as the verifier knows it; keys that it endorsed, or that endorsed it, count too.
      checkpoints: notes that came with the entries.
      since: notes that somebody kept from earlier.
      whole_tasks: whether a task that this version cannot read is a problem, since nothing then holds its events to it.
      length_of: the length of a task's model; without it, and without the next, events are not held to that.
      lengths: numbers of parameters that the caller has in hand, by the digest of their bytes: a run's start has its model's length.
      complete: whether every entry has to be covered by one of `checkpoints`, as in an export; a store signs now and then only.

    Guarantee:
      If there is no problem, the entries begin with exactly those that every checkpoint in `since` covers (else SHA-256 has a
      collision), they were signed with the key, no model came of an uncharged round, no run changed its mechanism, and no
      event is cheaper than those before it, or than what its task asks for (`task_bound`).
    """
    walk = _Walk(
        History(whole_tasks=whole_tasks, length_of=length_of, lengths=lengths),
        {size for note in (*checkpoints, *since) if (size := _claimed_size(note)) is not None},
    )
    for entry in entries:
        walk.take(entry)
    keys = _trusted(key, walk)
    opened = [*_opened(checkpoints, keys, walk, kept=False), *_opened(since, keys, walk, kept=True)]
    _roots(opened, walk)
    newest = max((found.size for found, kept in opened if not kept), default=None)
    if complete and newest is None:
        walk.complain(ProblemKind.UNSIGNED, None, "no checkpoint of this log came with the entries")
    elif complete and newest is not None and newest < walk.tree.size:
        walk.complain(ProblemKind.UNSIGNED, newest, f"entries from {newest} on are covered by no signed checkpoint")
    return Verdict(
        entries=walk.tree.size, root=walk.tree.root().hex(), problems=(*walk.problems, *walk.history.problems),
        checkpoints=len(opened), key=key.id.hex(),
    )  # fmt: skip


def endorse(retired: SignerKey, current: VerifierKey) -> str:
    """The note by which a key passes its office on; stands in a `key-rotated` entry."""
    return retired.sign(f"tutti key rotation\n{current}\n")


class _Walk:
    """One pass over the entries: the tree, its roots at the sizes that matter, the history, the rotations."""

    def __init__(self, history: History, sizes: set[int]) -> None:
        self.tree, self.history, self.problems = merkle.Frontier(), history, list[LedgerProblem]()
        self.roots = {0: merkle.EMPTY_ROOT}
        self.rotations: list[tuple[int, Mapping[str, Any]]] = []
        self._sizes = sizes

    def take(self, entry: LoggedEntry) -> None:
        before, leaf = self.tree, merkle.leaf_hash(entry.body)
        place = before.size
        if entry.index != place:
            self.complain(ProblemKind.OUT_OF_PLACE, place, f"entry {entry.index} stands where entry {place} belongs")
        if entry.leaf is not None and entry.leaf != leaf:
            self.complain(ProblemKind.EDITED, place, "the bytes are not those whose hash was stored beside them")
        self.tree = self.tree.append(leaf)
        if self.tree.size in self._sizes:
            self.roots[self.tree.size] = self.tree.root()
        try:
            facts = forms.read(entry.body)
        except ValueError as error:
            self.complain(ProblemKind.MALFORMED, place, str(error))
            return
        if facts["kind"] == EntryKind.RUN_REGISTERED.value:
            self._known_head(before, facts["facts"].get("known_head"))
        if facts["kind"] == EntryKind.KEY_ROTATED.value:
            self.rotations.append((place, facts))
        self.history.add(place, facts)

    def _known_head(self, before: merkle.Frontier, known: object) -> None:
        """A run names the tree that it was added to: whoever kept its entry, its report or its receipt can tell another history."""
        if known is not None and known != {"size": before.size, "root": before.root().hex()}:
            detail = "the run was registered on top of other entries than those that stand before it"
            self.complain(ProblemKind.FORKED, before.size, detail)

    def complain(self, kind: ProblemKind, place: int | None, detail: str) -> None:
        self.problems.append(LedgerProblem(kind=kind, entry=place, detail=detail))


def _trusted(key: VerifierKey, walk: _Walk) -> list[VerifierKey]:
    """The key and those that are tied to it by endorsements in the log."""
    pairs: list[tuple[VerifierKey, VerifierKey]] = []
    for place, facts in walk.rotations:
        try:
            retired, current = VerifierKey.parse(facts["retired"]), VerifierKey.parse(facts["current"])
            text = open_note(facts["endorsement"], retired)
            if text != f"tutti key rotation\n{current}\n":
                raise NoteInvalid("it speaks of another key")
        except ValueError as error:
            walk.complain(ProblemKind.RESIGNED, place, f"the retired key did not endorse the new one: {error}")
            continue
        pairs.append((retired, current))
    keys = [key]
    for _ in pairs:
        for retired, current in pairs:
            if retired in keys and current not in keys:
                keys.append(current)
            elif current in keys and retired not in keys:
                keys.append(retired)
    return keys


def _opened(notes: Sequence[str], keys: Sequence[VerifierKey], walk: _Walk, *, kept: bool) -> list[tuple[Checkpoint, bool]]:
    opened: list[tuple[Checkpoint, bool]] = []
    for note in notes:
        try:
            opened.append((checkpoint.open_checkpoint(note, *keys), kept))
        except NoteInvalid as error:
            kind = ProblemKind.RESIGNED if kept else ProblemKind.SIGNATURE
            whose = "the checkpoint that was kept" if kept else "a checkpoint that came with the entries"
            walk.complain(kind, None, f"{whose} is not this log's: {error}")
    return opened


def _roots(opened: Sequence[tuple[Checkpoint, bool]], walk: _Walk) -> None:
    good = 0
    for found, kept in sorted(opened, key=lambda pair: (pair[0].size, pair[1])):
        whose = "the checkpoint that was kept" if kept else "a signed checkpoint"
        if found.size > walk.tree.size:
            walk.complain(
                ProblemKind.REMOVED, walk.tree.size, f"{whose} covers {found.size} entries, and only {walk.tree.size} are there"
            )
        elif walk.roots[found.size] != found.root:
            walk.complain(
                ProblemKind.FORKED, None,
                f"the first {found.size} entries are not those of {whose}: one from {good} to {found.size - 1} was edited, removed, "
                "added or moved",
            )  # fmt: skip
        else:
            good = found.size


def _claimed_size(note: str) -> int | None:
    try:
        return checkpoint.unverified(note).size
    except NoteInvalid:
        return None
