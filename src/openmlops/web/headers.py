"""Security headers: what a browser may do with a page, and with every other answer."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""what a browser may do with a page; Plotly writes styles into the charts that it draws"""
PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
}
NOSNIFF = (b"x-content-type-options", b"nosniff")
"""marks an answer as nothing but what it says it is"""
