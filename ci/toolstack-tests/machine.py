"""A dom0 in QEMU that runs shell scripts for the tests: its console, its shared folder, its life."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TAG = "tests"


class Failure(Exception):
    """A machine did not do what it had to; the text says what, and how far it had come."""


class Timeout(Failure):
    """A script in dom0 did not end in time; its output so far is in the text."""


class Result:
    """What a script in dom0 printed, and its exit code."""

    def __init__(self, code, output):
        self.code = code
        self.output = output


class Machine:
    """QEMU with the console on its standard input and output, and one folder shared with dom0 by 9p.

    `command` starts QEMU and takes more of its arguments at the end; `folder` is ours while the machine lives.
    """

    # What the console says, in the order in which a boot goes; the last seen is the stage that was reached.
    STAGES = [
        ("firmware", r"U-Boot|UEFI firmware|BdsDxe"),
        ("hypervisor", r"\(XEN\)|[Vv]ambrace"),
        ("dom0's kernel", r"Booting Linux on physical CPU|Linux version"),
        ("dom0's user space", r"Run /\S*init as init process|systemd\[1\]|DOM0: "),
        ("dom0's login", r"login: |DOM0: up"),
    ]

    def __init__(self, command, folder, echo=None, transport="device"):
        self.folder = Path(folder)
        self.share = self.folder / "share"
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("in", "out"):
            (self.share / name).mkdir(parents=True)
        shutil.copy(HERE / "agent", self.share / "agent")
        self.log = bytearray()
        self.lock = threading.Lock()
        self.echo = echo
        self.count = 0
        self.ended = False
        ours, theirs = socket.socketpair()
        self.control = ours.makefile("rw")
        # A session of its own, so that all of it can be ended: the builder runs QEMU as its child.
        with theirs:
            self.process = subprocess.Popen(
                [
                    *command, "-fsdev", f"local,id=share,path={self.share},security_model=none,multidevs=remap",
                    "-device", f"virtio-9p-{transport},fsdev=share,mount_tag={TAG}",
                    "-chardev", f"socket,id=control,fd={theirs.fileno()}", "-mon", "chardev=control,mode=control",
                ],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(self.folder / "errors", "wb"), start_new_session=True,
                pass_fds=[theirs.fileno()],
            )
        self.say("qmp_capabilities")
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        with open(self.folder / "console.log", "wb") as log:
            while True:
                part = self.process.stdout.read1(65536)
                if not part:
                    self.ended = True
                    return
                with self.lock:
                    self.log += part
                log.write(part)
                log.flush()
                if self.echo:
                    self.echo(part)

    def text(self, since=0):
        """The console's text from byte `since` on."""
        with self.lock:
            return self.log[since:].decode(errors="replace").replace("\r", "")

    def mark(self):
        """How much the console has said."""
        return len(self.log)

    def type(self, text):
        """Types on the console, slowly enough for a hypervisor that polls."""
        for character in text.encode():
            self.process.stdin.write(bytes([character]))
            self.process.stdin.flush()
            time.sleep(0.005)

    def expect(self, pattern, timeout, since=0):
        """Waits until the console has said `pattern`; the match."""
        end = time.monotonic() + timeout
        while True:
            found = re.search(pattern, self.text(since))
            if found:
                return found
            if self.ended or self.process.poll() is not None:
                raise Failure(f"the machine ended while waiting for {pattern!r}; reached: {self.stage()}")
            if time.monotonic() > end:
                raise Failure(f"no {pattern!r} on the console within {timeout} s; reached: {self.stage()}")
            time.sleep(0.1)

    def stage(self):
        """The last stage of a boot that the console shows."""
        text, reached = self.text(), "nothing at all"
        for name, pattern in self.STAGES:
            if re.search(pattern, text):
                reached = name
        return reached

    def tail(self, lines=30, since=0):
        """The console's last lines."""
        return "\n".join(self.text(since).rstrip().split("\n")[-lines:])

    def wait_for_agent(self, timeout, login=None):
        """Waits until dom0 runs scripts. With `login` (a user name) somebody has to log in and start the agent first."""
        if login:
            self.expect(r"login: ", timeout)
            self.type(login + "\n")
            self.expect(r"[#$] $", 60, self.mark())
            self.type("mkdir -p /run/t; modprobe 9pnet_virtio\n")
            time.sleep(1)
            # Devices may still be on their way.
            self.type(f"until mount -t 9p -o version=9p2000.L {TAG} /run/t; do sleep 3; done\n")
            time.sleep(1)
            self.type("setsid sh /run/t/agent </dev/null >/dev/null 2>&1 &\n")
            timeout = 180
        end = time.monotonic() + timeout
        while not (self.share / "out/agent").exists():
            if self.ended or self.process.poll() is not None:
                raise Failure(f"the machine ended before dom0 ran scripts; reached: {self.stage()}")
            if time.monotonic() > end:
                raise Failure(f"dom0 runs no scripts within {timeout} s; reached: {self.stage()}")
            time.sleep(0.2)

    def say(self, command):
        """Has QEMU carry out a command (QEMU Machine Protocol)."""
        try:
            self.control.write(json.dumps({"execute": command}) + "\n")
            self.control.flush()
            for line in self.control:
                answer = json.loads(line)
                if "error" in answer:
                    raise Failure(f"QEMU refuses {command}: {answer['error']['desc']}")
                if "return" in answer:
                    return
        except OSError:
            pass
        raise Failure(f"the machine ended before {command}: {(self.folder / 'errors').read_text(errors='replace').strip()}")

    def pause(self):
        """Stops the machine and its clock."""
        self.say("stop")

    def resume(self):
        """Lets a paused machine go on."""
        self.say("cont")

    def start(self, script):
        """Starts a script in dom0; its name, for `poll`."""
        self.count += 1
        name = f"{os.getpid()}-{self.count}"
        (self.share / "in" / name).write_text(script + "\n")
        (self.share / "in" / f"{name}.go").write_text("")
        return name

    def output(self, name):
        """What a script has printed so far."""
        try:
            return (self.share / "out" / name).read_text(errors="replace")
        except OSError:
            return ""

    def poll(self, name):
        """The script's result, or None while it runs."""
        try:
            code = int((self.share / "out" / f"{name}.code").read_text())
        except (OSError, ValueError):
            return None
        return Result(code, self.output(name))

    def run(self, script, timeout=120):
        """Runs a shell script in dom0 and waits for its end."""
        name = self.start(script)
        end = time.monotonic() + timeout
        while True:
            result = self.poll(name)
            if result:
                return result
            if self.ended or self.process.poll() is not None:
                raise Failure(f"the machine ended; the script's output so far:\n{self.output(name)}")
            if time.monotonic() > end:
                raise Timeout(f"no end after {timeout} s; the script's output so far:\n{self.output(name)}")
            time.sleep(0.05)

    def stop(self):
        """Ends QEMU."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
