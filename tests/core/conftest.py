"""ultralytics as the judge of boxes and scores, imported as our trainers do it: what it changes in a process is put back."""

import pytest


@pytest.fixture
def ultralytics() -> None:
    pytest.importorskip("openmlops.usecases.yolo_folder.yolo", reason="needs the extra `yolo`")
