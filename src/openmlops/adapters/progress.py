"""How far something that is done once for each row has come: sequence numbers by name, which only grow.

What is here: the positions. What is not: the rows, and what is done about them.
"""

from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import IntegrityError

from openmlops.adapters.database import writing
from openmlops.adapters.schema import PROGRESS


class Progress:
    """The positions in the database of `engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def position(self, name: str) -> int:
        """The sequence number up to which all is done; 0 at the beginning."""
        with self._engine.connect() as connection:
            return int(connection.scalar(select(PROGRESS.c.position).where(PROGRESS.c.name == name)) or 0)

    def move(self, name: str, position: int) -> None:
        """All up to `position` is done. A position that was passed already stays."""
        try:
            with writing(self._engine) as connection:
                connection.execute(insert(PROGRESS), {"name": name, "position": position})
        except IntegrityError:
            passed = (PROGRESS.c.name == name, PROGRESS.c.position < position)
            with writing(self._engine) as connection:
                connection.execute(update(PROGRESS).where(*passed).values(position=position))
