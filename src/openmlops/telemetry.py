"""Telemetry of libraries, switched off for this process and its children.

`openmlops/__init__.py` does this, so that it precedes every other import: ONNX Runtime reads its variable while it is imported
and then cannot be stopped. Not here: what else libraries read from the environment (`settings`).
"""

import os

OFF = {
    "DO_NOT_TRACK": "1",  # Evidently, and whoever else respects it
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",  # of huggingface_hub, which timm imports
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "ORT_TELEMETRY_DISABLED": "1",  # as releases of ONNX Runtime after 1.32 name it
    "YOLO_OFFLINE": "true",
    "ZENML_ANALYTICS_OPT_IN": "false",
}


def switch_off() -> None:
    """Set the variables of `OFF` that are unset or empty: a user's own value is kept."""
    for name, value in OFF.items():
        if not os.environ.get(name):
            os.environ[name] = value
