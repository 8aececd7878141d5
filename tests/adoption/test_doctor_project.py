"""`openmlops doctor PROJECT` on whole projects: a plausible one, rubbish, a large one, a notebook, and this repository."""

import json
import os
from pathlib import Path

import pytest
from mlflow.utils.validation import validate_param_and_metric_name
from reading import marked, read, said, written
from small_project import FILES
from typer.testing import CliRunner

from openmlops.adoption import project
from openmlops.adoption.examination import examine_project
from openmlops.adoption.logged_metrics import ALLOWED
from openmlops.cli import app
from openmlops.errors import DataError

ROOT = Path(__file__).parents[2]


def test_a_plausible_project_is_told_each_of_its_defects_with_file_and_line(tmp_path: Path) -> None:
    report = read(tmp_path, FILES)
    assert said(report) == marked(FILES)
    assert len({one.defect for one in report.findings}) >= 8
    assert report.files == len(FILES)
    assert report.unreadable == ()
    assert [missing.rule for missing in report.not_looked_for] == ["chosen-on-test"]


def test_each_finding_says_what_it_means_and_what_to_do(tmp_path: Path) -> None:
    for finding in read(tmp_path, FILES).findings:
        assert len(finding.says) > 10
        for sentence in (finding.means, finding.remedy):
            assert sentence[0].isupper()
            assert not sentence.endswith(".")


def test_nothing_of_the_project_is_run(tmp_path: Path) -> None:
    trap = "open('ran', 'w').write('x')\nraise SystemExit(7)\n"
    names = ("conftest.py", "setup.py", "__init__.py", "sitecustomize.py", "src/yaml.py", "steps.py")
    before = written(tmp_path, dict.fromkeys(names, trap))
    done = CliRunner().invoke(app, ["doctor", str(before)])
    assert done.exit_code == 0
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted({*(Path(name).name for name in names), "src"})


def test_the_exit_code_is_1_for_a_defect_and_0_for_what_only_a_person_can_judge(tmp_path: Path) -> None:
    defect = written(tmp_path / "defect", {"a.sh": "set -e\ndvc pull || true\n"})
    look = written(tmp_path / "look", {"a.sh": "dvc pull\npython train.py\n"})
    runner = CliRunner()
    assert runner.invoke(app, ["doctor", str(defect)]).exit_code == 1
    shown = runner.invoke(app, ["doctor", str(look)])
    assert shown.exit_code == 0
    assert "a.sh:1: " in shown.output
    assert "1 place to review" in " ".join(shown.output.split())


def test_json_is_the_report(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["doctor", str(written(tmp_path, FILES)), "--json"])
    found = json.loads(shown.stdout)
    assert shown.exit_code == 1
    assert found == examine_project(tmp_path).model_dump(mode="json")


def test_a_comment_silences_its_rule_on_its_line_and_is_counted(tmp_path: Path) -> None:
    line = 'os.getenv("MINIO_SECRET_KEY", "minioadmin")'
    silent = f"import os\na = {line}  # openmlops: ignore[default-password]\nb = {line}  # openmlops: ignore[open-port]\n"
    report = read(tmp_path, {"a.py": silent})
    assert (report.silenced, [one.line for one in report.findings]) == (1, [3])


def test_what_was_not_there_to_look_at_is_named_so_that_silence_is_no_all_clear(tmp_path: Path) -> None:
    report = read(tmp_path, {"hello.py": "print('hello')\n"})
    assert report.findings == ()
    missing = {one.rule: one.why for one in report.not_looked_for}
    assert missing["one-batch"] == "no drift check that compares two samples"
    assert len(missing) == 14
    assert "made-up-metric" in missing


def test_rubbish_is_survived_and_counted(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "null.py").write_bytes(b"\x00\x01")
    (tmp_path / "latin.yml").write_bytes("naïve: é".encode("latin-1"))
    (tmp_path / "deep.py").write_text("a = " + "(" * 5000 + ")" * 5000)
    (tmp_path / "minus.py").write_text("a = " + "-" * 100_000 + "1")
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "broken.yaml").write_text("a: [1, {b: }\n- c")
    (tmp_path / "broken.ipynb").write_text('{"cells": 3}')
    (tmp_path / "odd.py").write_text("# -*- coding: klingon -*-\n")
    (tmp_path / "huge.md").write_text("x" * 1_100_000)
    (tmp_path / "bomb.yaml").write_text(
        "a: &a [x, x]\n"
        + "".join(f"{c}: &{c} [*{p}, *{p}, *{p}]\n" for p, c in zip("abcdefghijklmnop", "bcdefghijklmnopq", strict=True))
    )
    (tmp_path / "bom.sh").write_bytes(b"\xef\xbb\xbfset -e\r\ndvc pull || true\r\n")
    (tmp_path / ".venv" / "lib").mkdir(parents=True)
    (tmp_path / ".venv" / "lib" / "a.sh").write_text("dvc pull || true\n")
    report = examine_project(tmp_path)
    broken = {"null.py", "latin.yml", "deep.py", "minus.py", "broken.py", "broken.yaml", "broken.ipynb", "odd.py"}
    assert set(report.unreadable) == broken
    assert report.left_out == ("huge.md",)
    assert said(report) == [("bom.sh", 2, "ignored-pull", "sure")]
    shown = " ".join(CliRunner().invoke(app, ["doctor", str(tmp_path)]).output.split())
    assert "8 files could not be read" in shown


def test_a_folder_of_data_is_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    for number in range(2_001):
        (tmp_path / "labels" / f"{number}.txt").touch()
    report = read(tmp_path, {"a.sh": "dvc pull || true\n"})
    assert (report.left_out, report.files, len(report.findings)) == (("labels/",), 1, 1)


def test_a_notebook_is_read_and_its_lines_are_those_of_its_file(tmp_path: Path) -> None:
    cell = ["import mlflow\n", "!dvc pull\n", "%matplotlib inline\n", 'mlflow.log_metric("mAP@0.5", é)']
    notebook = {"nbformat": 4, "cells": [{"cell_type": "markdown", "source": ["dvc"]}, {"cell_type": "code", "source": cell}]}
    text = json.dumps(notebook, indent=1)
    line = {word: next(n for n, row in enumerate(text.split("\n"), 1) if word in row) for word in ("!dvc", "mAP")}
    expected = [("a.ipynb", line["!dvc"], "ignored-pull", "look"), ("a.ipynb", line["mAP"], "refused-metric-name", "sure")]
    assert said(read(tmp_path, {"a.ipynb": text})) == expected


def test_the_projects_own_tests_may_do_on_purpose_what_the_rules_look_for(tmp_path: Path) -> None:
    code = FILES["steps/monitor.py"]
    assert said(read(tmp_path, {"tests/test_monitor.py": code})) == []


def test_each_of_many_files_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"part{number // 10}/{number}_{name}": text for number in range(20) for name, text in _eight().items()}
    written(tmp_path, files)
    parsed, parse = [], project.read_module
    monkeypatch.setattr(project, "read_module", lambda path, content: parsed.append(path) or parse(path, content))
    assert examine_project(tmp_path).files == len(files)
    assert sorted(parsed) == sorted(name for name in files if name.endswith(".py"))


def _eight() -> dict[str, str]:
    flat = {name.replace("/", "_"): text for name, text in FILES.items()}
    return {name: text for name, text in flat.items() if name != "Makefile"}


def test_what_is_no_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        examine_project(tmp_path / "nothing")


def test_metric_names_are_those_that_mlflow_takes() -> None:
    names = [f"a{chr(code)}b" for code in range(32, 127)]
    assert [name for name in names if ALLOWED.fullmatch(name)] == [n for n in names if validate_param_and_metric_name(n)]


def test_this_repository_has_no_sure_finding() -> None:
    report = examine_project(ROOT)
    assert [one for one in report.findings if one.certainty == "sure"] == []
    assert report.silenced == 0
    assert report.unreadable == ()
    assert report.files > 200
