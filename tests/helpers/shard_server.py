"""An HTTP server of a shard directory that goes wrong on purpose, and counts what it is asked for."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

Answer = Callable[["_Handler", bytes], None]


class ShardServer:
    """Serves a directory's files; `answers` maps a file's name to how its next requests are answered."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.answers: dict[str, list[Answer]] = {}
        self.requests: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.released = threading.Event()
        """Ends every answer that waits."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def goes_wrong(self, name: str, *answers: Answer) -> None:
        self.answers[name] = list(answers)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, owner: ShardServer, *arguments: object) -> None:
        self.owner = owner
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.owner.released.is_set():  # a connection that was kept
            self.close_connection = True
            return
        name = self.name = self.path.partition("?")[0].rpartition("/")[2]
        self.owner.requests[name] += 1
        self.owner.headers.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
        waiting = self.owner.answers.get(name, [])
        answer = waiting.pop(0) if waiting else right
        file = self.owner.directory / name
        if not file.is_file():
            self.send_error(404)
            return
        try:
            answer(self, file.read_bytes())
        except OSError:  # the other side has gone
            self.close_connection = True

    def start(self, promised: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(promised))
        self.end_headers()

    def send(self, content: bytes) -> None:
        self.wfile.write(content)
        self.owner.bytes[self.name] += len(content)

    def log_message(self, *arguments: object) -> None:
        pass


def right(handler: _Handler, content: bytes) -> None:
    """The whole file at once, also when a range is asked for."""
    handler.start(len(content))
    handler.send(content)


def cut(handler: _Handler, content: bytes) -> None:
    """The connection is closed in the middle of the body."""
    handler.start(len(content))
    handler.send(content[: len(content) // 2])
    handler.close_connection = True


def short(handler: _Handler, content: bytes) -> None:
    """Too few bytes, with the right length of what is sent."""
    right(handler, content[:-100])


def endless(handler: _Handler, content: bytes) -> None:
    """Without a length, and more than the file has."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    while not handler.owner.released.is_set():
        handler.send(content + bytes(1 << 16))


def corrupt(handler: _Handler, content: bytes) -> None:
    """One bit differs."""
    index = len(content) // 3
    right(handler, content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :])


def silent(handler: _Handler, content: bytes) -> None:
    """Half of the body, then nothing, while the connection stays open."""
    handler.start(len(content))
    handler.send(content[: len(content) // 2])
    handler.owner.released.wait()
    handler.close_connection = True


def deaf(handler: _Handler, content: bytes) -> None:
    """No answer at all, while the connection stays open."""
    handler.owner.released.wait()
    handler.close_connection = True


def dripping(handler: _Handler, content: bytes) -> None:
    """A byte now and then."""
    handler.start(len(content))
    for index in range(len(content)):
        if handler.owner.released.wait(0.05):
            break
        handler.send(content[index : index + 1])
    handler.close_connection = True


def status(code: int) -> Answer:
    def answer(handler: _Handler, content: bytes) -> None:
        handler.send_error(code)

    return answer


def slow(seconds: float) -> Answer:
    """The whole file, later."""

    def answer(handler: _Handler, content: bytes) -> None:
        time.sleep(seconds)
        right(handler, content)

    return answer


def page(handler: _Handler, content: bytes) -> None:
    """A page of HTML instead of the file, as some gateways answer."""
    right(handler, b"<html>come back later</html>")
