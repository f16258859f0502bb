#!/bin/sh
# The first process of one machine: gives it private directories under their usual names, then waits.
# When it dies, the kernel kills every process of the machine: this is its power switch.
set -eu
name=$1 machine_id=$2 directory=$3
scratch=$directory/scratch

# The process id as the lab sees it: /proc is still the one of the outside.
read -r pid _ </proc/self/stat

# The directories below may be missing on the host, so /etc and /var/lib are overlays that can grow them.
mount -t tmpfs -o mode=0755 tmpfs "$scratch"
for tree in /etc /var/lib; do
    mkdir -p "$scratch/upper$tree" "$scratch/work$tree"
    mount -t overlay -o "lowerdir=$tree,upperdir=$scratch/upper$tree,workdir=$scratch/work$tree" overlay "$tree"
done

# The disk: what survives a power cut.
for private in /etc/kairos /etc/rancher /var/lib/kairos /var/lib/rancher /var/lib/kubelet /var/lib/cni /var/log; do
    mkdir -p "$directory/disk$private" "$private"
    mount --bind "$directory/disk$private" "$private"
done
if [ -d /oem ]; then mount -t tmpfs tmpfs /oem; fi

hostname "$name"
rm -f /etc/hostname /etc/hosts /etc/machine-id
echo "$name" >/etc/hostname
echo "$machine_id" >/etc/machine-id
printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n' "$name" >/etc/hosts

# /sys shows the network devices of whoever mounted it; the control groups below it stay the host's.
mkdir "$scratch/cgroup"
mount --rbind /sys/fs/cgroup "$scratch/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$scratch/cgroup" /sys/fs/cgroup
mount -t proc proc /proc
# Last, since it hides the host's sockets: no systemd, no dbus, no agent of the host is seen.
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir /run/lock /run/tmp

echo "ready $pid"
# Ignoring SIGCHLD makes the kernel reap processes that lost their parent. (A shell's trap would not last: dash
# catches this signal whatever it is told.)
exec env --ignore-signal=CHLD cat >/dev/null 2>&1
