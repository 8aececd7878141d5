"""Claims about the network and the module that is served of it."""

import io
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from toy_people import CONFIG, SPLITS, UNUSED, toy_network, toy_rows

from openmlops.core.types import Preprocessing
from openmlops.usecases.yolo_folder.model import Network, build, served

SIZES = ("yolov8n.yaml", "yolov8s.yaml", "yolov8m.yaml")
OUTPUTS = ("boxes", "scores", "embedding")


def _lively(model: Network) -> Network:
    """Other than its first weights, which answer nearly the same everywhere."""
    draw = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        if weight.ndim == 1:
            weight.data += 0.2 * torch.randn(weight.shape, generator=draw)
    return model.eval()


def _canvases(count: int, side: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))


def test_the_same_seed_builds_the_same_weights_and_another_seed_others() -> None:
    first, again = toy_network().state_dict(), toy_network().state_dict()
    other = toy_network(config=CONFIG.model_copy(update={"seed": 1})).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_building_leaves_the_random_state_as_it_was() -> None:
    before = torch.get_rng_state()
    toy_network()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_description_in_the_current_folder_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = toy_network().state_dict()
    (tmp_path / "yolov8.yaml").write_text("nc: 1\nbackbone: []\nhead: []\n")
    (tmp_path / "yolov8n.yaml").write_text("nc: 1\nbackbone: []\nhead: []\n")
    monkeypatch.chdir(tmp_path)
    assert toy_network().state_dict().keys() == expected.keys()


def test_weights_are_loaded_into_a_network_built_anew() -> None:
    trained = _lively(toy_network())
    rebuilt = toy_network(config=CONFIG.model_copy(update={"seed": 5}))
    rebuilt.load_state_dict(trained.state_dict())
    for one, other in zip(served(trained)(_canvases(2)), served(rebuilt)(_canvases(2)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("size", SIZES)
def test_served_boxes_and_scores_are_those_of_ultralytics_own_head(size: str) -> None:
    model = _lively(build(CONFIG.model_copy(update={"model": size}), UNUSED, toy_rows(), SPLITS["train"]))
    canvases = _canvases(3)
    with torch.inference_mode():
        boxes, scores, embedding = served(model)(canvases)
        theirs = model(canvases.permute(0, 3, 1, 2).float() / 255)[0].transpose(1, 2)
    centre, size_of = theirs[..., :2], theirs[..., 2:4]
    assert boxes.shape == (3, 84, 4)
    assert torch.allclose(boxes, torch.cat([centre - size_of / 2, centre + size_of / 2], 2), atol=64e-5)
    assert torch.allclose(scores, theirs[..., 4:], atol=1e-6)
    assert embedding.shape == (3, 64)
    assert {boxes.dtype, scores.dtype, embedding.dtype} == {torch.float32}


def test_the_embedding_is_the_mean_of_the_last_backbone_layer_over_the_image_and_groups_of_channels() -> None:
    model = _lively(toy_network())
    with torch.inference_mode():
        embedding = served(model)(_canvases(2))[2]
        whole = model.detector.predict(_canvases(2).permute(0, 3, 1, 2).float() / 255, embed=[9])
    expected = torch.stack(list(whole)).view(2, 64, 4).mean(2)
    assert torch.allclose(embedding, expected, atol=1e-5)


@pytest.mark.parametrize("size", [SIZES[0], *(pytest.param(size, marks=pytest.mark.slow) for size in SIZES[1:])])
def test_onnx_and_torchscript_answer_as_eager_torch_for_any_number_of_images(size: str) -> None:
    model = served(_lively(build(CONFIG.model_copy(update={"model": size}), UNUSED, toy_rows(), SPLITS["train"])))
    onnx, scripted = _exported(model)
    for count in (1, 3, 17):
        canvases = _canvases(count)
        with torch.inference_mode():
            eager, traced = model(canvases), scripted(canvases)
        found = onnx.run(list(OUTPUTS), {"images": canvases.numpy()})
        assert np.abs(found[0] - eager[0].numpy()).max() / 64 < 1e-4
        assert np.abs(found[1] - eager[1].numpy()).max() < 1e-4
        assert np.abs(found[2] - eager[2].numpy()).max() < 1e-4
        assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(eager, traced, strict=True))


def _exported(model: torch.nn.Module) -> tuple[onnxruntime.InferenceSession, torch.nn.Module]:
    graph, script = io.BytesIO(), io.BytesIO()
    example = (_canvases(2),)
    axes = {name: {0: "n"} for name in ("images", *OUTPUTS)}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            example,
            graph,
            input_names=["images"],
            output_names=list(OUTPUTS),
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
        torch.jit.save(torch.jit.trace(model, example, check_trace=False), script)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    script.seek(0)
    return onnxruntime.InferenceSession(graph.getvalue(), options), torch.jit.load(script)


def test_the_canvas_is_the_largest_image_rounded_up_but_not_above_320() -> None:
    config = CONFIG.model_copy(update={"imgsz": None})
    assert build(config, UNUSED, toy_rows(), SPLITS["train"]).image_shape == (96, 96, 3)
    rows = toy_rows()
    rows.images[0] = np.zeros((500, 700, 3), dtype=np.uint8)
    assert build(config, Preprocessing(mean=(1, 2, 3), std=(4, 5, 6)), rows, SPLITS["train"]).image_shape == (320, 320, 3)
