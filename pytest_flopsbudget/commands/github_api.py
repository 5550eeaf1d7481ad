"""GitHub's REST API: requests with bounded retries, and lists that span pages."""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlencode

from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message

#: How often a request is sent at most.
_TRIES = 4
#: The longest time to wait before the next try, in seconds. If GitHub asks for more, the request fails.
LONGEST_WAIT = 60
_TIMEOUT_SECONDS = 30
#: The maximum size of an answer. A page of 100 comments of 65,536 characters has up to 26 MB.
_MAX_BYTES = 64 * 2**20
#: The maximum number of pages of a list, with 100 items each.
_MAX_PAGES = 100
_FORBIDDEN, _TOO_MANY, _FIRST_SERVER_ERROR = 403, 429, 500


class ApiError(UsageError):
    """GitHub refused a request, or did not answer it."""

    def __init__(self, message: str, status: int | None = None) -> None:
        """Store the message and the HTTP status; None if there was no answer."""
        super().__init__(message)
        self.status = status


class GitHubApi:
    """Sends requests to GitHub's REST API. The token is sent to this API and to no other address."""

    def __init__(self, url: str, token: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Prepare requests.

        Args:
            url: the address of the API, ``GITHUB_API_URL`` in a workflow.
            token: the token that authorizes the requests.
            sleep: waits for a number of seconds between two tries.

        Raises:
            UsageError: ``url`` is no address of a web server.
        """
        if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url):
            raise UsageError(f"GITHUB_API_URL={url}: is no address; in a workflow GitHub sets it, https://HOST/PATH")
        self._url = url.rstrip("/")
        self._token = token
        self._sleep = sleep
        # A redirect would take the token to another address.
        self._opener = urllib.request.build_opener(_NoRedirects)

    def items(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        """Yield the items of a list, page after page.

        Raises:
            ApiError: GitHub refuses a request, the answer is no list, or the list has more than 10,000 items.
        """
        for page in range(1, _MAX_PAGES + 1):
            found = self.send("GET", f"{path}?{urlencode(query | {'per_page': '100', 'page': str(page)})}")
            if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
                raise ApiError(f"GET {path}: GitHub's answer is no list of objects")
            yield from found
            if not found:
                return
        raise ApiError(f"GET {path}: more than {_MAX_PAGES * 100:,} items")

    def send(self, method: str, path: str, data: dict[str, Any] | None = None) -> Any:
        """Send a request and return the parsed JSON of the answer.

        A request that exceeds a rate limit is repeated after the time that GitHub names. After an error of the server
        or of the network, GET and PATCH are repeated; POST is not, because it might create a second comment.

        Raises:
            ApiError: all tries failed, or GitHub refuses the request.
        """
        for number in range(1, _TRIES + 1):
            try:
                return self._send_once(method, path, data)
            except _RetryError as error:  # noqa: PERF203 -- a request takes longer
                last = number == _TRIES or (method == "POST" and not error.limited)
                if last or error.seconds > LONGEST_WAIT:
                    raise ApiError(f"{error}{_hint(error.seconds)}", error.status) from error
                self._sleep(error.seconds or 2**number)
        raise AssertionError("the last try returns or raises")

    def _send_once(self, method: str, path: str, data: dict[str, Any] | None) -> Any:
        request = urllib.request.Request(  # noqa: S310 -- the constructor allows http and https only
            f"{self._url}{path}",
            method=method,
            data=None if data is None else json.dumps(data).encode(),
            headers={
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/json",
                "User-Agent": "pytest-flopsbudget",
                "X-GitHub-Api-Version": "2022-11-28",
            },
        )
        place = f"{method} {path.partition('?')[0]}"
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                text = answer.read(_MAX_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                _refuse(place, error.code, error.headers, _message_of(error))
        except (OSError, http.client.HTTPException) as error:
            raise _RetryError(f"{place}: {getattr(error, 'reason', None) or error}") from error
        if len(text) > _MAX_BYTES:
            raise ApiError(f"{place}: GitHub's answer is larger than {_MAX_BYTES // 2**20} MiB")
        try:
            return json.loads(text)
        except ValueError as error:
            raise ApiError(f"{place}: GitHub's answer is no JSON") from error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Let every redirect end as an error."""


class _RetryError(Exception):
    """A request that may succeed later."""

    def __init__(self, message: str, status: int | None = None, *, limited: bool = False, seconds: float = 0) -> None:
        super().__init__(message)
        self.status = status
        #: Whether the request exceeded a rate limit, so that GitHub has surely not carried it out.
        self.limited = limited
        #: The time to wait before the next try; 0 if GitHub asks for none.
        self.seconds = seconds


def _refuse(place: str, status: int, headers: Message, message: str) -> NoReturn:
    text = f"{place}: {status} {message}".rstrip()
    if status in {_FORBIDDEN, _TOO_MANY}:
        # GitHub's documentation: beyond a limit the status is 403 or 429, and a header or the message names the limit.
        spent = headers.get("x-ratelimit-remaining") == "0"
        if status == _TOO_MANY or headers.get("retry-after") or spent or "rate limit" in message.lower():
            raise _RetryError(text, status, limited=True, seconds=_wait(headers, spent=spent))
    if status >= _FIRST_SERVER_ERROR:
        raise _RetryError(text, status)
    raise ApiError(text, status)


def _wait(headers: Message, *, spent: bool) -> float:
    """Return the seconds to wait that the headers name; a minute, as GitHub asks, if they name none."""
    after = headers.get("retry-after", "")
    if after.isdecimal():
        return float(after)
    reset = headers.get("x-ratelimit-reset", "")
    return max(1.0, float(reset) - time.time()) if spent and reset.isdecimal() else float(LONGEST_WAIT)


def _hint(seconds: float) -> str:
    return f"; GitHub asks to wait {seconds:,.0f} seconds, so run the job again later" if seconds > LONGEST_WAIT else ""


def _message_of(error: urllib.error.HTTPError) -> str:
    """Return the reason in the answer, or else the name of its status."""
    try:
        found = json.loads(error.read(_MAX_BYTES))
    except (OSError, ValueError, http.client.HTTPException):
        return str(error.reason)
    return str(found.get("message", error.reason)) if isinstance(found, dict) else str(error.reason)
