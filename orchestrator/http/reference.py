"""The OpenAPI document as a page for people, with who may ask for what."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from orchestrator.http.policy import PUBLIC, RULES

_HEAD: Final = """# Every route of the HTTP API

Made from the code by `python -m orchestrator.http.document docs`; do not edit. What holds for all routes, errors
and lists and waiting among it, is in [the HTTP API](api.md), and what roles and scopes are in [security](security.md).
Every route may answer with a `Problem`. A field or parameter in **bold** must be given.
"""
_METHODS: Final = ("get", "post", "put", "patch", "delete")


def page(document: Mapping[str, Any]) -> str:
    """The whole page, in Markdown."""
    parts = [_HEAD]
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                route = methods[method]
                by_tag.setdefault(route["tags"][0], []).append(_route(f"{method.upper()} {path}", route))
    for tag in sorted(by_tag):
        parts += [f"## {tag}\n", *by_tag[tag]]
    parts.append("## Models\n")
    models = document["components"]["schemas"]
    parts += [_model(name, models[name]) for name in sorted(models)]
    return "\n".join(parts)


def _route(what: str, route: Mapping[str, Any]) -> str:
    name = route["operationId"]
    lines = [f"### {name}\n", f"`{what}`: {_who(name)}.\n"]
    if text := route.get("description"):
        lines.append(f"{_flat(text)}\n")
    if parameters := route.get("parameters"):
        lines += _table(
            ("parameter", "in", "type", "meaning"),
            [(_named(p), p["in"], _type(p["schema"]), _flat(p.get("description", ""))) for p in parameters],
        )
    if body := route.get("requestBody"):
        lines.append(f"Body: {_content(body['content'])}.\n")
    lines.append(f"Answers: {'; '.join(_answers(route['responses']))}.\n")
    return "\n".join(lines)


def _who(name: str) -> str:
    if name in PUBLIC:
        return "anybody"
    rule = RULES[name]
    scope = "" if rule.scope is None else f", scope `{rule.scope.value}`"
    return f"{rule.role.value}{scope}"


def _named(field: Mapping[str, Any]) -> str:
    return f"**{field['name']}**" if field.get("required") else str(field["name"])


def _answers(responses: Mapping[str, Any]) -> Iterator[str]:
    """But for problems."""
    for status, response in responses.items():
        content = _content(response.get("content", {}))
        if "Problem" not in content:
            yield f"{status} {content}" if content else f"{status} {_flat(response['description']).lower()}"


def _content(content: Mapping[str, Any]) -> str:
    """The types of a body; one that is JSON goes without saying."""
    found = []
    for media, one in content.items():
        kind = _type(one.get("schema", {}))
        found.append(kind if media == "application/json" else f"{kind} as `{media}`")
    return " or ".join(dict.fromkeys(found))


def _model(name: str, model: Mapping[str, Any]) -> str:
    lines = [f"### {name}\n"]
    if text := model.get("description"):
        lines.append(f"{_flat(text)}\n")
    if fields := model.get("properties"):
        required = set(model.get("required", ()))
        rows = [
            (f"**{field}**" if field in required else field, _type(one), _flat(one.get("description", "")))
            for field, one in fields.items()
        ]
        lines += _table(("field", "type", "meaning"), rows)
    else:
        lines.append(f"{_type(model)}\n")
    return "\n".join(lines)


def _type(schema: Mapping[str, Any]) -> str:
    """In a few words, with links to models. That a thing may be null is not said: what is not there is null."""
    if target := schema.get("$ref"):
        name = target.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(one) for one in choices if one != {"type": "null"}))
    if "const" in schema:
        return f"`{schema['const']}`"
    if values := schema.get("enum"):
        return " or ".join(f"`{value}`" for value in values)
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_type(schema['additionalProperties'])}"
    return _limited(str(kind), schema)


def _limited(kind: str, schema: Mapping[str, Any]) -> str:
    """The type with its format or its limits."""
    name = schema.get("format", kind)
    low, high = schema.get("minimum"), schema.get("maximum", schema.get("maxLength"))
    if high is None:
        return str(name)
    return f"{name}, {low}–{high}" if low is not None else f"{name}, at most {high}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines), ""]


def _flat(text: str) -> str:
    return " ".join(text.split())
