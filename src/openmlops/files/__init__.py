"""Files: atomic writes, copies that share bytes, SHA-256, and the manifest that seals a folder."""

from openmlops.files.copying import copy_file, copy_folder, copy_read_file, has_reflinks, share_file
from openmlops.files.manifest import MANIFEST, FileEntry, Hashing, Manifest, damage
from openmlops.files.paths import (
    LONGEST_SUFFIX,
    MOST_NAME_BYTES,
    MOST_PATH_BYTES,
    absolute,
    real,
    storable_name,
    why_not_storable,
)
from openmlops.files.reading import THREADS, content_of, opened, readable, sha256_of, sha256s_of
from openmlops.files.writing import (
    READABLE,
    copy,
    create_bytes,
    place_bytes,
    placing,
    replacing,
    replacing_folder,
    write_all,
    write_bytes,
    write_text,
)

__all__ = [
    "LONGEST_SUFFIX",
    "MANIFEST",
    "MOST_NAME_BYTES",
    "MOST_PATH_BYTES",
    "READABLE",
    "THREADS",
    "FileEntry",
    "Hashing",
    "Manifest",
    "absolute",
    "content_of",
    "copy",
    "copy_file",
    "copy_folder",
    "copy_read_file",
    "create_bytes",
    "damage",
    "has_reflinks",
    "opened",
    "place_bytes",
    "placing",
    "readable",
    "real",
    "replacing",
    "replacing_folder",
    "sha256_of",
    "sha256s_of",
    "share_file",
    "storable_name",
    "why_not_storable",
    "write_all",
    "write_bytes",
    "write_text",
]
