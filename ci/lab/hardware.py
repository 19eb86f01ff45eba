"""A shelf of boards that are not there: QEMU's machines behind what a lab has of a board.

Each has a serial line of a console server (raw TCP) that stays when the board is off, a relay, and a card in a multiplexer. A line
of another speed than the board's carries noise. A card is a block device of this computer (a loop device)
as long as the multiplexer shows it to the computer, and the board's disk as long as it shows it to the board. The relays
and multiplexers are reached over HTTP:

    GET /relay/NUMBER/1    the board is on; /0 turns it off, /relay/NUMBER says which
    GET /card/NUMBER/host  the computer has the card; /dut: the board; /card/NUMBER says who
"""

import concurrent.futures
import contextlib
import fcntl
import http.server
import os
import shlex
import socket
import stat
import subprocess
import threading

# ioctl of /dev/loop-control (linux/loop.h).
LOOP_CTL_ADD, LOOP_CTL_REMOVE = 0x4C80, 0x4C81
LOOP_MAJOR = 7
# The first number of our loop devices, above those that `losetup --find` comes to.
FIRST_LOOP = 240
# How long a computer that listens may take, in seconds.
LISTENS = 5
# The speed of the console server's lines, in bits per second.
BAUD = 115200


class Loop:
    """A loop device of a number that nobody else has."""

    def __init__(self):
        with open("/dev/loop-control", "rb") as control:
            for number in range(FIRST_LOOP, 256):
                with contextlib.suppress(FileExistsError):
                    fcntl.ioctl(control, LOOP_CTL_ADD, number)
                    break
            else:
                raise RuntimeError("no loop device is free")
        self.number, self.path = number, f"/dev/loop{number}"
        # Where /dev is not the kernel's own.
        if not os.path.exists(self.path):
            os.mknod(self.path, 0o600 | stat.S_IFBLK, os.makedev(LOOP_MAJOR, number))

    def attach(self, file):
        subprocess.run(["losetup", self.path, file], check=True)

    def detach(self):
        subprocess.run(["losetup", "--detach", self.path], check=True)

    def remove(self):
        with open("/dev/loop-control", "rb") as control:
            fcntl.ioctl(control, LOOP_CTL_REMOVE, self.number)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


class Board:
    """A board: `command` is QEMU's, with `{card}` where its disk is."""

    def __init__(self, command, card):
        self.command, self.card = command, card
        # The speed of its UART; whether nothing happens when it is turned on; whether its relay does not answer.
        self.baud, self.dead, self.stuck = BAUD, False, False
        self.starts = 0
        # QEMU ends with the thread that starts it, which must not be that of a request.
        self.starter = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self.lock, self.machine, self.has_card = threading.RLock(), None, "dut"
        self.loop = Loop()
        self.line, self.server = None, socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        """The serial line, to one that listens at a time: from the computer to the board."""
        while True:
            try:
                line, _ = self.server.accept()
            except OSError:
                return
            line.settimeout(LISTENS)
            self.line = line
            with contextlib.suppress(OSError), line:
                while True:
                    with contextlib.suppress(TimeoutError):
                        if not (data := line.recv(4096)):
                            break
                        machine = self.machine
                        if machine is not None and self.baud == BAUD:
                            with contextlib.suppress(OSError, ValueError):
                                machine.stdin.write(data)
            self.line = None

    def _say(self, machine):
        """From the board to the computer. What nobody takes is lost, as on any line."""
        while data := os.read(machine.stdout.fileno(), 4096):
            if self.baud != BAUD:
                data = bytes(0x80 | (byte * 37 & 0x7F) for byte in data)
            if (line := self.line) is not None:
                with contextlib.suppress(OSError):
                    line.sendall(data)

    def power(self, on):
        with self.lock:
            if not on and self.machine is not None:
                self.machine.kill()
                self.machine.wait()
                self.machine = None
            if on and self.machine is None and not self.dead:
                self.starts += 1
                # Without its card the board's firmware finds nothing.
                card = self.card if self.has_card == "dut" else "/dev/null"
                words = [word.replace("{card}", card) for word in self.command]
                words = ["setpriv", "--pdeathsig", "KILL", "--", *words]
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
                self.machine = self.starter.submit(subprocess.Popen, words, **pipes).result()
                threading.Thread(target=self._say, args=(self.machine,), daemon=True).start()

    def is_on(self):
        with self.lock:
            return self.machine is not None and self.machine.poll() is None

    def move_card(self, to):
        with self.lock:
            if to == self.has_card:
                return
            if to == "host":
                if self.is_on():
                    raise RuntimeError("the card is taken out of a board that is on")
                self.loop.attach(self.card)
            else:
                self.loop.detach()
            self.has_card = to

    def remove(self):
        self.power(False)
        self.starter.shutdown()
        self.server.close()
        self.move_card("dut")
        self.loop.remove()


class Shelf:
    """Boards, with the server of their relays and multiplexers."""

    def __init__(self, boards):
        self.boards = boards
        shelf = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                try:
                    answer, status = shelf.answer(self.path.strip("/").split("/")), 200
                except Exception as error:
                    answer, status = str(error), 500
                self.send_response(status)
                self.end_headers()
                self.wfile.write(answer.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, words):
        what, number, *rest = words
        board = self.boards[int(number)]
        if what == "relay":
            if board.stuck:
                raise RuntimeError("the relay does not answer")
            if rest:
                board.power(rest == ["1"])
            return "1" if board.is_on() else "0"
        if what == "card":
            if rest:
                board.move_card({"host": "host", "dut": "dut"}[rest[0]])
            return board.has_card
        raise RuntimeError(f"there is no {what}")

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        for board in self.boards:
            board.remove()


def command_of(line, image):
    """QEMU's words, of what `vambrace boot --print` says, with its console on standard input and output."""
    words = ["stdio" if word == "mon:stdio" else word for word in shlex.split(line)]
    at = words.index("-echr")
    words[at : at + 2] = ["-monitor", "none"]
    doubled = image.replace(",", ",,")
    # The card keeps what the board writes.
    words = [word.replace(doubled, "{card}").replace("snapshot=on,file={card}", "file={card}") for word in words]
    if not any("{card}" in word for word in words):
        raise RuntimeError(f"the machine has no disk: {line}")
    return words
