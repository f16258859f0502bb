from __future__ import annotations

from typing import Any

import pytest
from kairos_engine_k3s.release import (
    asset_url,
    assets_of,
    channel_url,
    checked_channel,
    checked_place,
    checked_version,
    parse_channel,
    parse_sums,
    version_told,
)
from kairos_engine_k3s.settings import Install
from pydantic import ValidationError

ONE, OTHER = "a" * 64, "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("machine", "program", "sums"),
    [
        ("x86_64", "k3s", "sha256sum-amd64.txt"),
        ("aarch64", "k3s-arm64", "sha256sum-arm64.txt"),
        ("armv7l", "k3s-armhf", "sha256sum-arm.txt"),
        ("s390x", "k3s-s390x", "sha256sum-s390x.txt"),
        ("riscv64", "k3s-riscv64", "sha256sum-riscv64.txt"),
    ],
)
def test_files_are_called_as_k3s_calls_them(machine: str, program: str, sums: str) -> None:
    assets = assets_of(machine)
    assert (assets.program, assets.sums) == (program, sums)


def test_of_the_archives_of_images_the_smallest_comes_first() -> None:
    assert assets_of("armv7l").images == (
        "k3s-airgap-images-arm.tar.zst",
        "k3s-airgap-images-arm.tar.gz",
        "k3s-airgap-images-arm.tar",
    )


@pytest.mark.parametrize("base", ["https://mirror.example/k3s", "https://mirror.example/k3s/"])
def test_a_mirror_has_the_layout_of_the_releases_at_github(base: str) -> None:
    assert asset_url(base, "v1.31.4+k3s1", "k3s") == "https://mirror.example/k3s/v1.31.4%2Bk3s1/k3s"
    assert channel_url(base, "stable") == "https://mirror.example/k3s/stable"


def test_a_checksum_file_is_read_as_sha256sum_writes_it_and_other_lines_are_left_out() -> None:
    text = f"{ONE}  k3s\n{OTHER.upper()} *./k3s-arm64\n\n<html>\n{ONE}\nabc  k3s-armhf\n"
    assert parse_sums(text) == {"k3s": ONE, "k3s-arm64": OTHER}


@pytest.mark.parametrize(
    "answer",
    [
        "https://github.com/k3s-io/k3s/releases/tag/v1.31.4+k3s1",
        "https://github.com/k3s-io/k3s/releases/tag/v1.31.4%2Bk3s1",
        "https://mirror.example/v1.31.4+k3s1?a=b#c",
        "v1.31.4+k3s1\n",
    ],
)
def test_a_channel_names_its_version_by_a_url_or_as_text(answer: str) -> None:
    assert parse_channel(answer) == "v1.31.4+k3s1"


@pytest.mark.parametrize(
    "answer", ["", "https://update.k3s.io/v1-release/channels/stable", "<html>", "https://[", "v1.31.4+k3s1/../../etc"]
)
def test_what_names_no_version_is_none(answer: str) -> None:
    assert parse_channel(answer) is None


def test_k3s_tells_its_version_and_its_commit() -> None:
    assert version_told("v1.31.4+k3s1 (a562d090)") == "v1.31.4+k3s1"
    assert version_told("") == ""


@pytest.mark.parametrize("version", ["", "v1.31.4+k3s1", "v1.29.1-rc2+k3s1", "v1.31.4+k3s1-custom"])
def test_a_version_is_written_as_releases_are_called(version: str) -> None:
    assert checked_version(version) == version


@pytest.mark.parametrize("version", ["1.31.4+k3s1", "v1.31", "v1.31.4", "stable", "v1.31.4+k3s1/..", "../x"])
def test_what_is_no_version_is_refused_with_an_example(version: str) -> None:
    with pytest.raises(ValueError, match=r"is no version of k3s.*v1\.31\.4\+k3s1"):
        checked_version(version)


def test_a_channel_is_one_word() -> None:
    for channel in ("", "stable", "latest", "v1.31", "testing"):
        assert checked_channel(channel) == channel
    for wrong in ("v1.31.4+k3s1", "a/b", "..", " "):
        with pytest.raises(ValueError, match="is no channel"):
            checked_channel(wrong)


@pytest.mark.parametrize(
    "place", ["https://mirror.example:8443/k3s", "http://10.0.0.1", "file:///mnt/usb/k3s", "file://localhost/mnt", ""]
)
def test_a_mirror_is_reached_by_https_http_or_file(place: str) -> None:
    assert checked_place(place) == place


@pytest.mark.parametrize(
    "place",
    ["ftp://mirror", "/mnt/usb", "https://", "file://host/mnt", "https://m/?key=1", "https://m/#x", "http://a b"],
)
def test_other_urls_are_refused(place: str) -> None:
    with pytest.raises(ValueError, match="expected an https, http or file URL"):
        checked_place(place)


def test_a_login_in_a_url_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match="login") as caught:
        checked_place("https://me:hidden-word@mirror.example")
    assert "hidden-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": "v1.31.4+k3s1", "channel": "stable"}, "exclude each other; set one"),
        ({"channel_url": "https://mirror.example"}, "set channel too"),
        ({"version": "latest"}, "is no version"),
        ({"url": "ftp://mirror.example"}, "expected an https, http or file URL"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Install.checked(values)


def test_nothing_is_downloaded_unless_the_operator_says_what_or_from_where() -> None:
    assert not Install.checked({}).is_download
    assert not Install.checked({"source": "/mnt/usb", "version": "", "channel": None}).is_download
    for values in ({"version": "v1.31.4+k3s1"}, {"channel": "v1.31"}, {"url": "https://mirror.example"}):
        assert Install.checked(values).is_download
