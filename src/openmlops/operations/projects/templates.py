"""File templates of a new project: .env, the use case, README and .gitignore."""

import json

from openmlops.usecases.image_folder.recipe import SMALL

ENV = """\
USE_CASE={name}:USE_CASE
MODEL_NAME={name}
"""

GITIGNORE = """\
# images are versioned by DVC; commit data/raw/*.dvc and *.manifest.json to git
/data/raw/*/
# generated files, and .env, which may contain secrets
/.openmlops/
/artifacts/
/monitoring/
/.env
__pycache__/
"""

CLASSIFICATION = '''\
"""The use case {name}. Edit it as you like; `openmlops train` uses it."""

from pydantic import Field

from openmlops.usecases.image_folder import TrainConfig, image_folder


class Training(TrainConfig):
    """How to train. Change defaults of TrainConfig here, or pass values with `openmlops train --set`."""

    backbone: str = Field("auto", description="a pretrained model of timm by name; none: a small network, from nothing")
    flip: bool = Field(True, description="horizontal flips; False if they change the class, as with arrows")


USE_CASE = image_folder(
    name="{name}",
    classes={classes},
    size={side},  # pixels per side: the model is shown the square around the centre; None: the backbone's own size
    config=Training,
    about="Custom images.",  # source and licence, for the model card
)
'''

DETECTION = '''\
"""The use case {name}. Edit it as you like; `openmlops train` uses it. The classes are in data/raw/{name}/data.yaml."""

from pydantic import Field

from openmlops.usecases.yolo_folder import TrainConfig, yolo_folder


class Training(TrainConfig):
    """How to train. Change defaults of TrainConfig here, or pass values with `openmlops train --set`."""

    imgsz: int | None = Field(
        None, ge=32, le=1280, multiple_of=32, description="input size in pixels; None: up to 320, depending on the images"
    )
    fliplr: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")


USE_CASE = yolo_folder(
    name="{name}",
    config=Training,
    about="Custom images.",  # source and licence, for the model card
)
'''

README = """\
# {name}

Run these in this folder, next to `.env`:

```
openmlops data check
openmlops train
openmlops history {name}
openmlops evaluate {name}@champion
openmlops serve
```

While the server runs, in another terminal:

```
openmlops traffic --labels
openmlops monitor
openmlops cycle --mode auto
```

To add images, put them into `data/raw/{name}/{train}`, then run `openmlops data add data/raw/{name}` and `openmlops train`.
Training defaults are in `{name}.py`. `.env` contains two lines: `USE_CASE={name}:USE_CASE` and `MODEL_NAME={name}`.
"""


def texts(name: str, kind: str, classes: tuple[str, ...], side: int) -> dict[str, str]:
    """File name -> content, for a project of `kind` with these class names; `side` in pixels (classification)."""
    is_classification = kind == "classification"
    module = CLASSIFICATION if is_classification else DETECTION
    listed = "".join(f"\n        {json.dumps(text, ensure_ascii=False)}," for text in classes)
    return {
        ".env": ENV.format(name=name),
        ".gitignore": GITIGNORE,
        f"{name}.py": module.format(name=name, classes=f"({listed}\n    )", side=side if side <= SMALL else None),
        "README.md": README.format(name=name, train="train/CLASS" if is_classification else "images/train"),
    }
