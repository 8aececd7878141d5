"""Settings: typed, from three sources, and secrets that stay secret."""

import getpass
import os
import pwd
from pathlib import Path

import pytest
import requests

from openmlops.errors import SettingsError
from openmlops.settings import Settings, embed_zenml, secrets_in


def test_the_environment_wins_over_the_dotenv_file_and_that_over_the_default(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("MODEL_NAME=from_file\nMINIO_BUCKET=from_file\n")
    environment = {"MODEL_NAME": "from_environment"}
    settings = Settings.load(environment, dotenv)
    sources = Settings.sources(environment, dotenv)
    assert (settings.model_name, settings.minio_bucket, settings.minio_data_prefix) == ("from_environment", "from_file", "data")
    assert (sources["model_name"], sources["minio_bucket"], sources["minio_data_prefix"]) == ("environment", ".env", "default")


def test_an_empty_value_counts_as_not_given() -> None:
    assert Settings.load({"USE_CASE": ""}, Path("/nowhere")).use_case == "cifar10"


@pytest.mark.parametrize("value", ["maybe", "2", "ja"])
def test_a_bad_value_is_named_with_its_remedy(value: str) -> None:
    with pytest.raises(SettingsError, match=rf"SIMULATE_DRIFT has the value '{value}'.*Set SIMULATE_DRIFT to 1 or 0"):
        Settings.load({"SIMULATE_DRIFT": value}, Path("/nowhere"))


@pytest.mark.parametrize(
    ("value", "said"), [("much", "it is no size in bytes. Set DATA_MEMORY to a size such as 4GB"), ("-1", "Set")]
)
def test_a_size_is_named_with_an_example(value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=f"DATA_MEMORY has the value '{value}'.*{said}"):
        Settings.load({"DATA_MEMORY": value})
    assert Settings.load({"DATA_MEMORY": "2GB"}).decoded_bytes == 2_000_000_000


def test_no_secret_is_shown() -> None:
    secrets = {
        name.upper(): f"hunter{number}"
        for number, (name, f) in enumerate(Settings.model_fields.items())
        if "Secret" in str(f.annotation)
    }
    settings = Settings.load(secrets, Path("/nowhere"))
    assert len(secrets) >= 5
    assert "hunter" not in str(settings.masked()) + repr(settings)


def test_there_is_no_default_password() -> None:
    settings = Settings.load({}, Path("/nowhere"))
    assert all(
        not getattr(settings, name).get_secret_value()
        for name, f in Settings.model_fields.items()
        if "Secret" in str(f.annotation)
    )


def test_the_defaults_stay_under_the_home_folder(tmp_path: Path) -> None:
    settings = Settings.load({"OPENMLOPS_HOME": str(tmp_path)}, Path("/nowhere"))
    assert str(tmp_path) in settings.database
    assert str(tmp_path) in settings.tracking_uri


class TestZenMLsOwnConfiguration:
    @pytest.fixture(autouse=True)
    def _clean(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
        for name in ("ZENML_CONFIG_PATH", "ZENML_STORE_URL"):
            monkeypatch.setenv(name, "x")  # so that what embed_zenml sets is taken back after the test
            monkeypatch.delenv(name)

    def _configure(self, tmp_path: Path, text: str) -> None:
        (tmp_path / ".config" / "zenml").mkdir(parents=True)
        (tmp_path / ".config" / "zenml" / "config.yaml").write_text(text)

    def test_a_laptop_without_zenml_gets_an_embedded_store(self, tmp_path: Path) -> None:
        embed_zenml(tmp_path)
        assert os.environ["ZENML_CONFIG_PATH"] == str(tmp_path / "zenml")

    def test_a_local_store_of_the_user_is_left_alone(self, tmp_path: Path) -> None:
        self._configure(tmp_path, "store:\n  type: sql\n  url: sqlite:////home/someone/zenml.db\n")
        embed_zenml(tmp_path)
        assert os.environ["ZENML_CONFIG_PATH"] == str(tmp_path / "zenml")

    def test_a_user_connected_to_a_server_runs_there(self, tmp_path: Path) -> None:
        self._configure(tmp_path, "store:\n  type: rest\n  url: https://zenml.example.com\n")
        embed_zenml(tmp_path)
        assert "ZENML_CONFIG_PATH" not in os.environ

    def test_a_configuration_path_of_the_users_is_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "own"))
        embed_zenml(tmp_path)
        assert os.environ["ZENML_CONFIG_PATH"] == str(tmp_path / "own")

    @pytest.mark.parametrize("name", ["ZENML_STORE_PASSWORD", "ZENML_STORE_API_KEY"])
    def test_with_credentials_in_the_environment_none_are_written_to_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv("DISABLE_CREDENTIALS_DISK_CACHING", "x")
        monkeypatch.delenv("DISABLE_CREDENTIALS_DISK_CACHING")
        embed_zenml(tmp_path)
        assert "DISABLE_CREDENTIALS_DISK_CACHING" not in os.environ
        monkeypatch.setenv(name, "of somebody")
        embed_zenml(tmp_path)
        assert os.environ["DISABLE_CREDENTIALS_DISK_CACHING"] == "true"

    def test_each_server_has_a_memory_of_its_own_under_the_home_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = set()
        for url in ("http://one:8080", "http://two:8080", "http://one:8080"):
            monkeypatch.setenv("ZENML_STORE_URL", url)
            monkeypatch.delenv("ZENML_CONFIG_PATH", raising=False)
            embed_zenml(tmp_path)
            found.add(os.environ["ZENML_CONFIG_PATH"])
        assert len(found) == 2
        assert {Path(path).parent for path in found} == {tmp_path}

    def test_what_the_dotenv_file_says_of_servers_reaches_the_libraries(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        given = {"ZENML_STORE_URL": "http://one:8080", "MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "s3cret"}
        for name in given:
            monkeypatch.setenv(name, "")
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in given.items()))
        Settings.load(dotenv=tmp_path / ".env").hand_over()
        assert {name: os.environ[name] for name in given} == given


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"A=1\nMODEL_NAME=caf\xe9\n", r"/\.env is not UTF-8: line 2 has the byte 0xe9. Save it as UTF-8"),
        ("MODEL_NAME=x\n".encode("utf-16"), r"/\.env is UTF-16, not UTF-8. Save it as UTF-8"),
        ("MODEL_NAME=x\n".encode("utf-16-be"), r"/\.env is UTF-16, not UTF-8. Save it as UTF-8"),
    ],
)
def test_a_dotenv_file_in_another_encoding_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(SettingsError, match=said):
        Settings.load({}, tmp_path / ".env")


def test_a_byte_order_mark_does_not_hide_the_first_variable(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("MODEL_NAME=données\n".encode("utf-8-sig"))
    assert Settings.load({}, tmp_path / ".env").model_name == "données"


def test_a_home_that_would_end_an_sqlite_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"OPENMLOPS_HOME is .*p\?q.*Use a folder without '\?'"):
        _ = Settings.load({"OPENMLOPS_HOME": str(tmp_path / "p?q")}, Path("/nowhere")).database


@pytest.mark.parametrize("given", [{}, {"USER": "", "LOGNAME": "", "HOME": ""}, {"HOME": "/"}])
def test_a_user_id_without_a_name_gets_one_and_a_home(
    given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container with a user id of its own: `getpass` and `Path.home` fail there."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    names = ("USER", "LOGNAME", "LNAME", "USERNAME", "HOME")
    monkeypatch.setattr(os, "environ", {name: value for name, value in os.environ.items() if name not in names} | given)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises((KeyError, OSError)):
        getpass.getuser()
    Settings.load({"OPENMLOPS_HOME": str(tmp_path)}, Path("/nowhere")).hand_over()
    assert (getpass.getuser(), Path.home()) == (str(os.getuid()), tmp_path)


@pytest.mark.parametrize(
    ("given", "proxied"),
    [
        ({}, {"intranet.example", "other.example"}),
        ({"no_proxy": "intranet.example"}, {"other.example"}),
        ({"NO_PROXY": "intranet.example, 127.0.0.1"}, {"other.example"}),
        ({"NO_PROXY": "*"}, set()),
    ],
)
def test_a_proxy_of_the_shell_is_not_used_for_this_machine(
    given: dict[str, str], proxied: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    monkeypatch.setattr(os, "environ", {**others, "http_proxy": "http://192.0.2.1:3128", **given})
    assert requests.utils.get_environ_proxies("http://127.0.0.1:8000/") or "127.0.0.1" in str(given) or "*" in str(given)
    Settings.load({"OPENMLOPS_HOME": str(tmp_path)}, Path("/nowhere")).hand_over()
    hosts = ("127.0.0.1", "localhost", "[::1]", "intranet.example", "other.example")
    assert {host for host in hosts if requests.utils.get_environ_proxies(f"http://{host}:8000/")} == proxied


def test_secrets_of_a_dotenv_file_are_known_by_their_names(tmp_path: Path) -> None:
    """Those of `init` hold none, so that everybody may read them."""
    (tmp_path / ".env").write_text("USE_CASE=a:USE_CASE\nMODEL_NAME=a\nAPI_TOKEN=\n")
    assert secrets_in(tmp_path / ".env") == []
    (tmp_path / ".env").write_text("MODEL_NAME=a\nAPI_TOKEN=x\nPOSTGRES_PASSWORD=y\nMINIO_SECRET_KEY=z\n")
    assert secrets_in(tmp_path / ".env") == ["API_TOKEN", "POSTGRES_PASSWORD", "MINIO_SECRET_KEY"]


@pytest.mark.parametrize("text", ["USE_CASE=person\nnot a setting\n", "USE_CASE=person\nAPI_TOKEN='open\nMODEL_NAME=mine\n"])
def test_a_line_of_the_env_file_that_is_no_setting_is_refused_with_its_number(tmp_path: Path, text: str) -> None:
    (tmp_path / ".env").write_text(text)
    with pytest.raises(SettingsError, match=r"\.env is not readable from line 2 on\. Write NAME=value there"):
        Settings.load({}, tmp_path / ".env")
