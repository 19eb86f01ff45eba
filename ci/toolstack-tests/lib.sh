# Sourced by every test before its first line, in dom0. A test is a script that ends with exit code 0 or calls `fail`.
#
#   $SHARE        the folder shared with the host          $GUEST     the folder with the guests' kernels and RAM disks
#   $CPUS         the machine's CPUs                       $SPARE     the disk for partitions and LVM, whose content is ours
#   $DOM0_MEMORY  dom0's memory, MiB                       $ARCH      arm64 or armhf
#   $DATE         the host's time when the test began, seconds since 1970: the machine's clock may be a guest's
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C TERM=dumb
cd /tmp || exit 1
logs=/var/log/xen/console

# The test's own output, also where a function's goes elsewhere: tests open no file 3.
exec 3>&1

fail() {
    echo "FAIL: $*" >&3
    exit 1
}

# skip REASON: the test says nothing about this machine.
skip() {
    echo "SKIP: $*"
    exit 0
}

# lacks PROGRAM: Debian 12 need not have it.
lacks() {
    [ "$RELEASE" = bookworm ] || fail "no program $1"
    skip "this release has no $1"
}

# equal WHAT WANTED FOUND
equal() { [ "$2" = "$3" ] || fail "$1: wanted '$2', found '$3'"; }

# between WHAT LEAST FOUND MOST, whole numbers
between() {
    case $3 in '' | *[!0-9-]*) fail "$1: wanted a number from $2 to $4, found '$3'" ;; esac
    [ "$3" -ge "$2" ] && [ "$3" -le "$4" ] || fail "$1: wanted $2 to $4, found $3"
}

# contains WHAT PATTERN TEXT, an extended regular expression
contains() { printf '%s\n' "$3" | grep -Eq -- "$2" || fail "$1: no '$2' in: $3"; }

# within SECONDS COMMAND...: whether it succeeds in that time.
within() {
    end=$(($(date +%s) + $1))
    shift
    until "$@"; do
        [ "$(date +%s)" -lt "$end" ] || return 1
        sleep 0.3
    done
}

# milliseconds since some time
now() { echo $(($(date +%s%N) / 1000000)); }

free_mib() { xl info | sed -n 's/^free_memory *: //p'; }

# The fields of `xl list` of one guest: memory, vCPUs, state, time. Nothing when there is none.
listed() { xl list | awk -v name="$1" '$1 == name'; }
domid() { listed "$1" | awk '{ print $2 }'; }
memory_of() { listed "$1" | awk '{ print $3 }'; }
vcpus_of() { listed "$1" | awk '{ print $4 }'; }
state_of() { listed "$1" | awk '{ print $5 }'; }
# CPU time in tenths of a second
time_of() { listed "$1" | awk '{ print int($6 * 10 + 0.5) }'; }
gone() { [ -z "$(listed "$1")" ]; }
is_state() { case $(state_of "$1") in *"$2"*) ;; *) return 1 ;; esac; }

# config NAME [LINE...]: writes NAME.cfg, a guest with Debian's kernel; later lines win.
config() {
    name=$1
    shift
    {
        echo "name = '$name'"
        echo "kernel = '$GUEST/vmlinuz'"
        echo "ramdisk = '$GUEST/ramdisk'"
        echo "memory = 192"
        echo "vcpus = 1"
        echo "cmdline = 'console=hvc0 loglevel=5'"
        # libxl 4.20 on ARM aborts in mem-set without it.
        echo "acpi = 0"
        printf '%s\n' "$@"
    } >"$name.cfg"
}

# create NAME [XL ARGUMENTS...]: xl create from NAME.cfg, with the console's log emptied first.
create() {
    name=$1
    shift
    rm -f "$logs/guest-$name.log"
    xl create "$@" "$name.cfg" >"$name.create" 2>&1 || fail "xl create $name: $(cat "$name.create")"
}

said() { grep -aEq -- "$2" "$logs/guest-$1.log" 2>/dev/null; }

# wait_for NAME [PATTERN [SECONDS]]: until the guest's console has said it.
wait_for() {
    within "${3:-90}" said "$1" "${2:-^GUEST READY}" && return
    fail "guest $1 did not say '${2:-GUEST READY}' within ${3:-90} s; its state is '$(state_of "$1")'; its console: $(tail -n 15 "$logs/guest-$1.log" 2>&1)"
}

# guest NAME [LINE...]: configures, creates, waits for its shell.
guest() {
    config "$@"
    create "$1"
    wait_for "$1"
}

# tell NAME COMMAND: types one line on the guest's console.
tell() { printf '%s\n' "$2" >"$(xenstore-read "/local/domain/$(domid "$1")/console/tty")"; }

# ask NAME COMMAND [SECONDS]: types it and prints what the guest answers; fails if it takes longer than a minute.
asked=0
ask() {
    asked=$((asked + 1))
    token=$$-$RANDOM-$asked
    tell "$1" "echo; echo BEGIN:$token; { $2 ; } 2>&1; echo; echo END:$token"
    within "${3:-60}" said "$1" "^END:$token" || fail "guest $1 did not answer '$2'; its state is '$(state_of "$1")'; its console: $(tail -n 15 "$logs/guest-$1.log")"
    # Its kernel may speak in between.
    tr -d '\r' <"$logs/guest-$1.log" | sed -n "/^BEGIN:$token/,/^END:$token/p" | grep -Eav '^(BEGIN|END):|^\[ *[0-9]+\.[0-9]+\]' | sed '/^$/d'
}

# shut_down NAME: and wait until it has gone.
shut_down() {
    timeout 90 xl shutdown -w "$1" || fail "xl shutdown -w $1 ended with $?"
    # Its devices go last, by scripts for which xl has 40 seconds.
    within 60 gone "$1" || fail "$1 is still listed after xl shutdown -w: $(listed "$1")"
}

# Leaves nothing behind, whatever the test did.
cleanup() {
    for name in $(xl list | awk 'NR > 1 && $2 != 0 { print $2 }'); do xl destroy "$name" >/dev/null 2>&1; done
    pkill -f "xl create" 2>/dev/null
    if [ -n "${left:-}" ]; then eval "$left"; fi
    return 0
}

# --- disks

# keeps_bytes DISK: a guest writes 64 MiB to the disk (an xl disk specification), shuts down, starts again and reads the same.
keeps_bytes() {
    guest g "memory = 192" "disk = ['$1']"
    # Bytes that no disk has by chance, the same in dom0 and guest without passing 64 MiB through the console.
    sum=$(ask g 'dd if=/dev/urandom of=/tmp/seed bs=1k count=64 2>/dev/null; i=0; while [ $i -lt 1024 ]; do cat /tmp/seed; i=$((i + 1)); done | dd of=/dev/xvda bs=1M iflag=fullblock conv=fsync 2>/dev/null; i=0; while [ $i -lt 1024 ]; do cat /tmp/seed; i=$((i + 1)); done | md5sum | cut -c1-32' 150 | tail -n 1)
    contains "the guest's sum" '^[0-9a-f]{32}$' "$sum"
    shut_down g
    create g
    wait_for g
    equal "MD5 of 64 MiB after a restart" "$sum" "$(ask g 'dd if=/dev/xvda bs=1M count=64 2>/dev/null | md5sum | cut -c1-32' 150 | tail -n 1)"
    shut_down g
}

# keeps_a_file NAME READY: starts the guest of /etc/xen/NAME.cfg, which says READY when its shell has the console, has it
# write a file, shuts it down, and finds the file at the next start. What the guest has for a root goes to the file `root`,
# what dom0's bridge has meanwhile to `bridged`.
keeps_a_file() {
    cp "/etc/xen/$1.cfg" . || fail "no /etc/xen/$1.cfg"
    mark=$$-$RANDOM
    create "$1"
    wait_for "$1" "$2" 200
    ask "$1" "grep ' / ' /proc/mounts | tail -n 1" >root
    ls /sys/class/net/xenbr0/brif >bridged
    ask "$1" "echo $mark >/root/mark; sync" >out
    shut_down "$1"
    create "$1"
    wait_for "$1" "$2" 200
    equal "the file after a restart" "$mark" "$(ask "$1" 'cat /root/mark; rm /root/mark; sync' | tail -n 1)"
    shut_down "$1"
}

# --- networks

# exchanges NAME SERVER_ADDRESS: 100 MB each way by TCP between dom0 (which has that address) and the guest, checksummed.
exchanges() {
    cat >server.py <<'P'
import hashlib, os, socket, sys
block, count = os.urandom(1 << 20), 100
listener = socket.create_server((sys.argv[1], 5001))
print("listening", flush=True)
for way in ("down", "up"):
    peer, _ = listener.accept()
    digest = hashlib.md5()
    if way == "down":
        for i in range(count):
            part = i.to_bytes(4, "big") + block[4:]
            digest.update(part)
            peer.sendall(part)
    else:
        while part := peer.recv(1 << 20):
            digest.update(part)
    peer.close()
    print(way, digest.hexdigest(), flush=True)
P
    timeout 280 python3 server.py "$2" >sums 2>&1 &
    within 60 grep -q '^listening' sums || fail "no server: $(cat sums)"
    down=$(ask "$1" "nc $2 5001 </dev/null | md5sum | cut -c1-32" 140 | tail -n 1)
    within 5 grep -q '^down' sums || fail "dom0 sent nothing: $(cat sums)"
    equal "MD5 of 100 MiB that the guest received" "$(sed -n 's/^down //p' sums)" "$down"
    up=$(ask "$1" "dd if=/dev/zero bs=1M count=100 2>/dev/null | tr '\\000' 'x' | nc $2 5001; dd if=/dev/zero bs=1M count=100 2>/dev/null | tr '\\000' 'x' | md5sum | cut -c1-32" 140 | tail -n 1)
    within 5 grep -q '^up' sums || fail "dom0 received nothing: $(cat sums)"
    equal "MD5 of 100 MiB that dom0 received" "$up" "$(sed -n 's/^up //p' sums)"
}
