import pytest
from kairos_net_kubevip import KubeVipSettings
from pydantic import ValidationError

from kairos_core import ConfigError


def test_the_section_of_the_documents_is_read_unchanged() -> None:
    settings = KubeVipSettings.checked(
        {"eip": "192.168.1.110", "manifest_url": "", "enable": True, "interface": "ens18"}
    )
    assert settings.is_enabled
    assert [str(ip) for ip in settings.addresses] == ["192.168.1.110"]
    assert (settings.version, settings.image) == ("v1.2.3", "ghcr.io/kube-vip/kube-vip")


def test_an_address_enables_the_elastic_ip_and_enable_false_turns_it_off() -> None:
    assert KubeVipSettings(eip="192.168.1.110").is_enabled
    assert not KubeVipSettings(eip="192.168.1.110", enable=False).is_enabled
    assert not KubeVipSettings(enable=True).is_enabled
    assert not KubeVipSettings.checked({"eip": None, "version": None}).is_enabled


@pytest.mark.parametrize("eip", ["192.168.1", "vip.example", "127.0.0.1", "0.0.0.0", "224.0.0.1", "10.0.0.1,x"])
def test_what_is_no_address_of_a_lan_is_refused(eip: str) -> None:
    with pytest.raises(ValidationError, match=r"is no IP address|cannot be an elastic IP"):
        KubeVipSettings.checked({"eip": eip})


def test_a_manifest_url_of_another_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="no https, http or file URL"):
        KubeVipSettings.checked({"manifest_url": "ftp://example/rbac.yaml"})


def test_an_unknown_field_of_kube_vip_is_refused_when_the_configuration_is_read() -> None:
    with pytest.raises(ConfigError, match="did you mean lbPort"):
        KubeVipSettings.checked({"config": {"lbPrt": 6443}})


def test_a_password_in_the_configuration_is_in_no_repr() -> None:
    assert "hunter2" not in repr(KubeVipSettings(config={"bgpPeerConfig": {"password": "hunter2"}}))
