"""Talking to a GIMP with a window: its script server, and waiting for what must happen."""
import socket
import struct
import time


class ScriptFu:
    """GIMP's own script server, beside the user interface."""

    def __init__(self, port):
        self.address = ("127.0.0.1", port)

    def call(self, script, timeout=60, wait=True):
        with socket.create_connection(self.address, timeout=timeout) as s:
            s.sendall(b"G" + struct.pack(">H", len(script.encode())) + script.encode())
            if not wait:
                time.sleep(0.5)
                return ""
            head = self._read(s, 4)
            body = self._read(s, struct.unpack(">H", head[2:])[0]).decode()
            assert head[1] == 0, body
            return body

    @staticmethod
    def _read(s, size):
        data = b""
        while len(data) < size:
            more = s.recv(size - len(data))
            assert more, "GIMP hung up"
            data += more
        return data

    def number(self, script):
        return int(float(self.call(f"(number->string {script})").strip('"')))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(test, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
