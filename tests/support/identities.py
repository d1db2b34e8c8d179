"""A provider of identities of our own, for what a right one never does. It signs everybody in who comes."""

import json
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, quote_plus, urlencode, urlsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

CLIENT_ID = "flows"
SECRET = "a secret: with + and / and %"


@dataclass
class Provider:
    """What it says can be changed at any time."""

    issuer: str = ""
    person: dict[str, Any] = field(default_factory=lambda: {"sub": "7", "preferred_username": "ann", "groups": ["ops"]})
    changed: dict[str, Any] = field(default_factory=dict)
    """Claims of ID tokens; None: left out."""
    key: RSAKey = field(default_factory=lambda: _FIRST)
    published: list[RSAKey] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    token: Any = None
    """In place of the ID token: text, or a function of the claims."""
    userinfo: dict[str, Any] | None = None
    hangs: Event | None = None
    """Nothing is answered before it is set."""
    asked: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Where everything is."""
        places = {
            "authorization_endpoint": "/auth",
            "token_endpoint": "/token",
            "jwks_uri": "/keys",
            "userinfo_endpoint": "/me",
        }
        found = {"issuer": self.issuer} | {name: f"{self.issuer}{path}" for name, path in places.items()}
        return {name: value for name, value in (found | self.metadata).items() if value is not None}

    def back(self, query: Mapping[str, str]) -> str:
        """Where a browser goes from `authorization_endpoint`."""
        code = f"code-{len(self.codes)}"
        self.codes[code] = dict(query)
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], 'session_state': 'x.y'})}"

    def redeem(self, form: Mapping[str, str], authorization: str | None) -> tuple[int, dict[str, Any]]:
        """What the token endpoint answers."""
        asked = self.codes.pop(form["code"], None)
        basic = b64encode(f"{CLIENT_ID}:{quote_plus(SECRET)}".encode()).decode()
        if authorization != f"Basic {basic}":
            return 401, {"error": "invalid_client"}
        if asked is None or create_s256_code_challenge(form["code_verifier"]) != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": "at-1", "token_type": "Bearer", "id_token": self.signed(asked["nonce"])}

    def signed(self, nonce: str) -> str:
        """An ID token, right but for what was changed."""
        now = int(time.time())
        right = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": nonce, **self.person}
        claims = {name: value for name, value in (right | self.changed).items() if value is not None}
        if self.token is not None:
            return str(self.token(claims) if callable(self.token) else self.token)
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims, self.key)


def new_key() -> RSAKey:
    """One more."""
    made = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"})
    made.ensure_kid()
    return made


_FIRST: Final = new_key()  # to make one takes longer than most tests


@contextmanager
def provider() -> Iterator[Provider]:
    """On a port of its own."""
    made = Provider()
    made.published = [made.key]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            made.asked.append((self.path.partition("?")[0], {}))
            if made.hangs is not None:
                made.hangs.wait()
            path = urlsplit(self.path)
            if path.path == "/auth":
                self.send_response(302)
                self.send_header("Location", made.back(dict(parse_qsl(path.query))))
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif path.path == "/keys":
                self.say(200, KeySet(list(made.published)).as_dict())
            elif path.path == "/me":
                self.say(200, made.userinfo or {"sub": made.person["sub"]})
            elif path.path == "/.well-known/openid-configuration":
                self.say(200, made.document())
            else:
                self.say(404, {})

        def do_POST(self) -> None:
            form = {
                name: one[0]
                for name, one in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()
            }
            made.asked.append((self.path, form))
            if made.hangs is not None:
                made.hangs.wait()
            self.say(*made.redeem(form, self.headers["Authorization"]))

        def say(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.issuer = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield made
    finally:
        if made.hangs is not None:
            made.hangs.set()
        server.shutdown()
        server.server_close()
        thread.join()
