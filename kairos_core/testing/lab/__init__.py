"""Real machines for tests, out of Linux namespaces: each with its own network, host name, processes and disk.

    async with Lab(machines=2) as lab:
        one, two = lab.machines
        print(await one.run("ping", "-c1", two.ipv4))
        agent = await one.start("kairos", "start")
        await lab.partition([one], [two])
        agent.kill()

Needs Linux with iproute2, nftables and util-linux, and root or a kernel that lets users make user namespaces.
"""

from kairos_core.testing.lab.lab import Lab
from kairos_core.testing.lab.link import Link
from kairos_core.testing.lab.machine import Machine
from kairos_core.testing.lab.namespaces import LabError, Output
from kairos_core.testing.lab.process import Process

__all__ = ["Lab", "LabError", "Link", "Machine", "Output", "Process"]
