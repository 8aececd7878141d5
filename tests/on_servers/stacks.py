"""What a user of the servers has: settings that name them, and an empty folder whose `.env` holds these."""

from dataclasses import dataclass
from pathlib import Path

from postgres import Postgres
from real_servers import Database, ObjectStore, Web, make_database
from user_folder import Folder


@dataclass(frozen=True)
class Servers:
    """Everything that runs. `mlflow` is on PostgreSQL, `mlflow_mysql` and `zenml` are on MariaDB."""

    postgresql: Postgres
    mariadb: Database
    objects: ObjectStore
    mlflow: Web
    mlflow_mysql: Web
    zenml: Web

    def environment(self, database: Database | Postgres, runs: Web, name: str) -> dict[str, str]:
        """Settings of a user of these servers, with a database, a bucket and a ZenML stack called `name`."""
        return {
            "DATABASE_URL": make_database(database, name),
            "MLFLOW_TRACKING_URI": runs.url,
            "MLFLOW_TRACKING_USERNAME": runs.user,
            "MLFLOW_TRACKING_PASSWORD": runs.password,
            "MLFLOW_EXPERIMENT_NAME": name,
            "MODEL_NAME": name,
            "MINIO_ENDPOINT_URL": self.objects.url,
            "MINIO_ACCESS_KEY": self.objects.key,
            "MINIO_SECRET_KEY": self.objects.secret,
            "MINIO_BUCKET": name.replace("_", "-"),
            "ZENML_STORE_URL": self.zenml.url,
            "ZENML_STORE_USERNAME": self.zenml.user,
            "ZENML_STORE_PASSWORD": self.zenml.password,
            "ZENML_STACK_NAME": name,
        }


def folder_with(path: Path, environment: dict[str, str]) -> Folder:
    """An empty folder whose `.env` holds `environment`, and a user in it."""
    found = Folder(path)
    (path / ".env").touch(mode=0o600)
    (path / ".env").write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
    return found
