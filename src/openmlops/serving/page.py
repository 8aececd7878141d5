"""The page at /docs: the OpenAPI document as plain HTML without external resources."""

from collections.abc import Iterator
from html import escape
from string import Template
from typing import Any

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Content-Security-Policy of the page"""

_PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>$title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 54rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430; }
h2 { font-size: 1rem; margin: 1.5rem 0 0; } code, pre { font-family: ui-monospace, monospace; background: #f2f4f7; }
pre { padding: .75rem; overflow-x: auto; } .method { color: #1a5fb4; } p { margin: .25rem 0; } .types { color: #5c6675; }
</style>
<h1>$title $version</h1>
<p>Serves <code>$model</code>. The OpenAPI document is <a href="/openapi.json">/openapi.json</a>.</p>
<pre>curl --data-binary @cat.png localhost:8000/predict
curl localhost:8000/feedback -d '{"prediction_id": "...", "label": 3}'
curl localhost:8000/trigger -d '{"reason": "new cameras on line 4"}'</pre>
$routes
</html>
""")


def documentation(openapi: dict[str, Any], model: str) -> str:
    """The HTML of the page."""
    info = openapi["info"]
    routes = "\n".join(_routes(openapi))
    return _PAGE.substitute(title=escape(info["title"]), version=escape(info["version"]), model=escape(model), routes=routes)


def _routes(openapi: dict[str, Any]) -> Iterator[str]:
    for path, methods in openapi["paths"].items():
        for method, route in methods.items():
            yield f'<h2><span class="method">{method.upper()}</span> {escape(path)}</h2>'
            yield f"<p>{escape(route.get('description', ''))}</p>"
            types = ", ".join(route.get("requestBody", {}).get("content", {}))
            predictions = ", ".join(route["responses"])
            body = f"Body: {escape(types)}. " if types else ""
            yield f'<p class="types">{body}Responses: {escape(predictions)}.</p>'
