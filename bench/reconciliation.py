"""What it costs two ledgers to agree: `./run bench reconciliation [--entries N] [--repeat R] [--json FILE]`.

Two nodes hold N entries; one writes some more that do not reach the other; then both run on virtual time until they
agree. Reported for 1, 10 and 100 such entries, as medians: the bytes of all datagrams (entries, IPv4 and UDP headers,
and the probes meanwhile) and of streams, and the processor time of both nodes, verification included. Beside
them: what keeping the sketch up to date costs for each entry.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from random import Random
from statistics import median

import click

from kairos_core.protocol.ledger import draft
from kairos_core.protocol.sketch import Sketch
from kairos_core.testing.swarm import Swarm

DIFFERENCES = (1, 10, 100)


def full_swarm(entries: int) -> Swarm:
    swarm = Swarm(seed=1, nodes=2)
    raws = []
    for number in range(entries):
        if number % 4000 == 0:  # an author may have 4096
            author = Swarm(seed=number + 2, nodes=1).nodes[0]
        entry = draft(author.peer, "values", f"key-{number}", f"value of the entry with number {number}")
        author.ledger.network = swarm.keyring.network
        raws.append(author.ledger.write(author.identity, entry, swarm.nodes[0].unix_now()).entry.raw)
    for node in swarm.nodes:
        node.gossip.restore(raws, swarm.now, node.unix_now())
    swarm.acquaint()
    swarm.run(5.0)
    return swarm


def differ(swarm: Swarm, count: int, run: int) -> dict[str, float]:
    """Let the first node hold what the second lacks; return what it takes to mend that."""
    swarm.loss = 1.0
    for number in range(count):
        swarm.nodes[0].write("values", f"new {run}-{count}-{number}", "v" * 60)
    swarm.run(0.35)
    swarm.loss = 0.0
    swarm.sent.clear()
    swarm.streams.clear()
    before, stream_bytes, began = swarm.now, swarm.stream_bytes, time.process_time()
    if not swarm.run(60.0, swarm.agree, step=0.01):
        raise RuntimeError(f"{count} differences are not mended after a minute")
    return {
        "bytes": sum(swarm.sent.values()) + swarm.stream_bytes - stream_bytes,
        "streams": sum(swarm.streams.values()),
        "cpu_ms": 1000 * (time.process_time() - began),
        "seconds": swarm.now - before,
    }


def upkeep() -> float:
    """Return the microseconds that one entry costs the sketch."""
    draw, sketch = Random(1), Sketch(bytes(16))
    ids = [draw.randbytes(8) for _ in range(20_000)]
    began = time.process_time()
    for short_id in ids:
        sketch.toggle(short_id)
    return (time.process_time() - began) / len(ids) * 1e6


@click.command()
@click.option("--entries", default=10_000, show_default=True, help="Entries that both hold.")
@click.option("--repeat", default=5, show_default=True, help="Runs to take the median of.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(entries: int, repeat: int, file: Path | None) -> None:
    """Measure what it costs two ledgers to agree."""
    swarm = full_swarm(entries)
    rows = {count: [differ(swarm, count, run) for run in range(repeat)] for count in DIFFERENCES}
    medians = {
        str(count): {key: round(median(row[key] for row in found), 2) for key in found[0]}
        for count, found in rows.items()
    }
    figures = {"entries": entries, "sketch_us_per_entry": round(upkeep(), 2), "differences": medians}
    click.echo(json.dumps(figures, indent=2))
    if file is not None:
        file.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
