"""What a round of secure aggregation is run with, and how to choose it so that it is secure and can finish."""

from dataclasses import dataclass
from enum import Enum

from contract.collusion import colluding_devices, whole_devices
from secagg import thresholds
from secagg.thresholds import Topology

WORD_BITS = 64
SMALLEST_ROSTER = 3
LARGEST_ROSTER = 1 << 16
LARGEST_NUMBER = (1 << 53) - 1
"""Of any integer of a context: the largest that canonical JSON, and so a digest, can carry (RFC 8785, section 3.2.2.3)."""
LARGEST_MESSAGE_BYTES = 1 << 20
"""Of any message but the masked input, which goes in chunks: what transports of this project carry in one piece."""
_LARGEST_CORRUPT = 1 / 3


class VectorKind(Enum):
    """What is promised about the sum of a lane: it fits, or it overflows with a probability that somebody proved."""

    EXACT = "exact"
    MODULAR = "modular"


class MaskCipher(Enum):
    """What expands masks; everybody in a round uses the same, so one device without AES instructions moves all to ChaCha20."""

    AES_256_CTR = "aes-256-ctr"
    CHACHA20 = "chacha20"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """One named vector of signed integers.

    Args:
      name: unique in the round.
      length: d, coordinates.
      lane_bits: B in [8, 32]; a word of 64 bits holds floor(64 / B) coordinates.
      kind: exact or modular.
      largest: greatest absolute value of a coordinate that a device may submit; the device checks its own.
    """

    name: str
    length: int
    lane_bits: int
    kind: VectorKind = VectorKind.EXACT
    largest: int

    def __post_init__(self) -> None:
        if not self.name.encode():
            raise ValueError("a vector needs a name")
        if not 1 <= self.length <= LARGEST_NUMBER:
            raise ValueError(f"vector {self.name}: length must lie in [1, 2^53), not {self.length}")
        if not 8 <= self.lane_bits <= 32:
            raise ValueError(f"vector {self.name}: lane_bits must lie in [8, 32], not {self.lane_bits}")
        if not 1 <= self.largest <= LARGEST_NUMBER:
            raise ValueError(f"vector {self.name}: largest must lie in [1, 2^53), not {self.largest}")

    @property
    def lanes(self) -> int:
        """Coordinates in a word."""
        return WORD_BITS // self.lane_bits

    @property
    def words(self) -> int:
        """Words that carry the vector."""
        return -(-self.length // self.lanes)

    @property
    def largest_cohort(self) -> int:
        """Most devices whose extreme inputs still sum exactly: n largest <= 2^(B-1) - 1.

        >>> Vector(name="update", length=5, lane_bits=8, largest=42).largest_cohort
        3
        """
        return ((1 << (self.lane_bits - 1)) - 1) // self.largest

    def largest_within(self, cohort: int) -> int:
        """Greatest value of `largest` with which `cohort` devices sum exactly; 0 if there is none."""
        return ((1 << (self.lane_bits - 1)) - 1) // cohort


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The public parameters of a round; everything in them enters the context that all devices sign.

    Args:
      roster_size: n, most devices on the roster.
      minimum_roster: fewest devices with which keys are shared.
      minimum_survivors: fewest masked inputs with which any device unmasks; each also wants the threshold of neighbours.
      degree, threshold: k and t for a roster of n; n - 1 is the complete graph.
      corrupt_fraction: g, devices that may collude with the server.
      drop_fraction: q, devices that may leave.
      vectors: what is summed.
      cipher: what expands masks.
    """

    roster_size: int
    minimum_roster: int
    minimum_survivors: int
    degree: int
    threshold: int
    corrupt_fraction: float
    drop_fraction: float
    vectors: tuple[Vector, ...]
    cipher: MaskCipher = MaskCipher.AES_256_CTR

    def __post_init__(self) -> None:
        if not SMALLEST_ROSTER <= self.roster_size <= LARGEST_ROSTER:
            raise ValueError(f"roster_size must lie in [{SMALLEST_ROSTER}, {LARGEST_ROSTER}], not {self.roster_size}")
        if not 1 <= self.minimum_roster <= self.roster_size:
            raise ValueError(f"minimum_roster must lie in [1, {self.roster_size}], not {self.minimum_roster}")
        if not 1 <= self.minimum_survivors <= self.roster_size:
            raise ValueError(f"minimum_survivors must lie in [1, {self.roster_size}], not {self.minimum_survivors}")
        if not 1 <= self.threshold <= self.degree < self.roster_size:
            raise ValueError(f"need 1 <= threshold <= degree < roster_size, not {self.threshold} and {self.degree}")
        if not 0.0 <= self.corrupt_fraction < 1.0 or not 0.0 <= self.drop_fraction < 1.0:
            raise ValueError("corrupt_fraction and drop_fraction must lie in [0, 1)")
        if not self.vectors or len({vector.name for vector in self.vectors}) != len(self.vectors):
            raise ValueError("a round needs at least one vector, and vectors need different names")

    @property
    def words(self) -> int:
        """Words of a masked input: all vectors, one behind the other."""
        return sum(vector.words for vector in self.vectors)

    def topology(self, roster_size: int) -> Topology:
        """The graph's numbers for the roster that came together.

        Where the ring would have more neighbours than there are devices, and up to `thresholds.COMPLETE_UP_TO` devices, it is the
        complete graph.

        Raises:
          ValueError: for a roster larger than the parameters allow.
        """
        if not 1 <= roster_size <= self.roster_size:
            raise ValueError(f"roster_size must lie in [1, {self.roster_size}], not {roster_size}")
        if roster_size <= max(thresholds.COMPLETE_UP_TO, self.degree + 1):
            rule = thresholds.complete_topology(roster_size, self.corrupt_fraction)
            if roster_size != self.degree + 1:
                return rule
            return Topology(roster_size, self.degree, self.threshold, rule.corrupt_neighbours, 0)
        return thresholds.ring_topology(roster_size, self.degree, self.threshold, self.corrupt_fraction)


class Infeasible(ValueError):
    """No secure round can be run with what was asked.

    Args:
      fault: what cannot be met.
      nearest: the nearest argument values that can, by name.
    """

    def __init__(self, fault: str, nearest: dict[str, int | float]) -> None:
        remedy = ", ".join(f"{name} {value:g}" for name, value in nearest.items())
        super().__init__(f"{fault}; the nearest that can be met: {remedy}" if nearest else fault)
        self.nearest = nearest


def choose(
    *,
    roster_size: int,
    vectors: tuple[Vector, ...],
    corrupt_fraction: float,
    drop_fraction: float,
    minimum_survivors: int | None = None,
    minimum_roster: int | None = None,
    cipher: MaskCipher = MaskCipher.AES_256_CTR,
) -> Parameters:
    """Parameters for rosters of `minimum_roster` to `roster_size` devices, secure against a lying server.

    Args:
      minimum_survivors: by default what is left of the smallest roster when floor(q n) leave.
      minimum_roster: by default the roster size.

    Guarantee:
      Up to floor(g n) devices, and one where g > 0, may give the server everything. For every roster in the range 2t > k + t1, and (up
      to 2^-100 over the graph, for each graph that the server tries) whatever it says to whom, the only sum that it learns is that of all
      honest survivors of one list, `secagg.division`. Any floor(q n) may leave at any time and the round still ends with a sum (up to
      2^-30, for leaving that does not depend on the graph).

    Raises:
      Infeasible: naming what cannot be met and the nearest that can; a cohort that is too large for one group is split by its caller.

    >>> update = Vector(name="update", length=1_300_000, lane_bits=21, largest=32_767)
    >>> chosen = choose(roster_size=32, vectors=(update,), corrupt_fraction=0.05, drop_fraction=0.1)
    >>> chosen.degree, chosen.threshold, chosen.minimum_survivors
    (31, 22, 29)
    """
    smallest = roster_size if minimum_roster is None else minimum_roster
    if not SMALLEST_ROSTER <= smallest <= roster_size <= LARGEST_ROSTER:
        raise ValueError(f"need {SMALLEST_ROSTER} <= minimum_roster <= roster_size <= {LARGEST_ROSTER}")
    if not 0.0 <= corrupt_fraction < _LARGEST_CORRUPT:
        raise Infeasible(f"no threshold withstands a corrupt fraction of {corrupt_fraction:g}", {"corrupt_fraction": 0.33})
    if not 0.0 <= drop_fraction < 1.0:
        raise ValueError(f"drop_fraction must lie in [0, 1), not {drop_fraction}")
    for vector in vectors:
        _refuse_overflow(vector, roster_size)
    degree, threshold = _shape(smallest, roster_size, corrupt_fraction, drop_fraction)
    _refuse_size(roster_size, degree)
    left = smallest - whole_devices(drop_fraction, smallest)
    floor = left if minimum_survivors is None else minimum_survivors
    _refuse_floor(floor, smallest, colluding_devices(corrupt_fraction, roster_size))
    return Parameters(
        roster_size=roster_size,
        minimum_roster=smallest,
        minimum_survivors=floor,
        degree=degree,
        threshold=threshold,
        corrupt_fraction=corrupt_fraction,
        drop_fraction=drop_fraction,
        vectors=vectors,
        cipher=cipher,
    )


def largest_message(roster_size: int, degree: int) -> int:
    """Bytes of the largest message of a round but the masked input, at most: the roster's lists, and k neighbours' keys or shares.

    >>> largest_message(1000, 150) < LARGEST_MESSAGE_BYTES < largest_message(16_000, 210)
    True
    """
    return 64 * roster_size + 400 * degree + 1024


def _refuse_size(roster_size: int, degree: int) -> None:
    found = largest_message(roster_size, degree)
    if found <= LARGEST_MESSAGE_BYTES:
        return
    complete = degree == roster_size - 1
    fitting = (LARGEST_MESSAGE_BYTES - 1024) // 464 if complete else (LARGEST_MESSAGE_BYTES - 1024 - 400 * degree) // 64
    raise Infeasible(
        f"the roster of {roster_size} devices with {degree} neighbours takes {found} bytes, above the {LARGEST_MESSAGE_BYTES} of a message",
        {"roster_size": max(SMALLEST_ROSTER, fitting)},
    )


def _refuse_overflow(vector: Vector, roster_size: int) -> None:
    if vector.kind is VectorKind.MODULAR or roster_size <= vector.largest_cohort:
        return
    bits = (roster_size * vector.largest).bit_length() + 1
    nearest: dict[str, int | float] = {"roster_size": vector.largest_cohort, "largest": vector.largest_within(roster_size)}
    if bits <= 32:
        nearest["lane_bits"] = bits
    raise Infeasible(
        f"vector {vector.name}: {roster_size} devices with values up to {vector.largest} do not fit {vector.lane_bits} bits",
        {name: value for name, value in nearest.items() if value},
    )


def _refuse_floor(floor: int, smallest: int, corrupt: int) -> None:
    fewest = corrupt + 2
    if floor > smallest:
        raise Infeasible(f"{floor} survivors cannot come out of a roster of {smallest}", {"minimum_survivors": smallest})
    if floor < fewest:
        nearest: dict[str, int | float] = {"minimum_survivors": fewest} if fewest <= smallest else {}
        raise Infeasible(f"{floor} survivors are too few: two of them must be honest", nearest)


def _shape(smallest: int, largest: int, corrupt_fraction: float, drop_fraction: float) -> tuple[int, int]:
    """Degree and threshold for the largest roster that hold for the smallest, too."""
    found = _feasible(smallest, largest, corrupt_fraction, drop_fraction)
    if found is not None:
        return found
    fault = f"{smallest} to {largest} devices, {corrupt_fraction:g} corrupt and {drop_fraction:g} leaving: no graph is both"
    for hundredths in range(int(drop_fraction * 100), -1, -1):
        if hundredths / 100 < drop_fraction and _feasible(smallest, largest, corrupt_fraction, hundredths / 100):
            raise Infeasible(f"{fault} secure and complete", {"drop_fraction": hundredths / 100})
    for hundredths in range(int(corrupt_fraction * 100), -1, -1):
        if _feasible(smallest, largest, hundredths / 100, 0.0):
            raise Infeasible(f"{fault} secure and complete", {"drop_fraction": 0.0, "corrupt_fraction": hundredths / 100})
    raise Infeasible(f"{fault} secure and complete", {})


def _feasible(smallest: int, largest: int, corrupt_fraction: float, drop_fraction: float) -> tuple[int, int] | None:
    """A ring where there are enough devices and it serves every roster, else the complete graph if that does, else None."""
    if largest > thresholds.COMPLETE_UP_TO:
        lowest = max(smallest, thresholds.COMPLETE_UP_TO + 1)
        rings = [thresholds.undivided_ring(n, corrupt_fraction, drop_fraction) for n in (lowest, largest)]
        for ring in sorted(ring for ring in rings if ring is not None):
            small = range(smallest, max(thresholds.COMPLETE_UP_TO, ring[0] + 1) + 1)
            serves = all(thresholds.ring_serves(n, *ring, corrupt_fraction, drop_fraction) for n in (lowest, largest))
            if serves and all(_complete(n, corrupt_fraction, drop_fraction) for n in small):
                return ring
    complete = [_complete(n, corrupt_fraction, drop_fraction) for n in range(smallest, largest + 1)]
    return (largest - 1, complete[-1]) if all(complete) else None


def _complete(n: int, corrupt_fraction: float, drop_fraction: float) -> int:
    """The complete graph's threshold, or 0 if it cannot be met when floor(q n) leave."""
    topology = thresholds.complete_topology(n, corrupt_fraction)
    return topology.threshold if topology.threshold <= n - whole_devices(drop_fraction, n) - 1 else 0
