"""The conversation with a provider of identities. Nobody who waits for it holds a thread, and nobody waits for long."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import monotonic, time
from typing import Any, Final
from urllib.parse import quote_plus, urlsplit

import httpx2
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.discovery import get_well_known_url
from joserfc.jwk import KeySet

from orchestrator.core.loopback import is_loopback
from orchestrator.core.sign_in import Attempt
from orchestrator.errors import SettingsInvalid
from orchestrator.http.oidc import tokens
from orchestrator.http.oidc.claims import lacks
from orchestrator.http.oidc.tokens import Expected, KeyUnknown, TokenRefused
from orchestrator.http.problems import Refused
from orchestrator.observe.logs import log
from orchestrator.servers.secrets import References
from orchestrator.settings import Settings

ANSWERS_S: Final = 10.0
"""How long somebody who signs in waits for the provider, all in all."""
_STEP_S: Final = 5.0
_LONGEST: Final = 1024 * 1024
_BELIEVED_S: Final = 600.0
"""How long what it publishes is believed: a key that it has withdrawn is taken for so long."""
_AGAIN_S: Final = 10.0
"""A token with an unknown key makes us look for new ones, and no more often than this."""
_AT_ONCE: Final = 16
_CODE: Final = re.compile(r"[A-Za-z_]{1,60}")
_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")
CALLBACK: Final = "/api/session/oidc/callback"


class Provider:
    """The one of the settings. Nothing is asked of it before somebody signs in."""

    def __init__(self, settings: Settings, secrets: References) -> None:
        """
        Raises:
            SettingsInvalid: there is no secret where the settings say.
        """
        assert settings.oidc_issuer is not None
        assert settings.oidc_client_id is not None
        self.issuer, self._client_id = settings.oidc_issuer, settings.oidc_client_id
        self._settings, self._secrets = settings, secrets
        self._secret()
        self._lock = asyncio.Lock()
        self._metadata: tuple[float, Mapping[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """While the API serves."""
        async with httpx2.AsyncClient(
            timeout=_STEP_S,
            limits=httpx2.Limits(max_connections=_AT_ONCE),
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        ) as self._http:
            yield

    # ---- what a sign-in asks for ----

    async def address(self, attempt: Attempt) -> str:
        """Where to send a browser that is to sign in.

        Raises:
            Refused: the provider cannot be reached, or is not what the settings say.
        """
        async with self._talking():
            metadata = await self._published()
        return str(
            prepare_grant_uri(
                metadata["authorization_endpoint"],
                client_id=self._client_id,
                response_type="code",
                redirect_uri=self.redirect_uri,
                scope=" ".join(self._settings.oidc_scopes),
                state=attempt.state,
                nonce=attempt.nonce,
                code_challenge=create_s256_code_challenge(attempt.verifier),
                code_challenge_method="S256",
            )
        )

    async def redeem(self, code: str, attempt: Attempt, said_issuer: str | None) -> Mapping[str, Any]:
        """What the provider says of whoever came back with a code. `said_issuer`: who the answer says it is from.

        Raises:
            Refused: the provider cannot be reached, does not know the code, or says what is not to be believed.
        """
        async with self._talking():
            metadata = await self._published()
            promised = metadata.get("authorization_response_iss_parameter_supported") is True
            if said_issuer != self.issuer and (promised or said_issuer is not None):
                raise refused("the answer is from another provider")
            token = await self._token(metadata, code, attempt.verifier)
            claims = await self._claims(metadata, token, attempt.nonce)
            return await self._with_userinfo(metadata, token, claims)

    async def sign_out_address(self) -> str | None:
        """Where a browser goes to sign out of the provider too; None: it has no such place, or cannot be reached."""
        try:
            async with self._talking():
                place = (await self._published()).get("end_session_endpoint")
        except Refused:
            return None
        if not isinstance(place, str) or not self._is_secure(place):
            return None
        back = quote_plus(self._settings.public_url or "")
        joined = "&" if urlsplit(place).query else "?"
        return f"{place}{joined}client_id={quote_plus(self._client_id)}&post_logout_redirect_uri={back}"

    @property
    def redirect_uri(self) -> str:
        """Where it sends the browser back to: of the settings, never of what a request says."""
        return f"{self._settings.public_url}{CALLBACK}"

    # ---- what it publishes ----

    async def _published(self) -> Mapping[str, Any]:
        async with self._lock:
            if self._metadata is None or monotonic() - self._metadata[0] > _BELIEVED_S:
                found = await self._get(get_well_known_url(self.issuer, external=True))
                self._metadata = monotonic(), self._fitting(found)
            return self._metadata[1]

    def _fitting(self, found: Any) -> Mapping[str, Any]:
        said = found.get("issuer") if isinstance(found, dict) else None
        if not isinstance(found, dict) or said != self.issuer:
            raise self._unfit(f"it says that it is {str(said)[:200]!r}", "set ORCHESTRATOR_OIDC_ISSUER to just that.")
        for name in _ENDPOINTS:
            if not isinstance(found.get(name), str) or not self._is_secure(found[name]):
                raise self._unfit(f"its `{name}` is missing, or not https")
        return found

    def _is_secure(self, url: str) -> bool:
        """HTTPS, or all of it on this machine."""
        ours, theirs = urlsplit(self.issuer), urlsplit(url)
        return theirs.scheme == "https" or (ours.scheme == theirs.scheme == "http" and is_loopback(theirs.hostname))

    async def _key_set(self, metadata: Mapping[str, Any], *, at_most_s: float) -> KeySet:
        async with self._lock:
            if self._keys is None or monotonic() - self._keys[0] > at_most_s:
                self._keys = monotonic(), tokens.keys_of(await self._get(metadata["jwks_uri"]))
            return self._keys[1]

    # ---- what it says of somebody ----

    async def _token(self, metadata: Mapping[str, Any], code: str, verifier: str) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": verifier,
        }
        basic, secret = None, self._secret()
        ways = metadata.get("token_endpoint_auth_methods_supported")
        if secret is None or (isinstance(ways, list) and "client_secret_basic" not in ways):
            form |= {"client_id": self._client_id} | ({} if secret is None else {"client_secret": secret})
        else:  # each is written as in a form first (RFC 6749, 2.3.1)
            basic = httpx2.BasicAuth(quote_plus(self._client_id), quote_plus(secret))
        status, said = await self._ask("POST", metadata["token_endpoint"], data=form, auth=basic)
        if status == 200 and isinstance(said, dict):
            return said
        error = word(said.get("error") if isinstance(said, dict) else None)
        if error in {"invalid_client", "unauthorized_client"} or status == 401:
            fix = "check ORCHESTRATOR_OIDC_CLIENT_ID and ORCHESTRATOR_OIDC_CLIENT_SECRET."
            raise self._unfit(f"it does not know this API ({error})", fix)
        raise refused(f"the provider did not take the code ({error})")

    async def _claims(self, metadata: Mapping[str, Any], token: Mapping[str, Any], nonce: str) -> Mapping[str, Any]:
        given, access = token.get("id_token"), token.get("access_token")
        if not isinstance(given, str):
            raise refused("the provider gave no ID token")
        expected = Expected(
            self.issuer,
            self._client_id,
            nonce,
            access if isinstance(access, str) else None,
            metadata.get("id_token_signing_alg_values_supported"),
        )
        now = int(time())
        try:
            try:
                return tokens.claims_of(given, await self._key_set(metadata, at_most_s=_BELIEVED_S), expected, now)
            except KeyUnknown:  # it has rotated them
                return tokens.claims_of(given, await self._key_set(metadata, at_most_s=_AGAIN_S), expected, now)
        except TokenRefused as exc:
            raise refused(f"the provider's token is not to be believed: {exc}") from exc

    async def _with_userinfo(
        self, metadata: Mapping[str, Any], token: Mapping[str, Any], claims: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Many providers say names and groups only there."""
        place, access = metadata.get("userinfo_endpoint"), token.get("access_token")
        if not lacks(claims, self._settings) or not isinstance(place, str) or not isinstance(access, str):
            return claims
        if not self._is_secure(place):
            raise self._unfit("its `userinfo_endpoint` is not https")
        status, said = await self._ask("GET", place, headers={"Authorization": f"Bearer {access}"})
        if status != 200 or not isinstance(said, dict):
            raise refused(f"the provider does not tell who they are (status {status})")
        if said.get("sub") != claims["sub"]:
            raise refused("the provider's two answers are about different people")
        return {**said, **claims}

    # ---- HTTP ----

    async def _get(self, url: str) -> Any:
        status, said = await self._ask("GET", url)
        if status != 200 or said is None:
            raise self._unfit(f"{url} answers {status}, or no JSON")
        return said

    async def _ask(self, method: str, url: str, **more: Any) -> tuple[int, Any]:
        """Status and JSON, None if it is none. Redirections are not followed: nobody else is to get what we send."""
        body = bytearray()
        async with self._http.stream(method, url, **more) as answer:
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > _LONGEST:
                    raise self._unfit(f"{url} answers with more than {_LONGEST:,} bytes")
        if answer.status_code >= 500:
            raise self._away(f"status {answer.status_code}")
        try:
            return answer.status_code, json.loads(body)
        except (ValueError, RecursionError):
            return answer.status_code, None

    @asynccontextmanager
    async def _talking(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(ANSWERS_S):
                yield
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as exc:
            raise self._away(type(exc).__name__) from exc
        except TokenRefused as exc:
            raise self._unfit(str(exc)) from exc

    def _secret(self) -> str | None:
        """Read anew each time, so that it can be changed under a running API."""
        reference = self._settings.oidc_client_secret
        try:
            return None if reference is None else self._secrets(reference)
        except LookupError as exc:
            raise SettingsInvalid(f"ORCHESTRATOR_OIDC_CLIENT_SECRET: {exc}. Fix: put it there.") from exc

    def _away(self, why: str) -> Refused:
        log.warning("oidc.provider_away", extra={"issuer": self.issuer, "error": why})
        fix = "try again after `Retry-After`; keys and passwords work meanwhile."
        return Refused(503, "The provider of identities does not answer.", "provider_away", fix)

    def _unfit(self, why: str, fix: str = "ask whoever runs the provider.") -> Refused:
        log.error("oidc.provider_unfit", extra={"issuer": self.issuer, "error": why})
        return Refused(502, f"The provider of identities is not what it should be: {why}.", "provider_unfit", fix)


def refused(why: str) -> Refused:
    """Somebody is not let in. `why` has nothing of a code or a token."""
    return Refused(401, f"Nobody was signed in: {why}.", "identity_refused", "sign in again: GET /api/session/oidc.")


def word(text: Any) -> str:
    """An error as OAuth has it: a word, and nothing else that somebody may have written into it."""
    return text if isinstance(text, str) and _CODE.fullmatch(text) else "unknown"
