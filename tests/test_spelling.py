"""What is like a setting and is none is told, with its place and the nearest name; what others read is left alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from openmlops.errors import SettingsError
from openmlops.operations.projects.env_file import COMPOSE
from openmlops.settings import Settings

KNOWN = tuple(name.upper() for name in Settings.model_fields)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("POLICY_MINIMUM_NEW_LABEL", "did you mean POLICY_MINIMUM_NEW_LABELS?"),
        ("POLCY_BREAKER", "did you mean POLICY_BREAKER?"),
        ("WATCH_MODES", "did you mean WATCH_MODE?"),
        ("MLFLOW_TRACKING_URL", "did you mean MLFLOW_TRACKING_URI?"),
        ("OPENMLOPS_WATCH_MODE", "did you mean WATCH_MODE?"),
        ("OPENMLOPS_HOUSE", "is no setting and has no effect"),
        ("POLICY_MIN_LABELS", "the nearest is POLICY_"),
        ("watch_mode", "written in capitals, as WATCH_MODE"),
    ],
)
def test_a_misspelt_setting_is_told_with_line_and_nearest_name(tmp_path: Path, name: str, said: str) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"# ours\nUSE_CASE=cifar10\n\n\n{name}=5\n")
    (told,) = Settings.unknown({}, dotenv)
    assert told.startswith(f"{dotenv}, line 5: {name} ")
    assert said in told
    assert Settings.unknown({name: "5"}, Path("/nowhere"))[0].startswith("environment: ")


@pytest.mark.parametrize(
    "name",
    [
        *KNOWN,
        *(variable.name for section in COMPOSE for variable in section.variables),
        *("PATH", "HOME", "DATABASE", "MLFLOW_TRACKING_TOKEN", "MLFLOW_RUN_ID", "ZENML_ANALYTICS_OPT_IN", "DVC_STUDIO_TOKEN"),
        *("AWS_SECRET_ACCESS_KEY", "MYSQL_DATABASE", "POSTGRES_USER", "DJANGO_SECRET_KEY", "API_KEY", "OPENMLOPS_VERSION"),
    ],
)
def test_settings_and_what_others_read_are_left_alone(name: str) -> None:
    assert Settings.unknown({name: "5"}, Path("/nowhere")) == ()


def test_a_wrong_value_is_told_with_its_line_and_the_right_ones(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("USE_CASE=cifar10\nWATCH_MODE=automatic\n")
    with pytest.raises(SettingsError) as caught:
        Settings.load({}, dotenv)
    assert "WATCH_MODE, in .env on line 2, has the value 'automatic'" in str(caught.value)
    assert "Set WATCH_MODE to manual, suggest or auto" in str(caught.value)


def test_every_command_tells_it_once_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POLICY_MINIMUM_NEW_LABEL=5\n")
    words = [sys.executable, "-m", "openmlops", "settings", "--json"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = "Warning: .env, line 1: POLICY_MINIMUM_NEW_LABEL is no setting and has no effect; did you mean"
    assert done.stderr.count(said) == 1
