"""Claims about what a training with a backbone tells of settings that do not do what their user may expect."""

from openmlops.usecases.image_folder.model import notices
from openmlops.usecases.image_folder.recipe import TrainConfig


def test_settings_of_the_small_network_are_told_with_a_backbone_alone() -> None:
    assert notices(TrainConfig(), 224) == []
    assert notices(TrainConfig(backbone="none", lr=0.2), 224) == []
    [told] = notices(TrainConfig(lr=0.2, width=32), 224)
    assert told.startswith("Not used with a backbone: lr, width.")


def test_a_size_below_that_of_the_backbone_is_told() -> None:
    assert notices(TrainConfig(size=224), 224) == []
    [told] = notices(TrainConfig(size=96), 224)
    assert "96 pixels, as set; it learned from 224: --size 224" in told
