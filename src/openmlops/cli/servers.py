"""`doctor`, `stack`, `upgrade`: the configured services, whether they are available, and the database's schema."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openmlops.cli.options import UseCaseName
from openmlops.cli.show import Json, print_json, print_line, print_table, styled
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say

if TYPE_CHECKING:
    from openmlops.operations.projects.doctor import Finding
    from openmlops.pipelines.zenml_stack import Registered

stack = typer.Typer(help="Manage the ZenML stack: orchestrator, artifact store, experiment tracker.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog="Examples: openmlops doctor --json; openmlops doctor ../their-project")(doctor)
    app.command(epilog="Example: openmlops upgrade")(upgrade)
    app.add_typer(stack, name="stack")


def doctor(
    project: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of any ZenML, MLflow, DVC or Ultralytics project to review. Without it, check the configured services."
        ),
    ] = None,
    server: Annotated[
        str, typer.Option(help="URL of the prediction server to check; not with PROJECT.")
    ] = "http://127.0.0.1:8000",
    use_case: UseCaseName = None,
    json: Json = False,
) -> None:
    """Check that every configured service is available, in a supported version, and accepts the credentials.

    With PROJECT: read its files, running none of them, and name the defects that MLOps projects tend to have, by file and line.
    What only a person can judge is marked 'look'; `# openmlops: ignore[RULE]` on a line silences a rule there. The rules are in
    docs/adoption.md.

    Exit code 0: nothing failed, no defect is sure. 1: a service failed, or a defect is sure.
    """
    if project is not None:
        return _read_project(project, json)
    from openmlops.operations.projects.doctor import examine

    return _print_findings(examine(Workspace.open(), server), json)


def upgrade(json: Json = False) -> None:
    """Upgrade the database's schema to this version of OpenMLOps; on SQLite after a copy of the file.

    Most commands refuse an older schema. `serve`, `train`, `cycle` and `watch` upgrade an SQLite file that only they have open.
    """
    from openmlops.adapters.schema_upgrade import upgrade as run

    found = run(Workspace.open().settings.database)
    if json:
        return print_json(found)
    if found.before in (None, found.after):
        return say(f"Nothing to do: {found.place} is at schema {found.after}.")
    kept = f" A copy of before is {found.copy_of_before}." if found.copy_of_before else ""
    say(f"Upgraded {found.place} from schema {found.before} to {found.after}.{kept}")
    if found.users:
        say(f"In use by {', '.join(found.users)}: these go on. Restart them to use the new schema.")
    return None


def _read_project(project: Path, json: bool) -> None:
    from openmlops.adoption.examination import examine_project
    from openmlops.cli.adoption import print_report

    print_report(examine_project(project), json)


@stack.command(name="register", epilog="Example: openmlops stack register")
def register_stack(json: Json = False) -> None:
    """Create or update the stack from the settings and activate it. Safe to repeat."""
    workspace = _with_zenml()
    from openmlops.pipelines.zenml_stack import register

    _print_stack(register(workspace), json)


@stack.command(name="show", epilog="Example: openmlops stack show --json")
def show_stack(json: Json = False) -> None:
    """Show the active stack."""
    _with_zenml()
    from openmlops.pipelines.zenml_stack import show

    _print_stack(show(), json)


@stack.command(name="check", epilog="Example: openmlops stack check")
def check_stack(json: Json = False) -> None:
    """Compare the active stack with the settings, and test-write to its artifact store."""
    workspace = _with_zenml()
    from openmlops.pipelines.zenml_stack import check

    _print_findings(check(workspace), json)


@stack.command(name="grant", epilog="Example: openmlops stack grant openmlops_serve")
def grant_role(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="A role of the database server, which exists already.")],
    json: Json = False,
) -> None:
    """Let a role of the database do what the prediction server does, and no more: append predictions, labels and requests,
    and read. Give it with the role that owns the database (on MySQL as an administrator), again after each upgrade."""
    from openmlops.adapters.server_role import grant

    statements = grant(Workspace.open().engine, role)
    if json:
        return print_json({"role": role, "statements": list(statements)})
    return print_table(f"Rights of {role}", ("statement",), [(statement.replace("%%", "%"),) for statement in statements])


def _with_zenml() -> Workspace:
    from openmlops.adapters import zenml_store
    from openmlops.settings import embed_zenml, zenml_folder

    workspace = Workspace.open()
    embed_zenml(workspace.home)
    zenml_store.what_is_gone(zenml_folder())  # raises if the store cannot be read
    return workspace


def _print_stack(found: "Registered", json: bool) -> None:
    if json:
        return print_json(found)
    rows = [(part.kind, part.name, part.flavor, part.where, part.did) for part in found.parts]
    state = "active" if found.active else "not active"
    return print_table(
        f"Stack {found.name} ({state}, {found.did})", ("component", "name", "flavor", "location", "status"), rows
    )


def _print_findings(findings: "Iterable[Finding]", json: bool) -> None:
    """Print one line per finding as it arrives; exit code 1 if one failed."""
    from openmlops.operations.projects.doctor import Examination

    found = []
    for finding in findings:
        found.append(finding)
        if not json:
            remedy = f". {finding.remedy}." if finding.remedy else ""
            print_line(styled(f"{finding.status:<8}"), f"{finding.service:<20}{finding.says}{remedy}")
    examination = Examination(findings=tuple(found))
    if json:
        print_json(examination)
    if not examination.healthy:
        raise typer.Exit(1)
