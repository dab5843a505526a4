"""Sends CT instances of half a mebibyte on keep-alive connections, as cheaply as a client can: a child of stow.py.

python benchmarks/stow_load.py ROOT PER_REQUEST CONNECTIONS SECONDS    # prints: instances seconds cpu
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from random import SystemRandom
from struct import pack
from threading import Barrier
from urllib.parse import urlsplit
from uuid import uuid4

from pydicom.encaps import encapsulate

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.scan import ct

BOUNDARY = uuid4().hex  # as most clients make them
OPENING = f"\r\n--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
CLOSING = f"\r\n--{BOUNDARY}--\r\n".encode()
HEADERS = {
    "Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}',
    "Accept": "application/dicom+json",
}
PIXELS = 512 * 512 * 2
A_SERIES = 100  # instances
FRAME = 16 << 20
JPEG_2000 = "1.2.840.10008.1.2.4.90"
UNDEFINED = b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff"
ITEM, END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
_STUDY, _SERIES, _INSTANCE = (f"2.25.1{number:038d}" for number in range(3))
_chance = SystemRandom()


def uid() -> str:
    """As long as those of the template."""
    return f"2.25.1{_chance.randrange(10**38):038d}"


class Instances:
    """One CT with new UIDs each time, a hundred to a series: the header is patched, the pixels are shared."""

    def __init__(self) -> None:
        made = ct(StudyInstanceUID=_STUDY, SeriesInstanceUID=_SERIES, SOPInstanceUID=_INSTANCE)
        self._head, self._pixels = made[:-PIXELS], memoryview(made)[-PIXELS:]
        self.size = len(made)
        self._left = 0

    def next(self) -> tuple[bytes, memoryview]:
        """Header and pixels of another instance."""
        if not self._left:
            self._series = self._head.replace(_STUDY.encode(), uid().encode())
            self._series = self._series.replace(_SERIES.encode(), uid().encode())
            self._left = A_SERIES
        self._left -= 1
        return self._series.replace(_INSTANCE.encode(), uid().encode()), self._pixels


class Large:
    """An instance of about `size` bytes in a file: compressed frames of 16 MiB that nobody decodes."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        made = ct(
            JPEG_2000,
            NumberOfFrames=str(size // FRAME),
            SOPInstanceUID=_INSTANCE,
            PixelData=encapsulate([b"\0\0"]),
        )
        end = made.index(UNDEFINED) + len(UNDEFINED)
        self._head, frame = made[:end], _chance.randbytes(FRAME)
        with path.open("wb") as file:
            file.write(self._head + ITEM + pack("<I", 0))  # no Basic Offset Table
            for _ in range(size // FRAME):
                file.write(ITEM + pack("<I", FRAME))
                file.write(frame)
            file.write(END)
        self.size = path.stat().st_size

    def rename(self) -> None:
        """Become another instance."""
        with self.path.open("r+b") as file:
            file.write(self._head.replace(_INSTANCE.encode(), uid().encode()))


class Connection:
    """One connection that stores until its time is over, and one request at least."""

    def __init__(self, url: str, per_request: int, start: Barrier, seconds: float) -> None:
        address = urlsplit(url)
        self._path = f"{address.path.rstrip('/')}/studies"
        self._http = HTTPConnection(address.hostname or "", address.port or 80, timeout=600)
        self._per_request, self._start, self._seconds = per_request, start, seconds
        self._instances = Instances()

    def store(self) -> int:
        """How many instances were stored."""
        self._http.connect()
        self._start.wait()
        ends, stored = time.perf_counter() + self._seconds, 0
        while not stored or time.perf_counter() < ends:
            self._request()
            stored += self._per_request
        self._http.close()
        return stored

    def _request(self) -> None:
        size = self._per_request * (len(OPENING) + self._instances.size) + len(CLOSING)
        self._http.putrequest("POST", self._path)
        for name, value in HEADERS.items():
            self._http.putheader(name, value)
        self._http.putheader("Content-Length", str(size))
        self._http.endheaders()
        for _ in range(self._per_request):
            head, pixels = self._instances.next()
            self._http.send(OPENING + head)
            self._http.send(pixels)
        self._http.send(CLOSING)
        answer = self._http.getresponse()
        told = answer.read()
        assert (answer.status, told.count(b"00081155")) == (200, self._per_request), told[:500]


def main() -> None:
    url, per_request, connections, seconds = sys.argv[1], *map(int, sys.argv[2:4]), float(sys.argv[4])
    start = Barrier(connections + 1)
    storing = [Connection(url, per_request, start, seconds) for _ in range(connections)]
    with ThreadPoolExecutor(connections) as pool:
        futures = [pool.submit(connection.store) for connection in storing]
        spent = time.process_time()
        start.wait()
        began = time.perf_counter()
        stored = sum(future.result() for future in futures)
        took = time.perf_counter() - began
    print(stored, took, time.process_time() - spent)


if __name__ == "__main__":
    main()
