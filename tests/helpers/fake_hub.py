"""A server on this machine that answers as the Hugging Face Hub does."""

import hashlib
import json
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Repositories with files.

    Args:
        repositories: OWNER/NAME -> path -> content.
        gated: Names of repositories whose licence was not accepted.
    """

    def __init__(self, repositories: Mapping[str, Mapping[str, bytes]], gated=()) -> None:
        self.repositories = {name: dict(files) for name, files in repositories.items()}
        self.gated = set(gated)
        self.url = ""
        self.downloads: list[str] = []
        """Paths of the files that were sent, in order."""

    def info(self, name: str) -> dict:
        files = self.repositories[name]
        siblings = [
            {
                "rfilename": path,
                "size": len(content),
                "blobId": hashlib.sha1(content).hexdigest(),
                "lfs": {
                    "size": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "pointerSize": 100,
                },
            }
            for path, content in files.items()
        ]
        return {
            "_id": "1",
            "id": name,
            "modelId": name,
            "sha": COMMIT,
            "private": False,
            "gated": "manual" if name in self.gated else False,
            "siblings": siblings,
            "cardData": {"license": "mit"},
            "tags": [],
        }

    def tree(self, name: str) -> list[dict]:
        return [
            {
                "type": "file",
                "path": item["rfilename"],
                "size": item["size"],
                "oid": item["blobId"],
                "lfs": {
                    "oid": item["lfs"]["sha256"],
                    "size": item["size"],
                    "pointerSize": 100,
                },
            }
            for item in self.info(name)["siblings"]
        ]

    @contextmanager
    def serve(self):
        """Serve on a free port. `url` is the address."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer(with_body=False)

        def do_GET(self):
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            parts = unquote(urlparse(self.path).path).strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                name, rest = "/".join(parts[2:4]), parts[4:]
                if name not in hub.repositories:
                    return self.send(401, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body)
                data = hub.tree(name) if rest[:1] == ["tree"] else hub.info(name)
                body = json.dumps(data).encode()
                return self.send(200, body, {"Content-Type": "application/json"}, with_body)
            name, path = "/".join(parts[:2]), "/".join(parts[4:])
            if name not in hub.repositories:
                return self.send(401, b"", {"X-Error-Code": "RepoNotFound"}, with_body)
            if name in hub.gated:
                return self.send(403, b"", {"X-Error-Code": "GatedRepo"}, with_body)
            content = hub.repositories[name].get(path)
            if content is None:
                headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
                return self.send(404, b"", headers, with_body)
            if with_body:
                hub.downloads.append(path)
            digest = hashlib.sha256(content).hexdigest()
            headers = {
                "ETag": f'"{digest}"',
                "X-Linked-Etag": f'"{digest}"',
                "X-Linked-Size": str(len(content)),
                "X-Repo-Commit": COMMIT,
            }
            start = 0
            status = 200
            if requested := self.headers.get("Range"):
                start = int(requested.removeprefix("bytes=").split("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                status = 206
            return self.send(status, content[start:], headers, with_body)

        def send(self, status: int, body: bytes, headers: dict, with_body: bool) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    return Handler
