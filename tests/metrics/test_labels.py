"""The reader of maps learns a source, and tells a frame that shows its map from one that does not."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from douga.data.blocks import Blocks
from douga.data.shapes import Shapes
from douga.metrics import labels
from douga.metrics.labels import Labels, Segmenter, learn
from douga.video.ops import encode_labels

SIZE = (32, 64)
MASK = torch.tensor([True, False, False, False])


@pytest.fixture
def metric(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Labels:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(labels, "STEPS", 25)
    return Labels(torch.device("cpu"), Blocks(None, "train", SIZE), SIZE)


def shown(index: int) -> tuple[Tensor, Tensor]:
    source = Blocks(None, "test", SIZE)
    return source.clip(index, 0, 4), encode_labels(source.maps(index, 0, 4), len(source.classes))


def test_true_frames_show_their_maps_and_frames_of_another_world_do_not(metric: Labels) -> None:
    (truth, maps), (other, _) = shown(0), shown(1)
    seen = [metric.observe(video[None], truth, MASK, maps) for video in (truth, other, torch.zeros_like(truth))]
    right, wrong, grey = (metric.compute({name: x[None] for name, x in one.items()}) for one in seen)
    for column in ("label_accuracy", "label_iou"):
        assert right[column].values.mean() > wrong[column].values.mean() + 0.05
        assert right[column].values.mean() > grey[column].values.mean() + 0.05
    assert right["label_accuracy"].values.item() > 0.6
    assert right["label_accuracy"].values == wrong["label_accuracy_true"].values
    assert seen[0]["drawn"].shape == (3, 7, 7)  # the given frame is not counted
    assert seen[0]["drawn"].sum() == 3 * SIZE[0] * SIZE[1]
    assert metric.curves({"drawn": seen[0]["drawn"][None]})["label_accuracy_over_frames"].shape == (3,)


def test_pixels_without_a_class_are_not_counted(metric: Labels) -> None:
    truth, maps = shown(0)
    maps = maps.clone()
    maps[:, :, :10] = 0
    assert metric.observe(truth[None], truth, MASK, maps)["drawn"].sum() == 3 * (SIZE[0] - 10) * SIZE[1]


def test_the_reader_is_learned_once_and_is_the_same_again(metric: Labels, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Blocks(None, "train", SIZE)

    def drawn_again(index: int, start: int, length: int) -> Tensor:
        raise AssertionError("it was learned already")

    monkeypatch.setattr(source, "clip", drawn_again)
    again = learn(source, SIZE)
    for name, value in metric.network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert metric.settings == Labels.settings_of(again)
    assert metric.settings != Labels.settings_of(Segmenter(7))


def test_any_size_is_read() -> None:
    assert Segmenter(3)(torch.zeros(1, 3, 33, 50)).shape == (1, 3, 33, 50)


def test_a_source_without_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="label maps"):
        Labels(torch.device("cpu"), Shapes(None, "train", SIZE), SIZE)
