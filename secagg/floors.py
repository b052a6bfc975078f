"""What a device insists on, whatever a server proposes. It recomputes every consequence from the public numbers itself."""

from dataclasses import dataclass

from contract.collusion import colluding_devices, whole_devices
from secagg import thresholds
from secagg.parameters import LARGEST_MESSAGE_BYTES, Parameters, largest_message
from secagg.thresholds import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """A device's own lower limits. The defaults refuse small cohorts, and a server with which nobody is supposed to collude.

    Args:
      minimum_roster: it shares keys with no fewer devices, itself among them.
      minimum_survivors: it unmasks no sum of fewer.
      corrupt_fraction: it assumes no fewer colluding devices, whatever the server claims.

    >>> from secagg.parameters import Vector, choose
    >>> update = Vector(name="update", length=10, lane_bits=21, largest=9)
    >>> few = choose(roster_size=8, vectors=(update,), corrupt_fraction=0.05, drop_fraction=0.1)
    >>> Floors().fault(few)
    'rosters of 8 are below the floor of 16'
    >>> trusting = choose(roster_size=20, vectors=(update,), corrupt_fraction=0.0, drop_fraction=0.1)
    >>> Floors().fault(trusting), LOWEST_FLOORS.fault(trusting)
    ('a corrupt fraction of 0 is below the floor of 0.05', None)
    """

    minimum_roster: int = 16
    minimum_survivors: int = 12
    corrupt_fraction: float = 0.05

    def fault(self, parameters: Parameters) -> str | None:
        """Why these parameters are refused, or None."""
        if parameters.minimum_roster < self.minimum_roster:
            return f"rosters of {parameters.minimum_roster} are below the floor of {self.minimum_roster}"
        if parameters.minimum_survivors < self.minimum_survivors:
            return f"{parameters.minimum_survivors} survivors are below the floor of {self.minimum_survivors}"
        if parameters.corrupt_fraction < self.corrupt_fraction:
            return f"a corrupt fraction of {parameters.corrupt_fraction:g} is below the floor of {self.corrupt_fraction:g}"
        if parameters.corrupt_fraction >= 1 / 3:
            return f"no threshold withstands a corrupt fraction of {parameters.corrupt_fraction:g}"
        honest = parameters.minimum_survivors - colluding_devices(parameters.corrupt_fraction, parameters.roster_size)
        if honest < 2:
            return "a sum must hold the inputs of two honest devices at least"
        takes = largest_message(parameters.roster_size, parameters.degree)
        if takes > LARGEST_MESSAGE_BYTES:  # before tables of degree^2 numbers are made for a graph that could not be played
            return f"a roster of {parameters.roster_size} with {parameters.degree} neighbours takes messages of {takes} bytes"
        return self.topology_fault(parameters, parameters.topology(parameters.roster_size))

    def topology_fault(self, parameters: Parameters, topology: Topology) -> str | None:
        """Why a roster's graph is refused, or None.

        Source: NUMBERS.md, section 4: the complete graph with t >= ceil(2(k+1)/3) up to 64 devices, 2t > k + t1 everywhere, and
        the bound on a cut at 2^-100; `secagg.division` for the bound on a division at 2^-100.
        """
        n, corrupt = topology.roster_size, colluding_devices(parameters.corrupt_fraction, topology.roster_size)
        if n < parameters.minimum_roster:
            return f"{n} devices are below the smallest roster of {parameters.minimum_roster}"
        if not topology.separates:
            return f"{topology.threshold} shares of {topology.degree} can uncover both secrets of a device"
        if topology.complete:
            rule = thresholds.complete_topology(n, parameters.corrupt_fraction)
            return None if topology.threshold >= rule.threshold else f"threshold {topology.threshold} is below {rule.threshold}"
        bad = corrupt + whole_devices(parameters.drop_fraction, n)
        if n <= thresholds.COMPLETE_UP_TO or not thresholds.connected(n, topology.degree, bad, thresholds.SECURITY_BITS):
            return f"{topology.degree} neighbours are too few for {n} devices"
        if topology.degree % 2 or not thresholds.undivided(n, topology.degree, topology.threshold, corrupt):
            return f"a lying server can divide {n} devices with {topology.degree} neighbours and threshold {topology.threshold}"
        return None


LOWEST_FLOORS = Floors(minimum_roster=3, minimum_survivors=3, corrupt_fraction=0.0)
"""Only what is unsafe for everybody is refused. For tests, and for simulations in which one process plays both sides."""
