#!/usr/bin/env python3
"""Records what stock FRR and the kernel say, for the golden tests.

record.py fpm DIR      listens on 127.0.0.1:2620 and writes every connection's bytes to DIR/fpm-N.bin
record.py netlink FILE writes the kernel's link, address and neighbour dumps of this network namespace to FILE
"""
import os
import socket
import struct
import sys


def fpm(directory):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", 2620))
    server.listen(1)
    number = 0
    while True:
        connection, _ = server.accept()
        with open(os.path.join(directory, f"fpm-{number}.bin"), "wb", buffering=0) as out:
            while data := connection.recv(1 << 16):
                out.write(data)
        number += 1


def dump(request, family, body):
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    payload = struct.pack("B", family) + body
    sock.send(struct.pack("<IHHII", 16 + len(payload), request, 0x301, 1, 0) + payload)
    out = b""
    while True:
        data = sock.recv(1 << 18)
        at = 0
        while at + 16 <= len(data):
            length, kind = struct.unpack_from("<IH", data, at)
            if kind == 3:
                return out
            out += data[at:at + (length + 3 & ~3)]
            at += length + 3 & ~3


if sys.argv[1] == "fpm":
    fpm(sys.argv[2])
else:
    with open(sys.argv[2], "wb") as out:
        out.write(dump(18, 0, bytes(15)))  # RTM_GETLINK
        out.write(dump(22, 0, bytes(7)))  # RTM_GETADDR
        out.write(dump(30, 0, bytes(11)))  # RTM_GETNEIGH
