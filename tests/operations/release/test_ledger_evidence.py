"""An export of a ledger shows what nobody changed since it was signed, also to a program that knows nothing of OpenMLOps."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

import toy_promotion as toy
from filled_log import MODEL, promote, workspace
from openmlops.adapters import ed25519
from openmlops.adapters.database import writing
from openmlops.adapters.ledger import _hash
from openmlops.adapters.schema import LEDGER, LEDGER_HEAD
from openmlops.cli import app
from openmlops.errors import LedgerBehind, LedgerCorrupt, SettingsError
from openmlops.operations.release import ledger_evidence, promotion, witnesses
from openmlops.operations.workspace import Workspace

PAGE = Path(__file__).parents[3] / "docs" / "ledger.md"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    ed25519.make(tmp_path / "key.pem")
    return tmp_path / "key.pem"


@pytest.fixture
def found(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Three rows, each signed after it was written."""
    found = workspace(tmp_path, LEDGER_SIGNING_KEY=str(key))
    monkeypatch.setattr(type(found.registry), "set_tag", lambda *given: None)
    for version in (1, 2, 3):
        promote(found, version)
        witnesses.seal(found, MODEL)
    return found


def exported(found: Workspace) -> str:
    return ledger_evidence.lines(found.ledger.rows(MODEL), witnesses.signed_heads(found, MODEL))


def verified(text: str, key: Path) -> ledger_evidence.Evidence:
    return ledger_evidence.verify(text, "ledger.jsonl", ed25519.public_key(ed25519.public_path(key)))


def rewritten(text: str, change: dict[str, object], first: int = 2) -> str:
    """An export whose rows from `first` on were rewritten with all their hashes, by somebody without the key."""
    rows, heads = ledger_evidence.parsed(text, "ledger.jsonl")
    previous = rows[first - 2]["hash"]
    for row in rows[first - 1 :]:
        row |= {**change, "previous": previous}
        row["hash"] = previous = _hash(row)
    return ledger_evidence.lines(rows, heads)


def test_what_was_signed_is_proven_and_what_is_not_is_said(found: Workspace, key: Path) -> None:
    evidence = verified(exported(found), key)
    assert (evidence.rows, evidence.signed, evidence.champion) == (3, 3, 3)
    promote(found, 4)
    later = verified(exported(found), key)
    assert (later.rows, later.signed) == (4, 3)
    assert later.says.endswith(f"Rows 1 to 3 are as they were when the key {later.key} signed them. The last row is not signed")
    without = ledger_evidence.verify(exported(found), "ledger.jsonl", None)
    assert "Not proven" in without.says


def test_a_history_that_was_rewritten_whole_verifies_only_without_the_key(found: Workspace, key: Path) -> None:
    other = rewritten(exported(found), {"actor": "somebody else"})
    assert ledger_evidence.verify(other, "ledger.jsonl", None).rows == 3
    with pytest.raises(LedgerCorrupt, match="row 2 is not the one that was signed"):
        verified(other, key)


def test_rows_cut_off_and_a_champion_changed_in_a_signed_head_are_found(found: Workspace, key: Path) -> None:
    lines = exported(found).splitlines(keepends=True)
    with pytest.raises(LedgerCorrupt, match="row 3 is missing"):
        verified("".join(lines[:2] + lines[3:]), key)
    forged = json.loads(lines[-1]) | {"champion": 1}
    assert verified("".join((*lines[:-1], json.dumps(forged) + "\n")), key).signed == 2, "its signature holds no more"


def test_another_key_proves_nothing(found: Workspace, tmp_path: Path) -> None:
    ed25519.make(tmp_path / "other.pem")
    evidence = verified(exported(found), tmp_path / "other.pem")
    assert evidence.signed == 0
    assert "No head is signed by the key" in evidence.says


def test_the_program_in_the_documentation_says_the_same(found: Workspace, key: Path, tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(program.splitlines()) <= 25

    def says(text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "ledger.jsonl").write_text(text)
        command = [sys.executable, "-c", program, str(tmp_path / "ledger.jsonl"), str(ed25519.public_path(key))]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    promote_by(found, 'a person with "quotes", \\, a line\nand 🙂é')
    assert says(exported(found)).stdout == "4 rows, 4 of them signed\n"
    assert "AssertionError: 2" in says(rewritten(exported(found), {"actor": "somebody else"})).stderr


def promote_by(found: Workspace, actor: str) -> None:
    found.ledger.append(
        model=MODEL, expected_sequence=3, kind="rollback", version=2, actor=actor, reasons=("ünsafe",),
        dataset="d" * 64, model_sha256="e" * 64, verdict=None, at=found.ledger.history(MODEL)[-1].at,
    )  # fmt: skip
    witnesses.seal(found, MODEL)


def test_a_ledger_rewritten_with_its_copy_and_its_tag_is_behind_its_signed_head(
    found: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, _ = ledger_evidence.parsed(rewritten(exported(found), {"actor": "somebody else"}, 3), "ledger.jsonl")
    with writing(found.engine) as connection:
        connection.execute(update(LEDGER).where(LEDGER.c.sequence == 3).values(rows[2]))
        connection.execute(update(LEDGER_HEAD).values(hash=rows[2]["hash"]))
    witnesses._write_copy(found, MODEL)
    monkeypatch.setattr(witnesses, "_tag", lambda *given: None)
    with pytest.raises(LedgerBehind, match="the signed head knows row 3"):
        witnesses.require_whole(found, MODEL)


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_key_that_cannot_be_used_stops_a_promotion_before_it_is_decided(tmp_path: Path, content: bytes | None) -> None:
    place = tmp_path / "key.pem"
    if content is not None:
        place.write_bytes(content)
    found = toy.workspace(tmp_path / "home")
    found = Workspace(found.settings.model_copy(update={"ledger_signing_key": str(place)}))
    with pytest.raises(SettingsError, match=re.escape(str(place))):
        promotion.rollback(found, toy.NAME)


def test_the_commands_make_a_key_export_and_verify(found: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "open", classmethod(lambda cls: found))
    run = CliRunner().invoke
    made, out = tmp_path / "new.pem", tmp_path / "out.jsonl"
    assert run(app, ["ledger", "key", str(made)]).exit_code == 0
    assert (made.stat().st_mode & 0o777, ed25519.public_path(made).stat().st_mode & 0o777) == (0o600, 0o644)
    with pytest.raises(SettingsError, match="is there already"):
        run(app, ["ledger", "key", str(made)], catch_exceptions=False, standalone_mode=False)
    assert run(app, ["ledger", "export", MODEL, "--to", str(out)]).exit_code == 0
    assert out.read_text() == exported(found) == run(app, ["ledger", "export", MODEL]).stdout
    shown = run(app, ["ledger", "verify", str(out), "--key", str(tmp_path / "key.pem.pub"), "--json"])
    assert json.loads(shown.stdout) | {"key": ""} == {"model": MODEL, "rows": 3, "champion": 3, "signed": 3, "key": ""}
    out.write_text("rubbish\n")
    with pytest.raises(Exception, match=r"Line 1 of .* is neither a row"):
        run(app, ["ledger", "verify", str(out)], catch_exceptions=False, standalone_mode=False)
