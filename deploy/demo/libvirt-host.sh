#!/bin/sh
# The two daemons of a libvirt host, each started again when it ends: machines outlive both, as on a real host.
set -u

# start DAEMON: in the background; its process id becomes $started
start() {
    rm -f "/run/$1.pid"
    "$1" --pid-file "/run/$1.pid" &
    started=$!
}

start virtlogd && log=$started
start libvirtd && machines=$started
while sleep 1; do
    kill -0 "$log" || { echo "virtlogd ended; it is started again" >&2 && start virtlogd && log=$started; }
    kill -0 "$machines" || { echo "libvirtd ended; it is started again" >&2 && start libvirtd && machines=$started; }
done
