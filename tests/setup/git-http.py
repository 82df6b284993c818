"""Serves the git repositories of one folder over HTTP, through `git http-backend`, for tests.

    git-http.py FOLDER PORT

With USER:PASSWORD in GIT_HTTP_LOGIN, everybody else is answered 401.
"""

import base64
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FOLDER, PORT = os.path.abspath(sys.argv[1]), int(sys.argv[2])
LOGIN = os.environ.get("GIT_HTTP_LOGIN")  # no password on a command line
MAX_BODY = 256 << 20


class Git(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(b"")

    def do_POST(self):
        body = self.chunks() if "chunked" in self.headers.get("Transfer-Encoding", "") else (
            self.rfile.read(min(int(self.headers.get("Content-Length", 0)), MAX_BODY)))
        self.answer(body)

    def chunks(self) -> bytes:
        body = bytearray()
        while (size := int(self.rfile.readline().split(b";")[0], 16)) and len(body) < MAX_BODY:
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def reply(self, status: int, headers: list, body: bytes):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, body: bytes):
        given = self.headers.get("Authorization", "")
        if LOGIN and given != "Basic " + base64.b64encode(LOGIN.encode()).decode():
            return self.reply(401, [("WWW-Authenticate", 'Basic realm="git"')], b"who are you?\n")
        url = urlsplit(self.path)
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": FOLDER,
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": url.path,
            "QUERY_STRING": url.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_ADDR": self.client_address[0],
            "REMOTE_USER": LOGIN.split(":")[0] if LOGIN else "",
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line]
        status = next((v for name, v in headers if name == "Status"), "200 OK")
        self.reply(int(status.split()[0]), [h for h in headers if h[0] != "Status"], content)


ThreadingHTTPServer(("127.0.0.1", PORT), Git).serve_forever()
