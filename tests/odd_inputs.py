"""What people's folders, files and variables hold that nobody expects, as strategies of hypothesis."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from openmlops.errors import one_line
from openmlops.settings import Settings

NAMES = (
    *("été.png".encode("latin-1"), b"\xff\xfe", "données".encode(), "写真.png".encode(), "\u202e.png".encode(), b"a\nb.png"),
    *(b"n" * 255, b"n" * 251 + b".png", b"m" * 199 + b".png", b"[bold]x[/].png", b"[/", b"-rf.png", b"~", b"$HOME.png"),
    *(b"%s{y}.png", b"?.png", b"#.png", b"a'b\".png", b" .png", b"x .png ", b".hidden.png", b"A.PNG", b"0.txt", b".png"),
    *(b"train", b"val", b"images", b"labels", b"data.yaml", b"classes.txt", b"Thumbs.db", b"__MACOSX", b"C++", b"a\\b.png"),
)
TEXTS = (
    *("", " ", "0", "-1", "1.5", "nan", "inf", "1e400", "yes", "null", "~", ".", "..", "/", "//", "\\", "'", '"', "\t", "a\nb"),
    *(
        "é",
        "\udce9",
        "数据",
        "x" * 300,
        "x" * 5000,
        "a/b",
        "a:b",
        "a b",
        "%s",
        "{y}",
        "[red]",
        "$HOME",
        "${HOME}",
        "~nobody2/x",
    ),
    *(
        "/dev/null",
        "/dev/null/x",
        "/proc/1/x",
        "cifar10",
        "cifar10:USE_CASE",
        "os:path",
        ":",
        "a.b:c",
        "..:x",
        "1:2",
        "-x",
        "--",
    ),
    *("sqlite://", "sqlite:///x/y/z.db", "sqlite:////proc/x.db", "postgresql://u:p@[::1", "http://[", "http://", "file:///x"),
    *("mysql://", "x://y", "s3://", "0x10", "１", "1_0", "True", "9" * 40, "\x01", "\x7f", "\u2028", "\ufeff"),
)
LABELS = (
    "0 0.5 0.5 0.5 0.5",
    "1 .5 .5 1 1",
    "0 0.1 0.1 0.5 0.1 0.5 0.5",
    "# text",
    "0,0.5,0.5,0.5,0.5",
    "0 1e400 nan inf -1",
    "x",
)
YAML = (
    *(
        "names: [red, blue]",
        "names: {0: red, 1: blue}",
        "names: {1: red, 2: blue}",
        "names:",
        "names: red",
        "names: classes.txt",
    ),
    *("names: [[red], {a: b}]", "names: [red, red]", "names: {a: b}", "names: ../../../etc/passwd", "names: images", "nc: 3"),
    *("nc: [", "train: images", "train: ../images", "train: /", "train: ~", "train: [images, [images]]", "train: {a: b}"),
    *("train: classes.txt", "val: images", "val: labels", "test: nowhere", "path: /", "path: ..", "path: {a: b}", "path: [x]"),
    *(
        "a: &a [*a]",
        "a: !!python/object/apply:os.system [x]",
        "? [a]\n: b",
        "{" * 400,
        "a: b: c",
        "\tnames: x",
        "---",
        "- a",
        "%",
    ),
    *(
        'train: "\\0"',
        'train: "a\\0b"',
        'path: "\\0"',
        'names: "a\\0"',
        f"train: {'x' * 300}",
        f"path: {'y' * 5000}",
        "path: ~x/y",
    ),
    *('names: ["a\\nb", "\\ud800"]', 'names: ["\\x1b[31m", "C++"]', "<<: {names: [a]}", "2024-01-01: x", "a: 1\na: 2"),
)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp037")

name = st.sampled_from(NAMES) | st.binary(min_size=1, max_size=60).map(lambda b: b.replace(b"/", b"_").replace(b"\0", b"_"))
text = st.sampled_from(TEXTS) | st.text(st.characters(exclude_characters="\0"), max_size=20)
mode = st.sampled_from((0o000, 0o111, 0o200, 0o400, 0o444, 0o555, 0o666))


def encoded(lines: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """A file of some lines in one of the encodings that people's editors have; or of any bytes."""
    ends = st.sampled_from(("\n", "\r\n", "\r"))
    files = st.builds(
        lambda found, end, encoding: end.join(found).encode(encoding, "replace"),
        st.lists(lines, max_size=6),
        ends,
        st.sampled_from(ENCODINGS),
    )
    return files | st.binary(max_size=40)


labels = encoded(st.sampled_from(LABELS) | st.text("0123456789.-+einaxf \t,", max_size=30))
yaml = encoded(st.sampled_from(YAML) | st.text("[]{}:,-*&!|>'\"%@` \nabn\\0#?", max_size=30))
variable = st.sampled_from([field.upper() for field in Settings.model_fields])
dotenv = encoded(st.builds("{}={}".format, variable, text) | st.text("AB=#'\"$ {}\\\n", max_size=20) | text)
variables = st.dictionaries(
    variable | st.sampled_from(("HOME", "TMPDIR", "XDG_CONFIG_HOME", "COLUMNS", "TERM", "TZ", "LANG", "FORCE_COLOR", "PATH")),
    text,
    max_size=2,
)
fault = st.one_of(
    st.tuples(st.just("rename"), name),
    st.tuples(st.just("mode"), mode),
    st.tuples(
        st.just("link"), st.sampled_from((b"nowhere", b"/nowhere/x", b".", b"..", b"/dev/null", b"SELF", b"/", b"x" * 300))
    ),
    st.tuples(st.just("content"), st.binary(max_size=40) | labels | yaml),
    st.tuples(st.sampled_from(("pipe", "folder", "half", "gone")), st.none()),
    st.tuples(st.just("add"), name),
)
"""What is done to one entry of a folder, and with what."""
faults = st.lists(st.tuples(st.integers(0, 99), fault), min_size=1, max_size=3)


def classes(place: Path) -> Path:
    """Six images of 16x16 pixels for each of two classes."""
    for label in ("one", "two"):
        (place / label).mkdir(parents=True)
        for number in range(6):
            _image(place / label / f"{number}.png")
    return place


def boxes(place: Path) -> Path:
    """Twelve images of 16x16 pixels with a box in each."""
    for inside in ("images", "labels"):
        (place / inside).mkdir(parents=True)
    for number in range(12):
        _image(place / "images" / f"{number}.png")
        (place / "labels" / f"{number}.txt").write_text(f"{number % 2} 0.5 0.5 0.5 0.5\n")
    (place / "data.yaml").write_text("train: images\nnames: [red, blue]\n")
    return place


def spoil(place: Path, number: int, kind: str, value: bytes | int | None) -> list[str]:
    """Do this to the entry of that number below `place`, counted around; nothing where the file system refuses.

    Returns the names by which it may be told: its own, a new one, and those of the folders that hold it.

    Below 50 only entries are counted that are no images or labels of images: they are few, and each is of more weight.
    """
    walked = os.walk(os.fsencode(place))
    found = sorted(os.path.join(path, each) for path, below, files in walked for each in (*below, *files))
    few = [path for path in found if not path.endswith((b".png", b".txt"))] if number < 50 else found
    if not few:
        return []
    path = few[number % len(few)]
    with suppress(OSError):
        if os.path.islink(path) and kind in ("mode", "add", "half"):
            pass  # it may lead to /dev/null or /, which are those of the whole machine
        elif kind == "mode":
            os.chmod(path, value)
        elif kind == "rename":
            os.rename(path, os.path.join(os.path.dirname(path), value))
        elif kind == "add":
            shutil.copyfile(found[-1], os.path.join(path if os.path.isdir(path) else os.path.dirname(path), value))
        elif kind == "half":
            os.truncate(path, os.path.getsize(path) // 2)
        else:
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
            _put(path, kind, value)
    parts = os.path.relpath(path, os.fsencode(place)).split(b"/")
    more = {"rename": value, "add": value, "gone": os.fsencode(place.name)}.get(kind)  # what is gone is missed in its folder
    return [os.fsdecode(name) for name in (*parts, more) if isinstance(name, bytes)]


WORDS = ("images", "labels", "train", "val", "test", "names", "path", "data", "one", "two")
"""names of files and keys that are words of messages too"""


def forms(value: str) -> list[str]:
    """The forms in which a message may show a value: as it is, one line, escaped, or its beginning."""
    text = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    found = [
        value,
        value.strip(),
        text,
        one_line(value),
        one_line(text),
        value.encode("unicode_escape").decode(),
        repr(value)[1:-1],
    ]
    if value in WORDS:
        return [f"/{value}", f"{value}/", f"'{value}'", f"{value}: ", f"{value}.", f" {value},", f" {value};"]
    quoted = [f"{before}{value}{after}" for before, after in ("''", "()", "  ")]
    return quoted + [form for each in found for form in (each, each[:20]) if len(form.strip()) > 1]


def _put(path: bytes, kind: str, value: bytes | None) -> None:
    if kind == "link":
        os.symlink(path if value == b"SELF" else value, path)
    elif kind == "content":
        Path(os.fsdecode(path)).write_bytes(value)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        os.mkdir(path)


def _image(path: Path) -> None:
    seed = np.frombuffer(str(path.relative_to(path.parents[2])).encode(), np.uint8)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
