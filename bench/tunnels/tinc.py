"""tinc 1.0 in router mode, over UDP."""

from __future__ import annotations

import asyncio

from kairos_core.testing.lab import Machine
from tunnels.course import Course
from tunnels.tunnel import Tunnel, address_of, write_secret

_PREFIX = "10.23.0"
_PORT = 655
_HOME = "/run/bench/tinc"
PROBING = 6.0
"""Seconds in which it finds the path's MTU; until then it sends packets through its TCP connection."""

_UP = """#!/bin/sh
ip address add {host}/24 dev $INTERFACE
ip link set $INTERFACE up
"""


class Tinc(Tunnel):
    """Ciphers as they are by default (AES-256-CBC, SHA-256), socket buffers of 1 MiB."""

    name, interface = "tinc", "veth-tinc"

    async def start(self, course: Course) -> None:
        one, two = course.machines
        self.hosts = address_of(one, _PREFIX), address_of(two, _PREFIX)
        cards = [await self._prepare(one, self.hosts[0], ""), await self._prepare(two, self.hosts[1], one.name)]
        for machine in course.machines:
            for each, card in zip(course.machines, cards, strict=True):
                write_secret(machine, f"{_HOME}/hosts/{each.name}", card)
            words = ("tincd", "-c", _HOME, "-D", "--pidfile=/run/bench/tinc.pid")
            self.daemons.append(await machine.start(*words))

    async def _prepare(self, machine: Machine, host: str, partner: str) -> str:
        """Write the configuration; return the card by which the other knows this machine."""
        connect = f"ConnectTo = {partner}\n" if partner else ""
        settings = f"Name = {machine.name}\nMode = router\nDeviceType = tun\nInterface = {self.interface}\n"
        settings += f"BindToAddress = {machine.ipv4} {_PORT}\nUDPRcvBuf = 1048576\nUDPSndBuf = 1048576\n{connect}"
        write_secret(machine, f"{_HOME}/tinc.conf", settings)
        up = write_secret(machine, f"{_HOME}/tinc-up", _UP.format(host=host))
        await machine.run("chmod", "0700", up)
        card = f"Address = {machine.ipv4} {_PORT}\nSubnet = {host}/32\n"
        file = write_secret(machine, f"{_HOME}/hosts/{machine.name}", card)
        await machine.run("tincd", "-c", _HOME, "-K2048")  # appends the public key
        return (await machine.run("cat", file)).stdout

    async def is_up(self, course: Course) -> None:
        await super().is_up(course)
        await asyncio.sleep(PROBING)
