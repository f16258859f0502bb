"""The command line of `k3s server`, `agent` and `token rotate`, as a table, and a parser that refuses what k3s refuses.

Source: docs.k3s.io, pages cli/server, cli/agent and cli/token (k3s-io/docs at 0243496, 1f023c0 and 01f91e0), and for
the kind of each flag k3s-io/k3s pkg/cli/cmds/{server,agent,log}.go at 005499a and 00cc29b. Hidden and deprecated flags
that k3s still takes are in the table too. Parsing is that of urfave/cli over Go's flag package: one dash or
two, `-f=v` or `-f v`, the first argument that is no flag ends the flags.

This package uses relative imports and the standard library only (`cryptography` apart), so that the stand-in
starts in a fraction of a second without the rest of Kairos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

TABLE = """
config,c                           value   K3S_CONFIG_FILE             both
debug                              switch  K3S_DEBUG                   both
v                                  int     -                           both
vmodule                            value   -                           both
log,l                              value   -                           both
alsologtostderr                    switch  -                           both
token,t                            value   K3S_TOKEN                   both
token-file                         value   K3S_TOKEN_FILE              both
server,s                           value   K3S_URL                     both
cluster-secret                     value   K3S_CLUSTER_SECRET          both
data-dir,d                         value   K3S_DATA_DIR                both
bind-address                       value   -                           both
node-name                          value   K3S_NODE_NAME               both
with-node-id                       switch  -                           both
node-label                         list    -                           both
node-taint                         list    -                           both
image-credential-provider-bin-dir  value   -                           both
image-credential-provider-config   value   -                           both
selinux                            switch  K3S_SELINUX                 both
lb-server-port                     int     K3S_LB_SERVER_PORT          both
protect-kernel-defaults            switch  -                           both
container-runtime-endpoint         value   -                           both
default-runtime                    value   -                           both
image-service-endpoint             value   -                           both
pause-image                        value   -                           both
snapshotter                        value   -                           both
private-registry                   value   -                           both
airgap-extra-registry              list    -                           both
disable-default-registry-endpoint  switch  -                           both
nonroot-devices                    switch  -                           both
node-ip,i                          list    -                           both
node-external-ip                   list    -                           both
node-internal-dns                  list    -                           both
node-external-dns                  list    -                           both
resolv-conf                        value   K3S_RESOLV_CONF             both
flannel-iface                      value   -                           both
flannel-conf                       value   -                           both
flannel-cni-conf                   value   -                           both
vpn-auth                           value   K3S_VPN_AUTH                both
vpn-auth-file                      value   K3S_VPN_AUTH_FILE           both
kubelet-arg                        list    -                           both
kube-proxy-arg                     list    -                           both
enable-pprof                       switch  -                           both
rootless                           switch  -                           both
prefer-bundled-bin                 switch  -                           both
docker                             switch  -                           both
disable-selinux                    switch  -                           agent
no-flannel                         switch  -                           agent
disable-apiserver-lb               switch  -                           agent
https-listen-port                  int     -                           server
advertise-address                  value   -                           server
advertise-port                     int     -                           server
tls-san                            list    -                           server
tls-san-security                   switch  -                           server
cluster-cidr                       list    -                           server
service-cidr                       list    -                           server
service-node-port-range            value   -                           server
cluster-dns                        list    -                           server
cluster-domain                     value   -                           server
flannel-backend                    value   -                           server
flannel-ipv6-masq                  switch  -                           server
flannel-external-ip                switch  -                           server
egress-selector-mode               value   -                           server
servicelb-namespace                value   -                           server
write-kubeconfig,o                 value   K3S_KUBECONFIG_OUTPUT       server
write-kubeconfig-mode              value   K3S_KUBECONFIG_MODE         server
write-kubeconfig-group             value   K3S_KUBECONFIG_GROUP        server
helm-job-image                     value   -                           server
agent-token                        value   K3S_AGENT_TOKEN             server
agent-token-file                   value   K3S_AGENT_TOKEN_FILE        server
cluster-init                       switch  K3S_CLUSTER_INIT            server
cluster-reset                      switch  K3S_CLUSTER_RESET           server
cluster-reset-restore-path         value   -                           server
kube-apiserver-arg                 list    -                           server
etcd-arg                           list    -                           server
kube-controller-manager-arg        list    -                           server
kube-scheduler-arg                 list    -                           server
kube-cloud-controller-manager-arg  list    -                           server
kube-controller-arg                list    -                           server
kube-cloud-controller-arg          list    -                           server
datastore-endpoint                 value   K3S_DATASTORE_ENDPOINT      server
datastore-cafile                   value   K3S_DATASTORE_CAFILE        server
datastore-certfile                 value   K3S_DATASTORE_CERTFILE      server
datastore-keyfile                  value   K3S_DATASTORE_KEYFILE       server
etcd-expose-metrics                switch  -                           server
etcd-disable-snapshots             switch  -                           server
etcd-snapshot-name                 value   -                           server
etcd-snapshot-schedule-cron        value   -                           server
etcd-snapshot-retention            int     -                           server
etcd-snapshot-dir                  value   -                           server
etcd-snapshot-compress             switch  -                           server
etcd-s3                            switch  -                           server
etcd-s3-endpoint                   value   -                           server
etcd-s3-endpoint-ca                value   -                           server
etcd-s3-skip-ssl-verify            switch  -                           server
etcd-s3-access-key                 value   AWS_ACCESS_KEY_ID           server
etcd-s3-secret-key                 value   AWS_SECRET_ACCESS_KEY       server
etcd-s3-bucket                     value   -                           server
etcd-s3-region                     value   -                           server
etcd-s3-folder                     value   -                           server
etcd-s3-proxy                      value   -                           server
etcd-s3-config-secret              value   -                           server
etcd-s3-insecure                   switch  -                           server
etcd-s3-timeout                    value   -                           server
default-local-storage-path         value   -                           server
disable                            list    -                           server
disable-scheduler                  switch  -                           server
disable-cloud-controller           switch  -                           server
disable-kube-proxy                 switch  -                           server
disable-network-policy             switch  -                           server
disable-helm-controller            switch  -                           server
disable-apiserver                  switch  -                           server
disable-controller-manager         switch  -                           server
disable-etcd                       switch  -                           server
disable-agent                      switch  -                           server
embedded-registry                  switch  -                           server
supervisor-metrics                 switch  -                           server
system-default-registry            value   K3S_SYSTEM_DEFAULT_REGISTRY server
secrets-encryption                 switch  -                           server
secrets-encryption-provider        value   -                           server
kubeconfig                         value   KUBECONFIG                  rotate
data-dir,d                         value   K3S_DATA_DIR                rotate
server,s                           value   K3S_URL                     rotate
token,t                            value   K3S_TOKEN                   rotate
new-token                          value   -                           rotate
"""


class UsageError(Exception):
    """The command line is not one that k3s takes; the message is k3s' own."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: `kind` is switch, value, int, or list (given several times, it accumulates)."""

    name: str
    short: str
    kind: str
    variable: str


def _flags(command: str) -> dict[str, Flag]:
    flags = {}
    for line in TABLE.strip().splitlines():
        names, kind, variable, where = line.split()
        name, _, short = names.partition(",")
        if where == command or (where == "both" and command != "rotate"):
            flags[name] = Flag(name, short, kind, "" if variable == "-" else variable)
    return flags


FLAGS = {command: _flags(command) for command in ("server", "agent", "rotate")}
"""The flags of each command; `rotate` is `k3s token rotate`."""

_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


class Options:
    """The values of one command: the command line first, then the environment, as k3s reads them."""

    def __init__(self, command: str, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Parse. Raises UsageError."""
        self._flags = FLAGS[command]
        self._values: dict[str, list[str]] = {}
        for flag in self._flags.values():
            if flag.variable and environment.get(flag.variable):
                self._values[flag.name] = [_checked(flag, environment[flag.variable])]
        self._values.update(_parse(self._flags, argv))

    def value(self, name: str, default: str = "") -> str:
        """Return the value of a flag given once; the last one counts."""
        return self._values.get(name, [default])[-1]

    def values(self, name: str) -> list[str]:
        """Return all values of a list flag; commas separate values too."""
        return [part for value in self._values.get(name, []) for part in value.split(",") if part]

    def is_set(self, name: str) -> bool:
        """Say whether a switch is on."""
        return self.value(name) in _TRUE

    def component(self, flag: str, key: str, default: str) -> str:
        """Return `value` of `--<flag> key=value` (kubelet-arg and its like); the last one counts."""
        pairs = [text.partition("=") for text in self._values.get(flag, [])]
        return ([value for name, _, value in pairs if name == key] or [default])[-1]


def _parse(flags: Mapping[str, Flag], argv: Sequence[str]) -> dict[str, list[str]]:
    names = {name: flag for flag in flags.values() for name in (flag.name, flag.short) if name}
    values: dict[str, list[str]] = {}
    rest = list(argv)
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
        text = rest.pop(0)
        name, equals, value = text.removeprefix("-").removeprefix("-").partition("=")
        flag = names.get(name)
        if flag is None:
            raise UsageError(f"flag provided but not defined: -{name}")
        if not equals and flag.kind == "switch":
            value = "true"
        elif not equals:
            if not rest:
                raise UsageError(f"flag needs an argument: -{name}")
            value = rest.pop(0)
        values.setdefault(flag.name, []).append(_checked(flag, value))
    return values


def _checked(flag: Flag, value: str) -> str:
    if flag.kind == "switch" and value not in (*_TRUE, *_FALSE):
        raise UsageError(f'invalid boolean value "{value}" for -{flag.name}: parse error')
    if flag.kind == "int" and not value.lstrip("-").isdecimal():
        raise UsageError(f'invalid value "{value}" for flag -{flag.name}: parse error')
    return value
