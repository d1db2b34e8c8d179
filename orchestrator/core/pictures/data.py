"""A picture as data, for whoever draws it."""

import json
from typing import Any

from orchestrator.core.pictures.model import Box, Picture


def data(picture: Picture) -> str:
    """As JSON: `title`, and `nodes`, each with the `arrows` that lead to it. A loop has the nodes of its body in
    `inside`; a node of a run has its `status`."""
    return json.dumps({"title": picture.title, "nodes": [_node(box) for box in picture.boxes]}, ensure_ascii=False)


def _node(box: Box) -> dict[str, Any]:
    found: dict[str, Any] = {
        "key": box.key,
        "kind": str(box.kind),
        "what": box.what,
        "asks": list(box.asks),
        "options": list(box.options),
        "arrows": [{"from": arrow.before, "asks": arrow.asks} for arrow in box.arrows],
    }
    if box.inside:
        found["inside"] = [_node(one) for one in box.inside]
    if box.stand is not None:
        found |= {"status": str(box.stand.status), "note": box.stand.note}
    return found
