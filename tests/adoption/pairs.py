"""Small projects with one defect each, and honest twins that do nearly the same. `<- RULE` marks what must be said of a line.

A mark with `?` is a place for a person to look at. Twins have no marks: nothing may be said of them.
"""

PAIRS: list[tuple[str, str, str, str]] = []
"""(what it is, file, with the defect, its honest twin)"""


def pair(what: str, path: str, defect: str, honest: str) -> None:
    PAIRS.append((what, path, defect, honest))


# 1. One batch

pair(
    "slices of a batch",
    "monitor.py",
    """
from evidently import Report
def watch(loader):
    images, labels = next(iter(loader))
    features = extract(images)
    report = Report([DataDriftPreset()])
    report.run(reference_data=frame(images[:64]), current_data=frame(images[64:]))  # <- one-batch
""",
    """
from evidently import Report
def watch(loader, reference):
    images, labels = next(iter(loader))
    report = Report([DataDriftPreset()])
    report.run(reference_data=frame(reference[:64]), current_data=frame(images[:64]))
""",
)
pair(
    "a random split",
    "monitor.py",
    """
from sklearn.model_selection import train_test_split
def watch(features):
    reference, current = train_test_split(features, test_size=0.5)
    return detect_drift(reference, current)  # <- one-batch
""",
    """
from sklearn.model_selection import train_test_split
def watch(features, live):
    reference, rest = train_test_split(features, test_size=0.5)
    return detect_drift(reference, live)
""",
)
pair(
    "two draws from one loader",
    "monitor.py",
    """
from scipy.stats import ks_2samp
def watch(loader):
    it = iter(loader)
    reference = next(it)
    current = next(it)
    return ks_2samp(brightness(reference), brightness(current))  # <- one-batch
""",
    """
from scipy.stats import ks_2samp
def watch(training_loader, production_loader):
    reference = next(iter(training_loader))
    current = next(iter(production_loader))
    return ks_2samp(brightness(reference), brightness(current))
""",
)
pair(
    "rows of a table by position, and by a date",
    "monitor.py",
    """
import pandas as pd
from evidently.report import Report
df = pd.read_csv("features.csv")
report = Report(metrics=[])
report.run(reference_data=df.iloc[:500], current_data=df.iloc[500:])  # <- one-batch?
""",
    """
import pandas as pd
from evidently.report import Report
df = pd.read_csv("log.csv")
report = Report(metrics=[])
report.run(reference_data=df[df.day < "2026-01-01"], current_data=df[df.day >= "2026-01-01"])
""",
)
pair(
    "one table twice, and two tables read by one function",
    "monitor.py",
    "def watch(df):\n    return compare(reference=df, current=df)  # <- one-batch?\n",
    "def watch(path):\n    return compare(reference=read(path, 'reference'), current=read(path, 'current'))\n",
)

pair(
    "a random split for a report on quality, and none at all",
    "quality.py",
    """
from evidently import Report
from sklearn.model_selection import train_test_split
train, test = train_test_split(data)
Report([ClassificationPreset()]).run(reference_data=train, current_data=test)  # <- one-batch?
""",
    """
from evidently import Report
Report([DataDriftPreset()]).run(reference_data=None, current_data=None)
""",
)

pair(
    "one batch under two names, and two batches from one function",
    "monitor.py",
    """
def watch():
    batch = receive()
    reference = batch
    current = batch.copy()
    return detect_drift(reference, current)  # <- one-batch
""",
    """
def watch():
    reference = receive()
    current = receive()
    return detect_drift(features(reference), features(current))
""",
)

# 2. Forced verdicts

pair(
    "a switch that sets the verdict",
    "monitor.py",
    """
import os
SIMULATE_DRIFT = os.getenv("SIMULATE_DRIFT") == "1"
def detect(reference, current):
    drift_detected = psi(reference, current) > 0.2
    if SIMULATE_DRIFT:
        drift_detected = True  # <- forced-verdict
    return drift_detected
""",
    """
import os
SIMULATE_DRIFT = os.getenv("SIMULATE_DRIFT") == "1"
def detect(reference, images):
    if SIMULATE_DRIFT:
        images = brighten(images)
    drift_detected = psi(reference, features(images)) > 0.2
    return drift_detected
""",
)
pair(
    "a switch or-ed into the verdict, and one or-ed into the retraining",
    "monitor.py",
    """
def decide(score, args):
    drift_detected = score > 0.3 or args.force_drift  # <- forced-verdict
    return drift_detected
""",
    """
def decide(score, args):
    drift_detected = score > 0.3 or worst(score)
    retrain = drift_detected or args.force
    return retrain
""",
)
pair(
    "a switch that the answer returns",
    "monitor.py",
    """
def check_drift(reference, current, simulate=False):
    if simulate:
        return {"dataset_drift": True, "share": 1.0}  # <- forced-verdict?
    return run(reference, current)
""",
    """
def check_drift(reference, current, simulate=False):
    if simulate:
        current = corrupt(current)
    return {"dataset_drift": run(reference, current) > 0.5}
""",
)

# 3. Other pixels

pair(
    "no Normalize in monitoring",
    "vision.py",
    """
from torchvision import transforms
train_transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
monitor_transform = transforms.Compose([transforms.ToTensor()])  # <- other-pixels
""",
    """
from torchvision import transforms
train_transform = transforms.Compose([transforms.RandomCrop(32), transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
monitor_transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
""",
)
pair(
    "another Normalize in the server, and one under names",
    "vision.py",
    """
from torchvision import transforms
def train_loader():
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.49, 0.48, 0.44), (0.2, 0.2, 0.2))])
def predict(image):
    chain = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])  # <- other-pixels
    return model(chain(image))
""",
    """
from torchvision import transforms
MEAN, STD = (0.49, 0.48, 0.44), (0.2, 0.2, 0.2)
def train_loader():
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
def predict(image):
    return model(transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])(image))
""",
)
pair(
    "raw pixels in monitoring, and pixels that a function normalises",
    "vision.py",
    """
from torchvision.transforms import Compose, Normalize, ToTensor
def get_train_set():
    return CIFAR10(".", transform=Compose([ToTensor(), Normalize((0.5,), (0.5,))]))
def production_features():
    return CIFAR10(".", transform=ToTensor())  # <- other-pixels
""",
    """
from torchvision.transforms import Compose, Normalize, ToTensor
def get_train_set():
    return CIFAR10(".", transform=Compose([ToTensor(), Normalize((0.5,), (0.5,))]))
def production_features():
    return normalize_batch(CIFAR10(".", transform=ToTensor()))
""",
)

# 4. Cached steps

pair(
    "a cached step that loads the latest model",
    "pipe.py",
    """
from zenml import pipeline, step
@step
def load_model():
    return mlflow.pyfunc.load_model("models:/net/Production")  # <- cached-step
@pipeline
def monitoring():
    watch(load_model())
""",
    """
from zenml import pipeline, step
@step(enable_cache=False)
def load_model():
    return mlflow.pyfunc.load_model("models:/net/Production")
@pipeline
def monitoring():
    watch(load_model())
""",
)
pair(
    "a cached step in a pipeline, and in one that does not cache",
    "pipe.py",
    """
from zenml import pipeline, step
@step
def newest() -> str:
    return registry.get_latest_version("net")  # <- cached-step
@pipeline
def monitoring():
    watch(newest())
""",
    """
from zenml import pipeline, step
@step
def newest() -> str:
    return registry.get_latest_version("net")
@pipeline(enable_cache=False)
def monitoring():
    watch(newest())
""",
)
pair(
    "a window until now, and a stamp",
    "pipe.py",
    """
from datetime import datetime, timedelta
from zenml import step
@step
def window() -> list:
    return rows(since=datetime.now() - timedelta(days=1))  # <- cached-step?
""",
    """
from datetime import datetime
from zenml import step
@step
def name_it(model: str) -> str:
    return f"{model} of {datetime.now()}"
""",
)

# 5. Promotions

pair(
    "what was trained last becomes champion",
    "train.py",
    """
import mlflow
def main():
    with mlflow.start_run():
        model = train_model()
        mlflow.log_metric("accuracy", evaluate(model))
        version = mlflow.register_model("runs:/1/model", "net")
    client.set_registered_model_alias("net", "champion", version.version)  # <- ungated-promotion
""",
    """
import mlflow
def main():
    with mlflow.start_run():
        model = train_model()
        accuracy = evaluate(model)
        mlflow.log_metric("accuracy", accuracy)
        version = mlflow.register_model("runs:/1/model", "net")
    client.set_registered_model_alias("net", "challenger", version.version)
    if accuracy > evaluate(load("models:/net@champion")):
        client.set_registered_model_alias("net", "champion", version.version)
""",
)
pair(
    "a stage that a function of its own sets, called under no condition and under one",
    "train.py",
    """
def promote(version):
    client.transition_model_version_stage("net", version, "Production")  # <- ungated-promotion
def main():
    version = train()
    promote(version)
""",
    """
def promote(version):
    client.transition_model_version_stage("net", version, "Production")
def main():
    version = train()
    if is_better(version, champion()):
        promote(version)
""",
)
pair(
    "a promotion that only a person can judge, and one behind a return",
    "promote.py",
    """
def promote(version, alias):
    client.set_registered_model_alias("net", alias, version)  # <- ungated-promotion?
""",
    """
def promote(version, alias):
    if score(version) <= score("champion"):
        return
    client.set_registered_model_alias("net", alias, version)
""",
)

# 6. Registered without a metric

pair(
    "a version without metrics",
    "train.py",
    """
import mlflow
with mlflow.start_run():
    mlflow.log_params({"lr": 0.1})
    mlflow.pytorch.log_model(model, "model", registered_model_name="net")  # <- unmeasured-version
""",
    """
import mlflow
with mlflow.start_run():
    mlflow.log_params({"lr": 0.1})
    mlflow.log_metrics(evaluate(model))
    mlflow.pytorch.log_model(model, "model", registered_model_name="net")
""",
)
pair(
    "a run of its own for the registration",
    "train.py",
    """
import mlflow
def measure(model):
    mlflow.log_metric("top1", top1(model))
def register(model):
    with mlflow.start_run(run_name="registration"):
        mlflow.register_model("runs:/1/model", "net")  # <- unmeasured-version?
""",
    """
import mlflow
def measure(model):
    mlflow.log_metric("top1", top1(model))
def register(model):
    with mlflow.start_run(run_name="registration"):
        measure(model)
        mlflow.register_model("runs:/1/model", "net")
""",
)

# 7. Exit codes

pair(
    "a trainer whose end nobody reads",
    "run.py",
    """
import subprocess, sys
subprocess.run([sys.executable, "train.py", "--epochs", "3"])  # <- unread-exit-code
""",
    """
import subprocess, sys
subprocess.run([sys.executable, "train.py", "--epochs", "3"], check=True)
""",
)
pair(
    "os.system",
    "run.py",
    'import os\nos.system("yolo train data=person.yaml")  # <- unread-exit-code\nos.system("clear")\n',
    'import os\nif os.system("yolo train data=person.yaml"):\n    raise SystemExit(1)\nos.system("clear")\n',
)
pair(
    "a result of which only the output is read",
    "run.py",
    """
import subprocess
def train():
    done = subprocess.run(["python", "train.py"], capture_output=True)  # <- unread-exit-code?
    print(done.stdout)
""",
    """
import subprocess
def train():
    done = subprocess.run(["python", "train.py"], capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    print(done.stdout)
""",
)
pair(
    "a target of make that cannot fail",
    "Makefile",
    "train:\n\t-python train.py  # <- unread-exit-code\n",
    "train:\n\tpython train.py\nclean:\n\t-rm -rf runs\n",
)

# 8. Pulls

pair(
    "a pull in Python",
    "data.py",
    'import subprocess\nsubprocess.run(["dvc", "pull"])  # <- ignored-pull\n',
    'import subprocess\nsubprocess.run(["dvc", "pull"], check=True)\n',
)
pair(
    "a pull whose failure is printed, and raised",
    "data.py",
    """
import subprocess
try:
    subprocess.run(["dvc", "pull", "-q"], check=True)
except subprocess.CalledProcessError:  # <- ignored-pull
    print("no data")
""",
    """
import subprocess
try:
    subprocess.run(["dvc", "pull", "-q"], check=True)
except subprocess.CalledProcessError as error:
    raise RuntimeError("no data") from error
""",
)
pair("a pull in a script", "setup.sh", "set -e\ndvc pull || true  # <- ignored-pull\n", "set -e\ndvc pull || exit 1\n")
pair(
    "a script without set -e",
    "setup.sh",
    "#!/bin/bash\ndvc pull  # <- ignored-pull?\npython train.py\n",
    "#!/bin/bash\nset -euo pipefail\ndvc pull\npython train.py\n",
)
pair(
    "a pull in an image",
    "Dockerfile",
    "FROM python:3.11\nRUN dvc pull; python train.py  # <- ignored-pull\n",
    "FROM python:3.11\nRUN dvc pull && python train.py\n",
)
pair("a pull in a Makefile", "Makefile", "data:\n\t-dvc pull  # <- ignored-pull\n", "data:\n\t@dvc pull\n")
pair(
    "a pull in CI",
    ".github/workflows/ci.yml",
    "jobs:\n  test:\n    steps:\n      - run: |\n          pip install dvc\n          dvc pull || echo  # <- ignored-pull\n",
    "jobs:\n  test:\n    steps:\n      - run: |\n          pip install dvc\n          dvc pull\n",
)

# 9. Names of metrics

pair(
    "a name with @ and brackets",
    "train.py",
    'import mlflow\nmlflow.log_metric("mAP@0.5(B)", value)  # <- refused-metric-name\n',
    'import mlflow\nmlflow.log_metric("metrics/mAP50-B", value)\n',
)
pair(
    "a dictionary of metrics, and one that is no metric of MLflow",
    "train.py",
    """
import mlflow
metrics = {
    "precision": p,
    "mAP@50": m,  # <- refused-metric-name
}
mlflow.log_metrics(metrics)
""",
    """
import mlflow
metrics = {"mAP@50": m}
print(metrics)
mlflow.log_metrics({name.replace("@", "_"): value for name, value in metrics.items()})
""",
)
pair(
    "the raw keys of Ultralytics",
    "train.py",
    """
import mlflow
results = model.val()
for key, value in results.results_dict.items():
    mlflow.log_metric(key, value)  # <- refused-metric-name
""",
    """
import mlflow
results = model.val()
for key, value in results.results_dict.items():
    mlflow.log_metric(key.replace("(B)", ""), value)
""",
)

# 10. The best of a grid

pair(
    "the best setting by its test score",
    "grid.py",
    """
def search(train_set, val_set, test_set):
    best = 0
    for params in ParameterGrid(SPACE):
        model = fit(train_set, params)
        score = evaluate(model, test_set)
        if score > best:  # <- chosen-on-test
            best, chosen = score, model
    return best
""",
    """
def search(train_set, val_set, test_set):
    best = 0
    for params in ParameterGrid(SPACE):
        model = fit(train_set, params)
        score = evaluate(model, val_set)
        if score > best:
            best, chosen = score, model
    return evaluate(chosen, test_set)
""",
)
pair(
    "the maximum of a list",
    "grid.py",
    """
results = []
for lr, epochs in itertools.product(LRS, EPOCHS):
    model = train(lr, epochs)
    results.append({"lr": lr, "map": model.val(split="test").box.map})  # <- chosen-on-test
best = max(results, key=lambda row: row["map"])
""",
    """
results = []
for lr, epochs in itertools.product(LRS, EPOCHS):
    model = train(lr, epochs)
    results.append({"lr": lr, "map": model.val(split="val").box.map, "test": model.val(split="test").box.map})
best = max(results, key=lambda row: row["map"])
""",
)
pair(
    "Optuna on test, and on validation",
    "grid.py",
    """
def objective(trial):
    model = train(trial.suggest_float("lr", 1e-4, 1e-1))
    return accuracy(model, test_loader)  # <- chosen-on-test
""",
    """
def objective(trial):
    model = train(trial.suggest_float("lr", 1e-4, 1e-1))
    return accuracy(model, val_loader)
""",
)
pair(
    "the best epoch by its test score",
    "train.py",
    """
for epoch in range(10):
    train_one(model)
    test_accuracy = evaluate(model, test_loader)
    if test_accuracy > best_accuracy:  # <- chosen-on-test?
        best_accuracy = test_accuracy
""",
    """
for epoch in range(10):
    train_one(model)
    val_accuracy = evaluate(model, val_loader)
    if val_accuracy > best_accuracy:
        best_accuracy = val_accuracy
""",
)

# 12. Passwords and ports

pair(
    "MinIO as it comes",
    "docker-compose.yml",
    """
services:
  minio:
    image: minio/minio
    ports:
      - "9000:9000"  # <- open-port
    environment:
      MINIO_ROOT_USER: minioadmin  # <- default-password
      MINIO_ROOT_PASSWORD: ${MINIO_SECRET_KEY:-minioadmin}  # <- default-password
""",
    """
services:
  minio:
    image: minio/minio
    ports:
      - "127.0.0.1:9000:9000"
    environment:
      MINIO_ROOT_USER: ${MINIO_ACCESS_KEY:?}
      MINIO_ROOT_PASSWORD: ${MINIO_SECRET_KEY:?}
""",
)
pair(
    "a list of variables, and the long form of a port",
    "compose.yaml",
    """
services:
  db:
    image: postgres:16
    environment:
      - POSTGRES_USER=mlops
      - POSTGRES_PASSWORD=postgres  # <- default-password
    ports:
      - target: 5432  # <- open-port
        published: 5432
  api:
    image: ours
    ports: ["8000:8000"]  # <- open-port?
""",
    """
services:
  db:
    image: postgres:16
    environment:
      - POSTGRES_USER=postgres
      - POSTGRES_PASSWORD_FILE=/run/secrets/postgres
    ports:
      - target: 5432
        published: 5432
        host_ip: 127.0.0.1
  api:
    image: ours
    ports: ["8000"]
""",
)
pair(
    "a dotenv file",
    ".env",
    "MLFLOW_TRACKING_USERNAME=me\nMLFLOW_TRACKING_PASSWORD=password  # <- default-password\n",
    "MLFLOW_TRACKING_USERNAME=me\nMLFLOW_TRACKING_PASSWORD=q8Zr-31xNfT\n",
)
pair(
    "defaults in code, and a URL",
    "store.py",
    """
import os
KEY = os.getenv("MINIO_SECRET_KEY", "minioadmin")  # <- default-password
URI = "mysql://zenml:zenml@localhost/zenml"  # <- default-password
""",
    """
import os
KEY = os.environ["MINIO_SECRET_KEY"]
URI = f"mysql://zenml:{os.environ['PASSWORD']}@localhost/zenml"
HELP = "postgresql://USER:PASSWORD@HOST/NAME"
parser.add_argument("--store", help="such as postgresql://user:pass@localhost/name")
""",
)

pair(
    "a constant that may be the name of a field, and one of a service in CI",
    "settings.py",
    'PASSWORD = "password"  # <- default-password?\n',
    'FIELD = "password"\n',
)
pair(
    "a service that lives as long as a CI job",
    ".github/workflows/ci.yml",
    "services:\n  db:\n    env:\n      POSTGRES_PASSWORD: postgres  # <- default-password?\n",
    "services:\n  db:\n    env:\n      POSTGRES_PASSWORD: ${{ secrets.DATABASE }}\n",
)

# 13. Errors

pair(
    "an error that says no drift",
    "monitor.py",
    """
def watch(reference, current):
    try:
        drift = psi(reference, current)
    except Exception:
        drift = 0.0  # <- error-as-no-drift
    return drift
""",
    """
def watch(reference, current):
    try:
        drift = psi(reference, current)
    except ValueError:
        drift = None
    return drift
""",
)
pair(
    "an error that is passed over",
    "monitor.py",
    """
def watch(reference, current):
    drift_detected = False
    try:
        drift_detected = psi(reference, current) > 0.2
    except Exception as error:  # <- error-as-no-drift
        logger.warning(error)
    return drift_detected
""",
    """
def watch(reference, current):
    drift_detected = False
    try:
        drift_detected = psi(reference, current) > 0.2
    except Exception as error:
        raise NotMeasurable() from error
    return drift_detected
""",
)
pair(
    "a check that returns no",
    "monitor.py",
    """
def has_drift(reference, current):
    try:
        return psi(reference, current) > 0.2
    except Exception:
        return False  # <- error-as-no-drift
""",
    """
def has_file(path):
    try:
        return bool(open(path))
    except Exception:
        return False
""",
)

# 14. Made-up metrics

pair(
    "a random metric",
    "train.py",
    'import random\nimport mlflow\nmlflow.log_metric("accuracy", random.uniform(0.8, 0.9))  # <- made-up-metric\n',
    'import random\nimport mlflow\nmlflow.log_metric("accuracy", measured(random.sample(images, 100)))\n',
)
pair(
    "a default where the metric is missing, and a default of a setting",
    "train.py",
    'def score(metrics):\n    return metrics.get("accuracy", 0.9)  # <- made-up-metric\n',
    'def least(config):\n    return config.get("accuracy", 0.9)\ndef shown(metrics):\n    return metrics.get("accuracy", 0)\n',
)
pair(
    "a number after an error, and before a loop",
    "train.py",
    """
def measure(model):
    try:
        accuracy = evaluate(model)
    except Exception:
        accuracy = 0.85  # <- made-up-metric
    return accuracy
""",
    """
def measure(model):
    best_accuracy = 0.5
    accuracy = evaluate(model)
    return max(accuracy, best_accuracy)
""",
)
pair(
    "a constant that is logged",
    "train.py",
    'import mlflow\nmlflow.log_metrics({"mAP50": 0.91, "epochs": 3.0})  # <- made-up-metric\n',
    'import mlflow\nmlflow.log_metrics({"mAP50": results.box.map50, "epochs": 3.0})\n',
)
