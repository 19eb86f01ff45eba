#!/bin/sh
# The first process of the machine that configures packages: mounts the new system and runs the packages' scripts in it. Its
# last line on the console tells how that went.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev

finish() {
    $bb sync
    echo "vambrace-configure: $*"
    $bb poweroff -f
    exec $bb sleep 1000
}

modules=/usr/lib/vambrace/modules
while read -r module; do
    $bb insmod $modules/"$module" || echo "the module $module was not loaded"
done < $modules/load
for word in $($bb cat /proc/cmdline); do
    case "$word" in vambrace.epoch=*) epoch=${word#*=} ;; esac
done
# What a script takes down is the same time whenever it runs.
$bb date -s "@$epoch" > /dev/null
tries=0
until [ -b /dev/vda ]; do
    [ "$tries" -lt 600 ] || finish 'failed: there is no disk'
    $bb sleep 0.1
    tries=$((tries + 1))
done
# Nothing here has to live through a power failure.
$bb mount -t ext4 -o rw,noatime,nobarrier,data=writeback /dev/vda /root || finish 'failed: the disk does not mount'
for fs in proc sys dev; do $bb mount -o bind /$fs /root/$fs; done
$bb mount -t tmpfs -o mode=0755 tmpfs /root/run
$bb mount -t tmpfs -o mode=1777 tmpfs /root/tmp
$bb cp /configure /root/run/configure
result=failed
$bb env -i SOURCE_DATE_EPOCH="$epoch" PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true PERL_HASH_SEED=0 PYTHONHASHSEED=0 \
    $bb chroot /root /bin/sh /run/configure && result=done
# What was mounted last lies above the rest.
for at in $($bb tac /proc/mounts | $bb cut -d ' ' -f 2); do
    case "$at" in
        /root | /root/*) $bb umount "$at" || result='failed: the new system is still in use' ;;
    esac
done
finish "$result"
