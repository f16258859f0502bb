"""The command line of k0s, as a table, and a parser that refuses what k0s refuses.

Source: docs.k0sproject.io, pages cli/k0s_controller, cli/k0s_worker, cli/k0s_token_create, cli/k0s_etcd_leave and
cli/k0s_reset, and pkg/config/cli.go of k0sproject/k0s at 002c392. Parsing is that of spf13/pflag: two dashes for names,
one for letters, flags and words in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

TABLE = """
data-dir                            value   controller worker token kubeconfig reset etcd
status-socket                       value   controller worker token kubeconfig reset etcd
debug,d                             switch  controller worker token kubeconfig reset etcd
debugListenOn                       value   controller worker token kubeconfig reset etcd
verbose,v                           switch  controller worker token kubeconfig reset etcd
help,h                              switch  controller worker token kubeconfig reset etcd
config,c                            value   controller reset
cri-socket                          value   controller worker reset
kubelet-root-dir                    value   controller worker reset
cidr-range                          value   controller worker
enable-cloud-provider               switch  controller worker
ignore-pre-flight-checks            switch  controller worker
iptables-mode                       value   controller worker
kubelet-extra-args                  value   controller worker
labels                              list    controller worker
logging,l                           value   controller worker
profile                             value   controller worker
taints                              list    controller worker
token-file                          value   controller worker
api-server-stop-timeout             value   controller
disable-components                  list    controller
enable-dynamic-config               switch  controller
enable-k0s-cloud-provider           switch  controller
enable-metrics-scraper              switch  controller
enable-worker                       switch  controller
feature-gates                       list    controller
init-only                           switch  controller
k0s-cloud-provider-port             int     controller
k0s-cloud-provider-update-frequency value   controller
kube-controller-manager-extra-args  value   controller
no-taints                           switch  controller
single                              switch  controller
peer-address                        value   etcd
expiry                              value   token
role                                value   token
wait                                switch  token
"""


class UsageError(Exception):
    """What k0s says of a command line that it does not take."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag: its long name, its letter if it has one, and whether it is a value, list, int or switch."""

    name: str
    short: str
    kind: str


def _read_table() -> dict[str, dict[str, Flag]]:
    flags: dict[str, dict[str, Flag]] = {}
    for line in TABLE.strip().splitlines():
        names, kind, *commands = line.split()
        name, _, short = names.partition(",")
        for command in commands:
            flags.setdefault(command, {})[name] = Flag(name, short, kind)
    return flags


FLAGS = _read_table()
"""The flags of each command, by long name."""


@dataclass
class Options:
    """A parsed command line: the words, and each flag's values."""

    words: list[str] = field(default_factory=list)
    given: dict[str, list[str]] = field(default_factory=dict)

    def value(self, name: str, default: str = "") -> str:
        """Return the last value of a flag."""
        return self.given.get(name, [default])[-1]

    def is_on(self, name: str) -> bool:
        """Say whether a switch is on."""
        return self.value(name, "false") in _TRUE

    def kubelet(self, name: str, default: str = "") -> str:
        """Return the last value of one of the kubelet's flags."""
        words = self.value("kubelet-extra-args").split()
        return next((w.partition("=")[2] for w in reversed(words) if w.startswith(f"--{name}=")), default)


_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


def parse(command: str, argv: Sequence[str]) -> Options:
    """Read a command line. Raises UsageError."""
    options, rest = Options(), list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            options.words.append(word)
            continue
        flag, shown, value = _found(FLAGS[command], word)
        if value is None:
            if flag.kind == "switch":
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                raise UsageError(f"flag needs an argument: {shown}")
        _check(flag, value)
        options.given.setdefault(flag.name, []).extend(value.split(",") if flag.kind == "list" else [value])
    return options


def _found(flags: dict[str, Flag], word: str) -> tuple[Flag, str, str | None]:
    """Return the flag of a word, how it is called in messages, and the value in the word if there is one."""
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        if name not in flags:
            raise UsageError(f"unknown flag: --{name}")
        return flags[name], f"--{name}", value if equals else None
    letter, value = word[1], word[2:].removeprefix("=")
    for flag in flags.values():
        if flag.short == letter:
            return flag, f"'{letter}' in -{letter}", value or None
    raise UsageError(f"unknown shorthand flag: '{letter}' in {word}")


def _check(flag: Flag, value: str) -> None:
    if flag.kind == "switch" and value not in (*_TRUE, *_FALSE):
        problem = f'strconv.ParseBool: parsing "{value}": invalid syntax'
    elif flag.kind == "int" and not value.removeprefix("-").isdecimal():
        problem = f'strconv.ParseInt: parsing "{value}": invalid syntax'
    else:
        return
    raise UsageError(f'invalid argument "{value}" for "--{flag.name}" flag: {problem}')
