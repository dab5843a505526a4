"""Our side of a connection: bounds on headers and idling, files to the socket, ranges that are known again.

What uvicorn's protocol does not do: it shows the application its transport (client.py), lets the kernel send files
(sendfile.py), and answers a request that is known again before anything is made of it (again.py).
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.errors import ReelwebError
from app.web import again, asked, client, figures, observe, sendfile
from app.web import upgrade as upgrades
from app.web.again import Again
from app.web.asked import Asked
from app.web.extents import Header, cut_short
from app.web.pour import Pour
from app.web.problems import problem

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

HEADER_BYTES: Final = 64 << 10  # of a request line and its fields
HEADER_S: Final = 30.0  # in which they have to come
LINGER_S: Final = 2.0  # in which who sends what is no HTTP can read that
DRAINED: Final = 64 << 20  # bytes of a body that are read after it was answered
# More than this in the transport holds the sender back: a header does not, every piece of a stream does.
HELD: Final = 2 << 10
_PARTIAL: Final = int(HTTPStatus.PARTIAL_CONTENT)
_LONG: Final = 256 << 10  # a body
# Of a request's body; the parser looks at the last one only.
_CODINGS: Final[tuple[list[bytes], ...]] = ([], [b"chunked"])

_log = structlog.get_logger("reelweb.connection")


class Protocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=Protocol)`; with an `again` in the application's state ranges are known again."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Bound what the kernel holds for a viewer that does not read."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(HELD, 0)
        self._wire = sendfile.Wire(transport, self.flow)
        self._again: Again | None = self.app_state.get("again") if self.scheme == "http" else None
        self._asked: Asked | None = None
        self._ahead: list[bytes] | None = None  # what was asked while a known range is under way
        self._is_stopping = False
        self._unparsed: list[Header] = []  # how a body is framed that the parser takes for another protocol
        self._left = 0  # of a long body: it goes past the parser, which would copy it
        self._is_refused = False
        self._idle_since = 0.0  # when the last known request was answered
        self._peer = self.client and self.client[0], self.server  # the rest of a question is in its bytes
        self._await_header()

    def _await_header(self) -> None:
        """A header that is too long or too slow ends its connection, before anybody is asked who they are."""
        self._header_bytes: int | None = 0
        self._deadline = self.loop.call_later(HEADER_S, self._header_late)

    def _header_late(self) -> None:
        """Who asked ahead is not to blame while we do not read."""
        if self.flow.read_paused:
            self._deadline = self.loop.call_later(HEADER_S, self._header_late)
        else:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Answer at once what is known; count what comes until a header is complete."""
        if self._is_refused or self.transport.is_closing():
            return
        if self._ahead is not None:
            self.flow.pause_reading()
            self._ahead.append(data)
            return
        if self._again and self._is_idle():
            self._asked = self._again.asked(self._peer, data)
            if self._asked and self._answer_again(self._again, self._asked, data):
                return
        deadline = self._deadline
        self._parse(data)
        if self._header_bytes is not None:
            # Of one that began in here nobody knows how much is header: before it a body may have ended.
            self._header_bytes += len(data) if self._deadline is deadline else 1
            if self._header_bytes > HEADER_BYTES:
                self.transport.abort()

    def _parse(self, data: bytes) -> None:
        """As uvicorn's protocol does, but that no request leaves this protocol."""
        self._unset_keepalive_if_required()
        try:
            while data:
                data = self._pass_on(data) if self._left else self._parse_some(data)
        except httptools.HttpParserError:
            self._refuse()

    def _parse_some(self, data: bytes) -> bytes:
        """What is still to be parsed."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._unparsed:
                self.parser, self._unparsed = upgrades.parser(self, self._unparsed), []
            return data[upgrade.args[0] :]
        if self._left:  # this parser waits for it
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b""

    def _pass_on(self, data: bytes) -> bytes:
        """The body's next bytes; what is behind it is still to be parsed."""
        body, rest, is_last = data[: self._left], data[self._left :], len(data) >= self._left
        self.on_body(body)
        if is_last:
            self.on_message_complete()
        return rest

    def _refuse(self) -> None:
        """Obey nothing that comes on this connection any more.

        What was asked before is answered; a request whose own body is broken ends, unless its answer has begun.
        """
        self._is_refused, request_id = True, observe.new_id()
        self._header_over()  # nobody waits for one any more: neither its length nor its time ends what was asked before
        _log.warning("no HTTP", request_id=request_id)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                cycle.keep_alive = False
                return
            if cycle.response_started or self.pipeline:
                self.transport.abort()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        answer = problem({"request_id": request_id}, HTTPStatus.BAD_REQUEST, "This is no request of HTTP.")
        fields = [*answer.raw_headers, *observe.own(request_id), (b"connection", b"close")]
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\n%b\r\n%b" % (again.lines(fields), bytes(answer.body))
        )
        self.transport.write_eof()
        # Closing with something unread would take the answer back.
        self._deadline = self.loop.call_later(LINGER_S, self.transport.abort)

    def _should_upgrade(self) -> bool:
        return False

    def _is_idle(self) -> bool:
        """What comes now is the beginning of a request."""
        is_over = self.cycle is None or (self.cycle.response_complete and not self.cycle.more_body)
        return is_over and not self._header_bytes

    def _answer_again(self, memory: Again, request: Asked, data: bytes) -> bool:
        """Whether the request is known; what the kernel takes of its bytes at once is sent, a task sends the rest."""
        known = memory.known(request)
        bounds = known and request.bounds(known.extents.length)
        if not known or not bounds:
            return False
        seen = observe.Seen(observe.new_id(), _PARTIAL)
        common = memory.common(self.server_state.default_headers)
        pour = memory.pour(known, bounds, self._wire, known.head(*bounds, common, seen.request_id))
        try:
            is_over = pour.turn() and pour.is_over
        except Exception:  # noqa: BLE001 - the task meets it again, and tells
            is_over = False
        if is_over:
            self._sent(pour, known.label, seen)
        else:
            self._unset_keepalive_if_required()
            self._header_over()
            self._ahead = []
            task = self.loop.create_task(self._send_rest(memory, pour, known.label, seen, data))
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)
        return True

    async def _send_rest(
        self, memory: Again, pour: Pour, label: observe.Label, seen: observe.Seen, data: bytes
    ) -> None:
        """What the kernel did not take; where not even its beginning can be read, the whole way tells why."""
        is_answered = True
        try:
            with figures.IN_FLIGHT.track_inprogress():
                await memory.rest(pour)
        except asyncio.CancelledError:  # at a stop; closing would wait for a client that does not read
            self.transport.abort()
        except Exception as error:  # noqa: BLE001 - the last door before the socket
            is_answered = pour.has_begun or self.transport.is_closing()
            if is_answered:
                self._cut_short(seen, error)
        ahead, self._ahead = self._ahead or (), None
        if is_answered:
            self._sent(pour, label, seen)
        else:
            self._parse(data)
        if self._is_stopping:
            self.shutdown()
        self.flow.resume_reading()
        for later in ahead:
            self.data_received(later)

    def _cut_short(self, seen: observe.Seen, error: Exception) -> None:
        if isinstance(error, TimeoutError | ReelwebError):
            cut_short(seen.request_id, error)
        elif not isinstance(error, ConnectionError):
            observe.failed(seen.request_id, error)
        self.transport.abort()

    def _sent(self, pour: Pour, label: observe.Label, seen: observe.Seen) -> None:
        seen.size = pour.size
        if not self.transport.is_closing():
            self._answered()
        observe.tell(label, seen)

    def _answered(self) -> None:
        """As if there had been a request; the timer that ends an idle connection is left to look for itself."""
        self._header_over()
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _header_over(self) -> None:
        if self._header_bytes is not None:
            self._header_bytes = None
            self._deadline.cancel()

    def on_headers_complete(self) -> None:
        """The rest is a body, which has bounds of its own; in a coding that nobody takes off again it is refused."""
        if [value.lower() for name, value in self.headers if name == b"transfer-encoding"] not in _CODINGS:
            raise httptools.HttpParserError
        self._header_over()
        self._unparsed = upgrades.framing(self.headers) if self.parser.should_upgrade() else []
        if not self._unparsed:
            told = next((int(value) for name, value in self.headers if name == b"content-length"), 0)
            self._left = told if told >= _LONG else 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is over, unless the parser thinks so because of what it would go on in."""
        if not self._unparsed:
            super().on_message_complete()

    def shutdown(self) -> None:
        """A known range that is under way comes to its end."""
        self._is_stopping = True
        if self._ahead is None:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._deadline.cancel()
        self._wire.release()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection; one that never took its last, short answer would otherwise wait for ever."""
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)
        elif self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def on_message_begin(self) -> None:
        """Show the application its transport."""
        self._unset_keepalive_if_required()
        self._drained = 0
        self._deadline.cancel()
        self._await_header()
        super().on_message_begin()
        shown: dict[str, Any] = {client.EXTENSION: {"transport": self.transport}}
        if self.scheme == "http":  # TLS has to see the bytes
            shown[sendfile.EXTENSION] = {}
        if self._asked:
            shown[asked.EXTENSION], self._asked = self._asked, None
        self.scope["extensions"] = shown

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        keep = self._again.keep if self._again else None
        super()._start_asgi_task(cycle, sendfile.with_files(cycle, self._wire, app, keep))

    def on_body(self, body: bytes) -> None:
        """What comes after the answer is read and thrown away, so that the client sees it; not for ever."""
        if self._left:
            self._left -= len(body)
        super().on_body(body)
        if not self.cycle.response_complete:
            return
        self._drained += len(body)
        if self._drained > DRAINED:
            self.transport.close()
        elif not self.transport.is_closing():  # the server forgets the time it gives when anything comes
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
