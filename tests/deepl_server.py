"""A server on this machine that answers as DeepL's API does, faults included."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

KEY = "5a1d0f7e-secret-0042:fx"
"""The key that the server takes; no other."""
GLOSSARY = "glossary-of-french"
"""The id of its one glossary, French to English: `Tripoli` is `Tarabulus` there."""
LIMIT = 128 * 1024


@dataclass
class DeepL:
    """What the server was asked, and how it is to answer.

    Attributes:
        url: its address.
        quota: characters that it translates in all.
        faults: how it answers the next requests for translation: with that status, well (200), or by dropping the
            connection (0).
        garbled: whether it answers with a page as a login portal does.
        used: characters translated so far.
        requests: bodies of the requests for translation that reached it.
    """

    url: str = ""
    quota: int = 500_000
    faults: list[int] = field(default_factory=list)
    garbled: bool = False
    used: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        """Every text that it was asked to translate, in order."""
        return [text for request in self.requests for text in request["text"]]

    def translate(self, body: dict[str, Any], size: int) -> tuple[int, dict[str, Any]]:
        """The status and the answer to a request for translation."""
        self.requests.append(body)
        texts, glossary = body["text"], body.get("glossary_id")
        characters = sum(map(len, texts))
        fault = self.faults.pop(0) if self.faults else 200
        if fault != 200:
            return fault, {"message": "fault"}
        if size > LIMIT or len(texts) > 50:
            return 413, {"message": "Request size exceeds the limit"}
        if glossary and (glossary != GLOSSARY or body.get("source_lang") != "FR"):
            return 400, {"message": "No dictionary found for language pair"}
        if self.used + characters > self.quota:
            return 456, {"message": "Quota Exceeded"}
        self.used += characters
        return 200, {"translations": [self._translated(text, body, glossary) for text in texts]}

    @staticmethod
    def _translated(text: str, body: dict[str, Any], glossary: str | None) -> dict[str, Any]:
        english = text.replace("Tripoli", "Tarabulus") if glossary else text
        source = body["source_lang"]
        return {"detected_source_language": source, "text": f"[{source}] {english}", "billed_characters": len(text)}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    deepl: DeepL

    def do_GET(self) -> None:
        """Answer what the quota is and what the glossary holds."""
        if not self._known():
            return
        if self.path == "/v2/usage":
            self._answer(200, {"character_count": self.deepl.used, "character_limit": self.deepl.quota})
        elif self.path == f"/v3/glossaries/{GLOSSARY}":
            pair = {"source_lang": "fr", "target_lang": "en", "entry_count": 1}
            made = "2026-01-01T00:00:00.000000Z"
            facts = {"glossary_id": GLOSSARY, "name": "war", "creation_time": made, "dictionaries": [pair]}
            self._answer(200, facts)
        else:
            self._answer(404, {"message": "Not found"})

    def do_POST(self) -> None:
        """Translate, or do what the test wants instead."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._known():
            return
        if self.deepl.garbled:
            self._send(200, b"<html>log in</html>")
        elif self.deepl.faults[:1] == [0]:
            self.deepl.faults.pop(0)
            self.deepl.requests.append(json.loads(content))
            self.close_connection = True
        else:
            self._answer(*self.deepl.translate(json.loads(content), len(content)))

    def _known(self) -> bool:
        known = self.headers["Authorization"] == f"DeepL-Auth-Key {KEY}"
        if not known:
            self._answer(403, {"message": "Forbidden"})
        return known

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        self._send(status, json.dumps(answer).encode())

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def deepl_server(**settings: Any) -> Iterator[DeepL]:
    """Run the server; yield what it was asked and how it is to answer."""
    deepl = DeepL(**settings)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"deepl": deepl}))
    server.daemon_threads = True
    deepl.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield deepl
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
