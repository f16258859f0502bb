#!/bin/sh
# The first process of a lab: owns the bridge, and lives as long as the lab keeps our standard input open.
# Being process 1 of its own pid namespace, it takes every process of the lab with it, however the lab ended.
set -eu
directory=$1 ipv4=$2 ipv6=$3

# The process id as the lab sees it: /proc is still the one of the outside.
read -r pid _ </proc/self/stat

ip link set lo up
# Without a multicast router a snooping bridge stops forwarding groups after some minutes.
ip link add br0 type bridge mcast_snooping 0
ip address add "$ipv4/24" dev br0
ip address add "$ipv6/64" dev br0 nodad
ip link set br0 up

echo "ready $pid"
cat >/dev/null 2>&1 || true
kill -KILL -1 2>/dev/null || true
rm -rf -- "$directory"
