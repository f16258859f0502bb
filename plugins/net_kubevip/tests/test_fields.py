from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kairos_net_kubevip.fields import VARIABLES, environment_of, kubeconfig_of

from kairos_core import ConfigError


def test_fields_become_the_variables_of_kube_vip() -> None:
    config = {
        "enableBGP": True,
        "bgpConfig": {"as": 65000, "routerID": "192.168.1.7", "zebra": {"enabled": False}},
        "bgpPeers": ["192.168.1.1:65001::false", "192.168.1.2:65001::false"],
        "kubernetesLeaderElection": {"leaseName": "mine", "leaseAnnotations": {"a": "b"}},
        "prometheusHTTPServer": ":2113",
    }
    assert environment_of(config) == {
        "bgp_enable": "true",
        "bgp_as": "65000",
        "bgp_routerid": "192.168.1.7",
        "zebra_enable": "false",
        "bgp_peers": "192.168.1.1:65001::false,192.168.1.2:65001::false",
        "vip_leasename": "mine",
        "vip_leaseannotations": '{"a": "b"}',
        "prometheus_server": ":2113",
    }


def test_case_the_short_form_and_the_variables_own_name_are_accepted() -> None:
    assert environment_of({"LEASEDURATION": 15}) == {"vip_leaseduration": "15"}
    assert environment_of({"vip_leaseduration": 15}) == {"vip_leaseduration": "15"}
    assert environment_of({"vip_arprate": 5}) == {"vip_arpRate": "5"}


def test_an_unset_field_is_left_to_kube_vip() -> None:
    assert environment_of({"leaseName": None}) == {}


@pytest.mark.parametrize(
    ("config", "nearest"),
    [
        ({"leaseNme": "x"}, "leaseName"),
        ({"enableServics": True}, "enableServices"),
        ({"bgpConfig": {"routerId_": "x"}}, "bgpConfig.routerID"),
    ],
)
def test_an_unknown_field_is_an_error_that_names_the_nearest(config: dict[str, object], nearest: str) -> None:
    with pytest.raises(ConfigError, match=rf"did you mean {nearest}\?"):
        environment_of(config)


def test_what_kairos_sets_is_refused_with_the_key_to_use() -> None:
    with pytest.raises(ConfigError, match=r"write kubevip\.eip instead"):
        environment_of({"address": "192.168.1.9"})
    with pytest.raises(ConfigError, match=r"write kubevip\.interface instead"):
        environment_of({"Interface": "eth1"})
    with pytest.raises(ConfigError, match="enableARP is false"):
        environment_of({"enableARP": False})


def test_a_value_that_no_variable_can_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"kubevip\.config\.leaseName is a date"):
        environment_of({"leaseName": date(2026, 1, 1)})


def test_the_kubeconfig_of_a_static_pod_is_mounted_and_not_passed_on() -> None:
    assert environment_of({"k8sConfigFile": "/etc/k.yaml"}) == {}
    assert kubeconfig_of({"k8sConfigFile": "/etc/k.yaml"}) == "/etc/k.yaml"


def test_no_two_fields_set_the_same_variable() -> None:
    assert len(set(VARIABLES.values())) == len(VARIABLES)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.one_of(st.sampled_from(sorted(VARIABLES)), st.text(max_size=8)), values, max_size=4))
def test_any_configuration_gives_variables_or_a_clear_error(config: dict[str, object]) -> None:
    try:
        variables, message = environment_of(config), ""
    except ConfigError as error:
        variables, message = {}, str(error)
    assert not message or message.startswith("kubevip.config.")
    assert set(variables) <= set(VARIABLES.values())
