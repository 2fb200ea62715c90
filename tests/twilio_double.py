"""Stands in for Twilio's REST API, in this process or on a port, and keeps to its terms.

Every request is checked against Twilio's own OpenAPI document, from the npm package
`@twilio/cli-core`; fields and parameters that the document does not know are refused. What was
created can be listed, read, changed and deleted. Answers are the document's own examples, overlaid
by what was sent. A request that breaks the terms is answered with 400 and kept in `faults`, which
fails the test when the double is closed.
"""

from __future__ import annotations

import base64
import copy
import json
import re
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
import requests
from openapi_core import OpenAPI
from openapi_core.contrib.requests import RequestsOpenAPIRequest
from twilio.http import HttpClient
from twilio.http.response import Response
from twilio.request_validator import RequestValidator

from channels.twilio import Account, AccountSettings
from tests.twilio_oracle import MODULES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SPEC = MODULES / "@twilio/cli-core/src/services/twilio-api/twilio_api_v2010.json"
ROOT = "/2010-04-01/Accounts/{AccountSid}/"
KEPT = re.compile(
    r"(Messages|Calls|Queues|Conferences|Recordings|IncomingPhoneNumbers)(/\{\w+\})?"
    r"(/(Media|Members|Participants|Recordings)(/\{\w+\})?)?\.json"
)
"""The part of the API that we use; loading all of it takes a second."""

ACCOUNT_SID = "AC" + "0123456789abcdef" * 2
AUTH_TOKEN = "e4ad3f7c5d9b4a1f8c2b6d0e7a9f3c5d"


def sign(url: str, form: Mapping[str, str | list[str]], token: str = AUTH_TOKEN) -> dict[str, str]:
    """The headers of a webhook that Twilio sends to `url`."""

    class Many(dict[str, Any]):
        def getlist(self, name: str) -> list[str]:
            value = self[name]
            return value if isinstance(value, list) else [value]

    return {
        "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
        "X-Twilio-Signature": RequestValidator(token).compute_signature(url, Many(form)),
        "I-Twilio-Idempotency-Token": "not-to-be-relied-on",
        "User-Agent": "TwilioProxy/1.1",
    }


def webhook(
    url: str, form: Mapping[str, str | list[str]], token: str = AUTH_TOKEN
) -> httpx.Response:
    """Post a signed webhook, as Twilio does."""
    return _client().post(url, content=urlencode(form, doseq=True), headers=sign(url, form, token))


@cache
def _client() -> httpx.Client:
    """No connection is kept: the other end may have been killed meanwhile."""
    return httpx.Client(timeout=30, limits=httpx.Limits(max_keepalive_connections=0))


@cache
def _terms() -> tuple[OpenAPI, dict[str, Any]]:
    """What may be asked, and the document that says so."""
    if not SPEC.is_file():
        pytest.skip("the npm package @twilio/cli-core is needed: make node_modules/.dev")
    document = json.loads(SPEC.read_text(encoding="utf-8"))
    document["paths"] = {
        path: item
        for path, item in document["paths"].items()
        if path.startswith(ROOT) and KEPT.fullmatch(path.removeprefix(ROOT))
    }
    needed = _needed(document)
    schemas = document["components"]["schemas"]
    document["components"]["schemas"] = {k: v for k, v in schemas.items() if k in needed}
    return OpenAPI.from_dict(document), document


def _needed(document: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    waiting = [json.dumps(document["paths"])]
    while waiting:
        for name in re.findall(r'"#/components/schemas/([^"]+)"', waiting.pop()):
            if name not in found:
                found.add(name)
                waiting.append(json.dumps(document["components"]["schemas"][name]))
    return found


@dataclass(frozen=True)
class Asked:
    """One request as the double took it."""

    method: str
    resource: str
    """Path under the account, without `.json`: `Messages`, `Calls/CA…`."""
    values: dict[str, list[str]]
    """Of the form, or of the query of a GET."""
    username: str

    def __getitem__(self, name: str) -> str:
        return self.values[name][0]

    def get(self, name: str, otherwise: str = "") -> str:
        return self.values.get(name, [otherwise])[0]


@dataclass(frozen=True)
class Failure:
    """How a request goes wrong."""

    status: int = 0
    code: int = 0
    message: str = ""
    body: str | None = None
    """Instead of Twilio's JSON."""
    cut: bool = False
    """The connection breaks without an answer."""
    carried_out: bool = False
    """What was asked for happens all the same."""
    method: str = ""
    """Only requests by this method; empty for all."""


@dataclass
class Double:
    """Twilio, as far as we use it. Its methods may be called from any thread."""

    auth: dict[str, str] = field(default_factory=lambda: {ACCOUNT_SID: AUTH_TOKEN})
    """User name -> password: the account's own, and API keys."""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    asked: list[Asked] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    resources: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Collection (`Messages`, `Queues/QU…/Members`) -> sid -> its fields."""
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Path -> content type and bytes, for what is not JSON: media and recordings."""
    url: str = ""
    """Where it is served."""

    def __post_init__(self) -> None:
        self._failures: deque[tuple[str, Failure]] = deque()
        self._gates: dict[str, threading.Event] = {}
        self._lock = threading.RLock()
        self._count = 0
        self.arrived = threading.Condition(self._lock)

    # What a test says beforehand

    def fail(self, resource: str = "Messages", times: int = 1, **how: Any) -> None:
        """Let the next requests to a collection go wrong: `fail("Messages", status=400,
        code=21610)`, `fail("Calls", cut=True, carried_out=True)`."""
        self._failures.extend([(resource, Failure(**how))] * times)

    def hold(self, resource: str = "Messages") -> threading.Event:
        """Carry requests to a collection out, but answer only when the returned event is set."""
        return self._gates.setdefault(resource, threading.Event())

    def put(self, collection: str, **fields: Any) -> str:
        """Something that is there already; returns its sid. Names are those of the JSON, `from_`
        for `from`."""
        with self._lock:
            given = {("from" if k == "from_" else k): v for k, v in fields.items()}
            return self._add(collection, given)

    # What a test sees afterwards

    def sent(self, collection: str = "Messages") -> list[Asked]:
        """What was to be created, whether it went well or not."""
        with self._lock:
            return [a for a in self.asked if (a.method, a.resource) == ("POST", collection)]

    def first(self, collection: str = "Messages", count: int = 1) -> list[Asked]:
        """Wait until so many requests to create something have come."""
        with self.arrived:
            if not self.arrived.wait_for(lambda: len(self.sent(collection)) >= count, 30):
                raise AssertionError(f"request number {count} to create one of {collection}")
            return self.sent(collection)

    def of(self, collection: str = "Messages") -> list[dict[str, Any]]:
        """What is there now, oldest first."""
        with self._lock:
            return list(self.resources.get(collection, {}).values())

    def tell(self, sid: str, status: str, error_code: int = 0, **fields: str) -> httpx.Response:
        """Send the status webhook of a message of ours, as it asked for."""
        message = self.resources["Messages"][sid]
        message["status"] = status
        message["error_code"] = error_code or None
        form = {
            "MessageSid": sid,
            "SmsSid": sid,
            "AccountSid": ACCOUNT_SID,
            "MessageStatus": status,
            "SmsStatus": status,
            "To": message["to"],
            "From": message["from"],
            "ApiVersion": "2010-04-01",
            **({"ErrorCode": str(error_code)} if error_code else {}),
            **fields,
        }
        return webhook(message["status_callback"], form)

    # How it works

    def answer(self, request: requests.PreparedRequest) -> tuple[int, str, bytes] | None:
        """Status, content type and body; None when the connection breaks."""
        url = urlsplit(str(request.url))
        with self._lock:
            if not url.path.endswith(".json"):
                if not self._knows(request):
                    return _problem(401, 20003)
                found = self.files.get(url.path)
                return (200, *found) if found else _problem(404, 20404)
            resource = url.path.partition(f"/{ACCOUNT_SID}/")[2].removesuffix(".json")
            failure = self._next_failure(resource, str(request.method))
            before = len(self.asked)
            answer = self._carry_out(request, resource, failure)
            self.arrived.notify_all()
            gate = self._gates.get(resource) if len(self.asked) > before else None
        if gate is not None:
            gate.wait(60)
        if failure is None:
            return answer
        if failure.cut:
            return None
        if failure.body is not None:
            return failure.status, "text/html", failure.body.encode()
        return _problem(failure.status, failure.code, failure.message)

    def _carry_out(
        self, request: requests.PreparedRequest, resource: str, failure: Failure | None
    ) -> tuple[int, str, bytes]:
        username = self._knows(request)
        if not username:
            return _problem(401, 20003)
        problem = self._check(request)
        if problem:
            self.faults.append(f"{request.method} {resource}: {problem}")
            return _problem(400, 20001, problem)
        method = str(request.method)
        query = parse_qs(urlsplit(str(request.url)).query, keep_blank_values=True)
        form: dict[str, list[str]] = {}
        if method == "POST":
            for name, value in parse_qsl(_text(request.body), keep_blank_values=True):
                form.setdefault(name, []).append(value)
        self.asked.append(Asked(method, resource, form or query, username))
        if failure is not None and not failure.carried_out:
            return _problem(failure.status or 500, failure.code)
        collection, _, sid = resource.rpartition("/")
        if re.fullmatch(r"[A-Z]{2}[0-9a-fA-F]{32}", sid):
            return self._one(method, collection, sid, form)
        if method == "GET":
            return self._listed(resource, query)
        sid = self._add(resource, _overlay(form))
        return _json(201, self.resources[resource][sid])

    def _one(
        self, method: str, collection: str, sid: str, form: dict[str, list[str]]
    ) -> tuple[int, str, bytes]:
        item = self.resources.get(collection, {}).get(sid)
        if item is None:
            return _problem(404, 20404, "The requested resource was not found")
        if method == "DELETE":
            del self.resources[collection][sid]
            return 204, "", b""
        item |= _overlay(form)
        return _json(200, item)

    def _listed(self, resource: str, query: dict[str, list[str]]) -> tuple[int, str, bytes]:
        items = [i for i in reversed(self.of(resource)) if _fits(i, query)]
        size = int(query.get("PageSize", ["50"])[0])
        page = int(query.get("Page", ["0"])[0])
        part = items[page * size : (page + 1) * size]
        path = f"/2010-04-01/Accounts/{ACCOUNT_SID}/{resource}.json"
        following = None
        if len(items) > (page + 1) * size:
            more = query | {"Page": [str(page + 1)], "PageToken": [f"PA{page}"]}
            following = f"{path}?{urlencode(more, doseq=True)}"
        listing = self._list_example(resource)
        [name] = [k for k, v in listing.items() if isinstance(v, list)]
        envelope = {
            "page": page,
            "page_size": size,
            "start": page * size,
            "end": page * size + len(part),
            "uri": path,
            "first_page_uri": path,
            "next_page_uri": following,
            "previous_page_uri": None,
        }
        return _json(200, {name: part, **envelope})

    def _add(self, collection: str, given: Mapping[str, Any]) -> str:
        """Make one of a collection: the document's example, with what is given instead."""
        self._count += 1
        template = self._template(collection)
        example = self._example(template, "post") or self._example(template, "get")
        now = format_datetime(self.clock())
        item = example | {"account_sid": ACCOUNT_SID, "date_created": now, "date_updated": now}
        # Members and participants go by the call they are.
        key = "call_sid" if collection.endswith(("Members", "Participants")) else "sid"
        if key == "call_sid" and "call_sid" not in given:
            ends = {"from": given.get("from"), "to": given.get("to"), "direction": "outbound-api"}
            given = {**given, "call_sid": self._add("Calls", {**ends, "status": "queued"})}
        item |= {"sid": f"{str(example['sid'])[:2]}{self._count:032x}"} if key == "sid" else {}
        item |= {"date_sent": None} if collection == "Messages" else {}
        item |= given
        self.resources.setdefault(collection, {})[item[key]] = item
        return str(item[key])

    def _knows(self, request: requests.PreparedRequest) -> str:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic":
            return ""
        username, _, password = base64.b64decode(secret).decode().partition(":")
        return username if username and self.auth.get(username) == password else ""

    def _check(self, request: requests.PreparedRequest) -> str:
        """What is wrong with a request by Twilio's own document; empty when nothing."""
        openapi, document = _terms()
        url = urlsplit(str(request.url))
        canonical = request.copy()
        canonical.url = f"https://api.twilio.com{url.path}" + (f"?{url.query}" if url.query else "")
        try:
            openapi.validate_request(RequestsOpenAPIRequest(canonical))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a breach of the terms
            causes = [str(e) for e in getattr(error.__cause__, "schema_errors", ())]
            return "; ".join([str(error) or type(error).__name__, *causes])
        resource = url.path.partition(f"/{ACCOUNT_SID}/")[2].removesuffix(".json")
        operation = document["paths"][self._template(resource)][str(request.method).lower()]
        # openapi-core passes over what the document does not know.
        asked = set(parse_qs(url.query, keep_blank_values=True))
        known = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"}
        if request.body:
            asked |= {name for name, _ in parse_qsl(_text(request.body), keep_blank_values=True)}
            [kind] = operation["requestBody"]["content"].values()
            known |= set(kind["schema"]["properties"])
        strange = sorted(asked - known)
        return f"unknown: {', '.join(strange)}" if strange else ""

    def _template(self, resource: str) -> str:
        """The document's name for a path."""
        path = f"{ROOT.replace('{AccountSid}', ACCOUNT_SID)}{resource}.json"
        for template in _terms()[1]["paths"]:
            pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
            if re.fullmatch(pattern, path):
                return str(template)
        raise AssertionError(f"Twilio's API has no {resource}, or the double does not know it")

    def _example(self, template: str, method: str) -> dict[str, Any]:
        """An answer of the document's; the fields of its schema where it has no example."""
        operation = _terms()[1]["paths"][template].get(method)
        if operation is None:
            return {}
        if method == "get":
            listing = self._list_example_of(template)
            [items] = [v for v in listing.values() if isinstance(v, list)]
            return copy.deepcopy(items[0]) if items else {}
        [answer] = [r for status, r in operation["responses"].items() if status.startswith("2")]
        content = answer["content"]["application/json"]
        examples = list(content.get("examples", {}).values())
        found = copy.deepcopy(examples[0]["value"]) if examples else {}
        schema = content["schema"].get("$ref", "").rpartition("/")[2]
        names = _terms()[1]["components"]["schemas"].get(schema, {}).get("properties", {})
        return dict.fromkeys(names) | found

    def _list_example(self, resource: str) -> dict[str, Any]:
        return self._list_example_of(self._template(resource))

    def _list_example_of(self, template: str) -> dict[str, Any]:
        answer = _terms()[1]["paths"][template]["get"]["responses"]["200"]
        content = answer["content"]["application/json"]
        lists = [
            name
            for name, schema in content["schema"]["properties"].items()
            if schema.get("type") == "array"
        ]
        for example in content.get("examples", {}).values():
            if example["value"].get(lists[0]):
                return dict(copy.deepcopy(example["value"]))
        return {lists[0]: []}

    def _next_failure(self, resource: str, method: str) -> Failure | None:
        for waiting in self._failures:
            if waiting[1].method not in ("", method):
                continue
            if resource == waiting[0] or resource.startswith(f"{waiting[0]}/"):
                self._failures.remove(waiting)
                return waiting[1]
        return None


def _text(body: bytes | str | None) -> str:
    return body.decode() if isinstance(body, bytes) else body or ""


def _overlay(form: Mapping[str, list[str]]) -> dict[str, Any]:
    """Fields of a form by the names they have in the answers."""
    return {
        re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower(): values[0]
        if len(values) == 1
        else values
        for name, values in form.items()
    }


def _fits(item: Mapping[str, Any], query: Mapping[str, list[str]]) -> bool:
    for name, [value, *_] in query.items():
        if name.startswith("Page"):
            continue
        [key] = _overlay({name.rstrip("<>"): [value]})
        if name.endswith((">", "<")) or key.startswith(("date", "start", "end")):
            at = parsedate_to_datetime(str(item.get(key) or item.get("date_created")))
            limit = datetime.fromisoformat(value.replace("Z", "+00:00"))
            limit = limit if limit.tzinfo else limit.replace(tzinfo=UTC)
            if (at < limit and name.endswith(">")) or (at > limit and name.endswith("<")):
                return False
        elif str(item.get(key)) != value:
            return False
    return True


def _json(status: int, value: Any) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(value).encode()


def _problem(status: int, code: int, message: str = "") -> tuple[int, str, bytes]:
    return _json(
        status,
        {
            "code": code or status,
            "message": message or "as the test wants it",
            "more_info": f"https://www.twilio.com/docs/errors/{code or status}",
            "status": status,
        },
    )


class TwilioDouble(HttpClient):
    """The double inside this process, as the library's HTTP client. `fail(…, cut=True)` raises what
    `requests` raises when a connection breaks after the request went out."""

    def __init__(self, double: Double) -> None:
        super().__init__(logger=None, is_async=False, timeout=None)
        self.double = double

    def request(
        self,
        method: str,
        url: str,
        params: Any = None,
        data: Any = None,
        headers: Any = None,
        auth: Any = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> Response:
        request = requests.Request(
            method.upper(), url, params=params, data=data, headers=headers, auth=auth
        )
        answer = self.double.answer(requests.Session().prepare_request(request))
        if answer is None:
            raise requests.ConnectionError("Connection aborted", ConnectionResetError())
        status, kind, content = answer
        return Response(status, content.decode(), {"Content-Type": kind})


@contextmanager
def twilio() -> Iterator[Double]:
    """A double for this process; a breach of Twilio's terms fails the test in the end."""
    double = Double()
    yield double
    assert double.faults == []


def account_of(double: Double) -> Account:
    """Our account with a double in this process."""
    settings = AccountSettings(ACCOUNT_SID, (AUTH_TOKEN,))
    return Account(settings, http_client=TwilioDouble(double))


@contextmanager
def served() -> Iterator[Double]:
    """A double on a port of 127.0.0.1, for a real service."""
    with twilio() as double:

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                request = requests.Request(
                    self.command,
                    double.url + self.path,
                    data=self.rfile.read(length) or None,
                    headers=dict(self.headers),
                ).prepare()
                answer = double.answer(request)
                self.close_connection = True
                if answer is None:
                    self.connection.close()
                    return
                status, kind, content = answer
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the library's names

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        double.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield double
        finally:
            for gate in double._gates.values():
                gate.set()
            server.shutdown()
            thread.join()
            server.server_close()


def settings_for(double: Double) -> dict[str, str]:
    """Settings of a service that has its account with a double; see `tests.service.service`."""
    return {
        "TWILIO__ACCOUNT_SID": ACCOUNT_SID,
        "TWILIO__AUTH_TOKEN": AUTH_TOKEN,
        "TWILIO__API_URL": double.url,
        "TWILIO__TIMEOUT": "5",
    }
