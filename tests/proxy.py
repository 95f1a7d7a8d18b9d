"""A TCP proxy before a PostgreSQL server: it delays what goes through, and cuts connections at the moment of a COMMIT."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

#: How the message begins by which the driver sends the statement, and what follows of it.
COMMIT = b"\0COMMIT\0"


class Proxy:
    """Listens on loopback, and forwards to a port there.

    Args:
        target: The server's port.
        delay: How long each direction takes, in seconds.

    Attributes:
        port: Where it listens.
        cut: At the next COMMIT, once: "before" cuts the connection before the server gets it, "after" when the server has
            answered and before the client gets that; "" leaves it alone.
        skip: How many of them to leave alone first.
        down: Whether new connections are refused: closed as they come.
        down_after_cut: Whether it goes down with the cut, and all connections with it.
        connections: How many were taken so far.
    """

    def __init__(self, target: int, delay: float = 0) -> None:
        self.cut, self.skip = "", 0
        self.down = self.down_after_cut = False
        self.connections = 0
        self._target, self._delay = target, delay
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Stop listening, and cut everything."""
        self._listener.close()
        self.cut_all()

    def cut_all(self) -> None:
        """Cut every connection."""
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.down:
                client.close()
                continue
            self.connections += 1
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # it is away
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.add(end)
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        held = threading.Event()  # set when answers are to be held back
        answers = threading.Thread(target=self._pump, args=(server, client, held, False), daemon=True)
        answers.start()
        self._pump(client, server, held, True)
        answers.join()
        for end in (client, server):
            self._open.discard(end)
            end.close()

    def _pump(self, source: socket.socket, sink: socket.socket, held: threading.Event, asking: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self._delay:
                    time.sleep(self._delay)
                if asking and self.cut and COMMIT in data:
                    if self.skip:
                        self.skip -= 1
                        sink.sendall(data)
                        continue
                    moment, self.cut = self.cut, ""
                    self.down = self.down_after_cut
                    if moment == "before":
                        break
                    held.set()
                elif not asking and held.is_set():
                    break  # the server has answered
                sink.sendall(data)
        if self.down:
            self.cut_all()
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
