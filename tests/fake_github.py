"""GitHub's REST API on loopback: pull requests, and comments in pages of 100. Tests choose the answers to requests."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

TOKEN = "s3cret"  # noqa: S105 -- of the server below
BOT = "github-actions[bot]"


def pull(number=7, *, repository="me/net", head="me/net", branch="wider", sha="a" * 40, state="open"):
    """Describe a pull request, as GitHub does."""
    return {
        "number": number,
        "state": state,
        "base": {"repo": {"full_name": repository}},
        "head": {"repo": head and {"full_name": head}, "ref": branch, "sha": sha},
    }


class FakeGitHub:
    """The state of the server, and the requests that it received: (method, path with query)."""

    def __init__(self):
        self.url = ""
        self.pulls = [pull()]
        self.comments = []
        self.requests = []
        #: Answers to give before all others: (status, headers, JSON).
        self.answers = []
        #: Whether the token may write comments.
        self.may_write = True

    def comment(self, body, login=BOT):
        self.comments.append({"id": 1000 + len(self.comments), "user": {"login": login}, "body": body})

    def answer(self, method, path, data):
        """Return the status, the headers and the JSON of the answer to a request."""
        if self.answers:
            return self.answers.pop(0)
        address = urlsplit(path)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        page = slice(100 * (int(query.get("page", 1)) - 1), 100 * int(query.get("page", 1)))
        match method, address.path.removeprefix("/repos/me/net"):
            case "GET", "/pulls":
                owner, _, branch = query["head"].partition(":")
                heads = [(one, one["head"]["repo"] or {"full_name": f"{owner}/deleted"}) for one in self.pulls]
                found = [one for one, repo in heads if repo["full_name"].startswith(f"{owner}/")]
                return 200, {}, [one for one in found if one["head"]["ref"] == branch][page]
            case "GET", path if found := re.fullmatch(r"/pulls/(\d+)", path):
                return 200, {}, next(one for one in self.pulls if one["number"] == int(found[1]))
            case "GET", "/issues/7/comments":
                return 200, {}, self.comments[page]
            case "POST" | "PATCH", _ if not self.may_write:
                return 403, {}, {"message": "Resource not accessible by integration"}
            case "POST", "/issues/7/comments":
                if len(data["body"]) > 65_536:
                    return 422, {}, {"message": "Validation Failed: body is too long (maximum is 65536 characters)"}
                self.comment(data["body"])
                return 201, {}, self.comments[-1]
            case "PATCH", path if found := re.fullmatch(r"/issues/comments/(\d+)", path):
                comment = next(one for one in self.comments if one["id"] == int(found[1]))
                comment["body"] = data["body"]
                return 200, {}, comment
        return 404, {}, {"message": "Not Found"}


@contextmanager
def serving(fake):
    """Serve ``fake`` on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def respond(self):
            length = int(self.headers.get("content-length", 0))
            data = json.loads(self.rfile.read(length)) if length else None
            fake.requests.append((self.command, self.path))
            if self.headers["authorization"] != f"Bearer {TOKEN}":
                status, headers, found = 401, {}, {"message": "Bad credentials"}
            else:
                status, headers, found = fake.answer(self.command, self.path, data)
            text = found.encode() if isinstance(found, str) else json.dumps(found).encode()
            self.send_response(status)
            for name, value in (headers | {"content-length": str(len(text))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = respond  # noqa: N815 -- names that http.server calls

        def log_message(self, *_):
            """Write no log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        fake.url = f"http://127.0.0.1:{server.server_port}"
        yield fake
        server.shutdown()
