"""Every schema that ever landed opens with its data after an upgrade on PostgreSQL and MariaDB, also if that was killed."""

from collections.abc import Callable, Iterator
from itertools import count

import pytest
from sqlalchemy import text

from openmlops.adapters import schema
from openmlops.adapters.database import connect, writing
from openmlops.errors import ServiceRefused
from postgres import postgres
from real_servers import make_database, mariadb
from upgrades import made, require_upgraded, revisions, upgrade_with_kills

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


def test_a_newer_schema_is_refused_with_one_line(new: New) -> None:
    engine = connect(url := new())
    with writing(engine) as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ServiceRefused, match=r"is at schema 9999; .* supports up to .* Upgrade OpenMLOps") as refused:
        connect(url)
    assert "\n" not in str(refused.value)
