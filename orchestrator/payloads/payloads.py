"""Long outputs outside of the ledger, as one process reads and writes them."""

import hashlib
from typing import Final
from uuid import UUID

from pydantic import JsonValue

from orchestrator import forks
from orchestrator.core.payload import CAP, THRESHOLD, Payload, StoreUrl
from orchestrator.core.values import loads
from orchestrator.errors import PayloadLost, PayloadUnavailable
from orchestrator.payloads.store import Store, opened

MARK: Final = "flow-orchestrator-store"
"""The object that holds the id of a store: whoever finds it there sees the same store as everybody else."""
_VARIABLE: Final = "ORCHESTRATOR_PAYLOAD_STORE"


class Payloads:
    """Its store, if it has one. Nothing is asked of that before it is needed."""

    def __init__(self, url: StoreUrl | None = None, threshold: int = THRESHOLD, cap: int = CAP) -> None:
        self.url = url
        self.threshold = threshold
        self.cap = cap
        self._opened: Store | None = None
        self._id: UUID | None = None
        forks.watch(self)

    def __bool__(self) -> bool:
        """Whether there is a store."""
        return self.url is not None

    def after_fork(self) -> None:
        """See `forks.Forked`."""
        if self._opened is not None:
            self._opened.after_fork()

    @property
    def id(self) -> UUID:
        """The store's.

        Raises:
            PayloadUnavailable: there is no store, it cannot be reached, or it has no mark.
        """
        if self._id is None:
            self._id = self.mark()
        if self._id is None:
            assert self.url is not None
            raise PayloadUnavailable(
                f"The payload store {self.url.text} has no mark `{MARK}`: it is not the one that the workers use. "
                f"Fix: mount that one here, or set {_VARIABLE} as the workers have it."
            )
        return self._id

    def mark(self) -> UUID | None:
        """The id that stands in the store; None: it has none yet.

        Raises:
            PayloadUnavailable: it cannot be read.
        """
        found = self._store.read(MARK)
        try:
            return None if found is None else UUID(found.decode())
        except ValueError:
            assert self.url is not None
            raise PayloadUnavailable(
                f"The mark `{MARK}` in the payload store {self.url.text} cannot be read. Fix: restore it from a "
                "backup; it has the id that `orchestrator doctor` names."
            ) from None

    def put_mark(self, id: UUID) -> None:
        """Make it the store of that id."""
        self._store.write(MARK, str(id).encode())

    @property
    def _store(self) -> Store:
        if self._opened is None:
            if self.url is None:
                raise PayloadUnavailable(
                    f"{_VARIABLE} is not set, and an output is in the payload store. Fix: set it as the workers have "
                    "it."
                )
            self._opened = opened(self.url)
        return self._opened

    def write(self, reference: str, data: bytes) -> Payload:
        """
        Raises:
            PayloadUnavailable: it was not written.
        """
        payload = Payload(self.id, reference, len(data), hashlib.sha256(data).hexdigest())
        self._check_mark()
        self._store.write(reference, data)
        return payload

    def _check_mark(self) -> None:
        """What was mounted when this process began may not be any more."""
        if self.mark() != self.id:
            assert self.url is not None
            raise PayloadUnavailable(
                f"The payload store {self.url.text} has lost its mark `{MARK}`. Fix: see to it that it is mounted on "
                "this host; or restore the mark, which has the id that `orchestrator doctor` names."
            )

    def read(self, payload: Payload) -> JsonValue:
        """
        Raises:
            PayloadUnavailable: it cannot be read now, or not here.
            PayloadLost: it is not there any more, or is another one.
        """
        if self.id != payload.store:
            raise PayloadLost(
                f"The output is {payload.reference} in payload store {payload.store}, and the one here is {self.id}. "
                f"Fix: set {_VARIABLE} to the store that has it, or copy it with its mark.",
                reference=payload.reference,
            )
        data = self._store.read(payload.reference)
        if data is None:
            self._check_mark()
        what = "is not there any more" if data is None else "is not what was written"
        if data is None or hashlib.sha256(data).hexdigest() != payload.sha256:
            raise PayloadLost(
                f"The output {payload.reference} ({payload.size:,} bytes) {what} in the payload store. Fix: restore it "
                "from a backup; or run again what gave it: `orchestrator run rerun RUN --from STEP`.",
                reference=payload.reference,
            )
        value: JsonValue = loads(data)
        return value

    def remove(self, run_id: UUID) -> None:
        """All that the attempts of a run wrote.

        Raises:
            PayloadUnavailable: perhaps not all of it was removed.
        """
        self._store.remove(str(run_id))
