"""The OpenAPI document as a page for people: one file without scripts, that works offline, in the dark, and by keyboard. Pure."""

import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

DEPTH_MAX = 4
"""how deep the fields of fields are written out; below it stands only their type"""

_CODE = re.compile("`([^`]+)`")
_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d5d9e0, #3a4150); --soft: light-dark(#f5f6f8, #1d222b);
  --accent: light-dark(#0b57a4, #8ec1ff); --quiet: light-dark(#57606f, #a6b0c0); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 1rem 0 .2rem; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
h3 { font-size: .95rem; margin: 1rem 0 .3rem; } p { margin: .3rem 0; } a { color: var(--accent); }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1rem; list-style: none; padding: 0; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; }
details > div { padding: 0 1rem 1rem; }
summary { cursor: pointer; padding: .5rem 1rem; display: flex; flex-wrap: wrap; gap: .2rem .8rem; align-items: baseline; }
summary:focus-visible { outline: 2px solid var(--accent); }
code, .type { font-family: ui-monospace, monospace; font-size: .88em; } .type, .quiet { color: var(--quiet); }
.method { font-weight: 700; color: var(--accent); min-width: 4.6rem; display: inline-block; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top; padding: .25rem .5rem;
  border-top: 1px solid var(--line); } th { font-weight: 600; } td:first-child { white-space: nowrap; padding-left: var(--in); }
tr { --in: calc(.5rem + var(--depth, 0) * 1.2rem); }
.fields { overflow-x: auto; background: var(--soft); border-radius: 4px; }
@media (max-width: 40rem) { td { display: block; border-top: 0; padding: 0 .5rem .3rem var(--in); }
  td:first-child { border-top: 1px solid var(--line); padding-top: .3rem; } tbody tr, tbody, table { display: block; } }
"""


def page_of(document: Mapping[str, Any]) -> str:
    """The whole page, as HTML."""
    info, tags = document["info"], [tag["name"] for tag in document["tags"]]
    links = "".join(f'<li><a href="#{_anchor(tag)}">{escape(tag)}</a></li>' for tag in tags)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body>"
        f"<header><h1>{escape(info['title'])} API <span class=quiet>{escape(info['version'])}</span></h1>"
        f'<p>{escape(info["summary"])}. For programs: <a href="/openapi.json">/openapi.json</a>.</p>'
        f'<nav aria-label="Groups"><ul>{links}</ul></nav></header><main>'
        + "".join(_group(document, tag) for tag in tags)
        + "</main></body></html>"
    )


def _anchor(tag: str) -> str:
    return "".join(char if char.isalnum() else "-" for char in tag.lower())


def _group(document: Mapping[str, Any], tag: str) -> str:
    operations = [
        _operation(document, path, method, told)
        for path, methods in document["paths"].items()
        for method, told in methods.items()
        if tag in told["tags"]
    ]
    return f'<section><h2 id="{_anchor(tag)}">{escape(tag)}</h2>{"".join(operations)}</section>'


def _operation(document: Mapping[str, Any], path: str, method: str, told: Mapping[str, Any]) -> str:
    schemas = document["components"]["schemas"]
    parts = [f"<p>{_prose(told['description'])}</p>"] if "description" in told else []
    parts.append(f"<p class=quiet>{escape(_who(told['security']))}</p>")
    if "parameters" in told:
        rows = "".join(
            _row(each["name"], f"{each['in']}, {_type(each['schema'], schemas)}", each["description"])
            for each in told["parameters"]
        )
        parts.append(f"<h3>Parameters</h3>{_table(rows)}")
    if "requestBody" in told:
        parts.append("<h3>Body</h3>" + _content(told["requestBody"]["content"], schemas))
    for status, answer in told["responses"].items():
        if status == "200":
            parts.append("<h3>Answer</h3>" + _content(answer["content"], schemas))
    others = "".join(
        _row(status, "", answer["description"]) for status, answer in told["responses"].items() if status != "200"
    )
    parts.append(f"<h3>Other statuses</h3>{_table(others)}")
    return (
        f"<details><summary><span><span class=method>{method.upper()}</span> <code>{escape(path)}</code></span>"
        f"<span class=quiet>{escape(told['summary'])}</span></summary><div>{''.join(parts)}</div></details>"
    )


def _who(security: list[Mapping[str, Any]]) -> str:
    if {} in security:
        return "No key is needed."
    if "admin" in security[0]:
        return "For the admin: X-Admin-Key."
    return "A key is needed: Authorization: Bearer, x-api-key or api-key."


def _content(content: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    parts = []
    for media_type, told in content.items():
        schema = told["schema"]
        frame = schema.get("x-frame")
        parts.append(f"<p><code>{escape(media_type)}</code>{' — each frame:' if frame is not None else ''}</p>")
        rows = "".join(_fields(frame if frame is not None else schema, schemas, 0))
        parts.append(_table(rows) if rows else f"<p class=type>{escape(_type(schema, schemas))}</p>")
    return "".join(parts)


def _table(rows: str) -> str:
    return f"<div class=fields><table>{rows}</table></div>"


def _row(name: str, type_: str, description: str, depth: int = 0) -> str:
    inner = f' style="--depth:{depth}"' if depth else ""
    kind = f"<span class=type>{escape(type_)}</span> " if type_ else ""
    return f"<tr{inner}><td><code>{escape(name)}</code></td><td>{kind}{_prose(description)}</td></tr>"


def _prose(text: str) -> str:
    """Text with its `code` marked."""
    return _CODE.sub(r"<code>\1</code>", escape(text, quote=False))


def _fields(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int) -> Iterator[str]:
    """One row for each field of an object, those of the objects in it further in."""
    for struct in _structs(schema, schemas):
        required = struct.get("required", ())
        for name, told in struct.get("properties", {}).items():
            needed = "" if name in required else "optional"
            below = [each for each in _structs(told, schemas) if "properties" in each]
            about = below[0].get("description", "") if len(below) == 1 else ""
            type_ = ", ".join(filter(None, (_type(told, schemas), needed)))
            yield _row(name, type_, told.get("description", about), depth)
            if depth < DEPTH_MAX:
                yield from _fields(told, schemas, depth + 1)


def _structs(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The objects that a value of `schema` may be, or may hold one beside the other: in a list, or under names."""
    if "$ref" in schema:
        yield from _structs(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    elif "anyOf" in schema:
        for each in schema["anyOf"]:
            yield from _structs(each, schemas)
    elif schema.get("type") == "array" and isinstance(schema.get("items"), dict):
        yield from _structs(schema["items"], schemas)
    elif isinstance(schema.get("additionalProperties"), dict) and "properties" not in schema:
        yield from _structs(schema["additionalProperties"], schemas)
    elif schema.get("type") == "object":
        yield schema


def _type(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """The type in a few words."""
    if "$ref" in schema:
        return _type(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "anyOf" in schema:
        return " or ".join(
            dict.fromkeys(_type(each, schemas) for each in schema["anyOf"] if each.get("type") != "null")
        )
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        return " | ".join(str(each) for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'], schemas)}" if isinstance(schema.get("items"), dict) else "list"
    if isinstance(schema.get("additionalProperties"), dict) and "properties" not in schema:
        return f"{_type(schema['additionalProperties'], schemas)} for each name"
    return str(schema.get("type", "anything")) + _bounds(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    """Between which numbers it is; the largest that a machine can hold is not worth a word."""
    least, most = schema.get("minimum"), schema.get("maximum")
    if most is not None and abs(most) < 2**31 - 1:
        return f" {least} to {most}" if least is not None else f" up to {most}"
    return f" from {least} on" if least is not None and abs(least) < 2**31 else ""
