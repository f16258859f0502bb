"""What the benchmarks of the gossip stand on: a network namespace, our agents, serf's agents, and the meters.

namespace.py   one network namespace with loss and byte counters       meters.py   processor time and memory
agents.py      what both kinds of agents have in common                ours.py  serf.py  the two kinds
trials.py      one round: join, updates, rest, kill                    figures.py  medians, ratios, tables
"""
