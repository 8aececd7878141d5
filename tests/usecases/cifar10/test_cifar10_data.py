"""40 bad data sets are rejected, each by a problem that names what and where; clean ones are not."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from openmlops.core.types import Problem
from openmlops.core.validation import content_hashes
from openmlops.errors import DataError
from openmlops.usecases import classifier
from openmlops.usecases.cifar10 import batches, data
from openmlops.usecases.cifar10.sample import sample

PER_BATCH = 40
Contents = dict[str, Any]


def contents(seed: int = 0, classes: int = 10) -> Contents:
    """A small valid data set: file name -> what the file holds. The images are noise, so no two look alike."""
    rng = np.random.default_rng(seed)
    found: Contents = {
        "batches.meta": {b"num_cases_per_batch": PER_BATCH, b"label_names": [b"c%d" % n for n in range(classes)]}
    }
    for name in (*data.TRAIN, data.TEST):
        found[name] = {
            b"labels": [row % classes for row in range(PER_BATCH)],
            b"data": rng.integers(0, 256, (PER_BATCH, 3072), dtype=np.uint8),
            b"filenames": [b"%d.png" % row for row in range(PER_BATCH)],
        }
    return found


def write(folder: Path, found: Contents) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in found.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else pickled(content))
    return folder


def pickled(content: object) -> bytes:
    return pickle.dumps(content, protocol=4)


@pytest.fixture(scope="module")
def small_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample(tmp_path_factory.mktemp("sample") / "set")


# ---------------------------------------------------------------- 40 bad data sets


def put(name: str, key: bytes, value: object) -> Callable[[Contents], None]:
    return lambda found: found[name].__setitem__(key, value)


def label(name: str, row: int, value: object) -> Callable[[Contents], None]:
    return lambda found: found[name][b"labels"].__setitem__(row, value)


def change(name: str, act: Callable[[Any], object]) -> Callable[[Contents], None]:
    """Replace the content of a file."""
    return lambda found: found.__setitem__(name, act(found[name]))


def change_data(name: str, act: Callable[[np.ndarray], object]) -> Callable[[Contents], None]:
    return lambda found: found[name].__setitem__(b"data", act(found[name][b"data"]))


def all_labels(value: Callable[[int], int]) -> Callable[[Contents], None]:
    def act(found: Contents) -> None:
        for name in (*data.TRAIN, data.TEST):
            found[name][b"labels"] = [value(row) for row in range(PER_BATCH)]

    return act


def remove(name: str) -> Callable[[Contents], None]:
    return lambda found: found.pop(name)


def remove_key(name: str, key: bytes) -> Callable[[Contents], None]:
    return lambda found: found[name].pop(key)


def leak(rows: int) -> Callable[[Contents], None]:
    """Copy the first test images into data_batch_2."""

    def act(found: Contents) -> None:
        found["data_batch_2"][b"data"][:rows] = found[data.TEST][b"data"][:rows]

    return act


def constant(name: str, rows: int, value: int) -> Callable[[Contents], None]:
    def act(found: Contents) -> None:
        found[name][b"data"][:rows] = value

    return act


def cut(share: float) -> Callable[[Any], bytes]:
    return lambda content: pickled(content)[: int(share * len(pickled(content)))]


BAD: dict[str, tuple[Callable[[Contents], object], str, str]] = {
    # name: (what is done to a valid set, where the problem is, what it says)
    "no-first-batch": (remove("data_batch_1"), "data_batch_1", "missing"),
    "no-last-batch": (remove("data_batch_5"), "data_batch_5", "missing"),
    "no-test-batch": (remove("test_batch"), "test_batch", "missing"),
    "no-meta": (remove("batches.meta"), "batches.meta", "missing"),
    "cut-by-a-byte": (change("data_batch_3", lambda c: pickled(c)[:-1]), "data_batch_3", "cannot be read"),
    "cut-in-half": (change("data_batch_3", cut(0.5)), "data_batch_3", "cannot be read"),
    "cut-to-nothing": (change("test_batch", cut(0)), "test_batch", "cannot be read"),
    "not-a-pickle": (change("data_batch_2", lambda _: b"PK\x03\x04 a zip file"), "data_batch_2", "cannot be read"),
    "a-web-page": (change("data_batch_2", lambda _: b"<html>Not found</html>"), "data_batch_2", "cannot be read"),
    "a-list": (change("data_batch_2", lambda c: [c]), "data_batch_2", "holds a list, not a dictionary"),
    "executes-code": (change("data_batch_2", lambda _: b"cos\nsystem\n(X\x04\x00\x00\x00truetR."), "data_batch_2", "os.system"),
    "text-keys": (
        change("data_batch_2", lambda c: {k.decode(): v for k, v in c.items()}),
        "data_batch_2",
        "no data and no labels",
    ),
    "no-labels": (remove_key("data_batch_2", b"labels"), "data_batch_2", "no labels"),
    "no-data": (remove_key("data_batch_2", b"data"), "data_batch_2", "no data"),
    "label-10": (label("data_batch_4", 7, 10), "data_batch_4", "labels 10 are outside 0..9 rows 7"),
    "label-minus-1": (label("data_batch_4", 0, -1), "data_batch_4", "labels -1 are outside 0..9 rows 0"),
    "label-in-test": (label("test_batch", 39, 99), "test_batch", "labels 99 are outside 0..9 rows 39"),
    "label-text": (label("data_batch_1", 3, b"cat"), "data_batch_1", "labels b'cat' are outside 0..9 rows 3"),
    "label-float": (label("data_batch_1", 3, 1.5), "data_batch_1", "labels 1.5 are outside 0..9 rows 3"),
    "label-none": (label("data_batch_1", 3, None), "data_batch_1", "labels None are outside 0..9 rows 3"),
    "label-true": (label("data_batch_1", 3, True), "data_batch_1", "labels True are outside 0..9 rows 3"),
    "labels-text": (put("data_batch_1", b"labels", b"0123456789"), "data_batch_1", "labels is a bytes, not a list"),
    "too-few-labels": (
        change("data_batch_1", lambda c: c | {b"labels": c[b"labels"][:-1]}),
        "data_batch_1",
        "39 labels for 40",
    ),
    "too-many-labels": (
        change("data_batch_1", lambda c: c | {b"labels": [*c[b"labels"], 0]}),
        "data_batch_1",
        "41 labels for 40",
    ),
    "rows-of-3071": (
        change_data("data_batch_5", lambda d: d[:, :3071].copy()),
        "data_batch_5",
        "shape (40, 3071), not (n, 3072)",
    ),
    "rows-of-3073": (change_data("data_batch_5", lambda d: np.pad(d, ((0, 0), (0, 1)))), "data_batch_5", "shape (40, 3073)"),
    "flat": (change_data("data_batch_5", lambda d: d.ravel()), "data_batch_5", "shape (122880,)"),
    "four-dimensions": (
        change_data("data_batch_5", lambda d: d.reshape(-1, 3, 32, 32)),
        "data_batch_5",
        "shape (40, 3, 32, 32)",
    ),
    "float32": (change_data("data_batch_5", lambda d: d.astype(np.float32)), "data_batch_5", "dtype float32, not uint8"),
    "int64": (change_data("test_batch", lambda d: d.astype(np.int64)), "test_batch", "dtype int64, not uint8"),
    "objects": (change_data("test_batch", lambda d: d.astype(object)), "test_batch", "array of 'O"),
    "data-is-a-list": (change_data("data_batch_1", lambda d: d[:2].tolist()), "data_batch_1", "data is a list, not an array"),
    "no-rows": (change_data("data_batch_1", lambda d: d[:0]), "data_batch_1", "data has no rows"),
    "rows-lost": (change_data("data_batch_1", lambda d: d[:-1]), "data_batch_1", "39 images instead of 40"),
    "one-class": (all_labels(lambda _: 3), "data batches", "no images of c0, c1, c2, c4"),
    "a-class-lost": (all_labels(lambda row: max(row % 10, 1)), "test_batch", "no images of c0"),
    "one-colour": (constant("data_batch_2", 5, 0), "data_batch_2", "every pixel has the same value rows 0, 1, 2, 3, 4"),
    "never-written": (
        constant("test_batch", PER_BATCH, 255),
        "test_batch",
        "every pixel has the same value rows 0, 1, 2, 3, 4",
    ),
    "test-inside-train": (leak(PER_BATCH), "test_batch", "test images are also in the data batches rows 0, 1, 2, 3, 4"),
    "two-class-names": (put("batches.meta", b"label_names", [b"a", b"a"]), "batches.meta", "label_names"),
}


def test_the_bad_data_sets_are_forty() -> None:
    assert len(BAD) == 40


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_data_set_is_rejected_with_what_and_where(kind: str, tmp_path: Path) -> None:
    act, where, what = BAD[kind]
    found = contents()
    act(found)
    problems, _ = data.check(write(tmp_path / "set", found))
    said = [f"{p.what} rows {', '.join(map(str, p.rows))}" for p in problems if p.blocking and p.where == where]
    assert any(what in text for text in said), [str(problem) for problem in problems]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_data_set_has_only_problems_of_its_own(kind: str, tmp_path: Path) -> None:
    """A problem that is blamed on the wrong file would send its reader to the wrong place."""
    act, where, _ = BAD[kind]
    found = contents()
    act(found)
    problems, _ = data.check(write(tmp_path / "set", found))
    both = {"data batches", "test_batch"} if kind in ("one-class", "a-class-lost") else {where}
    assert {problem.where for problem in problems if problem.blocking} == both, [str(problem) for problem in problems]


def test_what_check_rejects_for_its_structure_read_refuses_to_read(tmp_path: Path) -> None:
    found = contents()
    found["data_batch_3"][b"data"] = found["data_batch_3"][b"data"][:, :3071].copy()
    folder = write(tmp_path / "set", found)
    with pytest.raises(DataError, match=r"data_batch_3: data has the shape \(40, 3071\)"):
        data.read(folder)


def test_all_problems_are_found_at_once(tmp_path: Path) -> None:
    found = contents()
    for kind in ("no-last-batch", "label-10", "no-labels", "rows-lost"):
        BAD[kind][0](found)
    problems, _ = data.check(write(tmp_path / "set", found))
    assert {problem.where for problem in problems} == {"data_batch_5", "data_batch_4", "data_batch_2", "data_batch_1"}


def test_a_problem_lists_five_rows_and_counts_all(tmp_path: Path) -> None:
    found = contents()
    for row in range(10, 20):
        found["data_batch_2"][b"labels"][row] = 77
    (problem,), _ = data.check(write(tmp_path / "set", found))
    assert problem == Problem(what="labels 77 are outside 0..9", where="data_batch_2", rows=(10, 11, 12, 13, 14), count=10)


def test_a_missing_folder_is_one_problem_a_file_and_no_exception(tmp_path: Path) -> None:
    problems, counts = data.check(tmp_path / "none")
    assert {problem.what for problem in problems} == {"the file is missing"}
    assert len(problems) == 7
    assert counts == {}


# ---------------------------------------------------------------- 5 clean data sets


def test_the_sample_is_clean(small_sample: Path) -> None:
    problems, counts = data.check(small_sample)
    assert problems == ()
    assert sum(counts.values()) == 4200


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_subset_of_the_sample_is_clean(small_sample: Path, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    found: Contents = {"batches.meta": batches.load(small_sample / "batches.meta") | {b"num_cases_per_batch": 300}}
    for name in (*data.TRAIN, data.TEST):
        batch = batches.load(small_sample / name)
        rows = rng.permutation(len(batch[b"labels"]))[:300]
        found[name] = {b"labels": [batch[b"labels"][row] for row in rows], b"data": batch[b"data"][rows]}
    problems, _ = data.check(write(tmp_path / "set", found))
    assert problems == ()


@pytest.mark.slow
@pytest.mark.real
def test_real_cifar10_is_clean_and_its_near_duplicates_are_reported(real_cifar10: Path) -> None:
    problems, counts = data.check(real_cifar10)
    assert not [problem for problem in problems if problem.blocking]
    assert set(counts.values()) == {6000}
    assert [problem.where for problem in problems] == ["test_batch"]
    assert 20 <= problems[0].count <= 200


# ---------------------------------------------------------------- what only is reported


def test_newly_labelled_batches_of_any_size_follow_the_official_ones(tmp_path: Path) -> None:
    found = contents()
    extra = contents(seed=1)["data_batch_1"]
    for name, rows in (("data_batch_10", 3), ("data_batch_6", 7)):
        found[name] = {b"labels": extra[b"labels"][:rows], b"data": extra[b"data"][rows * 2 :][:rows]}
    folder = write(tmp_path / "set", found)
    assert data.check(folder)[0] == ()
    rows = data.read(folder)
    assert len(rows.labels) == 6 * PER_BATCH + 10
    assert np.array_equal(rows.images[200].transpose(2, 0, 1).ravel(), found["data_batch_6"][b"data"][0])
    assert np.array_equal(rows.images[207].transpose(2, 0, 1).ravel(), found["data_batch_10"][b"data"][0])
    assert np.flatnonzero(rows.test).tolist() == list(range(210, 250))


# ---------------------------------------------------------------- read, split, preprocess, decode


def test_pixels_and_labels_are_read_in_the_order_of_the_files(tmp_path: Path) -> None:
    found = contents()
    rows = data.read(write(tmp_path / "set", found))
    assert rows.images.shape == (240, 32, 32, 3)
    assert rows.images.dtype == np.uint8
    assert rows.labels.dtype == np.int64
    assert rows.names == tuple(f"c{n}" for n in range(10))
    red, green, blue = found["data_batch_2"][b"data"][5].reshape(3, 32, 32)
    assert np.array_equal(rows.images[45], np.stack([red, green, blue], axis=-1))
    assert rows.test.sum() == PER_BATCH
    assert rows.test[-PER_BATCH:].all()


def test_validation_is_a_tenth_of_each_class(small_sample: Path) -> None:
    rows = data.read(small_sample)
    parts = classifier.split(rows, 0)
    train, validation = (np.bincount(rows.labels[parts[name]]) for name in ("train", "validation"))
    assert np.array_equal(validation, np.round((train + validation) * 0.1))
    assert sum(map(len, parts.values())) == len(rows.labels)


@pytest.mark.parametrize("seed", range(5))
def test_no_two_splits_share_an_image_even_if_the_files_do(tmp_path: Path, seed: int) -> None:
    found = contents()
    leak(10)(found)
    for number in range(3, 6):  # each image of data_batch_1 is there four times
        found[f"data_batch_{number}"][b"data"] = found["data_batch_1"][b"data"].copy()
    rows = data.read(write(tmp_path / "set", found))
    parts = classifier.split(rows, seed)
    digests = content_hashes(rows.images)
    content = {name: {digests[row] for row in indices} for name, indices in parts.items()}
    assert not content["train"] & content["validation"]
    assert not (content["train"] | content["validation"]) & content["test"]
    assert len(parts["test"]) == PER_BATCH
    assert sum(map(len, parts.values())) < len(rows.labels)


def test_preprocessing_is_the_mean_and_deviation_of_the_train_pixels(small_sample: Path) -> None:
    rows = data.read(small_sample)
    train = classifier.split(rows, 0)["train"]
    measured = classifier.preprocess(rows, train)
    assert measured.mean == pytest.approx(rows.images[train].mean(axis=(0, 1, 2), dtype=np.float64), abs=1e-9)
    assert measured.std == pytest.approx(rows.images[train].std(axis=(0, 1, 2), dtype=np.float64), abs=1e-9)


def test_decoding_a_png_of_32_pixels_gives_its_pixels_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    assert np.array_equal(data.decode(buffer.getvalue()), pixels)
