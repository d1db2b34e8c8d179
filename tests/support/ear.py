"""What systemd hears of a service."""

import socket


class Ear:
    """Systemd's end. Everything that was said, in order."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.setblocking(False)
        self.heard: list[str] = []

    def said(self, word: str) -> int:
        """How often, by now."""
        while True:
            try:
                self.heard += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.heard.count(word)

    def close(self) -> None:
        self._socket.close()
