"""A webhook as a part of the manifest: who may call it, how a call is proved, and what becomes of it."""

import re
from datetime import timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from orchestrator.core.durations import Duration

Mode = Literal["off", "audit", "enforce"]
Algorithm = Literal["sha256", "sha1", "sha512"]
Encoding = Literal["hex", "base64"]
KeyForm = Literal["text", "base64", "hex"]

_PLACE: Final = re.compile(
    r"header:[A-Za-z0-9-]{1,100}|body:[^.\s]{1,100}(?:\.[^.\s]{1,100}){0,9}|field:[A-Za-z0-9_-]{1,50}"
)
_PART: Final = re.compile(r"\{([^{}]*)\}")
_PARTS: Final = ("body", "time", "id", "url", "method")
_REFERENCE: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,199}|file:/[^\0]{1,1000}")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _place(value: str) -> str:
    if not _PLACE.fullmatch(value):
        raise ValueError("it is not a place in a request; write `header:NAME`, `body:a.b` or `field:t`")
    return value.lower() if value.startswith("header:") else value


def _reference(value: str) -> str:
    """What was given is not quoted: it may be the secret itself."""
    if not _REFERENCE.fullmatch(value):
        raise ValueError("a secret is given by reference. Fix: write `env:NAME` or `file:/path`.")
    return value


def normal_scheme(name: str) -> str:
    """The name of a scheme, as it is compared: `GitHub-Legacy` is `github_legacy`."""
    return name.lower().replace("-", "_")


def _content(value: str) -> str:
    for part in _PART.findall(value):
        if part not in _PARTS and not re.fullmatch(r"header:[A-Za-z0-9-]{1,100}", part):
            known = ", ".join(f"{{{name}}}" for name in (*_PARTS, "header:NAME"))
            raise ValueError(f"`{{{part}}}` is no part of a request; use {known}")
    if re.search(r"[{}]", _PART.sub("", value)):
        raise ValueError("a brace has no partner")
    return value


Place = Annotated[str, AfterValidator(_place)]
SecretReference = Annotated[str, AfterValidator(_reference)]
Window = Annotated[Duration, Field(gt=timedelta(0), le=timedelta(days=1))]


class SignatureFormat(_Part):
    """The wire format of a signature: where it stands, what is signed, how, and what tells two deliveries apart.

    A place is `header:NAME`, `body:a.b` (a path in the JSON body) or `field:t` (of a header that holds pairs).
    """

    signature: Place
    field: str | None = None
    """The header holds pairs, as in `t=1,v1=ab,v1=cd`: the name of those that are signatures."""
    prefix: str = ""
    """In front of each signature."""
    separator: Literal["", " ", ","] = ""
    """Between several signatures; one without the prefix is of another kind, and passed by."""
    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"
    content: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_content)] = "{body}"
    """What is signed."""
    time: Place | None = None
    """When it was signed: seconds or milliseconds since 1970."""
    time_unit: Literal["s", "ms"] = "s"
    tolerance: Window = timedelta(minutes=5)
    """How far that may be from the clock, to either side."""
    id: Place | None = None
    """The id of the delivery."""
    same_by: Literal["content", "id"] = "content"
    """What makes two deliveries the same one: what they say, or their signed id alone."""
    key: KeyForm = "text"
    """How the secret is written."""
    key_prefix: str = ""
    """In front of the secret, and no part of it."""

    @property
    def signs_body(self) -> bool:
        """Whether a change of the body is noticed."""
        return "{body}" in self.content

    @property
    def signs_id(self) -> bool:
        """Whether a change of the delivery's id is noticed."""
        return "{id}" in self.content or (self._in_body(self.id) and self.signs_body)

    @property
    def signs_time(self) -> bool:
        """Whether a change of the time is noticed."""
        return "{time}" in self.content or (self._in_body(self.time) and self.signs_body)

    @staticmethod
    def _in_body(place: str | None) -> bool:
        return place is not None and place.startswith("body:")

    @model_validator(mode="after")
    def _proves_something(self) -> Self:
        if self.signature.startswith("field:"):
            raise ValueError("`signature` is a header or a place in the body; the pairs of a header go into `field`")
        if self.field is not None and not self.signature.startswith("header:"):
            raise ValueError("`field` needs a `signature` in a header")
        for name, place in (("time", self.time), ("id", self.id)):
            if f"{{{name}}}" in self.content and place is None:
                raise ValueError(f"`content` has {{{name}}}, and `{name}` does not say where it is")
            if place is not None and place.startswith("field:") and self.field is None:
                raise ValueError(f"`{name}` is in a pair of a header, and `field` does not say that it holds pairs")
        if self.time is not None and not self.signs_time:
            raise ValueError("`time` is not signed: anybody may change it; leave it out, or put {time} into `content`")
        if self.same_by == "id" and not self.signs_id:
            raise ValueError('`same_by` is "id", and the id is not signed')
        if not self.signs_body and not self.signs_id:
            raise ValueError("neither the body nor the id is signed; put {body} into `content`")
        return self


class WebhookRate(_Part):
    """How many deliveries are taken: `limit` in each `per`, by flow, or by flow and address."""

    limit: Annotated[int, Field(ge=1, le=1_000_000)]
    per: Annotated[Duration, Field(ge=timedelta(seconds=1), le=timedelta(days=1))] = timedelta(minutes=1)
    by: Literal["flow", "address"] = "flow"


class WebhookTrigger(_Part):
    """Started by `POST /api/webhook/{slug}`; its key among the triggers is the slug, unique among all flows."""

    type: Literal["webhook"]
    scheme: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(normal_scheme)]
    secret: SecretReference
    previous_secret: SecretReference | None = None
    """The key before a rotation: taken too, and its use is logged."""
    signature: SignatureFormat | None = None
    """Of the scheme `custom`."""
    mode: Mode | None = None
    addresses: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = ()
    """Who may call: CIDR, range, single address, `10.1.*.*`, the name of a preset; with `!` in front: never."""
    max_body: Annotated[int, Field(ge=1, le=100_000_000)] = 1024 * 1024
    """In bytes, decompressed."""
    tolerance: Window | None = None
    remember: Annotated[Duration, Field(ge=timedelta(minutes=10), le=timedelta(days=400))] = timedelta(days=30)
    """How long the same delivery is known again."""
    rate: WebhookRate | None = None
    body: Literal["auto", "json", "form"] = "auto"
    """How the body is read; `auto`: as its Content-Type says."""
    input: JsonValue = None
    """The run's input, or the signal's payload, with expressions over body and headers; None: the whole body."""
    idempotency_key: str | None = None
    """An expression; without one the header `Idempotency-Key` counts."""
    signal: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """Deliver a signal of this name to a run, instead of starting one."""
    run: str | None = None
    """An expression: the id of the run that gets the signal, or with `search` the value that it has there."""
    search: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """A search attribute of the flow: `run` gives its value, and the flow's open run that has it gets the signal."""
    signal_key: str | None = None
    """An expression: the key of the signal."""
    url: Annotated[str, Field(max_length=2048, pattern=r"^https?://\S+$")] | None = None
    """As the sender has it, where a signature covers it; else made of the public URL."""
    description: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.scheme == "custom") != (self.signature is not None):
            raise ValueError("`signature` describes the scheme `custom`, and only that one")
        if (self.signal is None) != (self.run is None):
            raise ValueError("`signal` and `run` go together: which signal, and to which run")
        for name in ("signal_key", "search"):
            if getattr(self, name) is not None and self.signal is None:
                raise ValueError(f"`{name}` belongs to a `signal`")
        if self.signal is not None and self.idempotency_key is not None:
            raise ValueError("`idempotency_key` is for starts; a signal is known again by its delivery")
        return self
