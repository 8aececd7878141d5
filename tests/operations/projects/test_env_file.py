"""The `.env` of a stack of servers: private, complete, and never a secret changed or made twice."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values

from openmlops.errors import SettingsError
from openmlops.operations.projects.env_file import COMPOSE, prepare_compose
from openmlops.settings import Settings

SECRETS = {v.name for section in COMPOSE for v in section.variables if not v.value}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "compose.yml").write_text("services: {}\n")
    return tmp_path


def test_every_secret_is_made_long_and_different_each_time(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    prepare_compose(clone)
    found = dotenv_values(clone / ".env")
    values = [found[name] for name in SECRETS]
    assert len(set(values)) == len(SECRETS) >= 12
    assert all(value and len(value) == 40 for value in values)


def test_only_the_owner_can_read_it_also_when_it_was_open_before(clone: Path) -> None:
    (clone / ".env").write_text("USE_CASE=person")
    (clone / ".env").chmod(0o644)
    prepare_compose(clone)
    assert stat.S_IMODE((clone / ".env").stat().st_mode) == 0o600


def test_repeating_it_changes_nothing_and_what_was_there_stays(clone: Path) -> None:
    (clone / ".env").write_text("API_TOKEN=mine\nUSE_CASE=person")
    added = prepare_compose(clone).added
    first = (clone / ".env").read_bytes()
    again = prepare_compose(clone)
    assert "API_TOKEN" not in added
    assert again.added == ()
    assert (clone / ".env").read_bytes() == first
    assert dotenv_values(clone / ".env")["API_TOKEN"] == "mine"
    assert Settings.load({}, clone / ".env").use_case == "person"


def test_an_empty_line_is_filled(clone: Path) -> None:
    (clone / ".env").write_text("API_TOKEN=\n")
    prepare_compose(clone)
    assert dotenv_values(clone / ".env")["API_TOKEN"]


def test_commands_on_this_machine_find_the_servers(clone: Path) -> None:
    prepare_compose(clone)
    settings = Settings.load({}, clone / ".env")
    password = dotenv_values(clone / ".env")["POSTGRES_PASSWORD"]
    assert settings.database == f"postgresql://openmlops:{password}@127.0.0.1:5432/openmlops"
    assert settings.minio_secret_key.get_secret_value()
    assert settings.zenml_store_url.startswith("http://127.0.0.1")


def test_eight_at_once_make_one_file(clone: Path) -> None:
    script = "from pathlib import Path; from openmlops.operations.projects.env_file import prepare_compose as p; p(Path('.'))"
    started = [subprocess.Popen([sys.executable, "-c", script], cwd=clone) for _ in range(8)]
    assert [process.wait(600) for process in started] == [0] * 8
    names = [line.partition("=")[0] for line in (clone / ".env").read_text().splitlines() if "=" in line]
    assert len(names) == len(set(names))


def test_compose_reads_the_same_file(clone: Path) -> None:
    prepare_compose(clone)
    assert (clone / "deploy" / ".env").resolve() == (clone / ".env").resolve()


def test_another_env_file_beside_the_compose_file_is_not_hidden(clone: Path) -> None:
    (clone / "deploy" / ".env").write_text("API_TOKEN=other\n")
    with pytest.raises(SettingsError, match="is not a link"):
        prepare_compose(clone)


def test_outside_a_clone_it_says_where_it_belongs(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no deploy/compose\.yml.*root of a clone"):
        prepare_compose(tmp_path)


def test_a_file_that_cannot_be_written_is_named(clone: Path) -> None:
    (clone / ".env").mkdir()
    with pytest.raises(SettingsError, match=r"\.env cannot be written"):
        prepare_compose(clone)
