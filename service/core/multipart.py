"""multipart/form-data (RFC 7578) read as it comes: a few short fields, then one file, and nothing after it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header
from starlette.requests import Request

from service.core.errors import BadRequest, UnsupportedMedia

STATE = "upload"
MOST_FIELDS, MOST_FIELD_BYTES, MOST_HEADER_BYTES = 10, 4_096, 4_096
SNIFFED = 4_096
ONE_FILE = "Send exactly one file, after the other fields of the form."


class Incoming:
    """A form whose fields have come and whose file is about to; see `arriving`."""

    def __init__(self, request: Request) -> None:
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not 0 < len(boundary) <= 70:
            raise UnsupportedMedia("This address takes a file in a form.", mend="Send it as multipart/form-data.")
        declared = request.headers.get("content-length", "")
        self.declared = int(declared) if declared.isdigit() else None
        self.fields, self.name, self.part = dict[str, str](), "", ""
        self._delimiter, self._delimiters = b"\r\n--" + boundary, 0
        self._stream = request.stream()
        self._events: deque[tuple[str, bytes]] = deque()
        plain = {f"on_{name}": self._note(name) for name in ("part_begin", "part_end", "headers_finished", "end")}
        data = {f"on_{name}": self._note_data(name) for name in ("part_data", "header_field", "header_value")}
        self._parser = MultipartParser(boundary, plain | data)  # type: ignore[arg-type]

    async def begin(self) -> None:
        """Read up to the first byte of the file; raises BadRequest for a form that is not of this shape."""
        headers, header, value, name, disposition = 0, b"", b"", "", dict[bytes, bytes]()
        async for event, data in self._happenings():
            match event:
                case "part_begin":
                    headers, disposition, header, value = 0, {}, b"", b""
                    if len(self.fields) >= MOST_FIELDS:
                        raise BadRequest("The form has too many fields.")
                case "header_field" | "header_value":
                    headers += len(data)
                    if headers > MOST_HEADER_BYTES:
                        raise BadRequest("The form's headers are too long.")
                    if event == "header_field":
                        header, value = (header + data, b"") if not value else (data, b"")
                        continue
                    value += data
                    if header.lower() == b"content-disposition":
                        _, disposition = parse_options_header(value)
                case "headers_finished":
                    name = disposition.get(b"name", b"").decode("utf-8", "replace")
                    if b"filename" in disposition:
                        self.name, self.part = disposition[b"filename"].decode("utf-8", "replace"), name
                        return
                    self.fields[name] = ""
                case "part_data":
                    self.fields[name] += data.decode("utf-8", "replace")
                    if len(self.fields[name]) > MOST_FIELD_BYTES:
                        raise BadRequest("A field of the form is too long.")
        raise BadRequest("The form has no file.", mend="Choose a file and send the form again.")

    async def parts(self, check: Callable[[bytes], None]) -> AsyncIterator[bytes]:
        """The file's bytes, of which there is at least one; `check` sees the first ones and may refuse them."""
        beginning, checked, ended = b"", False, False
        async for event, data in self._happenings():
            if event == "part_data" and not ended:
                if checked:
                    yield data
                    continue
                beginning += data
                if len(beginning) >= SNIFFED:
                    check(beginning)
                    checked = True
                    yield beginning
            elif event == "part_end":
                ended = True
            elif event == "part_begin":
                raise BadRequest(ONE_FILE)
            elif event == "end":
                break
        else:
            raise BadRequest("The form ended before the file was complete.")
        if not beginning:
            raise BadRequest("The file is empty.", mend="Choose a file with something in it.")
        if not checked:
            check(beginning)
            yield beginning

    async def _happenings(self) -> AsyncIterator[tuple[str, bytes]]:
        while True:
            while self._events:
                yield self._events.popleft()
            chunk = await anext(self._stream, None)
            if chunk is None:
                return
            # The parser goes through what looks like an end byte by byte: a file full of that is what it is not sent.
            self._delimiters += chunk.count(self._delimiter)
            if self._delimiters > MOST_FIELDS + 2:
                raise BadRequest("The form's boundary is found in its content.", mend="Send it with another boundary.")
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise BadRequest("The form could not be read.", mend="Reload the page and send it again.") from error
            if self._parser.state == MultipartState.BOUNDARY_PADDING:
                raise BadRequest("The form has spaces without end.", mend="Send nothing behind a boundary.")

    def _note(self, name: str) -> Any:
        return lambda: self._events.append((name, b""))

    def _note_data(self, name: str) -> Any:
        return lambda data, start, end: self._events.append((name, data[start:end]))


async def arriving(request: Request) -> Incoming:
    """The upload of this request, read up to its file; the same one however often it is asked for."""
    state = request.scope["state"]
    if STATE not in state:
        state[STATE] = Incoming(request)
        await state[STATE].begin()
    found: Incoming = state[STATE]
    return found
