"""A cable between browser and server that can be cut: every connection ends, and new ones are refused."""

from __future__ import annotations

import socket
import threading


class Cable:
    """Forwards `port` of this machine to `to_port`."""

    def __init__(self, port: int, to_port: int) -> None:
        self.address = f"http://127.0.0.1:{port}/"
        self._port, self._to_port = port, to_port
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()
        self.mend()

    def mend(self) -> None:
        """Let connections through."""
        self._door = socket.create_server(("127.0.0.1", self._port))
        threading.Thread(target=self._accept, args=(self._door,), daemon=True).start()

    def cut(self) -> None:
        """End every connection, and let no new one through."""
        with self._lock:
            _end(self._door)
            for end in self._ends:
                _end(end)
            self._ends.clear()

    def _accept(self, door: socket.socket) -> None:
        while True:
            try:
                near, _ = door.accept()
            except OSError:  # cut
                return
            far = socket.create_connection(("127.0.0.1", self._to_port))
            with self._lock:
                self._ends += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_forward, args=(source, target), daemon=True).start()


def _forward(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:  # cut
        pass
    finally:
        _end(source)
        _end(target)


def _end(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has ended before
        pass
    finally:
        end.close()
