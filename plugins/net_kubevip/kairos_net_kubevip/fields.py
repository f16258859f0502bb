"""The fields of kube-vip's own configuration, and the environment variables that set them. Pure.

Fields are written as kube-vip's YAML writes them, without regard to case; a variable's own name works too.
Source: kube-vip v1.2, pkg/kubevip/config_types.go, config_bgp.go, config_envvar.go and config_environment.go.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from kairos_core import ConfigError

KUBECONFIG = "k8sConfigFile"
"""The host's kubeconfig for a static Pod, which has no service account: mounted, not passed on."""

VARIABLES: Mapping[str, str] = {
    "logging": "vip_loglevel",
    "enableARP": "vip_arp",
    "arpBroadcastRate": "vip_arpRate",
    "port": "port",
    "instanceName": "instance_name",
    "leaseNodeName": "vip_nodename",
    "loInterfaceGlobalScope": "vip_interfaceloglobal",
    "servicesInterface": "vip_servicesinterface",
    "allowInterfaceNotUp": "vip_allow_interface_not_up",
    "vipSubnet": "vip_subnet",
    "skipDAD": "vip_skipdad",
    "dnsDualStackMode": "dns_mode",
    "dhcpDualStackMode": "dhcp_mode",
    "dhcpBackoffAttempts": "dhcp_backoff_attempts",
    "enableControlPlane": "cp_enable",
    "namespace": "cp_namespace",
    "detectControlPlane": "cp_detect",
    "kubernetesAddr": "kubernetes_addr",
    "ddns": "vip_ddns",
    "singleNode": "vip_singlenode",
    "startAsLeader": "vip_startleader",
    "enableServices": "svc_enable",
    "serviceNamespace": "svc_namespace",
    "servicesLeaseName": "svc_leasename",
    "enableServicesElection": "svc_election",
    "perServiceElectionOnDemand": "per_service_election_on_demand",
    "lbClassOnly": "lb_class_only",
    "lbClassName": "lb_class_name",
    "lbClassNameLegacyHandling": "lb_class_legacy_handling",
    "enableServiceSecurity": "enable_service_security",
    "kubernetesLeaderElection.enableLeaderElection": "vip_leaderelection",
    "kubernetesLeaderElection.leaseName": "vip_leasename",
    "kubernetesLeaderElection.leaseDuration": "vip_leaseduration",
    "kubernetesLeaderElection.renewDeadline": "vip_renewdeadline",
    "kubernetesLeaderElection.retryPeriod": "vip_retryperiod",
    "kubernetesLeaderElection.leaseAnnotations": "vip_leaseannotations",
    "loseLeadership": "vip_loseleadership",
    "loseLeadershipTimeoutSeconds": "vip_loseleadership_timeout_seconds",
    "preserveVipOnLeadershipLoss": "vip_preserve_on_leadership_loss",
    "enableNodeLabeling": "enable_node_labeling",
    "annotations": "annotation",
    "enableWireguard": "vip_wireguard",
    "enableRoutingTable": "vip_routingtable",
    "routingTableID": "vip_routingtableid",
    "routingTableType": "vip_routingtabletype",
    "routingProtocol": "vip_routingprotocol",
    "cleanRoutingTable": "vip_cleanroutingtable",
    "enableBGP": "bgp_enable",
    "bgpAttachIPToInterface": "bgp_attach_ip_to_interface",
    "bgpConfig.routerID": "bgp_routerid",
    "bgpConfig.as": "bgp_as",
    "bgpConfig.sourceIF": "bgp_sourceif",
    "bgpConfig.sourceIP": "bgp_sourceip",
    "bgpConfig.holdTime": "bgp_hold_time",
    "bgpConfig.keepaliveInterval": "bgp_keepalive_interval",
    "bgpConfig.mpbgpNexthop": "mpbgp_nexthop",
    "bgpConfig.mpbgpIPv4": "mpbgp_ipv4",
    "bgpConfig.mpbgpIPv6": "mpbgp_ipv6",
    "bgpConfig.zebra.enabled": "zebra_enable",
    "bgpConfig.zebra.url": "zebra_url",
    "bgpConfig.zebra.version": "zebra_version",
    "bgpConfig.zebra.softwareName": "zebra_software_name",
    "bgpRouterInterface": "bgp_routerinterface",
    "bgpPeerConfig.address": "bgp_peeraddress",
    "bgpPeerConfig.as": "bgp_peeras",
    "bgpPeerConfig.password": "bgp_peerpass",
    "bgpPeerConfig.multiHop": "bgp_multihop",
    "bgpPeers": "bgp_peers",
    "controlPlaneHealthCheck.address": "control_plane_health_check_address",
    "controlPlaneHealthCheck.periodSeconds": "control_plane_health_check_period_seconds",
    "controlPlaneHealthCheck.timeoutSeconds": "control_plane_health_check_timeout_seconds",
    "controlPlaneHealthCheck.failureThreshold": "control_plane_health_check_failure_threshold",
    "controlPlaneHealthCheck.caPath": "control_plane_health_check_ca_path",
    "enableLoadBalancer": "lb_enable",
    "lbPort": "lb_port",
    "lbForwardingMethod": "lb_fwdmethod",
    "prometheusHTTPServer": "prometheus_server",
    "egressPodCidr": "egress_podcidr",
    "egressServiceCidr": "egress_servicecidr",
    "egressWithNftables": "egress_withnftables",
    "egressClean": "egress_clean",
    "enableInternalSNAT": "egress_enableinternalsnat",
    "enableEndpoints": "enable_endpoints",
    "disableServiceUpdates": "disable_service_updates",
    "mirrorDestInterface": "mirror_dest_interface",
    "iptablesBackend": "iptables_backend",
    "backendHealthCheckInterval": "backend_health_check_interval",
    "healthCheckPort": "health_check_port",
    "enableUPNP": "enable_upnp",
    "configFile": "config_file",
    "debounceTime": "debounce_time",
}

_LEADER_ELECTION = "kubernetesLeaderElection."
_ELSEWHERE = {"address": "kubevip.eip", "vip": "kubevip.eip", "interface": "kubevip.interface"}
_ALWAYS_ON = {"vip_arp", "cp_enable", "vip_leaderelection"}


def environment_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that set these fields (the section `kubevip.config`).

    Raises ConfigError for a field that kube-vip does not have, naming the nearest, and one that Kairos sets.
    """
    variables = {}
    for path, value in _leaves(config):
        if path.lower() == KUBECONFIG.lower():
            continue
        name = _variable(path)
        text = _format(path, value)
        if name in _ALWAYS_ON and text != "true":
            raise ConfigError(
                f"kubevip.config.{path} is {text}, but the elastic IP of the control plane needs it. "
                "Leave it out, or set kubevip.enable: false"
            )
        variables[name] = text
    return variables


def kubeconfig_of(config: Mapping[str, Any]) -> str | None:
    """Return the host's kubeconfig that a static Pod shall use, where the operator names one."""
    return next((str(value) for path, value in _leaves(config) if path.lower() == KUBECONFIG.lower()), None)


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and not path.lower().endswith("annotations"):
            yield from _leaves(value, f"{path}.")
        elif value is not None:
            yield path, value


def _variable(path: str) -> str:
    wanted = path.lower()
    if wanted in _ELSEWHERE:
        raise ConfigError(f"kubevip.config.{path} is set by Kairos: write {_ELSEWHERE[wanted]} instead")
    known = _known()
    if wanted in known:
        return known[wanted]
    nearest = difflib.get_close_matches(wanted, known, n=1)
    advice = f"did you mean {_written(nearest[0])}?" if nearest else "see the environment variables of kube-vip"
    raise ConfigError(f"kubevip.config.{path} is no field that kube-vip takes: {advice}")


def _known() -> dict[str, str]:
    known = {variable.lower(): variable for variable in VARIABLES.values()}
    known |= {field.lower(): variable for field, variable in VARIABLES.items()}
    # The reference's files name the fields of the leader election with and without their section.
    known |= {
        field.removeprefix(_LEADER_ELECTION).lower(): variable
        for field, variable in VARIABLES.items()
        if field.startswith(_LEADER_ELECTION)
    }
    return known | {KUBECONFIG.lower(): ""}


def _written(lowered: str) -> str:
    fields = [*VARIABLES, *(field.removeprefix(_LEADER_ELECTION) for field in VARIABLES), KUBECONFIG]
    return next((field for field in fields if field.lower() == lowered), lowered)


def _format(path: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(_format(path, item) for item in value)
    if isinstance(value, Mapping):
        return json.dumps(dict(value), sort_keys=True)
    if isinstance(value, str | int | float):
        return str(value)
    raise ConfigError(f"kubevip.config.{path} is a {type(value).__name__}; write a text, a number or true or false")
