"""A patient identity source that speaks HL7 v2 over MLLP, as any hospital's does."""

from __future__ import annotations

import socket
import ssl
from types import TracebackType
from typing import Self

MSH = r"MSH|^~\&|ADT|HOSPITAL|TOIMIK|REGION|20260314103015||ADT^{event}|{control_id}|P|2.5"


def adt(event: str, patient_id: str, prior_id: str | None = None, control_id: str = "1") -> bytes:
    """An ADT message about a patient, which may merge another into it."""
    segments = [MSH.format(event=event, control_id=control_id), "EVN||20260314103015", f"PID|||{patient_id}||Doe^Jane"]
    segments.append("PV1||I" if prior_id is None else f"MRG|{prior_id}")
    return "".join(f"{segment}\r" for segment in segments).encode()


def link_change(
    new: str, local: str, previous: str, subsumed: str | None = None, *, application: str = "2.25.98765"
) -> bytes:
    """ADT^A43: a local id is linked to another patient (ITI TF-2: 3.64.4.1.2)."""
    header = MSH.format(event="A43^ADT_A43", control_id="1").replace("|ADT|", f"|{application}|", 1)
    merged = previous if subsumed is None else f"{previous}~{subsumed}"
    segments = [header, "EVN||20260314103015", f"PID|||{new}~{local}|| ", f"MRG|{merged}"]
    return "".join(f"{segment}\r" for segment in segments).encode()


class Sender:
    """One connection."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="127.0.0.1")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, message: bytes) -> dict[str, list[str]]:
        """Send a message, and return the segments of its acknowledgment by name."""
        self.socket.sendall(b"\x0b" + message + b"\x1c\r")
        return self.acknowledgment()

    def acknowledgment(self) -> dict[str, list[str]]:
        received = b""
        while not received.endswith(b"\x1c\r"):
            octets = self.socket.recv(65536)
            assert octets, "the connection was closed without an acknowledgment"
            received += octets
        assert received.startswith(b"\x0b")
        lines = received[1:-2].decode().strip("\r").split("\r")
        return {line[:3]: line.split("|") for line in lines}

    def is_closed_by_the_server(self) -> bool:
        """Wait until the server closes the connection; what it still sends is read and dropped."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True
