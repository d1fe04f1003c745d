#!/bin/busybox sh
# PID 1 of the test guest: says on the console what it finds, then beats once a second until the power button.
# Every line that a test may look for begins with FEDERATION-GUEST.
/bin/busybox mkdir -p /proc /sys /dev /run /mnt
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s /bin
export PATH=/bin
exec </dev/console >/dev/console 2>&1
echo 4 >/proc/sys/kernel/printk

say() { echo "FEDERATION-GUEST $*"; }

while read -r module; do
    insmod "$module" || say "module $module failed"
done </modules.order

# The SCSI and virtio buses are probed in the background; wait until no new block device has come for a moment.
seen=none
now="$(ls /sys/block)"
while [ "$seen" != "$now" ]; do
    seen="$now"
    sleep 0.3
    now="$(ls /sys/block)"
done

for disk in /sys/block/vd* /sys/block/sd*; do
    [ -e "$disk/size" ] && say "disk ${disk##*/} $(($(cat "$disk/size") * 512))"
done
for card in /sys/class/net/*; do
    name="${card##*/}"
    [ "$name" = lo ] || say "interface $name $(cat "$card/address")"
done

field() { sed -n "s/^$1: *//p" /mnt/meta-data | head -n 1 | tr -d "\"'"; }

for device in /dev/sr* /dev/vd* /dev/sd*; do
    [ -b "$device" ] || continue
    mount -t iso9660 -o ro "$device" /mnt 2>/dev/null || continue
    if [ -e /mnt/meta-data ]; then
        say "nocloud instance-id=$(field instance-id) local-hostname=$(field local-hostname)"
        [ -e /mnt/user-data ] && say "nocloud user-data-sha256=$(sha256sum </mnt/user-data | cut -d ' ' -f 1)"
        grep -hE '^ *- *"?(ssh-|ecdsa-)' /mnt/user-data /mnt/meta-data 2>/dev/null | while read -r key; do
            say "nocloud key ${key#*- }"
        done
        umount /mnt
        break
    fi
    umount /mnt
done

# The agent runs where the machine has its port. It sets passwords by chpasswd.
for port in /sys/class/virtio-ports/*; do
    [ "$(cat "$port/name" 2>/dev/null)" = org.qemu.guest_agent.0 ] || continue
    echo "root:*:19000:0:99999:7:::" >/etc/shadow
    echo "root:x:0:0:root:/:/bin/sh" >/etc/passwd
    qemu-ga --daemonize --path "/dev/${port##*/}" --statedir /run --pidfile /run/qemu-ga.pid || say "agent failed"
done

acpid -c /etc/acpi -l /dev/null -p /run/acpid.pid

memory="$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)"
say "ready release=$(uname -r) cpus=$(nproc) memory-kib=$memory boot-id=$(cat /proc/sys/kernel/random/boot_id)"

# A shell without job control gives what it starts in the background an empty input: name the console.
(while read -r line; do [ -n "$line" ] && say "heard $line"; done) </dev/console &

devices() {
    for disk in /sys/block/vd* /sys/block/sd*; do
        [ -e "$disk/size" ] && echo "block ${disk##*/} $(($(cat "$disk/size") * 512))"
    done
    for card in /sys/class/net/*; do
        [ "${card##*/}" = lo ] || echo "card ${card##*/} $(cat "$card/address")"
    done
}

# What has come, grown or gone since the last beat: "block vdb 1048576", "block vdb gone".
tell_changes() {
    known="$(devices)"
    [ "$known" = "$told" ] && return
    echo "$known" | while read -r kind name value; do
        echo "$told" | grep -qxF "$kind $name $value" || say "$kind $name $value"
    done
    echo "$told" | while read -r kind name _; do
        echo "$known" | grep -qF "$kind $name " || say "$kind $name gone"
    done
    told="$known"
}

told="$(devices)"
beat=0
while true; do
    beat=$((beat + 1))
    tell_changes
    say "alive $beat uptime=$(cut -d ' ' -f 1 /proc/uptime)"
    sleep 1
done
