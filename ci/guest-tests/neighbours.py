#!/usr/bin/env python3
"""Boots two static guests beside dom0, all three the guest-side test image, and judges what the guests say.

The guests are connected by an event channel and by shared memory, and exchange what `src/tests/neighbour.rs` says.

Exits 0 when every test of both is ok, 1 when one failed, 2 when the run did not come to its end.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from guest import Failure, build, command, escaped, flatten

DOM0_AT = 0x46000000
GUESTS_AT = (0x4C000000, 0x4D000000)
PORTS = (10, 20)
# Both halves of the guest's view: not where RAM is, in the gigabyte that the image maps as memory.
SHARED_AT, SHARED_SIZE = 0x70000000, 0x3000


def kernel(at, size, words):
    """The node of a kernel with its command line."""
    return f"""
            module@{at:x} {{
                compatible = "multiboot,kernel", "multiboot,module";
                reg = <0 {at:#x} 0 {size:#x}>;
                bootargs = "{words}";
            }};"""


def guest(number, size):
    """The device-tree node of a guest, by Xen's docs/misc/arm/device-tree/booting.txt."""
    words = f"test=neighbour port={PORTS[number]} half={number}"
    module, role = kernel(GUESTS_AT[number], size, words), ("owner", "borrower")[number]
    return f"""
        domain-{number} {{
            compatible = "xen,domain";
            #address-cells = <2>;
            #size-cells = <2>;
            memory = <0 0x8000>;
            cpus = <1>;
            xen,enhanced = "no-xenstore";{module}
            port{number}: evtchn@{PORTS[number]:x} {{
                compatible = "xen,evtchn-v1";
                xen,evtchn = <{PORTS[number]} &port{1 - number}>;
            }};
            shared-memory@{SHARED_AT:x} {{
                compatible = "xen,domain-shared-memory-v1";
                role = "{role}";
                xen,shm-id = "mailbox";
                xen,shared-mem = <0 {SHARED_AT:#x} 0 {SHARED_SIZE:#x}>;
            }};
        }};"""


def tree(options, machine, folder, size):
    """The board's device tree with the guests in it."""
    dump, source, blob = folder / "board.dtb", folder / "board.dts", folder / "guests.dtb"
    command([options.qemu, "-machine", f"{machine[1]},dumpdtb={escaped(dump)}", *machine[2:]])
    command(["dtc", "-q", "-I", "dtb", "-O", "dts", "-o", str(source), str(dump)])
    with source.open("a") as text:
        text.write(f"/ {{ chosen {{ {kernel(DOM0_AT, size, 'stay')}{guest(0, size)}{guest(1, size)} }}; }};\n")
    command(["dtc", "-q", "-I", "dts", "-O", "dtb", "-o", str(blob), str(source)])
    return blob


def run(options, folder, image):
    """The console's text until both guests are done, or the time is over."""
    machine = [
        "-machine", f"virt,virtualization=on,gic-version={options.gic}", "-cpu", "cortex-a57", "-smp", str(options.cpus), "-m", "512",
        "-display", "none", "-monitor", "none", "-nic", "none",
    ]  # fmt: skip
    file = folder / "test"
    file.write_bytes(image)
    words = [
        options.qemu, *machine, "-serial", "stdio", "-no-reboot", "-kernel", str(options.hypervisor), "-append",
        "dom0_mem=64M console=dtuart dtuart=/pl011@9000000", "-dtb", str(tree(options, machine, folder, len(image))),
    ]  # fmt: skip
    for at in (DOM0_AT, *GUESTS_AT):
        words += ["-device", f"loader,file={escaped(file)},addr={at:#x},force-raw=on"]
    console = folder / "console"
    with console.open("wb") as out:
        qemu = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + options.timeout
        while qemu.poll() is None and time.monotonic() < end:
            text = console.read_text(errors="replace")
            if len(verdicts(text)) == len(GUESTS_AT):
                break
            time.sleep(0.1)
    finally:
        qemu.kill()
        qemu.wait()
    return console.read_text(errors="replace")


def verdicts(text):
    """Of each guest that is done: how many of its tests were ok, and how many failed."""
    done = re.findall(r"^\(d(\d+)\) TESTS done (\d+) ok (\d+) failed\s*$", text, re.M)
    return {int(domain): (int(ok), int(failed)) for domain, ok, failed in done}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hypervisor", type=Path, required=True, help="flat image for QEMU's virt board")
    parser.add_argument("--gic", choices=["2", "3"], default="2")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--programs", type=Path, help="folder with the compiled image, else it is compiled")
    parser.add_argument("--qemu", default="qemu-system-aarch64")
    parser.add_argument("--timeout", type=int, default=120, help="seconds")
    parser.add_argument("--verbose", action="store_true", help="show the whole console")
    options = parser.parse_args()
    try:
        programs = options.programs or build()
        with tempfile.TemporaryDirectory(prefix="vambrace-neighbours-") as work:
            text = run(options, Path(work), flatten(programs / "guest-tests")).replace("\r", "")
    except (Failure, OSError) as failure:
        print(f"neighbours: {failure}", file=sys.stderr)
        return 2
    lines = text.splitlines()
    print("\n".join(line for line in lines if options.verbose or re.search(r"\bTESTS? ", line)))
    done = verdicts(text)
    if len(done) != len(GUESTS_AT):
        print("neighbours: the guests did not come to their end:\n" + text[-2000:], file=sys.stderr)
        return 2
    return 0 if all(ok and not failed for ok, failed in done.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
