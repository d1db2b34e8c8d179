"""What has to be read before expressions can be evaluated."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

from orchestrator.core.expressions.tree import Ref


@dataclass(frozen=True, slots=True)
class Reads:
    """Of one run: the outputs of steps, how steps ended (their status, and the error if they failed), its input, its
    headers, and who sent the signals that steps took."""

    outputs: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    trigger: bool = False
    headers: bool = False
    senders: tuple[str, ...] = ()
    loops: tuple[str | None, ...] = ()
    """The loops whose item or index is read; None: the innermost."""
    items: tuple[tuple[str, str], ...] = ()
    """Of those, by its key in the manifest, the row that has it."""
    item: str | None = None
    """The row of the innermost."""

    @classmethod
    def of(cls, refs: Collection[Ref]) -> Self:
        """What these references need."""
        roots = {ref.root for ref in refs}
        ends = {ref.key or "" for ref in refs if ref.root == "step" and ref.member in ("status", "error")}
        outputs = {ref.key or "" for ref in refs if ref.root == "step" and ref.member == "output"}
        senders = {ref.key or "" for ref in refs if ref.root == "step" and ref.member == "by"}
        loops = sorted({ref.loop for ref in refs if ref.root in ("item", "index")}, key=str)
        return cls(
            outputs=tuple(sorted(outputs)),
            ends=tuple(sorted(ends)),
            trigger="trigger" in roots,
            headers="headers" in roots,
            senders=tuple(sorted(senders)),
            loops=tuple(loops),
        )

    @property
    def more(self) -> bool:
        """Whether there is more to it than outputs and the input."""
        return self.headers or bool(self.ends or self.senders or self.items)
