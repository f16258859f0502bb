"""Downloads from a server on this machine that misbehaves."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import random
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kairos_engine_k3s import download
from kairos_engine_k3s.download import Downloader, Patience
from kairos_engine_k3s.part import opened_part, remove_parts
from kairos_engine_k3s.program import UnfitError
from kairos_engine_k3s.progress import Progress

from kairos_core import EngineError
from kairos_core.testing.releases import Releases, served

CONTENT = random.Random(1).randbytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
ADVICE = "Check the settings."


@pytest.fixture
def releases(monkeypatch: pytest.MonkeyPatch) -> Iterator[Releases]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with served() as server:
        server.files["/k3s"] = CONTENT
        yield server


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "bin/.k3s.v1.31.4+k3s1.part"


def downloader(**patience: float) -> Downloader:
    values = {"silence": 5.0, "total": 20.0, **patience}
    return Downloader(threading.Event(), Patience(**values, pauses=(0.0, 0.0)))


def left(part: Path) -> set[str]:
    return {path.name for path in part.parent.iterdir()}


def begun(part: Path, content: bytes, tag: str = "") -> None:
    part.parent.mkdir()
    part.write_bytes(content)
    if tag:
        part.with_name(part.name + ".tag").write_text(tag)


def test_a_file_is_fetched_whole_and_stays_for_its_owner_only(releases: Releases, part: Path) -> None:
    downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert part.read_bytes() == CONTENT
    assert stat.S_IMODE(part.stat().st_mode) == 0o600
    assert left(part) == {part.name}


def test_a_connection_that_breaks_off_is_resumed_with_the_rest_only(releases: Releases, part: Path) -> None:
    releases.breaks = [100_000, 50_000]
    downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert part.read_bytes() == CONTENT
    assert releases.asked_for("/k3s") == [
        {"Range": None, "If-Range": None},
        {"Range": "bytes=100000-", "If-Range": '"one"'},
        {"Range": "bytes=150000-", "If-Range": '"one"'},
    ]


def test_how_far_it_is_is_known_and_a_resumed_part_counts(releases: Releases, part: Path) -> None:
    progress = Progress("v1")
    releases.breaks = [100_000, 50_000, 0]
    with pytest.raises(EngineError):
        Downloader(threading.Event(), Patience(5.0, 20.0, (0.0, 0.0)), progress).file(
            f"{releases.url}/k3s", part, DIGEST, ADVICE
        )
    assert (progress.done, progress.total) == (150_000, 300_000)
    releases.length = False
    Downloader(threading.Event(), progress=progress).file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert (progress.done, progress.total) == (300_000, 0), "the server did not say how much there is"


def test_what_came_before_a_restart_of_the_agent_is_not_fetched_again(releases: Releases, part: Path) -> None:
    releases.breaks = [100_000, 0, 0]
    with pytest.raises(EngineError, match=r"cannot fetch .*/k3s: the connection ended .*goes on from there"):
        downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert part.read_bytes() == CONTENT[:100_000]
    assert stat.S_IMODE(part.stat().st_mode) == 0o600
    downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert releases.asked_for("/k3s")[-1] == {"Range": "bytes=100000-", "If-Range": '"one"'}
    assert part.read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(releases: Releases, part: Path) -> None:
    begun(part, b"x" * 1000, '"of another file"')
    downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert part.read_bytes() == CONTENT
    assert len(releases.asked_for("/k3s")) == 1


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_without_a_strong_tag_the_checksum_finds_the_mixture_and_all_is_fetched_anew(
    tag: str | None, releases: Releases, part: Path
) -> None:
    releases.tag = tag
    begun(part, b"x" * 1000)
    downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert part.read_bytes() == CONTENT
    assert [each["Range"] for each in releases.asked_for("/k3s")] == ["bytes=1000-", None]


def test_a_server_that_ignores_range_is_understood(releases: Releases, part: Path) -> None:
    releases.ranges = False
    begun(part, CONTENT[:1000], '"one"')
    releases.breaks = [200_000]
    downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert part.read_bytes() == CONTENT


def test_a_longer_part_of_another_file_leaves_nothing_behind_the_new_one(releases: Releases, part: Path) -> None:
    begun(part, b"x" * 400_000, '"of another file"')
    part.chmod(0o755)
    downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert part.read_bytes() == CONTENT
    assert stat.S_IMODE(part.stat().st_mode) == 0o600


@pytest.mark.parametrize("answer", [None, "", "bytes 5-9/10", "bytes */10", "bytes 3-9/10, 0-1/10", "lines 3-9/10"])
def test_only_an_answer_that_begins_where_the_part_ends_goes_on(answer: str | None, part: Path) -> None:
    begun(part, b"abc")
    with opened_part(part) as opened:
        assert not opened.resume(answer)
        assert opened.resume("bytes 3-9/10")
        assert opened.resume("bytes 3-9/*")


def test_a_server_that_sends_another_range_is_asked_for_everything(releases: Releases, part: Path) -> None:
    releases.shift = 5
    begun(part, CONTENT[:1000], '"one"')
    downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert part.read_bytes() == CONTENT
    assert [each["Range"] for each in releases.asked_for("/k3s")] == ["bytes=1000-", None]


def test_a_part_that_was_whole_already_is_taken_as_it_is(releases: Releases, part: Path) -> None:
    begun(part, CONTENT, '"one"')
    downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert part.read_bytes() == CONTENT
    assert len(releases.asked_for("/k3s")) == 1


def test_a_damaged_file_is_deleted_and_the_error_says_so(releases: Releases, part: Path) -> None:
    with pytest.raises(UnfitError, match=rf"/k3s is damaged: .*{DIGEST[:8]}.*says {'0' * 64}.*was deleted"):
        downloader().file(f"{releases.url}/k3s", part, "0" * 64, ADVICE)
    assert left(part) == set()
    assert len(releases.asked_for("/k3s")) == 1


def test_a_damaged_file_from_a_server_that_breaks_off_is_not_fetched_for_ever(releases: Releases, part: Path) -> None:
    releases.breaks = [1000, 300_000, 1000, 300_000]
    with pytest.raises(UnfitError, match="is damaged"):
        downloader().file(f"{releases.url}/k3s", part, "0" * 64, ADVICE)
    assert left(part) == set()


def test_a_file_without_a_length_ends_with_its_connection(releases: Releases, part: Path) -> None:
    releases.length = False
    downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert part.read_bytes() == CONTENT


def test_redirects_are_followed_and_a_query_of_theirs_is_never_shown(releases: Releases, part: Path) -> None:
    releases.redirects["/old"] = f"{releases.url}/k3s?key=hidden-word"
    releases.files["/k3s?key=hidden-word"] = CONTENT
    begun(part, CONTENT[:1000], '"one"')
    downloader().file(f"{releases.url}/old", part, DIGEST, ADVICE)
    assert releases.asked[-1] == ("/k3s?key=hidden-word", {"Range": "bytes=1000-", "If-Range": '"one"'})
    del releases.files["/k3s?key=hidden-word"]
    with pytest.raises(EngineError, match=r"/old: 404") as caught:
        downloader().file(f"{releases.url}/old", part.with_name("other"), DIGEST, ADVICE)
    assert "hidden-word" not in str(caught.value)


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/hidden-word", "file:///etc/hidden-word", "/loop?hidden-word"])
def test_a_redirect_to_nowhere_is_an_error(target: str, releases: Releases) -> None:
    releases.redirects |= {"/loop": target, "/loop?hidden-word": target}
    with pytest.raises(EngineError, match=r"cannot fetch .*redirect.*Check the settings") as caught:
        downloader().text(f"{releases.url}/loop", ADVICE)
    assert "hidden-word" not in str(caught.value)


def test_a_file_that_is_not_there_is_an_error_at_once(releases: Releases, part: Path) -> None:
    with pytest.raises(EngineError, match=r"cannot fetch .*/none: 404 Not Found\. Check the settings\."):
        downloader().file(f"{releases.url}/none", part, DIGEST, ADVICE)
    assert len(releases.asked) == 1


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_is_not_well_is_asked_again_within_a_bound(status: int, releases: Releases, part: Path) -> None:
    releases.statuses["/k3s"] = [status, status]
    downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    releases.statuses["/k3s"] = [status] * 9
    with pytest.raises(EngineError, match=rf"/k3s: {status} .*Check the network"):
        downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert len(releases.statuses["/k3s"]) == 6


def test_a_slow_server_is_waited_for(releases: Releases, part: Path) -> None:
    releases.files["/slow"], releases.wait = CONTENT[:20_000], 0.002
    digest = hashlib.sha256(CONTENT[:20_000]).hexdigest()
    downloader().file(f"{releases.url}/slow", part, digest, ADVICE)
    assert part.stat().st_size == 20_000


def test_a_server_that_is_too_slow_is_given_up_and_what_came_is_kept(releases: Releases, part: Path) -> None:
    releases.wait = 0.05
    with pytest.raises(EngineError, match="it took too long"):
        downloader(total=0.2).file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert CONTENT.startswith(part.read_bytes())
    assert part.stat().st_size >= 1000
    releases.wait = 0
    downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert part.read_bytes() == CONTENT


def test_a_server_that_falls_silent_is_given_up(releases: Releases, part: Path) -> None:
    releases.wait = 0.5
    with pytest.raises(EngineError, match=r"cannot fetch .*timed out"):
        downloader(silence=0.05).file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert part.stat().st_size >= 1000


def test_a_server_that_is_not_there_is_an_error_with_advice(part: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/k3s"
    with pytest.raises(EngineError, match=r"cannot fetch .*: Connection refused\. Check the network"):
        downloader().file(url, part, DIGEST, ADVICE)


def test_an_agent_that_ends_stops_its_download(releases: Releases, part: Path) -> None:
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(EngineError, match="was stopped"):
        Downloader(stopped).file(f"{releases.url}/k3s", part, DIGEST, ADVICE)


def certificate(directory: Path) -> Path:
    """Make a certificate for 127.0.0.1 that nobody else has signed, with its key in the same file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    day, now = datetime.timedelta(days=1), datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = builder.add_extension(address, critical=True).sign(key, hashes.SHA256())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = directory / "certificate.pem"
    file.write_bytes(signed.public_bytes(form[0]) + key.private_bytes(*form))
    return file


def test_a_mirror_with_a_certificate_of_a_stranger_is_not_trusted(tmp_path: Path) -> None:
    with served(certificate(tmp_path)) as releases:
        releases.files["/text"] = b"hello"
        with pytest.raises(EngineError, match=r"certificate; is the clock right.*Check the settings"):
            downloader().text(f"{releases.url}/text", ADVICE)


def test_a_redirect_from_tls_to_none_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate(tmp_path)))
    with served(tmp_path / "certificate.pem") as releases, served() as plain:
        plain.files["/text"] = releases.files["/text"] = b"hello"
        releases.redirects |= {"/away": f"{plain.url}/text", "/here": f"{releases.url}/text"}
        assert downloader().text(f"{releases.url}/here", ADVICE) == "hello"
        with pytest.raises(EngineError, match="redirects from https to http, which is not followed"):
            downloader().text(f"{releases.url}/away", ADVICE)
        assert plain.asked == []


def test_a_tag_that_a_power_cut_has_spoilt_is_not_sent(releases: Releases, part: Path) -> None:
    begun(part, CONTENT[:1000])
    part.with_name(part.name + ".tag").write_bytes(b'"\xff\n\0')
    downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert releases.asked_for("/k3s") == [{"Range": "bytes=1000-", "If-Range": None}]
    assert part.read_bytes() == CONTENT


def test_what_is_too_large_to_be_k3s_is_refused(
    releases: Releases, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "LARGEST", 100_000)
    with pytest.raises(EngineError, match="too much to be k3s"):
        downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    releases.length = False
    with pytest.raises(EngineError, match="does not end"):
        downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert left(part) == set()


def test_a_disk_without_room_is_not_filled(releases: Releases, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(EngineError, match="has no room"):
        downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)


def test_two_processes_do_not_write_one_part(releases: Releases, part: Path) -> None:
    with opened_part(part), pytest.raises(EngineError, match="another process writes"):
        downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)


def test_a_link_in_the_place_of_a_part_is_not_followed(releases: Releases, part: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    part.parent.mkdir()
    part.symlink_to(victim)
    with pytest.raises(EngineError, match="cannot write"):
        downloader().file(f"{releases.url}/k3s", part, DIGEST, ADVICE)
    assert victim.read_text() == "untouched"


def test_a_mirror_may_be_a_directory(tmp_path: Path, part: Path) -> None:
    mirror = tmp_path / "v1.31.4+k3s1"
    mirror.mkdir()
    (mirror / "k3s").write_bytes(CONTENT)
    url = f"{tmp_path.as_uri()}/v1.31.4%2Bk3s1"
    downloader().file(f"{url}/k3s", part, DIGEST, ADVICE)
    assert part.read_bytes() == CONTENT
    with pytest.raises(EngineError, match=r"/none: No such file or directory\. Check the settings"):
        downloader().text(f"{url}/none", ADVICE)


def test_a_text_without_end_is_refused(releases: Releases) -> None:
    releases.files["/text"] = b"#" * (download.LARGEST_TEXT + 1)
    with pytest.raises(EngineError, match="more than 64 kB"):
        downloader().text(f"{releases.url}/text", ADVICE)


def test_a_text_that_breaks_off_is_fetched_again(releases: Releases) -> None:
    releases.files["/text"], releases.breaks = b"#" * 1000, [10]
    assert len(downloader().text(f"{releases.url}/text", ADVICE)) == 1000


def test_a_channel_is_read_without_following_it_to_a_page(releases: Releases) -> None:
    releases.redirects |= {"/moved": "/stable", "/stable": f"{releases.url}/tag/v1.31.4+k3s1"}
    assert downloader().channel(f"{releases.url}/moved", ADVICE) == "v1.31.4+k3s1"
    assert [path for path, _ in releases.asked] == ["/moved", "/stable"]


def test_a_mirror_of_plain_files_names_the_version_as_text(releases: Releases) -> None:
    releases.files["/stable"] = b"v1.31.4+k3s1\n"
    assert downloader().channel(f"{releases.url}/stable", ADVICE) == "v1.31.4+k3s1"


def test_a_channel_that_names_no_version_is_an_error(releases: Releases) -> None:
    releases.files["/page"] = b"<html>Welcome</html>"
    with pytest.raises(EngineError, match=r"/page names no version of k3s.*Check the settings"):
        downloader().channel(f"{releases.url}/page", ADVICE)
    with pytest.raises(EngineError, match="404"):
        downloader().channel(f"{releases.url}/none", ADVICE)


def test_parts_of_other_versions_go(part: Path) -> None:
    begun(part, b"some", '"one"')
    for name in (".k3s.v1.30.0+k3s1.part", ".k3s.v1.30.0+k3s1.part.tag", ".k3s.new", "k3s"):
        part.with_name(name).write_text("")
    remove_parts(part.parent, but=part)
    assert left(part) == {part.name, f"{part.name}.tag", "k3s"}
    remove_parts(part.parent)
    assert left(part) == {"k3s"}
