"""Who may speak for our account, and what the failures of its API mean."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import re
import socket
import threading
from urllib.parse import quote_plus, urlencode

import pytest

from channels.base import (
    MisconfiguredError,
    OptedOutError,
    RejectedError,
    TemporaryError,
    UncertainError,
    UnreachableError,
)
from channels.twilio import Account, AccountSettings, ForbiddenError, endpoint, failure
from tests.twilio_oracle import form_signatures, json_signature

SID = "AC" + "0" * 32
TOKEN, OLD_TOKEN = "e4ad3f7c5d9b4a1f8c2b6d0e7a9f3c5d", "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
URL = "https://henvendelse.sorum.kommune.no/hooks/sms/twilio"
FORM = "application/x-www-form-urlencoded; charset=UTF-8"


def account(**settings) -> Account:
    return Account(AccountSettings(SID, (TOKEN, OLD_TOKEN), **settings))


def encoded(form) -> bytes:
    return urlencode(form, doseq=True).encode()


def reason(account, url, headers, body) -> str:
    """Why a webhook is refused; empty when it is believed."""
    try:
        account.verify(url, headers, body)
    except ForbiddenError as error:
        return error.reason
    return ""


def headers(signature, content_type=FORM, **more):
    return {"content-type": content_type, "x-twilio-signature": signature, **more}


FORMS = {
    "plain": {"AccountSid": SID, "From": "+4790012345", "To": "+4759440000", "Body": "Hei"},
    "norwegian": {"AccountSid": SID, "Body": "Blåbærsyltetøy på Kjøkkenveien – 20 %"},
    "sámi and emoji": {"AccountSid": SID, "Body": "Buorre beaivi, Čáhcesuolu 👩‍👩‍👧 🇳🇴"},
    "blank values": {"AccountSid": SID, "Body": "", "FromCity": "", "ToZip": "", "From": "+47900"},
    "repeated keys": {"AccountSid": SID, "Media": ["b", "a", "b", ""], "Body": "x"},
    "unknown keys": {"AccountSid": SID, "ChannelMetadata": '{"a":{"b":1}}', "Zz.9[]": "~ &=+%"},
    "lines and tabs": {"AccountSid": SID, "Body": "en\r\nto\tog\n\ntre "},
    "decomposed": {"AccountSid": SID, "Body": "Bla\u030abær"},
    "many": {"AccountSid": SID} | {f"Key{n:03}": str(n) for n in range(200)},
}
URLS = [
    URL,
    f"{URL}/status?id=%3Cabc.def%40sorum.kommune.no%3E",
    f"{URL}?a=&b=1&a=2",
    "http://127.0.0.1:8080/hooks/sms/twilio",
    "https://sorum.kommune.no:8443/post/hooks/sms/twilio?x=y",
    "https://sorum.kommune.no/hooks/phone/twilio/step%20one",
]


@pytest.fixture(scope="module")
def expected():
    cases = [
        (token, url, form)
        for token in (TOKEN, OLD_TOKEN)
        for url in URLS
        for form in FORMS.values()
    ]
    signatures = form_signatures(cases)
    keys = [(token, url, name) for token in (TOKEN, OLD_TOKEN) for url in URLS for name in FORMS]
    return dict(zip(keys, signatures, strict=True))


@pytest.mark.parametrize("token", [TOKEN, OLD_TOKEN], ids=["token", "old token"])
def test_what_twilios_own_library_signs_is_believed_with_either_token(expected, token):
    ours = account()
    for url in URLS:
        for name, form in FORMS.items():
            given = headers(expected[token, url, name])
            webhook = ours.verify(url, given, encoded(form))
            assert webhook.raw == encoded(form)
            body = form.get("Body")
            assert webhook.fields.get("Body") == body, name


def test_the_documented_signature_holds_and_the_account_is_looked_at_after_it():
    """The vector of Twilio's documentation, «Webhooks security»; its account is not ours."""
    form = {
        "CallSid": "CA1234567890ABCDE",
        "Digits": "1234",
        "From": "+14158675309",
        "To": "+18005551212",
        "Caller": "+14158675309",
    }
    signature = "RSOYDt4T1cUTdK1PDd93/VVr8B8="
    theirs = Account(AccountSettings(SID, ("12345",)))
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    assert reason(theirs, url, headers(signature), encoded(form)) == "account"
    # Twilio signs with the standard port and without.
    with_port = url.replace(".com/", ".com:443/")
    assert reason(theirs, with_port, headers(signature), encoded(form)) == "account"
    for wrong in (url.replace("https", "http"), url.replace("foo=1", "foo=2"), url + "&baz=3"):
        assert reason(theirs, wrong, headers(signature), encoded(form)) == "signature"


def test_a_proxy_changes_nothing_when_the_address_is_the_one_that_was_given(expected):
    """Scheme, port, host and path count as Twilio was told them; the inner address does not fit."""
    ours = account()
    form = encoded(FORMS["plain"])
    signature = headers(expected[TOKEN, URL, "plain"])
    for other in (
        URL.replace("https://", "http://"),
        URL.replace("henvendelse.", ""),
        URL + "/",
        URL.replace("/hooks", "/HOOKS"),
        URL.replace("/hooks", "/sentralbord/hooks"),
        URL.replace(".no/", ".no:8080/").replace("https", "http"),
        URL.replace("henvendelse", "HENVENDELSE"),
        URL + "?",
    ):
        # An empty query is no query.
        believed = other == URL + "?"
        assert reason(ours, other, signature, form) == ("" if believed else "signature"), other


def altered():
    good = FORMS["plain"]
    yield "another text", good | {"Body": "Hei!"}
    yield "a field more", good | {"Extra": ""}
    yield "a field less", {k: v for k, v in good.items() if k != "Body"}
    yield "another sender", good | {"From": "+4790012346"}
    yield "nothing", {}


@pytest.mark.parametrize(("what", "form"), list(altered()), ids=[w for w, _ in altered()])
def test_what_was_changed_on_the_way_is_refused(expected, what, form):
    given = headers(expected[TOKEN, URL, "plain"])
    assert reason(account(), URL, given, encoded(form)) == "signature"


def test_a_header_that_is_missing_or_nonsense_is_refused_and_never_an_error(expected):
    ours, body = account(), encoded(FORMS["plain"])
    assert reason(ours, URL, {"content-type": FORM}, body) == "unsigned"
    assert reason(ours, URL, headers(""), body) == "unsigned"
    good = expected[TOKEN, URL, "plain"]
    for wrong in (good.lower(), good[:-1], good + "=", " ", "ø" * 28, "é", "a" * 100_000):
        assert reason(ours, URL, headers(wrong), body) == "signature"


def test_a_stranger_with_a_token_of_his_own_is_refused():
    [signature] = form_signatures([("hemmelig", URL, FORMS["plain"])])
    assert reason(account(), URL, headers(signature), encoded(FORMS["plain"])) == "signature"
    # An empty token would sign for everybody.
    [signature] = form_signatures([("", URL, FORMS["plain"])])
    nobody = Account(AccountSettings(SID, ("", "")))
    assert reason(nobody, URL, headers(signature), encoded(FORMS["plain"])) == "signature"
    assert reason(Account(AccountSettings(SID)), URL, headers(signature), b"") == "signature"


def test_another_account_is_refused_with_a_good_signature():
    for form in ({"AccountSid": "AC" + "1" * 32, "Body": "x"}, {"Body": "x"}, {"AccountSid": ""}):
        [signature] = form_signatures([(TOKEN, URL, form)])
        assert reason(account(), URL, headers(signature), encoded(form)) == "account"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"AccountSid=%FF%FE", FORM),
        (b"AccountSid=\xff", FORM),
        (b"Body=%ED%A0%80", FORM),
        (b"&".join(b"k%d=" % n for n in range(2000)), FORM),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'"text"', "application/json"),
        (b"\xff", "application/json"),
        (b"[" * 30_000, "application/json"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(body, content_type):
    url = f"{URL}?bodySHA256={hashlib.sha256(body).hexdigest()}"
    mac = hmac.new(TOKEN.encode(), url.encode(), hashlib.sha1)
    given = headers(base64.b64encode(mac.digest()).decode(), content_type)
    assert reason(account(), url, given, body) == "malformed"


def test_a_body_of_another_kind_is_refused(expected):
    given = expected[TOKEN, URL, "plain"]
    for kind in (
        "",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json",
        "x" * 999,
    ):
        assert reason(account(), URL, headers(given, kind), b"{}") == "content_type"


def test_json_is_believed_with_its_hash_in_the_address_and_not_without():
    ours = account()
    body = f'{{"AccountSid":"{SID}","Body":"Blåbær 🫐","NumMedia":0}}'
    url, signature = json_signature(TOKEN, f"{URL}?a=b", body)
    given = headers(signature, "application/json")
    webhook = ours.verify(url, given, body.encode())
    assert webhook.fields == {"AccountSid": SID, "Body": "Blåbær 🫐"}
    assert reason(ours, url, given, body.replace("🫐", "🍓").encode()) == "signature"
    assert reason(ours, f"{URL}?a=b", given, body.encode()) == "content_type"
    assert reason(ours, f"{URL}?a=b&bodySHA256=", given, body.encode()) == "content_type"
    # The hash of another body, with a signature for the address alone.
    other = f"{URL}?bodySHA256={hashlib.sha256(b'{}').hexdigest()}"
    [signature] = form_signatures([(TOKEN, other, {})])
    given = headers(signature, "application/json")
    assert reason(ours, other, given, body.encode()) == "signature"
    # A form is no JSON: its fields count, whatever the address says.
    form = encoded({"AccountSid": SID})
    assert reason(ours, other, headers(signature), form) == "signature"


KEY = "webhooks_sharedkey_1"
SETTINGS = "x-twilio-webhooks-signature-settings"


def shared_signature(secret: str, url: str, form) -> str:
    text = url + "".join(name + form[name] for name in sorted(form))
    mac = hmac.new(secret.encode(), text.encode(), hashlib.sha256)
    return base64.b64encode(mac.digest()).decode()


def test_a_shared_key_counts_as_it_is_configured_and_no_other():
    ours = account(shared_keys={KEY: "delt", "gammel": "delt før"})
    form = FORMS["plain"]
    body = encoded(form)
    good = shared_signature("delt", URL, form)

    def why(said: str, signature: str = good) -> str:
        return reason(ours, URL, headers(signature, **{SETTINGS: said}), body)

    assert why(f"key={KEY},algorithm=HMAC_SHA256") == ""
    assert why(f" algorithm=HMAC_SHA256 , key={KEY} ") == ""
    old = shared_signature("delt før", URL, form)
    assert why("key=gammel,algorithm=HMAC_SHA256", old) == ""
    # The sender does not choose how he is checked.
    [legacy] = form_signatures([("delt", URL, form)])
    [by_token] = form_signatures([(TOKEN, URL, form)])
    for said in (
        "key=fremmed,algorithm=HMAC_SHA256",
        f"key={KEY}",
        f"key={KEY},algorithm=HMAC_SHA1",
        f"key={KEY},algorithm=NONE",
        f"key={KEY},algorithm=hmac_sha256",
        "algorithm=HMAC_SHA256",
        "algorithm=HMAC_SHA1",
        ",,,=",
        "x",
    ):
        for signature in (good, legacy, by_token):
            assert why(said, signature) == "signature", said
    assert why("", by_token) == ""
    assert why("", good) == "signature"
    named = headers(good, **{SETTINGS: f"key={KEY},algorithm=HMAC_SHA256"})
    assert reason(account(), URL, named, body) == "signature"


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("+4790012345", "+4790012345"),
        (" +4790012345 ", "+4790012345"),
        ("4790012345", ""),
        ("whatsapp:+4790012345", ""),
        ("Posten", ""),
        ("2012", ""),
        ("+2012", ""),
        ("anonymous", ""),
        ("client:kari", ""),
        ("+47900123450000000", ""),
        ("+0790012345", ""),
        ("+47 900 12 345", ""),
        ("", ""),
    ],
)
def test_a_number_is_one_only_as_twilio_writes_it(said, number):
    assert endpoint(said) == number


class _Api:
    """A server that answers one request as it is told, and keeps what it was sent."""

    def __init__(self, answer: bytes | None, *, hold: float = 0) -> None:
        self.answer, self.hold = answer, hold
        self.requests: list[bytes] = []
        self.done = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            with peer:
                data = b""
                while b"\r\n\r\n" not in data:
                    data += peer.recv(65536)
                head, _, body = data.partition(b"\r\n\r\n")
                announced = re.search(rb"content-length: *(\d+)", head.lower())
                length = int(announced[1]) if announced else 0
                while len(body) < length:
                    body += peer.recv(65536)
                self.requests.append(head + b"\r\n\r\n" + body)
                self.done.wait(self.hold)
                if self.answer is not None:
                    peer.sendall(self.answer)

    def close(self) -> None:
        self.done.set()
        self._socket.close()


def http_answer(status: int, body: str, content_type: str = "application/json") -> bytes:
    data = body.encode()
    phrase = http.client.responses.get(status, "")
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: {content_type}\r\n"
    return head.encode() + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(data) + data


def problem(status: int, code: int, message: str = "") -> bytes:
    return http_answer(status, f'{{"code":{code},"message":"{message}","status":{status}}}')


def send(client):
    return client.messages.create(to="+4790012345", from_="+4759440000", body="Hei").sid


@pytest.fixture
def api():
    opened = []

    def start(answer, **options) -> _Api:
        opened.append(_Api(answer, **options))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (problem(429, 20429), TemporaryError, "vente"),
        (problem(401, 20003), MisconfiguredError, "slipper oss ikke inn"),
        (problem(400, 20003), MisconfiguredError, "20003"),
        (problem(400, 21610), OptedOutError, "reservert seg"),
        (problem(400, 21614), RejectedError, "mobilnummer"),
        (problem(400, 99999, "Odd thing about +4790012345"), RejectedError, "Odd thing about …"),
        (http_answer(404, "<html>no</html>", "text/html"), RejectedError, "404"),
        (problem(500, 20500), UncertainError, "uvisst"),
        (http_answer(502, "<html>bad gateway</html>", "text/html"), UncertainError, "502"),
        (http_answer(503, ""), UncertainError, "503"),
        (http_answer(201, "not json"), UncertainError, "uvisst"),
        (http_answer(201, "[]"), UncertainError, "uvisst"),
        (http_answer(201, "null"), UncertainError, "uvisst"),
        (b"HTTP/1.1 201 Created\r\nContent-Length: 900\r\n\r\n{", UncertainError, "uvisst"),
        (None, UncertainError, "uvisst"),
        (b"220 mail.example ESMTP\r\n", UncertainError, "uvisst"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
async def test_a_failure_is_told_for_what_it_is_and_tried_once(api, answer, error, words):
    server = api(answer)
    ours = account(api_url=server.url)
    with pytest.raises(error, match=words) as told:
        await ours.ask(send)
    # The exact kind: a rejection is not taken for an opt-out, nor what is uncertain for a failure.
    assert type(told.value) is error
    assert "90012345" not in str(told.value)
    assert len(server.requests) == 1
    ours.close()


async def test_a_provider_that_is_silent_leaves_it_uncertain_and_one_that_is_not_there_does_not(
    api,
):
    silent = api(b"", hold=20)
    slow = account(api_url=silent.url, timeout=0.2)
    with pytest.raises(UncertainError):
        await slow.ask(send)
    assert len(silent.requests) == 1
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    for nowhere in (f"http://127.0.0.1:{port}", "http://finnes.invalid", "nonsense"):
        with pytest.raises(UnreachableError):
            await account(api_url=nowhere, timeout=0.5).ask(send)


async def test_a_request_carries_our_key_and_goes_to_the_address_that_is_configured(api):
    server = api(http_answer(201, '{"sid":"SM1","account_sid":"x"}'))
    ours = account(api_url=server.url + "/proxy/", api_key="SK1", api_secret="hemmelig")
    assert await ours.ask(send) == "SM1"
    head = server.requests[0].decode()
    assert head.startswith(f"POST /proxy/2010-04-01/Accounts/{SID}/Messages.json ")
    assert base64.b64encode(b"SK1:hemmelig").decode() in head
    assert f"To={quote_plus('+4790012345')}" in head
    assert TOKEN not in head


async def test_what_our_own_machine_says_of_twilio_is_not_our_configuration(api, monkeypatch):
    for name in ("ACCOUNT_SID", "AUTH_TOKEN", "REGION", "EDGE"):
        monkeypatch.setenv(f"TWILIO_{name}", "au1")
    server = api(http_answer(201, '{"sid":"SM1"}'))
    assert await account(api_url=server.url).ask(send) == "SM1"
    assert base64.b64encode(f"{SID}:{TOKEN}".encode()).decode() in server.requests[0].decode()


def test_what_nobody_foresaw_counts_as_uncertain():
    assert isinstance(failure(KeyError("sid")), UncertainError)
    kept = RejectedError("allerede i våre ord")
    assert failure(kept) is kept
