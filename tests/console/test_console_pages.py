"""What the page says is what ledger, decisions, log and registry say; what is missing is said to be missing, and why."""

import hashlib
import json
import re
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path

import pytest
from console_world import BAD, BEST, CHAMPION, CONTRAST, EQUAL, FIRST, NAME, RESPONSE_FORMATS, decide, fresh, workspace
from sqlalchemy import insert, text
from starlette.testclient import TestClient

from openmlops.adapters.database import writing
from openmlops.adapters.decisions import Outcome
from openmlops.adapters.evidently_report import HTML
from openmlops.adapters.moved_home import repair
from openmlops.adapters.schema import INFERENCE_HOUR
from openmlops.console import registry_cache, static_files
from openmlops.console.app import create_app
from openmlops.console.decision_status import Situation, waiting_text
from openmlops.console.model_state import read
from openmlops.console.sections import PARTS
from openmlops.core.monitoring.policy import Policy, WorthLabelling
from openmlops.operations.monitoring.monitor import OUTCOME_FILE
from openmlops.operations.projects.doctor import examine
from openmlops.operations.workspace import Workspace

PAGE = f"/console/models/{NAME}"


def words(html: str) -> str:
    """What a person reads."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def part(client: TestClient, name: str) -> str:
    return words(client.get(f"{PAGE}/parts/{name}").text)


def test_the_one_model_is_shown_at_once_and_all_its_parts_are_there(client: TestClient) -> None:
    predicted = client.get("/")
    assert (predicted.url.path, predicted.status_code) == (PAGE, 200)
    assert all(f'id="{name}"' in predicted.text for name in PARTS)


def test_who_reigns_since_when_and_why(client: TestClient, toys: Workspace) -> None:
    reign = read(toys, NAME).promotion
    found = part(client, "now")
    assert f"version {CHAMPION} since {reign.at:%Y-%m-%d %H:%M}" in found
    assert reign.reasons[0] in found
    assert "No drift statistic 21.2, threshold 64.0, 400 predictions" in found
    assert "75.0 % accuracy on 200 production labels (95 %: 70.0 to 80.0)" in found
    assert f"{len(range(0, RESPONSE_FORMATS, 3))} of 500 labels required for retraining" in found


def test_the_ledger_tells_every_verdict_with_its_comparisons(client: TestClient) -> None:
    found = part(client, "ledger")
    order = [f"Version {CHAMPION} promoted", f"Version {FIRST} promoted"]
    rejected, open_ = f"Version {BAD} rejected", f"Version {EQUAL}: inconclusive"
    places = [found.index(each) for each in (open_, rejected, *order)]
    assert places == sorted(places)
    assert f"Version {CHAMPION} is better than version {FIRST} on holdout" in found
    assert "76.0 % 70.0 % +6.0 points" in found


def test_versions_have_their_recorded_scores_with_intervals_and_those_of_the_gate(client: TestClient) -> None:
    found = part(client, "versions")
    assert "accuracy 80.0 % [78.0, 82.0]" in found
    assert f"{BEST} not judged" in found.replace("○ ", "").replace("◌ ", "")
    assert f"60.0 % against version {CHAMPION}, 2,000 images" in found


def test_where_mlflow_does_not_answer_the_page_says_so_and_shows_what_the_gate_measured(toys: Workspace) -> None:
    away = workspace(toys.home, mlflow_tracking_uri="http://127.0.0.1:9", database_url=toys.settings.database)
    with TestClient(create_app(away), base_url="http://127.0.0.1") as opened:
        registered_late = opened.get(f"{PAGE}/parts/versions")
    found = words(registered_late.text)
    assert "The metrics from MLflow are missing; the gate's scores are shown." in found
    assert f"60.0 % against version {CHAMPION}, 2,000 images" in found


def test_what_was_deleted_from_mlflow_is_told_and_not_offered(client: TestClient, toys: Workspace, tmp_path: Path) -> None:
    """In a copy of MLflow's tables: the champion and a run are gone."""
    with sqlite3.connect(toys.home / "mlflow.db") as old, sqlite3.connect(tmp_path / "mlflow.db") as new:
        old.backup(new)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    away = workspace(toys.home, mlflow_tracking_uri=uri, database_url=toys.settings.database)
    away.registry._client.delete_model_version(NAME, str(CHAMPION))
    away.registry._client.delete_run(away.registry.version(NAME, BAD).run_id)
    with TestClient(create_app(away), base_url="http://127.0.0.1") as opened:
        found, now = part(opened, "versions"), part(opened, "now")
        page = opened.get(f"{PAGE}/parts/versions").text
    assert "champion deleted from MLflow, its files are kept here" in found
    assert "rejected its run was deleted from MLflow" in found
    assert "accuracy 80.0 % [78.0, 82.0]" in found
    assert "Deleted from MLflow, its files are kept here." in now
    assert f'id="promote-{CHAMPION}"' not in page


def test_what_is_gone_elsewhere_is_told_as_the_doctor_tells_it(toys: Workspace, tmp_path: Path) -> None:
    """Of a copy: the DVC remote, and then the active stack of ZenML."""
    home = tmp_path / "home"
    shutil.copytree(toys.home, home)
    repair(home, None, ())
    found = workspace(home)
    with TestClient(create_app(found), base_url="http://127.0.0.1") as opened:
        assert "is gone from" not in part(opened, "now")
    shutil.rmtree(home / "dvc-remote")
    (home / "zenml").mkdir()
    with sqlite3.connect(home / "zenml" / "zenml.db") as store:
        store.execute("CREATE TABLE stack (id CHAR(32))")
        store.execute("INSERT INTO stack VALUES (?)", ("2" * 32,))
    (home / "zenml" / "config.yaml").write_text(f"active_stack_id: x\nstore: {{database: {home}/zenml/zenml.db}}\n")
    with TestClient(create_app(found), base_url="http://127.0.0.1") as opened:
        told = part(opened, "now")
    said = [finding for finding in examine(found, "http://127.0.0.1:9") if finding.service in ("data", "zenml")]
    assert [finding.status for finding in said] == ["warning", "warning"]
    assert all(f"{finding.says}. {finding.remedy}." in told for finding in said)


def test_charts_have_their_points_in_a_table_too(client: TestClient) -> None:
    html = client.get(f"{PAGE}/parts/drift").text
    drawn = json.loads(unescape(re.search(r'data-chart="([^"]*)"', html)[1]))
    assert [trace["name"] for trace in drawn["traces"]] == ["statistic", "threshold"]
    assert drawn["traces"][0]["y"][0] == 21.25
    assert f"21.2 64.0 no drift none {CONTRAST}" not in words(html)
    assert "2 400 21.2 64.0 no drift none" in words(html)


def test_days_whose_predictions_are_totals_now_are_shown_apart(toys: Workspace, tmp_path: Path) -> None:
    with sqlite3.connect(toys.settings.database.removeprefix("sqlite:///")) as old, sqlite3.connect(tmp_path / "o.db") as new:
        old.backup(new)
    found = workspace(toys.home, database_url=f"sqlite:///{tmp_path}/o.db")
    monday = datetime(2026, 6, 1, 10, tzinfo=UTC)
    for at, n in ((monday, 60), (monday + timedelta(hours=3), 84), (monday + timedelta(days=1), 720)):
        totals = {"model": NAME, "version": FIRST, "hour": at, "n": n, "labelled": 0, "latency": json.dumps({"3": n})}
        with writing(found.engine) as connection:
            connection.execute(insert(INFERENCE_HOUR), totals)
    with TestClient(create_app(toys), base_url="http://localhost") as opened:
        assert part(opened, "earlier") == ""
    with TestClient(create_app(found), base_url="http://localhost") as opened:
        said = part(opened, "earlier")
    assert "Earlier traffic" in said
    assert "2026-06-02 00:00 720 0.5 2026-06-01 00:00 144 0.1" in said
    assert "2026-06-02 00:00 2.2 2.2" in said


def test_nothing_is_invented_where_nothing_is_there(tmp_path: Path) -> None:
    with TestClient(create_app(fresh(tmp_path)), base_url="http://localhost") as opened:
        found = words(opened.get("/").text)
    for said in (
        "No version was promoted yet",
        "No window of any version was evaluated",
        "No predictions yet",
        "Errors are counted by the server",
        "No decisions yet",
        "The ledger of toy is empty",
        "No versions yet",
        "0 of 500 labels",
    ):
        assert said in found
    assert "%" not in found.split("Ledger:")[0]


def test_hours_later_the_page_says_how_old_everything_is(client: TestClient, toys: Workspace) -> None:
    from openmlops.console.formatting import ago

    now = datetime.now(UTC)
    lengths = {0: "just now", 12: "12 s ago", 240: "4 min ago", 7300: "2 h ago", 300_000: "3 d ago"}
    assert {seconds: ago(now - timedelta(seconds=seconds), now) for seconds in lengths} == lengths


@pytest.mark.parametrize(
    ("action", "new", "said"),
    [
        ("collect_labels", 120, "for labels: 120 of 500 have arrived; 3 images are requested for labelling"),
        ("collect_labels", 500, "for the next cycle: 500 new labels have arrived"),
        ("retrain", 500, "for approval of the retraining: run a cycle in mode auto"),
        ("not_measurable", 0, "for more predictions in production"),
        ("nothing", 0, "for the end of the cooldown, at the latest 2026-11-01 18:00 UTC"),
    ],
)
def test_a_decision_says_what_it_waits_for(toys: Workspace, action: str, new: int, said: str) -> None:
    noon = datetime(2026, 11, 1, 12, tzinfo=UTC)
    record = toys.decisions.list(NAME)[0].model_copy(
        update={
            "action": action,
            "at": noon,
            "labels": WorthLabelling(uncertain=("a", "b"), random=("c",)),
            "reasons": ("the last retrain was 0.0 hours ago; the cooldown is 6 hours",),
        }
    )
    assert waiting_text(record, Situation(new, Policy(), noon + timedelta(hours=1)), record.version).startswith(said)


def test_what_came_of_a_decision_stands_with_it(client: TestClient, toys: Workspace) -> None:
    record = decide(toys, "no_drift")
    toys.decisions.outcome(record.id, Outcome(at=record.at, kind="reject", version=7, reasons=("it is worse",)))
    assert "Outcome: retrained; the gate rejected version 7" in part(client, "decisions")


def test_a_broken_ledger_is_told_and_not_shown(toys: Workspace, tmp_path: Path) -> None:
    shutil.copy(toys.home / "mlflow.db", tmp_path)
    copy = workspace(tmp_path)
    entry = read(toys, NAME).entries[0]
    copy.ledger.append(NAME, 0, "promote", 1, "a", ("b",), "d" * 64, entry.model_sha256, None, entry.at)
    with copy.engine.begin() as connection:
        connection.execute(text("UPDATE ledger SET actor = 'nobody'"))
    with TestClient(create_app(copy), base_url="http://127.0.0.1") as opened:
        predicted = opened.get(PAGE)
    assert predicted.status_code == 500
    assert "The ledger of toy is broken: row 1 does not match its hash" in words(predicted.text)


def test_what_others_wrote_is_text_and_never_markup(client: TestClient, toys: Workspace) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    record = decide(toys, "no_drift").model_copy(update={"id": "hostile", "reasons": (hostile,), "by": "<script>"})
    toys.decisions.append(record)
    for path in (PAGE, f"{PAGE}/parts/decisions", f"/console/models/{hostile}"):
        html = client.get(path).text
        assert "<img src=x" not in html
        assert "<script>" not in html


@pytest.mark.parametrize("path", ["no-such", f"{NAME}/parts/secrets", f"{NAME}/decisions/..%2f/report"])
def test_what_is_not_there_is_a_page_that_says_so(client: TestClient, path: str) -> None:
    predicted = client.get(f"/console/models/{path}")
    assert predicted.status_code == 404
    assert "Traceback" not in predicted.text


def test_the_report_of_the_last_window_is_shown_in_a_sandbox_and_nothing_else_of_the_folder(
    client: TestClient, toys: Workspace
) -> None:
    (toys.monitoring / "abc").mkdir(parents=True, exist_ok=True)
    (toys.monitoring / "abc" / HTML).write_text("<h1>Drift</h1>")
    (toys.monitoring / "abc" / OUTCOME_FILE).write_text(json.dumps({"decision": {"id": "abc"}, "model": {"name": NAME}}))
    predicted = client.get(f"{PAGE}/decisions/abc/report")
    assert (predicted.status_code, predicted.text) == (200, "<h1>Drift</h1>")
    policy = predicted.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'")
    assert "allow-same-origin" not in policy
    assert client.get(f"{PAGE}/decisions/other/report").status_code == 404


def test_no_answer_lets_a_browser_reach_another_host(client: TestClient) -> None:
    predicted = client.get(PAGE)
    policy = predicted.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; connect-src 'self'")
    assert "http:" not in policy
    assert "https:" not in policy
    assert not re.search(r'(src|href|action)="(https?:)?//', predicted.text)


def test_of_many_models_those_in_trouble_come_first(tmp_path: Path) -> None:
    found = fresh(tmp_path)
    for name in (NAME, "a_new_one", "zebra"):
        found.ledger.append(name, 0, "promote", 1, "test", ("first",), "d" * 64, "0" * 64, None, datetime.now(UTC))
    with TestClient(create_app(found), base_url="http://127.0.0.1") as opened:
        decide(found, "no_drift")
        calm = opened.get("/").text
        decide(found, "drift")
        alarmed = opened.get("/").text
    names = [re.findall(r'href="/console/models/(\w+)"', page) for page in (calm, alarmed)]
    assert names == [["a_new_one", "zebra", NAME], [NAME, "a_new_one", "zebra"]]
    assert "accuracy 41.0 % on production labels" in words(alarmed)
    assert "label images" in words(alarmed)


def test_the_vendored_scripts_are_those_that_are_named() -> None:
    folder = static_files.FOLDER / "vendor"
    table = re.findall(r"\| `([\w.-]+)` \|[^|]+\|[^|]+\| `([0-9a-f]{64})` \|", (folder / "README.md").read_text())
    assert {name for name, _ in table} == {path.name for path in folder.glob("*.js")}
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name, _ in table} == dict(table)


def test_a_file_is_sent_once(client: TestClient) -> None:
    path = "/console/static/vendor/htmx.min.js"
    first = client.get(path)
    again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")


def test_a_server_s_pages_are_named_without_the_password_in_its_address() -> None:
    assert registry_cache.public("https://user:secret@mlflow.example:5000/base/") == "https://mlflow.example:5000/base"
    assert registry_cache.public("sqlite:////home/mlflow.db") == ""
