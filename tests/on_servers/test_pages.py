"""What a person sees of a training on the pages of MLflow and ZenML, in a real browser.

The pictures go to the folder that the environment variable SCREENSHOTS names, else to a temporary one; those of
docs/pictures are made so.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from stacks import Servers, folder_with

from browser import Visit, chromium, visit
from user_folder import Folder

pytestmark = pytest.mark.slow

NAME = "digits"
STEPS = (
    "ingest_data",
    "upload_data_to_minio",
    "validate_data",
    "split_data",
    "preprocess",
    "train",
    "evaluate",
    "export_model",
    "register_model",
    "gate",
)


@pytest.fixture(scope="module")
def folder(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A user of the servers, with the stack registered and the sample data."""
    environment = servers.environment(servers.postgresql, servers.mlflow, NAME)
    found = folder_with(tmp_path_factory.mktemp("pages") / "user", environment)
    found.json("stack", "register")
    found.json("data", "sample", "cifar10")
    return found


@pytest.fixture(scope="module")
def outcome(folder: Folder) -> dict[str, Any]:
    """What `train --json` printed."""
    return folder.json("train", "--epochs", "2", "--set", "threads=1")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("pictures"))
    found.mkdir(parents=True, exist_ok=True)
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def mlflow(servers: Servers, browser: Browser, outcome: dict[str, Any], pictures: Path) -> Iterator[Visit]:
    """MLflow's first page, after the password; at the end every request for our data has been answered."""
    server = servers.mlflow
    with visit(browser, server.url, pictures, server.user, server.password) as found:
        found.go("/")
        found.page.get_by_text("Model training", exact=True).click()
        found.page.get_by_label("Close").filter(visible=True).first.click()
        yield found
        assert found.failed == []


@pytest.fixture(scope="module")
def zenml(servers: Servers, browser: Browser, outcome: dict[str, Any], pictures: Path) -> Iterator[Visit]:
    """ZenML's pages, logged in through the form and the questions that it asks an administrator the first time."""
    server = servers.zenml
    with visit(browser, server.url, pictures) as found:
        page = found.page
        found.go("/")
        page.get_by_label("Username").fill(server.user)
        page.get_by_label("Password").fill(server.password)
        page.get_by_role("button", name="Login").click()
        found.reads("Add your account details")
        page.get_by_label("Name").fill("Ada")
        page.get_by_label("Email").fill("ada@example.org")
        page.get_by_role("button", name="Continue").click()
        page.get_by_text("ML Engineer").click()
        page.get_by_text("My Laptop").click()
        page.get_by_role("button", name="Continue").click()
        page.get_by_text("Skip this step").click()
        page.get_by_text("Go to Dashboard").click()
        found.reads("Hi, Ada")
        yield found
        assert found.failed == []


class TestMLflow:
    def test_the_table_of_runs_leads_to_a_run_with_its_figures_and_where_it_comes_from(
        self, mlflow: Visit, outcome: dict[str, Any], folder: Folder
    ) -> None:
        mlflow.go("/#/experiments")
        mlflow.page.get_by_role("link", name=NAME, exact=True).click()
        run = mlflow.page.get_by_role("link", name=f"{NAME}-").first
        run.wait_for()
        mlflow.reads("1 matching run", "cifar10", "openmlops")
        mlflow.picture("mlflow-runs")
        run.click()
        found = outcome["evaluation"]
        mlflow.reads(outcome["run_id"], "Finished", "test_accuracy", str(found["accuracy"]), "validation_loss")
        mlflow.reads("openmlops.dataset", outcome["dataset"]["fingerprint"], "openmlops.code", "environment.sha256")
        mlflow.page.get_by_text("Child runs", exact=True).wait_for(state="hidden")
        mlflow.picture("mlflow-run")

    def test_the_curves_of_a_run_are_drawn(self, mlflow: Visit, outcome: dict[str, Any]) -> None:
        mlflow.go("/#/experiments")
        mlflow.page.get_by_role("link", name=NAME, exact=True).click()
        mlflow.page.get_by_role("link", name=f"{NAME}-").first.click()
        mlflow.page.get_by_text("Model metrics").first.click()
        mlflow.page.get_by_placeholder("Search metric charts").fill("^(loss|.*_accuracy|validation_loss)$")
        mlflow.reads("validation_accuracy", "train_accuracy")
        mlflow.page.locator(".js-plotly-plot").nth(4).wait_for()
        mlflow.picture("mlflow-curves")

    def test_the_model_has_a_version_that_is_champion_and_says_how_good_it_is(
        self, mlflow: Visit, outcome: dict[str, Any]
    ) -> None:
        mlflow.go(f"/#/models/{NAME}")
        mlflow.reads("Version 1", "champion", "staging", f"Test accuracy {outcome['evaluation']['accuracy']:.4f}")
        mlflow.picture("mlflow-model")
        mlflow.page.get_by_role("link", name="Version 1").click()
        mlflow.reads("Promote model", "champion", "openmlops.sha256", outcome["model"]["sha256"], "Inputs (1)", "Outputs (3)")
        mlflow.picture("mlflow-version")


class TestZenML:
    def test_the_list_of_runs_leads_to_a_run_whose_steps_are_all_completed(self, zenml: Visit, folder: Folder) -> None:
        zenml.go("/projects/default/runs")
        row = zenml.page.get_by_role("row").filter(has_text="training_pipeline").filter(has_text=NAME)
        row.get_by_role("link", name="training_pipeline-").click()
        zenml.reads(*STEPS, "Run Insights", "DatasetRef", "LedgerEntry")
        insights = " ".join(zenml.page.locator("body").inner_text().split())
        assert f"Total Steps {len(STEPS)} Completed {len(STEPS)}" in insights
        assert "Failed 0" in insights
        zenml.picture("zenml-run")

    def test_the_stack_names_its_components(self, zenml: Visit, folder: Folder) -> None:
        parts = folder.json("stack", "show")["parts"]
        zenml.go("/stacks")
        zenml.page.get_by_text(NAME, exact=True).click()
        zenml.page.get_by_text("Set this stack").click()
        zenml.reads(*(part["name"] for part in parts))
        zenml.picture("zenml-stack")
