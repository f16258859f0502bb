import os
import ssl
import subprocess
import sys
import tempfile

from kairos_transport_tls.contexts import Contexts, server_name

from kairos_core.testing.transports import NOON, RecordingHost, running


def test_a_context_is_made_once_and_dropped_with_its_key():
    host = RecordingHost("one")
    contexts = Contexts(host)
    current = host.network_keys()[0]
    made = contexts.client(current)
    assert contexts.client(current) is made
    host.unix_now = NOON + 36_000
    contexts.client(host.network_keys()[0])
    assert current.label not in contexts._pairs
    assert len(contexts._pairs) == 1


def test_no_label_but_the_accepted_ones_makes_a_context():
    host = RecordingHost("one")
    contexts = Contexts(host)
    for name in (None, "", "e1.kairos.invalid", "join", "join.kairos.invalid.", "x" * 255):
        assert contexts._server(name) is None
    assert not contexts._pairs
    assert all(contexts._server(server_name(key)) for key in host.network_keys())
    assert len(contexts._pairs) == 4


def test_an_entrance_serves_one_handshake_at_a_time():
    contexts = Contexts(RecordingHost("one"))
    first, second = contexts.enter(), contexts.enter()
    assert first is not second
    contexts.leave(first)
    assert contexts.enter() is first


def test_contexts_speak_tls_1_3_and_demand_a_certificate_of_their_one_authority():
    contexts = Contexts(host := RecordingHost("one"))
    key = host.network_keys()[0]
    for context in (contexts.client(key), contexts._server(server_name(key)), contexts.enter().context):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_3
        assert context.verify_mode == ssl.CERT_REQUIRED
    assert contexts.client(key).cert_store_stats()["x509_ca"] == 1
    assert contexts._server(server_name(key)).cert_store_stats() == {"x509": 1, "x509_ca": 1, "crl": 0}


WATCH = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(args) if event == "open" else None)
import os
from kairos_core.testing.transports import RecordingHost
from kairos_transport_tls.contexts import Contexts
contexts = Contexts(host := RecordingHost("one"))
del opened[:]
contexts.client(host.network_keys()[0])
written = [a for a in opened if isinstance(a[2], int) and a[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)]
assert not written, written
left = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if n != "3"]
assert not any("memfd" in name for name in left), left
print("clean")
"""


def test_the_identity_key_is_never_written_to_a_file():
    run = subprocess.run([sys.executable, "-c", WATCH], capture_output=True, text=True, check=False)
    assert run.stdout == "clean\n", run.stderr


async def test_a_running_transport_leaves_nothing_in_the_temporary_directory(tmp_path, monkeypatch, make_tls):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    async with running(make_tls(), RecordingHost("left"), RecordingHost("right")) as (left, right):
        await left.open_stream(right)
        assert os.listdir(tmp_path) == []


def test_no_repr_shows_a_secret(make_tls):
    host = RecordingHost("one")
    contexts = Contexts(host)
    contexts.client(host.network_keys()[0])
    seed = host.identity.private_key.private_bytes_raw()
    shown = "".join(map(repr, (contexts, contexts._pairs, contexts.enter(), make_tls()(), host.network_keys())))
    assert seed.hex() not in shown
    assert repr(seed) not in shown
    assert "PRIVATE" not in shown
    assert host.network_keys()[0].derive("network ca").hex() not in shown


def test_other_unraisable_errors_are_still_shown(monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", shown.append)
    Contexts(RecordingHost("one"))
    Contexts(RecordingHost("two"))

    class Broken:
        def __del__(self):
            raise ValueError("as arranged")

    Broken()
    assert [type(each.exc_value) for each in shown] == [ValueError]
