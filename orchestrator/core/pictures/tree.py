"""A picture as text: a line per step with what it waits for; the body of a loop is indented."""

from collections.abc import Iterator

from orchestrator.core.pictures.model import Arrow, Box, Picture


def tree(picture: Picture) -> str:
    """For a terminal."""
    return "\n".join([picture.title, *_lines(picture.boxes, "  ")])


def _lines(boxes: tuple[Box, ...], indent: str) -> Iterator[str]:
    for box in boxes:
        yield f"{indent}{_line(box)}"
        yield from _lines(box.inside, indent + "  ")


def _line(box: Box) -> str:
    after = ", ".join(map(_after, box.arrows))
    said = ", ".join((*box.asks, *box.options))
    parts = [
        f"{box.key}{f' ({box.what})' if box.what else ''}",
        f"<- {after}" if after else "",
        f"[{said}]" if said else "",
        _stand(box),
    ]
    return "  ".join(part for part in parts if part)


def _after(arrow: Arrow) -> str:
    return f"{arrow.before} ({arrow.asks})" if arrow.asks else arrow.before


def _stand(box: Box) -> str:
    if box.stand is None:
        return ""
    return f"= {box.stand.status}{f': {box.stand.note}' if box.stand.note else ''}"
