"""The command `./run sim`: many seeds of the scenarios, or one seed again with its trace."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path

from kairos_core.testing.simulator.scenarios import SCENARIOS
from kairos_core.testing.simulator.trial import Failure, Report, Run, play, run_trial, shares

SEEDS = 20_000
TOLD = 5
"""Failures whose trace is printed; all are in the JSON."""


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments say; the exit code is 1 when a promise was broken."""
    options = _parser().parse_args(arguments)
    logging.getLogger("kairos_core").setLevel(logging.CRITICAL)  # a thousand nodes would tell of their clocks
    if options.seed is not None:
        return _replay(options)
    usual = [name for name, scenario in SCENARIOS.items() if scenario.is_for_all]
    names = usual if options.scenario == "all" else [options.scenario]
    share = shares([SCENARIOS[name] for name in names], options.seeds)
    work = {name: range(options.first, options.first + count) for name, count in share.items()}
    report = run_trial(work, options.jobs, _Progress(sum(share.values())))
    _tell(report)
    _write(options.json, report)
    return 1 if report.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("./run sim", description="Run simulated networks of real nodes on virtual time.")
    lines = "\n".join(f"  {scenario.name:24} {scenario.sentence}" for scenario in SCENARIOS.values())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"scenarios:\n{lines}"
    parser.add_argument("--scenario", choices=[*SCENARIOS, "all"], default="all", metavar="NAME", help="(all)")
    parser.add_argument(
        "--seeds", type=int, default=SEEDS, metavar="N", help=f"seeds in all, shared by the scenarios ({SEEDS})"
    )
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first seed of each scenario (0)")
    parser.add_argument("--seed", type=int, help="run this seed only and print its trace; needs --scenario")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (one a core)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser


def _replay(options: argparse.Namespace) -> int:
    if options.scenario == "all":
        print("--seed needs --scenario: a seed means something else in each", file=sys.stderr)
        return 2
    run = play(SCENARIOS[options.scenario], options.seed, traces=True)
    print("\n".join(run.trace))
    print(f"fingerprint {run.fingerprint}; {run.virtual_seconds:.1f} virtual seconds in {run.seconds:.2f} s")
    if run.failure is not None:
        print(f"BROKEN: {run.failure.reason}")
    return 1 if run.failure else 0


class _Progress:
    """Tells how far the trial is, on a terminal, and of each broken promise at once."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._failed = total, 0, 0

    def __call__(self, run: Run) -> None:
        self._done += 1
        if run.failure is not None:
            self._failed += 1
            if self._failed <= TOLD:
                _tell_failure(run.failure)
        if sys.stderr.isatty() and self._done % 20 == 0:
            print(f"\r{self._done} of {self._total} seeds, {self._failed} broken ", end="", file=sys.stderr)


def _tell_failure(failure: Failure) -> None:
    print(f"\nBROKEN in {failure.scenario}, seed {failure.seed}: {failure.reason}")
    print("\n".join(f"    {line}" for line in failure.trace[-15:]))
    print(f"  replay: {failure.replay}\n", flush=True)


def _tell(report: Report) -> None:
    print(f"{'scenario':24}{'seeds':>8}{'broken':>8}{'with a cluster':>16}{'CPU ms/seed':>13}{'virtual s':>11}")
    for name, tally in report.tallies.items():
        each = max(1, tally.seeds)
        figures = f"{1000 * tally.seconds / each:13.0f}{tally.virtual_seconds / each:11.1f}"
        print(f"{name:24}{tally.seeds:8}{tally.violations:8}{tally.initialised:16}{figures}")
    document = report.document()
    print(
        f"{document['seeds']} seeds, {document['violations']} violations, in {report.seconds:.0f} s with "
        f"{report.jobs} processes: {document['seeds_per_second']} seeds per second"
    )
    for failure in report.failures[TOLD:]:
        print(f"  replay: {failure.replay}")


def _write(file: Path | None, report: Report) -> None:
    if file is not None:
        file.write_text(json.dumps(report.document(), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
