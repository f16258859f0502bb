"""The simulator: whole networks of real nodes on virtual time, with every fault that follows from a seed.

    world       nodes, time, faults          node      one machine      network  disk  session   what it stands on
    invariants  what must always hold        scenarios what happens     trial    many seeds, and replaying one

`python -m kairos_core.testing.simulator --help` runs the scenarios.
"""

from kairos_core.testing.simulator.invariants import Violation as Violation
from kairos_core.testing.simulator.invariants import unsettled as unsettled
from kairos_core.testing.simulator.network import Conditions as Conditions
from kairos_core.testing.simulator.node import SimulatedNode as SimulatedNode
from kairos_core.testing.simulator.world import World as World
