#!/bin/busybox sh
# busybox acpid runs this when the power button is pressed.
echo "FEDERATION-GUEST powering off" >/dev/console
sync
poweroff -f
