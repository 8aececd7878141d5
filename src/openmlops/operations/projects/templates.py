"""File templates of a new project: .env, the use case, README and .gitignore."""

import json

ENV = """\
USE_CASE={name}:USE_CASE
MODEL_NAME={name}
"""

GITIGNORE = """\
# images are versioned by DVC: git keeps data/raw/*.dvc and *.manifest.json
/data/raw/*/
# what running writes, and .env, which may hold secrets
/.openmlops/
/artifacts/
/monitoring/
/.env
__pycache__/
"""

CLASSIFICATION = '''\
"""The use case {name}. Change it as you like; `openmlops train` takes it up."""

from pydantic import Field

from openmlops.usecases.image_folder import TrainConfig, image_folder


class Training(TrainConfig):
    """How to train. Any field of TrainConfig can be given another default here, or a value by `openmlops train --set`."""

    width: int = Field({width}, ge=4, le=256, description="channels of the first of three groups of layers")
    flip: bool = Field(True, description="mirror images left and right; not where that makes another class, as of arrows")


USE_CASE = image_folder(
    name="{name}",
    classes={classes},
    size={side},  # pixels of a side: images are scaled to squares
    config=Training,
    about="Images of one's own.",  # source and licence, for the model card
)
'''

DETECTION = '''\
"""The use case {name}. Change it as you like; `openmlops train` takes it up. The classes are in data/raw/{name}/data.yaml."""

from pydantic import Field

from openmlops.usecases.yolo_folder import TrainConfig, yolo_folder


class Training(TrainConfig):
    """How to train. Any field of TrainConfig can be given another default here, or a value by `openmlops train --set`."""

    imgsz: int | None = Field(
        None, ge=32, le=1280, multiple_of=32, description="side of the square canvas in pixels; none: up to 320, by the images"
    )
    fliplr: float = Field(0.5, ge=0, le=1, description="probability of mirroring left and right")


USE_CASE = yolo_folder(
    name="{name}",
    config=Training,
    about="Images of one's own.",  # source and licence, for the model card
)
'''

README = """\
# {name}

Type these here, where `.env` is:

```
openmlops data check
openmlops train
openmlops history {name}
openmlops evaluate {name}@champion
openmlops serve
```

and while it serves, in another terminal:

```
openmlops traffic --labels
openmlops monitor
openmlops cycle --mode auto
```

More images: put them into `data/raw/{name}/{train}`, then `openmlops data add data/raw/{name}` and `openmlops train`.
What can be changed is in `{name}.py`. `.env` holds two lines: `USE_CASE={name}:USE_CASE` and `MODEL_NAME={name}`.
"""

WIDTH = 16


def texts(name: str, kind: str, classes: tuple[str, ...], side: int) -> dict[str, str]:
    """File name -> content, for a project of `kind` with these class names; `side` in pixels (classification)."""
    is_classification = kind == "classification"
    module = CLASSIFICATION if is_classification else DETECTION
    listed = "".join(f"\n        {json.dumps(text, ensure_ascii=False)}," for text in classes)
    return {
        ".env": ENV.format(name=name),
        ".gitignore": GITIGNORE,
        f"{name}.py": module.format(name=name, classes=f"({listed}\n    )", side=side, width=WIDTH),
        "README.md": README.format(name=name, train="train/CLASS" if is_classification else "images/train"),
    }
