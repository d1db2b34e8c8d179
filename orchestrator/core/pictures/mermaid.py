"""A picture as a flowchart of Mermaid, which Markdown of many places draws."""

from collections.abc import Iterator
from typing import Final

from orchestrator.core.pictures.colours import FILL
from orchestrator.core.pictures.model import Box, Picture, arrows
from orchestrator.core.states import StepKind

_SHAPES: Final = {
    StepKind.MERGE: ("{{", "}}"),
    StepKind.REQUIRE: ("{", "}"),
    StepKind.WAIT: ("([", "])"),
    StepKind.FLOW: ("[[", "]]"),
}
_BOX: Final = ("[", "]")
_ESCAPED: Final = {"#": "#35;", "&": "#amp;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "|": "#124;"}


def mermaid(picture: Picture) -> str:
    """Steps are boxes, loops hold their body, arrows go from predecessor to successor."""
    return "\n".join(["flowchart TD", *_boxes(picture.boxes, "    "), *_arrows(picture), *_colours(picture)])


def _boxes(boxes: tuple[Box, ...], indent: str) -> Iterator[str]:
    for box in boxes:
        if box.inside:
            yield f'{indent}subgraph {box.id}["{_label(box, ": ", ", ")}"]'
            yield from _boxes(box.inside, indent + "    ")
            yield f"{indent}end"
        else:
            left, right = _SHAPES.get(box.kind, _BOX)
            yield f'{indent}{box.id}{left}"{_label(box, "<br/>", "<br/>")}"{right}'


def _label(box: Box, first: str, between: str) -> str:
    stand = () if box.stand is None else (box.stand.note or str(box.stand.status),)
    further = [_escaped(one) for one in (box.what, *box.asks, *stand) if one]
    return _escaped(box.key) + (first + between.join(further) if further else "")


def _arrows(picture: Picture) -> Iterator[str]:
    for before, box, asks in arrows(picture.boxes):
        yield f"    {before.id} -->{f'|{asks}|' if asks else ''} {box.id}"


def _colours(picture: Picture) -> Iterator[str]:
    """A class for each status that there is."""
    stood = [(box, box.stand.status) for box in picture.every() if box.stand is not None]
    for status in sorted({status for _, status in stood}):
        yield f"    classDef {status} fill:{FILL[status]},stroke:#666666,color:#000000"
        yield f"    class {','.join(box.id for box, one in stood if one is status)} {status}"


def _escaped(text: str) -> str:
    return "".join(_ESCAPED.get(sign, sign) for sign in text)
