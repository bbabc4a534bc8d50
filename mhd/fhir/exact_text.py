"""Nothing lost on the way to FHIR and back: the text of XDS beside the FHIR that can not say it exactly.

An HL7 v2 text has forms that FHIR has no place for: a time without seconds, a degree, a second blank in a code. Such an
element of FHIR carries the text in an extension of ours. When it comes back, the extension counts only as long as the
element still says the same: whoever changes the element changes what it means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from mhd.fhir.canonicals import XDS_TEXT

Json: TypeAlias = dict[str, Any]


def with_exact_text(element: Json, text: str, read: Callable[[Json], str | None]) -> Json:
    """The element, with the text beside it where reading the element would not give it back."""
    return element if read(element) == text else element | {"extension": [*element.get("extension", ()), _said(text)]}


def exact_text(element: Json, render: Callable[[str], Json]) -> str | None:
    """The text beside an element; None where there is none, or the element says something else by now."""
    text = _text_of(element.get("extension", ()))
    return text if text is not None and _plain(render(text)) == _plain(element) else None


def put_exact(target: Json, name: str, text: str, rendered: Any, back: str | None) -> None:
    """Set a primitive of `target`, with the text beside it where it is not what is read back.

    rendered   None where FHIR can not say it at all: then only the text is there
    """
    if rendered is not None:
        target[name] = rendered
    if rendered is None or back != text:
        target[f"_{name}"] = {"extension": [_said(text)]}


def exact_primitive(target: Json, name: str, render: Callable[[str], Any]) -> str | None:
    """The text beside a primitive of `target`; None where there is none, or the primitive says something else now."""
    text = text_beside(target, name)
    return text if text is not None and render(text) == target.get(name) else None


def text_beside(target: Json, name: str) -> str | None:
    """The text beside a primitive of `target`, whatever the primitive says by now."""
    return _text_of(target.get(f"_{name}", {}).get("extension", ()))


def _said(text: str) -> Json:
    return {"url": XDS_TEXT, "valueString": text}


def _text_of(extensions: Any) -> str | None:
    return next((each["valueString"] for each in extensions if each["url"] == XDS_TEXT and "valueString" in each), None)


def _plain(element: Json) -> Json:
    """What an element says, without the text beside it."""
    others = [each for each in element.get("extension", ()) if each["url"] != XDS_TEXT]
    plain = {name: value for name, value in element.items() if name != "extension"}
    return plain | {"extension": others} if others else plain
