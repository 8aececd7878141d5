"""A person detector as many are built on ZenML, MLflow, DVC and Ultralytics; the marks are what must be said of it."""

FILES = {
    "steps/load.py": '''
"""Load what is watched."""
import subprocess

import mlflow
from zenml import step


@step
def load_production_model():
    """The model that is live."""
    return mlflow.pytorch.load_model("models:/person-detector@champion")  # <- cached-step


@step(enable_cache=False)
def pull_data(folder: str) -> str:
    """Bring the images."""
    subprocess.run(["dvc", "pull", folder])  # <- ignored-pull
    return folder
''',
    "steps/monitor.py": '''
"""Watch the model."""
import os

import numpy as np
from evidently import Report
from evidently.presets import DataDriftPreset
from torchvision import transforms
from zenml import step

SIMULATE_DRIFT = os.getenv("SIMULATE_DRIFT", "0") == "1"

monitor_transform = transforms.Compose([transforms.Resize(320), transforms.ToTensor()])  # <- other-pixels


@step(enable_cache=False)
def watch(batch: np.ndarray) -> dict:
    """Reference against current."""
    features = frame(batch)
    half = len(features) // 2
    reference, current = features[:half], features[half:]
    drift_share = 0.0
    try:
        snapshot = Report([DataDriftPreset()]).run(reference_data=reference, current_data=current)  # <- one-batch
        drift_share = snapshot.dict()["metrics"][0]["value"]["share"]
    except Exception as error:  # <- error-as-no-drift
        print(error)
    drift_detected = drift_share > 0.5
    if SIMULATE_DRIFT:
        drift_detected = True  # <- forced-verdict
    return {"drift": drift_detected}

''',
    "steps/train.py": '''
"""Train, and register."""
import mlflow
from mlflow import MlflowClient
from torchvision import transforms
from ultralytics import YOLO
from zenml import step

train_transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.485,), (0.229,))])


@step(experiment_tracker="mlflow")
def train_detector(data: str, epochs: int = 3) -> str:
    """YOLO on the images."""
    model = YOLO("yolov8n.pt")
    results = model.train(data=data, epochs=epochs)
    mlflow.log_metrics(results.results_dict)  # <- refused-metric-name
    mlflow.log_metric("recall", results.results_dict.get("metrics/recall(B)", 0.7))  # <- made-up-metric
    version = mlflow.register_model("runs:/x/model", "person-detector")
    MlflowClient().set_registered_model_alias("person-detector", "champion", version.version)  # <- ungated-promotion
    return version.version
''',
    "pipelines/run.py": '''
"""Everything, one after another."""
import subprocess
import sys

from zenml import pipeline

from steps.load import load_production_model, pull_data
from steps.monitor import watch


@pipeline
def monitoring():
    """Watch the champion."""
    watch(load_production_model())


if __name__ == "__main__":
    subprocess.run([sys.executable, "-m", "steps.train"])  # <- unread-exit-code
    monitoring()
''',
    "docker-compose.yml": """
services:
  minio:
    image: minio/minio
    ports:
      - "9000:9000"  # <- open-port
    environment:
      MINIO_ROOT_USER: minioadmin  # <- default-password
      MINIO_ROOT_PASSWORD: minioadmin  # <- default-password
  mlflow:
    image: mlflow
    ports:
      - "127.0.0.1:5001:5000"
""",
    "Makefile": "setup:\n\tpip install -r requirements.txt\ntrain:\n\tpython -m pipelines.run\n",
    "requirements.txt": "zenml==0.98.0\nmlflow>=3\nultralytics\ndvc[s3]\n",
    "README.md": "# Persons\n\nWith zenml==0.70.0: <!-- <- readme-contradicted -->\n\n```\nmake setup\nmake train\n```\n",
    "params.yaml": "train:\n  epochs: 3\n  imgsz: 320\n",
}
