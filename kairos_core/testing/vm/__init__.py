"""Virtual machines for tests: Debian's own kernel, systemd as process 1, a clock and a disk of their own each.

    async with VirtualLab(projects, delay_ms=20, jitter_ms=5, loss=1) as lab:
        one, two = await lab.boot("node-1", "node-2", clocks=(0, 86400))
        print((await one.run("uname", "-r")).stdout)
        await one.reset()    # a power cut; reboot() is the polite way

What `kairos_core.testing.lab` makes of namespaces starts in milliseconds and shares the host's kernel, clock and init
system. This is for what that leaves out. Without hardware for it (KVM) a machine is about sixteen times slower.

Needs x86-64, root, and what `requirements` names; the first use makes a disk of 300 MB in the cache, from the
Debian archive that apt of this machine is set up with; that takes a minute or two.
"""

from kairos_core.testing.vm.agent import VirtualAgent
from kairos_core.testing.vm.lab import VirtualLab
from kairos_core.testing.vm.machine import VirtualMachine
from kairos_core.testing.vm.stream import Stream

__all__ = ["Stream", "VirtualAgent", "VirtualLab", "VirtualMachine"]
