"""Every schema that ever landed opens with its data after an upgrade on PostgreSQL and MariaDB, also if that was killed."""

from collections.abc import Callable, Iterator
from itertools import count

import pytest
from sqlalchemy import text

from openmlops.adapters import schema
from openmlops.adapters.database import connect, connect_with_retries, connect_without_migrating, writing
from openmlops.adapters.schema_upgrade import upgrade
from openmlops.errors import ServiceRefused
from postgres import postgres
from real_servers import make_database, mariadb
from upgrades import made, require_old_writers_go_on, require_upgraded, revisions, upgrade_with_kills

New = Callable[[], str]


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def new(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[New]:
    """Makes an empty database; its URL."""
    numbers = count()
    if request.param == "postgresql":
        with postgres() as server:
            yield lambda: make_database(server, f"upgrade_{next(numbers)}")
    else:
        with mariadb(tmp_path_factory.mktemp("mariadb") / "log", ()) as found:
            yield lambda: make_database(found, f"upgrade_{next(numbers)}")


@pytest.mark.parametrize("revision", revisions())
def test_a_database_of_each_schema_is_upgraded_with_its_data(new: New, revision: str) -> None:
    made(url := new(), revision)
    require_upgraded(url, revision)


@pytest.mark.parametrize("revision", [None, "0003"])
def test_an_upgrade_that_is_killed_at_any_step_can_be_given_again(new: New, revision: str | None) -> None:
    """MariaDB keeps what was done before the kill, so each attempt begins where the last one died; PostgreSQL undoes it."""
    url = new()
    if revision:
        made(url, revision)
    for attempt in range(200):
        if upgrade_with_kills(url, attempt if url.startswith("postgresql") else attempt % 4):
            break
    assert attempt > 5
    require_upgraded(url, revision or "0000")


def test_servers_of_before_go_on_after_a_step_that_expands(new: New) -> None:
    require_old_writers_go_on(new(), "0006")


def test_a_server_on_an_older_schema_waits_for_the_upgrade_which_names_who_is_connected(new: New) -> None:
    made(url := new(), "0003")
    waiting, other = connect_with_retries(url), connect_without_migrating(url)
    with pytest.raises(ServiceRefused, match=r"needs .* Run: openmlops upgrade"):
        waiting.connect()
    with other.connect() as connection:
        connection.execute(text("SELECT 1"))
        with pytest.raises(ServiceRefused, match=r"is in use by .*openmlops.* Stop these"):
            upgrade(url)
    other.dispose()
    done = upgrade(url)
    assert (done.before, done.after, done.copy_of_before) == ("0003", schema.HEAD, None)
    with waiting.connect() as connection:
        assert connection.execute(text("SELECT id FROM inference")).scalar() == "p1"
    waiting.dispose()


def test_a_newer_schema_is_refused_with_one_line(new: New) -> None:
    engine = connect(url := new())
    with writing(engine) as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ServiceRefused, match=r"is at schema 9999; .* supports up to .* Upgrade OpenMLOps") as refused:
        connect(url)
    assert "\n" not in str(refused.value)
