#!/bin/sh
# Runs a program as a user without rights. In a mount namespace of its own: what is changed here, nobody sees.
#   as_nobody.sh PREPARE READABLE PROGRAM [ARGUMENTS]
set -eu
prepare=$1 readable=$2
shift 2

# A device node whose mode the test may change.
mount -t tmpfs -o mode=0755 tmpfs /dev/net
mknod /dev/net/tun c 10 200

# An interpreter in somebody's home directory is not everybody's to read: show it, and nothing else of there.
closed=$readable
while [ "$closed" != / ] && [ "$(stat -c %A "$closed" | cut -c10)" != - ]; do closed=$(dirname "$closed"); done
if [ "$closed" != / ]; then
    saved=$(mktemp -d)
    mount --bind "$readable" "$saved"
    mount -t tmpfs -o mode=0755 tmpfs "$closed"
    mkdir -p "$readable"
    mount --bind "$saved" "$readable"
    umount "$saved"
    rmdir "$saved"
fi

forbidding=
eval "$prepare"
set -- setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
if [ -z "$forbidding" ]; then exec "$@"; fi
# The limit is one of this user namespace: the machine's own stays as it is.
exec setpriv --reuid=65534 --regid=65534 --clear-groups \
    unshare --user --map-user=65534 --map-group=65534 --keep-caps \
    sh -c 'echo 0 >/proc/sys/user/max_user_namespaces; shift 4; exec "$@"' - "$@"
