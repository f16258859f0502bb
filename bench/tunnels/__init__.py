"""What the benchmarks of the VPN stand on: two machines, the path between them, and the VPNs that run there at once.

course.py   the two machines, their cable, its offloads and its loss     iperf.py     what iperf3 and ping print
tunnel.py   what all VPNs have in common; bare and ours                  trials.py    the tests
wireguard.py  nebula.py  openvpn.py  tinc.py  the peers                  mixture.py   the load of mixed small flows
figures.py  medians, ratios, bounds, tables                              stages.py    where a data plane's time goes
"""
