"""Defect 12: default passwords, and services exposed to the network.

Passwords other than known defaults are never displayed.
"""

import ast
import re
from collections.abc import Iterator

from openmlops.adoption.compose_files import default, services
from openmlops.adoption.findings import Certainty, Hit, Rule
from openmlops.adoption.plain_texts import Variable, dockerfile_instructions, dotenv_variables, mapped
from openmlops.adoption.project import Project
from openmlops.adoption.python_code import Module, argument, last_name

KNOWN = {
    *(
        "minioadmin",
        "minio",
        "minio123",
        "admin",
        "password",
        "passw0rd",
        "postgres",
        "root",
        "zenml",
        "mlflow",
        "mysql",
        "test",
    ),
    *("changeme", "secret", "example", "123456", "12345678", "guest", "user", "pass", "airflow", "redis", "default", "letmein"),
}
"""default passwords of images and tutorials"""
SECRET = re.compile(r"(passw(or)?d|_pwd|secret(_?key)?|secret_access_key|access_key|minio_root_user|access_key_id)$", re.I)
NAMES_ONE = re.compile(r"(_file|_path|_url|_name|_id)$", re.I)
USER = re.compile(r"user$|access_key(_id)?$", re.I)
URL = re.compile(r"\w+://([^\s:/@]+):([^\s/@]+)@(?!host\b|hostname\b|server\b|<)")
DOCUMENTATION_ARGUMENTS = ("help", "description", "examples", "example", "epilog", "metavar")
OPEN = {"MYSQL_ALLOW_EMPTY_PASSWORD", "MARIADB_ALLOW_EMPTY_ROOT_PASSWORD", "ALLOW_EMPTY_PASSWORD", "ALLOW_ANONYMOUS_LOGIN"}
STORES = re.compile(
    r"postgres|mysql|mariadb|mongo|redis|minio|mlflow|zenml|elastic|rabbitmq|kafka|influx|clickhouse|jupyter|airflow", re.I
)


def passwords(project: Project) -> Iterator[Hit]:
    """Default passwords in assignments, arguments and variables."""
    for path, variable, example in _variables(project):
        if says := weak(variable):
            certainty: Certainty = "look" if example else "sure"
            yield Hit(path, variable.line, certainty, says)
    for module in project.modules:
        yield from _in_python(module)


def _variables(project: Project) -> Iterator[tuple[str, Variable, bool]]:
    for path, documents in project.yaml.items():
        example = any(word in path.lower() for word in ("example", "template", "sample", ".github/", ".gitlab-ci"))
        yield from ((path, variable, example) for variable in mapped(documents))
    for text in project.texts:
        if text.name.startswith(".env") or text.suffix == ".env":
            yield from ((text.path, variable, text.is_example) for variable in dotenv_variables(text.content))
    for text in project.named("dockerfile", "containerfile", ".dockerfile"):
        for name, command in dockerfile_instructions(text.lines):
            if name in ("ENV", "ARG"):
                for key, value in re.findall(r"(\w+)[= ]\"?([^\s\"]+)", command.text):
                    yield text.path, Variable(command.line, key, value), False


def weak(variable: Variable) -> str:
    """What is wrong with a variable's value; empty if nothing."""
    value = default(variable.value).strip()
    if variable.name in OPEN and value.lower() in ("yes", "true", "1"):
        return f"{variable.name} disables authentication"
    if variable.name == "POSTGRES_HOST_AUTH_METHOD" and value == "trust":
        return "POSTGRES_HOST_AUTH_METHOD=trust disables authentication"
    if match := URL.search(value):
        return f"the URL in {variable.name} has the default password '{match[2]}'" if is_known(match[2], match[1]) else ""
    if SECRET.search(variable.name) and not NAMES_ONE.search(variable.name) and value.lower() in KNOWN:
        return (
            "" if USER.search(variable.name) and value.lower() != "minioadmin" else f"{variable.name} is the default '{value}'"
        )
    return ""


def is_known(password: str, user: str) -> bool:
    """Whether a password is a known default or equals the user name; placeholders of variables do not count."""
    if re.search(r"[${}<>%*]", password) or password.isupper():  # a variable or a placeholder
        return False
    return password.lower() in KNOWN or password == user


def _in_python(module: Module) -> Iterator[Hit]:
    for name, value, node in _settings(module):
        text = module.constant(value)
        if isinstance(text, str) and (says := weak(Variable(0, name, text))):
            names_itself = text.lower() in name.lower()  # PASSWORD = "password": perhaps the name of a field
            yield Hit(module.path, module.line(node), "look" if names_itself else "sure", says)
    for text in module.every(ast.Constant):
        match = URL.search(text.value) if isinstance(text.value, str) else None
        told = isinstance(parent := module.parent(text), ast.Expr) or (
            isinstance(parent, ast.keyword) and parent.arg in DOCUMENTATION_ARGUMENTS
        )
        if match and is_known(match[2], match[1]) and not told:
            yield Hit(module.path, module.line(text), "sure", f"a URL has the default password '{match[2]}'")


def _settings(module: Module) -> Iterator[tuple[str, ast.expr, ast.AST]]:
    """(name, value, place): defaults of variables, arguments by name, assigned names."""
    for call in module.calls("getenv", "get", "setdefault"):
        name, value = module.constant(argument(call, 0)), argument(call, 1, "default")
        if isinstance(name, str) and value is not None and re.search(r"environ|getenv|config|settings", ast.unparse(call.func)):
            yield name, value, call
    for given in module.every(ast.keyword):
        if given.arg and given.arg not in DOCUMENTATION_ARGUMENTS and isinstance(given.value, ast.Constant):
            yield given.arg, given.value, given.value
    for node in module.every(ast.Assign, ast.AnnAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(node.value, ast.Constant):
                index = module.constant(target.slice) if isinstance(target, ast.Subscript) else last_name(target)
                yield str(index), node.value, node


def ports(project: Project) -> Iterator[Hit]:
    """Compose ports published on all interfaces."""
    for service in services(project):
        store = bool(STORES.search(f"{service.image} {service.name}"))
        for port in service.ports:
            if port.is_open:
                yield Hit(
                    service.path,
                    port.line,
                    "sure" if store else "look",
                    f"port {port.port} of '{service.name}' is published on all interfaces",
                )


DEFAULT = Rule(
    name="default-password",
    defect=12,
    seen="minioadmin, postgres/postgres, admin/admin and similar defaults in YAML, dotenv files, images, URLs and code",
    means="Anyone who can reach the service can read and replace data and models",
    remedy="Generate a password per installation, keep it out of the repository, and refuse to start without it",
    subject="no file that sets environment variables",
    applies=lambda project: (
        bool(project.yaml or project.modules) or any(text.name.startswith(".env") for text in project.texts)
    ),
    look=passwords,
)
PORTS = Rule(
    name="open-port",
    defect=12,
    seen="a compose port with no host address, or 0.0.0.0; sure for databases, object stores, MLflow, ZenML",
    means="Every machine that can reach the host can reach the service: Docker bypasses the host's firewall",
    remedy="Publish it as 127.0.0.1:PORT:PORT, or not at all: services of one compose file need no published ports",
    subject="no compose file",
    applies=lambda project: any(True for _ in services(project)),
    look=ports,
)
