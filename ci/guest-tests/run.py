#!/usr/bin/env python3
"""Boots the guest-side test image as dom0 of a hypervisor and judges what it says.

Exits 0 when every test that ran is ok, 1 when one failed, 2 when the run did not come to its end.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from guest import Failure, build, escaped, flatten

LOADED_AT = 0x46000000


def run(options, image):
    """The console's text of one run."""
    words = f"test={options.test}" + (" reference" if options.reference else "")
    hypervisor_words = f"dom0_mem=128M console=dtuart dtuart=/pl011@9000000 {options.append}".strip()
    command = [
        options.qemu, "-machine", f"virt,virtualization=on,gic-version={options.gic}", "-cpu", options.cpu,
        "-smp", str(options.cpus), "-m", "512", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot",
        "-nic", "none", "-kernel", str(options.hypervisor), "-append", hypervisor_words, "-device",
        f"guest-loader,addr={LOADED_AT:#x},kernel={escaped(image)},bootargs={escaped(words)}", *options.extra,
    ]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=options.timeout)
    except subprocess.TimeoutExpired as stuck:
        text = (stuck.stdout or b"").decode(errors="replace")
        raise Failure(f"no end after {options.timeout} s; the console's last words:\n{text[-2000:]}") from None
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        raise Failure(f"QEMU ended with {done.returncode}\n{text[-2000:]}{done.stderr.decode(errors='replace')}")
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hypervisor", type=Path, required=True, help="flat image for QEMU's virt board")
    parser.add_argument("--reference", action="store_true", help="it is stock Xen, whose known faults are no news")
    parser.add_argument("--test", default="all", help="groups, separated by commas (all)")
    parser.add_argument("--gic", choices=["2", "3"], default="2")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--cpu", default="cortex-a57")
    parser.add_argument("--append", default="", help="more words for the hypervisor's command line")
    parser.add_argument("--programs", type=Path, help="folder with the compiled image, else it is compiled")
    parser.add_argument("--qemu", default="qemu-system-aarch64")
    parser.add_argument("--timeout", type=int, default=120, help="seconds")
    parser.add_argument("--verbose", action="store_true", help="show the whole console")
    parser.add_argument("extra", nargs="*", help="more arguments for QEMU, after --")
    options = parser.parse_args()
    try:
        programs = options.programs or build()
        with tempfile.TemporaryDirectory(prefix="vambrace-guest-") as work:
            image = Path(work) / "test"
            image.write_bytes(flatten(programs / "guest-tests"))
            text = run(options, image)
    except (Failure, OSError) as failure:
        print(f"guest-tests: {failure}", file=sys.stderr)
        return 2
    lines = text.splitlines()
    noteworthy = re.compile(r"TEST \S+ (FAIL|differs|skipped)|TESTS done|TEST panic|TEST exception")
    print("\n".join(line for line in lines if options.verbose or noteworthy.match(line)))
    done = [re.match(r"TESTS done (\d+) ok (\d+) failed", line) for line in lines]
    done = [match for match in done if match]
    if len(done) != 1:
        print("guest-tests: the tests did not come to their end:\n" + text[-2000:], file=sys.stderr)
        return 2
    ok, failed = map(int, done[0].groups())
    return 0 if ok and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
