"""A fuzzer of all that strangers and hostile members can send, guided by coverage. For people; not run by `./run test`.

    pip install atheris
    python plugins/net_vpn/tests/fuzz/fuzz_tunnel.py plugins/net_vpn/tests/fuzz/corpus -max_total_time=600

The first byte of an input chooses the surface: a line of the control protocol, WireGuard's datagrams (both in
strangers.py), or records (hostile.py). `-merge=1 NEW OLD` keeps what covers most in the fewest inputs. An input that
failed is played again by naming its file; the unit tests play the whole corpus.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["kairos_net_vpn"]):
    from surfaces import play


if __name__ == "__main__":
    atheris.Setup(sys.argv, play)
    atheris.Fuzz()
