"""A picture in the language of Graphviz."""

from collections.abc import Iterator
from typing import Final

from orchestrator.core.pictures.colours import FILL
from orchestrator.core.pictures.model import Box, Picture, arrows
from orchestrator.core.states import StepKind

_SHAPES: Final = {
    StepKind.MERGE: "hexagon",
    StepKind.REQUIRE: "diamond",
    StepKind.WAIT: "ellipse",
    StepKind.FLOW: "component",
}


def dot(picture: Picture) -> str:
    """For `dot -Tsvg`. Loops are clusters, and arrows end at their borders."""
    lines = [
        f"digraph {_quoted(picture.title)} {{",
        "    compound=true; rankdir=TB; node [shape=box, style=filled, fillcolor=white];",
        *_boxes(picture.boxes, "    "),
        *_arrows(picture),
        "}",
    ]
    return "\n".join(lines)


def _boxes(boxes: tuple[Box, ...], indent: str) -> Iterator[str]:
    for box in boxes:
        fill = "" if box.stand is None else f'fillcolor="{FILL[box.stand.status]}"'
        if box.inside:
            yield f"{indent}subgraph cluster_{box.id} {{"
            yield f"{indent}    label={_label(box)};{f' style=filled; {fill};' if fill else ''}"
            yield from _boxes(box.inside, indent + "    ")
            yield f"{indent}}}"
        else:
            shape = f", shape={_SHAPES[box.kind]}" if box.kind in _SHAPES else ""
            yield f"{indent}{box.id} [label={_label(box)}{shape}{f', {fill}' if fill else ''}];"


def _label(box: Box) -> str:
    stand = () if box.stand is None else (box.stand.note or str(box.stand.status),)
    return _quoted("\n".join(one for one in (box.key, box.what, *box.asks, *stand) if one))


def _arrows(picture: Picture) -> Iterator[str]:
    for before, box, asks in arrows(picture.boxes):
        options = [
            f"label={_quoted(asks)}" if asks else "",
            f"ltail=cluster_{before.id}" if before.inside else "",
            f"lhead=cluster_{box.id}" if box.inside else "",
        ]
        said = ", ".join(option for option in options if option)
        yield f"    {_last(before).id} -> {_first(box).id}{f' [{said}]' if said else ''};"


def _first(box: Box) -> Box:
    """Arrows go between nodes: a cluster is none."""
    return _first(box.inside[0]) if box.inside else box


def _last(box: Box) -> Box:
    return _last(box.inside[-1]) if box.inside else box


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
