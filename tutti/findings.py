"""What only a simulation can see goes on the record when it is over: whether separation and cap were kept by every device."""

from client_sim.oracle import PARTICIPATIONS, SEPARATION, ParticipationOracle
from contract.canonical import Json
from privacy.ledger import entries
from server.store.store import Store
from server.store.values import Run, RunState


def record_findings(database: Store, run: Run, oracle: ParticipationOracle) -> None:
    """Appends what the oracle of a completed run saw; nothing happens if the run is not completed, or it was recorded before.

    The report of the run then calls these assumptions checked, or violated, with the digest of the oracle's evidence.
    """
    if run.spec.privacy.sampling == "poisson":
        return  # who was drawn is secret: what the oracle saw, and a digest of it, would tell those who know of all others
    done = database.run(run.id).state is RunState.COMPLETED
    if done and not any(database.ledger.entries(run=run.id, kind=entries.EntryKind.ASSUMPTION_CHECKED.value, limit=1)):
        database.ledger.append(*findings(run, oracle))


def findings(run: Run, oracle: ParticipationOracle) -> list[bytes]:
    """The entries that say what the oracle saw."""
    cohort, broken = run.spec.cohort, oracle.broken
    separation: dict[str, Json] = {"required": cohort.minimum_separation}
    if oracle.smallest_separation is not None:
        # Twice in one release is a violation that no separation describes, so a violated one is named apart: it is not priced.
        separation["smallest_seen" if SEPARATION in broken else "smallest"] = oracle.smallest_separation
    found = [_entry(run, oracle, "minimum-separation", SEPARATION in broken, separation)]
    if cohort.max_participations is not None:
        cap: dict[str, Json] = {"allowed": cohort.max_participations, "most": oracle.most_participations}
        found.append(_entry(run, oracle, "max-participations", PARTICIPATIONS in broken, cap))
    return found


def _entry(run: Run, oracle: ParticipationOracle, assumption: str, violated: bool, measured: dict[str, Json]) -> bytes:
    return entries.assumption_checked(
        population=run.spec.population,
        run=run.id,
        assumption=assumption,
        status="violated" if violated else "checked",
        measured=measured,
        evidence=oracle.evidence,
    )
