"""Start MLflow's server with basic auth from environment variables, its secrets in no command line and no image.

What is here: the auth configuration that MLflow only takes as a file, and an administrator's password that follows the
environment, which MLflow reads once and then never again. What is not: options of the server; those are MLFLOW_* variables.
"""

import configparser
import os
from pathlib import Path

from sqlalchemy import create_engine, inspect, text
from werkzeug.security import check_password_hash

CONFIG = Path("/tmp/basic_auth.ini")
SERVER = ("mlflow", "server", "--app-name", "basic-auth", "--host", "0.0.0.0", "--port", "5000")


def write_config(database: str) -> None:
    """The auth application's settings, for this user's eyes only."""
    config = configparser.ConfigParser(interpolation=None)
    config["mlflow"] = {
        "default_permission": "READ",
        "database_uri": database.replace("%", "%%"),
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
    }
    with open(os.open(CONFIG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        config.write(file)


def follow_password(database: str, user: str, password: str) -> None:
    """Give the administrator, if there is one already, the password of the environment."""
    engine = create_engine(database)
    if not inspect(engine).has_table("users"):
        return
    with engine.connect() as connection:
        stored = connection.scalar(text("SELECT password_hash FROM users WHERE username = :user"), {"user": user})
    engine.dispose()
    if stored and not check_password_hash(stored, password):
        from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

        store = SqlAlchemyStore()
        store.init_db(database)
        store.update_user(user, password=password)
        print(f"The password of {user} is now the one of the environment", flush=True)


def main() -> None:
    database = os.environ["AUTH_DATABASE_URI"]
    write_config(database)
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(CONFIG)
    follow_password(database, os.environ["MLFLOW_AUTH_ADMIN_USERNAME"], os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"])
    os.execvp(SERVER[0], SERVER)


if __name__ == "__main__":
    main()
