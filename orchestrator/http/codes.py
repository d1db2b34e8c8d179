"""What the `code` of each problem means: of our errors what their classes say, and here those that only HTTP knows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator import errors
from orchestrator.http.problems import status_of


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a problem's `code` stands for."""

    code: str
    status: int
    meaning: str


_OF_HTTP: Final[Mapping[str, tuple[int, str]]] = {
    "malformed": (400, "The request cannot be read."),
    "body_invalid": (422, "The body is read, and does not fit what the route takes."),
    "parameter_invalid": (400, "A parameter of the path, the query or the headers does not fit."),
    "unknown_parameter": (400, "The route has no such parameter."),
    "repeated_parameter": (400, "A parameter that has one value is given several times."),
    "not_json": (400, "The body is not JSON."),
    "cursor_invalid": (400, "The cursor is none that a page gave."),
    "cursor_mismatch": (400, "The cursor belongs to another query."),
    "if_match_missing": (400, "What is replaced has to be named by its tag, in `If-Match`."),
    "method_not_allowed": (405, "The path is known, and takes other methods."),
    "too_slow": (408, "The request did not come whole in time."),
    "precondition_failed": (412, "Somebody was quicker: the thing has another tag by now."),
    "too_large": (413, "The body, the URL or its query is longer than is taken."),
    "unsupported_media_type": (415, "The body is of a type, or compressed in a way, that is not taken."),
    "rate_limited": (429, "More was asked for than the rate allows."),
    "too_many_waits": (429, "Who asks waits with too many requests already."),
    "cross_site": (403, "A page of another site made the request."),
    "https_needed": (400, "People sign in over HTTPS, or on the machine itself."),
    "oidc_off": (404, "No provider of identities is set."),
    "next_unfit": (400, "Where the browser is to go after signing in is no path of this site."),
    "sign_in_unknown": (400, "The sign-in was not begun in this browser, or is over."),
    "claim_unfit": (403, "What the provider of identities says of somebody does not do for a user."),
    "identity_refused": (401, "The provider of identities did not sign them in, or its proof does not hold."),
    "bad_gateway": (502, "What is behind the API answered with something else than it should."),
    "provider_unfit": (502, "The provider of identities answers with something else than it should."),
    "provider_away": (503, "The provider of identities does not answer."),
    "internal": (500, "A fault of this program; its log has the request id."),
}


def meaning(code: str) -> Meaning | None:
    """None: no problem has that code."""
    if code in _OF_HTTP:
        return Meaning(code, *_OF_HTTP[code])
    for kind in _kinds(errors.OrchestratorError):
        if kind.code == code:
            return Meaning(code, status_of(kind("")), " ".join((kind.__doc__ or "").split()))
    return None


def _kinds(kind: type[errors.OrchestratorError]) -> Iterator[type[errors.OrchestratorError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)
