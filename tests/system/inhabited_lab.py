"""Makes a lab with running programs, says what it made, and waits to be killed (or, with --once, goes on)."""

import asyncio
import json
import signal
import sys

from kairos_core.errors import KairosError
from kairos_core.testing.lab import Lab


async def main() -> None:
    async with Lab(2) as lab:
        one = lab.machines[0]
        await one.run("ip", "tuntap", "add", "dev", "kairos0", "mode", "tun")
        link = (await one.run("ip", "-brief", "link", "show", "kairos0")).stdout
        await one.run("ping", "-n", "-c1", "-W1", lab.machines[1].ipv4)
        # One that ignores polite signals, and one in a session of its own: nothing may escape.
        programs = [
            await one.start("sh", "-c", "trap '' TERM INT HUP; sleep 300; sleep 300"),
            await one.start("setsid", "--fork", "--wait", "sleep", "301"),
        ]
        pids = [await program.pid() for program in programs] + [machine.pid for machine in lab.machines]
        print(json.dumps({"directory": str(lab.directory), "pids": pids, "tunnel": link.split()[0]}), flush=True)
        if "--once" not in sys.argv:
            await asyncio.sleep(300)


# Whoever runs the tests in the background has SIGINT ignored for them, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    asyncio.run(main())
except KairosError as error:
    sys.exit(str(error))
