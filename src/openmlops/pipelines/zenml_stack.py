"""The ZenML stack: orchestrator, artifact store, MLflow as experiment tracker, and their secrets.

Registered from the settings alone, non-interactively and idempotently: existing components are compared, and only differences
are applied. Not here: the location of ZenML's state (`stack`), and the services themselves.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from zenml.client import Client
from zenml.config.global_config import GlobalConfiguration
from zenml.enums import StackComponentType
from zenml.exceptions import EntityExistsError, ZenMLBaseException
from zenml.models import ComponentResponse, StackResponse

from openmlops.core.types import Value
from openmlops.errors import ServiceUnavailable
from openmlops.operations.projects.doctor import Finding
from openmlops.operations.workspace import Workspace

KINDS = {
    "orchestrator": StackComponentType.ORCHESTRATOR,
    "artifact_store": StackComponentType.ARTIFACT_STORE,
    "experiment_tracker": StackComponentType.EXPERIMENT_TRACKER,
}

LOST_RACE = "IntegrityError"
"""in the error of a ZenML server when a concurrent client created the same object first: it exists then"""
MAX_RACES = 6
"""one per object of a stack: after a lost race, that object exists"""

Change = Literal["made", "changed", "unchanged"]


@dataclass(frozen=True)
class ComponentSpec:
    """One component as defined by the settings."""

    kind: str
    name: str
    flavor: str
    configuration: Mapping[str, Any] = field(default_factory=dict)


class StackComponent(Value):
    """One component of a stack. Its configuration references secrets and never contains one."""

    kind: str
    name: str
    flavor: str
    where: str
    did: Change = "unchanged"


class Registered(Value):
    """A registered stack, and what was changed."""

    name: str
    id: str
    active: bool
    parts: tuple[StackComponent, ...]
    did: Change = "unchanged"


def secrets_from_settings(workspace: Workspace) -> dict[str, dict[str, str]]:
    """Secret name -> key -> value: the credentials of the object store and of MLflow, if any."""
    s = workspace.settings
    secrets = {}
    if s.minio_endpoint_url:
        keys = (s.minio_access_key.get_secret_value(), s.minio_secret_key.get_secret_value())
        secrets[_objects(workspace)] = dict(zip(("aws_access_key_id", "aws_secret_access_key"), keys, strict=True))
    if s.mlflow_tracking_username:
        secrets[_runs(workspace)] = {
            "username": s.mlflow_tracking_username,
            "password": s.mlflow_tracking_password.get_secret_value(),
        }
    return secrets


def component_specs(workspace: Workspace) -> tuple[ComponentSpec, ...]:
    """The components that the settings define; local folders and files without an object store or an MLflow server."""
    s, name = workspace.settings, workspace.settings.zenml_stack_name
    objects = ComponentSpec("artifact_store", f"{name}-files", "local", {"path": str(workspace.home / "zenml-artifacts")})
    if s.minio_endpoint_url:
        client = {"endpoint_url": s.minio_endpoint_url, "region_name": "us-east-1"}
        config = {"path": f"s3://{s.minio_bucket}/zenml", "authentication_secret": _objects(workspace), "client_kwargs": client}
        objects = ComponentSpec("artifact_store", f"{name}-objects", "s3", config)
    tracker = {"tracking_uri": s.tracking_uri}
    if s.mlflow_tracking_username:
        tracker |= {f"tracking_{key}": f"{{{{{_runs(workspace)}.{key}}}}}" for key in ("username", "password")}
    return (
        ComponentSpec("orchestrator", f"{name}-local", "local"),
        objects,
        ComponentSpec("experiment_tracker", f"{name}-mlflow", "mlflow", tracker),
    )


def register(workspace: Workspace) -> Registered:
    """Create or update ZenML's stack to match the settings, and activate it. Raises ServiceUnavailable."""
    with _service_errors():
        for _ in range(MAX_RACES):
            try:
                return _register(workspace)
            except RuntimeError as error:
                if LOST_RACE not in str(error):
                    raise
        return _register(workspace)


def _register(workspace: Workspace) -> Registered:
    client = Client()
    for name, values in secrets_from_settings(workspace).items():
        _ensure_secret(client, name, values)
    workspace.object_store.ready()
    parts = [_ensure_component(client, wanted) for wanted in component_specs(workspace)]
    components: Mapping[Any, Any] = {KINDS[found.kind]: found.name for found in parts}
    stack, did = _ensure_stack(client, workspace.settings.zenml_stack_name, components)
    client.activate_stack(stack.id)
    return _registered(client, stack, did, {part.name: part.did for part in parts})


def show() -> Registered:
    """The active stack. Raises ServiceUnavailable."""
    with _service_errors():
        client = Client()
        return _registered(client, client.active_stack_model, "unchanged", {})


def check(workspace: Workspace) -> Iterator[Finding]:
    """Check that the active stack is ours and matches the settings, and that its artifact store can write and read a file."""
    with _service_errors():
        client, name = Client(), workspace.settings.zenml_stack_name
        active = client.active_stack_model
        if active.name != name:
            problem = f"the active stack is '{active.name}', not '{name}'"
            yield Finding(service="stack", status="failed", says=problem, remedy="Run: openmlops stack register")
            return
        yield Finding(service="stack", status="ok", says=f"'{active.name}' is active")
        for wanted in component_specs(workspace):
            yield _compared(active, wanted)
        yield _round_trip(client)


def _compared(stack: StackResponse, wanted: ComponentSpec) -> Finding:
    service = wanted.kind.replace("_", " ")
    found = _component(stack, wanted.kind)
    if found is None or found.flavor_name != wanted.flavor or _differs(found, wanted):
        problem = f"'{found.name}' ({found.flavor_name})" if found else "none"
        says = f"{problem} differs from the settings"
        return Finding(service=service, status="failed", says=says, remedy="Run: openmlops stack register")
    return Finding(service=service, status="ok", says=f"'{found.name}' ({found.flavor_name}) {_location(found)}".rstrip())


def _round_trip(client: Client) -> Finding:
    store = client.active_stack.artifact_store
    probe = f"{store.path}/doctor-{uuid4().hex}"
    try:
        with store.open(probe, "w") as file:
            file.write(probe)
        with store.open(probe, "r") as file:
            same = file.read() == probe
        store.remove(probe)
    except Exception as error:  # noqa: BLE001 - whatever the store's library raises is the finding
        problem = f"{store.path} rejected a test file ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        return Finding(
            service="artifacts", status="failed", says=problem, remedy="Check MINIO_*, then openmlops stack register"
        )
    if not same:
        return Finding(
            service="artifacts", status="failed", says=f"{store.path} returned a different file", remedy="Replace it"
        )
    return Finding(service="artifacts", status="ok", says=f"{store.path} stored and returned a test file")


def _objects(workspace: Workspace) -> str:
    return f"{workspace.settings.zenml_stack_name}-object-store"


def _runs(workspace: Workspace) -> str:
    return f"{workspace.settings.zenml_stack_name}-tracking"


def _ensure_secret(client: Client, name: str, values: Mapping[str, str]) -> None:
    """Create or update a secret; safe against concurrent creation."""
    try:
        client.create_secret(name, dict(values))
    except EntityExistsError:
        found = client.get_secret(name, allow_partial_name_match=False, allow_partial_id_match=False)
        if found.secret_values != dict(values):
            client.update_secret(found.id, add_or_update_values=dict(values))


def _ensure_component(client: Client, wanted: ComponentSpec) -> StackComponent:
    kind = KINDS[wanted.kind]
    did: Change = "made"
    try:
        found = client.create_stack_component(wanted.name, wanted.flavor, kind, dict(wanted.configuration))
    except EntityExistsError:
        found, did = client.get_stack_component(kind, wanted.name, allow_name_prefix_match=False), "unchanged"
        if _differs(found, wanted):
            found = client.update_stack_component(found.id, kind, configuration=dict(wanted.configuration))
            did = "changed"
    return StackComponent(kind=wanted.kind, name=found.name, flavor=found.flavor_name, where=_location(found), did=did)


def _differs(found: ComponentResponse, wanted: ComponentSpec) -> bool:
    return any(found.configuration.get(name) != value for name, value in wanted.configuration.items())


def _ensure_stack(client: Client, name: str, components: Mapping[Any, Any]) -> tuple[StackResponse, Change]:
    try:
        return client.create_stack(name, components), "made"
    except EntityExistsError:
        stack = client.get_stack(name, allow_name_prefix_match=False)
        now = {kind: _component(stack, kind.value) for kind in components}
        if all(found and found.name == components[kind] for kind, found in now.items()):
            return stack, "unchanged"
        return client.update_stack(stack.id, component_updates={k: [v] for k, v in components.items()}), "changed"


def _component(stack: StackResponse, kind: str) -> ComponentResponse | None:
    return next(iter(stack.components.get(KINDS[kind], ())), None)


def _location(component: ComponentResponse) -> str:
    config = component.configuration
    return str(config.get("path") or config.get("tracking_uri") or "")


def _registered(client: Client, stack: StackResponse, did: Change, done: Mapping[str, Change]) -> Registered:
    parts = tuple(
        StackComponent(
            kind=kind.value, name=c.name, flavor=c.flavor_name, where=_location(c), did=done.get(c.name, "unchanged")
        )
        for kind, components in stack.components.items()
        for c in components
    )
    active = client.active_stack_model.id == stack.id
    return Registered(name=stack.name, id=str(stack.id), active=active, parts=parts, did=did)


@contextmanager
def _service_errors() -> Iterator[None]:
    """Convert ZenML's errors into ServiceUnavailable with one line."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError, OSError, NotImplementedError, ZenMLBaseException) as error:
        url = GlobalConfiguration().store_configuration.url
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        remedy = "Run `openmlops doctor`, which checks each service"
        raise ServiceUnavailable(f"ZenML at {url} failed to handle a request ({cause})", remedy) from error
