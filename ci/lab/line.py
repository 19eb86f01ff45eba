"""A serial line of a console server on standard input and output: line.py PORT."""

import os
import socket
import sys
import threading

line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))


def send():
    while data := os.read(0, 4096):
        line.sendall(data)


threading.Thread(target=send, daemon=True).start()
while data := line.recv(4096):
    os.write(1, data)
