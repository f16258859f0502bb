"""What the benchmarks of the VPN stand on: two machines, the path between them, and the VPNs that run there at once.

course.py     the two machines, their cable, its offloads and its loss
tunnel.py     what all VPNs have in common; bare and ours
wireguard.py  nebula.py  openvpn.py  tinc.py      the peers
trials.py     the tests                           iperf.py      what iperf3 and ping print
mixture.py    the load of mixed small flows       figures.py    medians, ratios, bounds, tables
pulse.py      the load of the soak                endurance.py  what a soak has to show
siege.py      two of ours under attack            spoof.py      the attacker of the flood
probe/        measures a data plane from within   stages.py     where its time goes
program.py    how these programs begin and end
"""
