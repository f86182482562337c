import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from danet_lightning.errors import RequestError, RunError
from danet_lightning.evaluate.protocols import MultiView
from danet_lightning.models.segmenter import Segmenter
from danet_lightning.predict import duration
from danet_lightning.predict import run as command
from danet_lightning.predict.plan import jobs_of, plan, refuse_foreign
from danet_lightning.predict.writing import choose_device, predict_images

CPU = torch.device("cpu")


class StrongestColor(torch.nn.Module):
    """A network whose prediction anybody can tell: which of red, green and blue is largest."""

    def predict_logits(self, images: torch.Tensor) -> torch.Tensor:
        return images


def strongest(net: torch.nn.Module | None = None) -> Segmenter:
    classes, palette = ("red", "green", "blue"), ([255, 0, 0], [10, 230, 200], [0, 0, 201])
    net = net or StrongestColor()
    return Segmenter(net, classes, palette, (0.0,) * 3, (1.0,) * 3, MultiView())


def draw(path: Path, seed: int = 0, height: int = 5, width: int = 7) -> np.ndarray:
    """Write a picture without ties between its channels; return its pixels."""
    pixels = np.random.default_rng(seed).permuted(
        np.arange(3 * height * width, dtype=np.uint8).reshape(height, width, 3), axis=None
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def relative(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_index_png_and_overlay(tmp_path: Path) -> None:
    pixels = draw(tmp_path / "ein Bild ä.png")
    (job,) = plan(str(tmp_path / "ein Bild ä.png"), str(tmp_path / "out"))[0]
    assert predict_images(strongest(), [job], CPU, opacity=0.25) == ([], 0, 0)

    with Image.open(tmp_path / "out" / "ein Bild ä.png") as mask:
        assert (mask.mode, mask.size) == ("P", (7, 5))
        np.testing.assert_array_equal(np.asarray(mask), pixels.argmax(-1))
        palette = mask.getpalette()
    assert palette[:9] == [255, 0, 0, 10, 230, 200, 0, 0, 201]
    assert palette[9:] == [0] * (768 - 9)

    with Image.open(tmp_path / "out" / "ein Bild ä_overlay.png") as picture:
        drawn = np.asarray(picture)[:5, :7]  # above and beside is the legend
    colors = np.array(strongest().palette)[pixels.argmax(-1)]
    np.testing.assert_array_equal(drawn, np.rint(0.75 * pixels + 0.25 * colors))


def test_predictions_have_the_size_that_a_viewer_shows(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lying on its left side
    pixels = draw(tmp_path / "in" / "a.png")
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png", exif=exif)
    predict_images(strongest(), plan(str(tmp_path / "in"), str(tmp_path / "out"))[0], CPU)
    with Image.open(tmp_path / "out" / "a.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), pixels.argmax(-1).T[:, ::-1])
        assert not mask.getexif()  # or a viewer would turn it once more
    with Image.open(tmp_path / "out" / "a_overlay.png") as drawn:
        assert drawn.height > 7


def test_pixels_of_a_data_set_are_predicted_as_they_are_stored(tmp_path: Path) -> None:
    """Like the labels that they are compared with."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = draw(tmp_path / "in" / "a.tif")
    for name in ("a.png", "b.tif"):
        Image.fromarray(pixels).save(tmp_path / "in" / name, exif=exif)
    jobs = plan(str(tmp_path / "in"), str(tmp_path / "out"))[0]
    assert predict_images(strongest(), jobs, CPU, upright=False) == ([], 2, 0)
    for job in jobs:
        with Image.open(job.mask) as mask:
            np.testing.assert_array_equal(np.asarray(mask), pixels.argmax(-1))
    assert predict_images(strongest(), jobs, CPU) == ([], 2, 0)
    with Image.open(jobs[0].mask) as mask:
        assert mask.size == (5, 7)


def test_images_that_are_not_read_are_named_and_take_no_names(tmp_path: Path) -> None:
    """A camera's pairs of JPEG and raw file keep the JPEG's name."""
    draw(tmp_path / "in" / "a.png")
    draw(tmp_path / "in" / "none.png").tobytes()
    (tmp_path / "in" / "none.png").rename(tmp_path / "in" / "none")
    for name in ("a.DNG", "a.HEIC", "notes.txt", "Thumbs.db"):
        (tmp_path / "in" / name).write_bytes(b"II*\0")
    (tmp_path / "in" / "notes.txt").write_text("notes")
    (tmp_path / "in" / "Thumbs.db").write_text("")
    (tmp_path / "in" / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    jobs, others = plan(str(tmp_path / "in"), str(tmp_path / "out"))
    assert others == {".txt": 1, ".db": 1}
    skipped, _, _ = predict_images(strongest(), jobs, CPU)
    assert relative(tmp_path / "out") == {
        "a.png", "a_overlay.png", "none.png", "none_overlay.png",
    }  # fmt: skip
    assert [text.partition(" cannot be read as an image: it is ")[::2] for text in skipped] == [
        (f"{tmp_path}/in/a.DNG", "a camera's raw file, which is not read; save it as JPEG or PNG"),
        (f"{tmp_path}/in/a.HEIC", "HEIC, which is not read; save it as JPEG or PNG"),
    ]


def test_a_name_too_long_for_its_prediction_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    for name in ("b.png", f"{250 * 'a'}.png"):
        draw(tmp_path / "in" / name)
    jobs, _ = plan(str(tmp_path / "in"), str(tmp_path / "out"))
    (message,), _, _ = predict_images(strongest(), jobs, CPU)
    assert message.endswith(
        "has so long a name that its prediction cannot have it; rename the image"
    )
    assert relative(tmp_path / "out") == {"b.png", "b_overlay.png"}


def test_names_that_are_no_utf_8_are_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"b\xfcro")
    draw(tmp_path / "a.png").tobytes()
    (tmp_path / "a.png").rename(tmp_path / f"{name}.png")
    (tmp_path / f"{name}2.png").touch()
    jobs, _ = plan(str(tmp_path), str(tmp_path / "out"))
    assert len(predict_images(strongest(), jobs, CPU).skipped) == 1
    assert relative(tmp_path / "out") == {f"{name}.png", f"{name}_overlay.png"}


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("b.png")
    (message,), _, _ = predict_images(
        strongest(), plan(str(tmp_path), str(tmp_path / "out"))[0], CPU
    )
    assert "b.png cannot be read as an image: Too many levels of symbolic links" in message


def test_predictions_of_a_split_share_no_file_and_overwrite_no_image(tmp_path: Path) -> None:
    images = [(tmp_path / f"{name}.jpg", Path(f"{name}.jpg")) for name in ("x", "x_overlay", "y.b")]
    jobs = jobs_of(images, tmp_path / "out")
    written = [path for job in jobs for path in (job.mask, job.overlay)]
    assert len({*written}) == len(written)
    assert jobs[2].mask == tmp_path / "out" / "y.b.png"
    with pytest.raises(RequestError, match=r"would overwrite the image .*z\.png"):
        jobs_of([(tmp_path / "z.png", Path("z.png"))], tmp_path)


def test_unreadable_images_are_named_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("1.png", "2.png", "3.png", "4.png"):
        draw(tmp_path / "in" / name)
    (tmp_path / "in" / "1.png").write_bytes(b"")
    content = (tmp_path / "in" / "3.png").read_bytes()
    (tmp_path / "in" / "3.png").write_bytes(content[: len(content) // 2])
    jobs = plan(str(tmp_path / "in"), str(tmp_path / "out"))[0]
    skipped, _, _ = predict_images(strongest(), jobs, CPU)
    assert relative(tmp_path / "out") == {"2.png", "2_overlay.png", "4.png", "4_overlay.png"}
    assert [message.split(" cannot")[0] for message in skipped] == [
        str(tmp_path / "in" / "1.png"),
        str(tmp_path / "in" / "3.png"),
    ]
    progress = capsys.readouterr().err
    assert all(f"skipped: {message}" in progress for message in skipped)
    assert "4/4" in progress
    assert "image/s" in progress


def test_an_image_too_large_for_the_device_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(StrongestColor):
        def predict_logits(self, images: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError

    draw(tmp_path / "a.png")
    (message,), _, _ = predict_images(
        strongest(Full()), plan(str(tmp_path), str(tmp_path / "out"))[0], CPU
    )
    assert "a.png of 7 x 5 pixels does not fit into the memory of cpu" in message


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "sub/a.jpg"], ["a", "sub/a"]),
        (["a.jpg", "a.png", "b.png"], ["a.jpg", "a.png", "b"]),
        (["a.png", "a_overlay.png"], ["a.png", "a_overlay.png"]),
        (["A.jpg", "a.png"], ["A.jpg", "a.png"]),  # one file where case does not count
        (["a.jpg", "a.jpg.png", "a.png"], ["a.jpg", "a.jpg.png", "a.png"]),
        (["a.v1.jpg", "a.v2.jpg"], ["a.v1", "a.v2"]),
    ],
)
def test_no_two_images_share_an_output(
    tmp_path: Path, names: list[str], expected: list[str]
) -> None:
    for name in names:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    out = tmp_path / "out"
    jobs = plan(str(tmp_path / "in"), str(out))[0]
    assert [job.image.relative_to(tmp_path / "in").as_posix() for job in jobs] == names
    assert [job.mask for job in jobs] == [out / f"{name}.png" for name in expected]
    assert [job.overlay for job in jobs] == [out / f"{name}_overlay.png" for name in expected]


def test_sub_folders_are_kept_for_a_pattern_too(tmp_path: Path) -> None:
    draw(tmp_path / "in [1]" / "x" / "a.png")
    draw(tmp_path / "in [1]" / "y" / "a.png")
    jobs = plan(f"{tmp_path}/in [[]1]/*/a.png", str(tmp_path / "out"))[0]
    assert [job.mask.relative_to(tmp_path / "out").as_posix() for job in jobs] == [
        "in [1]/x/a.png",
        "in [1]/y/a.png",
    ]
    predict_images(strongest(), jobs, CPU)
    assert "in [1]/y/a_overlay.png" in relative(tmp_path / "out")


def test_earlier_predictions_inside_the_input_are_not_read(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    for _ in range(2):
        jobs = plan(str(tmp_path), str(tmp_path / "predictions"))[0]
        assert [job.image.name for job in jobs] == ["a.png"]
        predict_images(strongest(), jobs, CPU)


def test_masks_and_predictions_of_photos_are_not_segmented_again(tmp_path: Path) -> None:
    """Under any layout of folders; a photo of few colors without a namesake stays one."""
    mask = Image.fromarray(np.eye(20, dtype=np.uint8))
    for photo in ("images/a.jpg", "b.png", "x/c.png", "y/c.png"):
        draw(tmp_path / photo, height=20, width=20)
    for name in ("masks/a.png", "b_mask.png", "b2.png", "a b.png", "alone.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        mask.save(tmp_path / name)
    mask.convert("RGB").save(tmp_path / "masks" / "b.tif")
    Image.fromarray(np.eye(20, dtype=np.uint16)).save(tmp_path / "b-16.png")
    expected = {"a.jpg", "b.png", "c.png", "b2.png", "alone.bmp"}
    for output in ("one", "two"):
        jobs, others = plan(str(tmp_path), str(tmp_path / output))
        assert {job.image.name for job in jobs} == expected
        assert others["masks, such as a b.png"] == 5
        assert predict_images(strongest(), jobs, CPU) == ([], 0, 0)
    jobs, others = plan(f"{tmp_path}/**/*.png", str(tmp_path / "three"))
    assert others["earlier predictions"] == 2 * 2 * 6
    (job,) = plan(str(tmp_path / "one" / "b_overlay.png"), str(tmp_path / "three"))[0]
    assert job.image.name == "b_overlay.png"  # what is given by itself is meant


def test_a_file_that_is_no_image_is_a_wrong_request(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(RequestError, match=r"notes\.txt: no image, by its suffix and its first"):
        plan(str(tmp_path / "notes.txt"), str(tmp_path / "out"))


def test_a_folder_of_predictions_alone_is_told(tmp_path: Path) -> None:
    draw(tmp_path / "in" / "a.png")
    predict_images(strongest(), plan(str(tmp_path / "in"), str(tmp_path / "out"))[0], CPU)
    with pytest.raises(RequestError, match=r"no image in .*Other files: 2 earlier predictions"):
        plan(str(tmp_path / "out"), str(tmp_path / "again"))


def test_a_long_photo_is_seen_reduced_and_its_mask_has_its_own_size(tmp_path: Path) -> None:
    seen = []

    class Watching(StrongestColor):
        def predict_logits(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(images.shape[-2:]))
            return images

    colors = np.random.default_rng(0).permuted(
        np.tile(np.arange(0, 240, 80, dtype=np.uint8), (4, 6, 1)), axis=-1
    )
    photo = colors.repeat(10, 0).repeat(10, 1)  # (40, 60, 3): squares of 10 pixels
    for name, pixels in {"long": photo, "short": photo[:5, :7]}.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    jobs = plan(str(tmp_path), str(tmp_path / "out"))[0]
    outcome = predict_images(strongest(Watching()), jobs, CPU, max_side=12)
    assert (seen, outcome) == ([(8, 12), (5, 7)], ([], 0, 1))
    for name, pixels in {"long": photo, "short": photo[:5, :7]}.items():
        with Image.open(tmp_path / "out" / f"{name}.png") as mask:
            np.testing.assert_array_equal(np.asarray(mask), pixels.argmax(-1))


class Clock:
    """A segmenter that takes the time that a formula says, and the clock that it goes by."""

    def __init__(self, *seconds: float) -> None:
        self.seconds, self.now = seconds, 0.0

    def segment(self, image: np.ndarray) -> None:
        pixels = image.shape[0] * image.shape[1]
        self.now += sum(cost * pixels**power for power, cost in enumerate(self.seconds))

    def perf_counter(self) -> float:
        return self.now


@pytest.mark.parametrize(
    "seconds",
    [(0.1, 2e-6, 1e-11), (0.0, 0.0, 5e-12), (0.0, 3e-6, 0.0), (7.0, 0.0, 0.0)],
    ids=["all", "attention", "convolutions", "one size for all, as official_ms"],
)
def test_the_time_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, ...]
) -> None:
    clock = Clock(*seconds)
    monkeypatch.setattr(duration, "time", clock)
    wanted = sum(cost * (4000 * 3000) ** power for power, cost in enumerate(seconds))
    assert duration.expected(duration.costs(clock), [(4000, 3000)]) == pytest.approx(wanted)
    Image.new("RGB", (4000, 2000)).save(tmp_path / "a.png")
    Image.new("RGB", (40, 50)).save(tmp_path / "b.png")
    (tmp_path / "c.png").touch()
    jobs = plan(str(tmp_path), str(tmp_path / "out"))[0]
    told = duration.forecast(clock, jobs, 2048)
    assert told.startswith(
        "2 images, the largest 4000 x 2000, reduced to 2048 x 1024 by max_side=2048: about "
    )
    assert duration.forecast(clock, jobs[1:], 2048) == ""


def test_output_may_be_a_folder_above_the_input(tmp_path: Path) -> None:
    draw(tmp_path / "photos" / "a.jpg")
    (job,) = plan(str(tmp_path / "photos"), str(tmp_path))[0]
    assert job.mask == tmp_path / "a.png"


@pytest.mark.parametrize("request_", ["{}/a.png", "{}/*.png", "{}", "{}/../photos"])
def test_the_input_is_never_overwritten(tmp_path: Path, request_: str) -> None:
    folder = tmp_path / "photos"
    draw(folder / "a.png")
    with pytest.raises(RequestError, match="Choose another folder"):
        plan(request_.format(folder), str(folder))


def test_output_holding_every_image_is_refused(tmp_path: Path) -> None:
    draw(tmp_path / "x" / "a.png")
    with pytest.raises(RequestError, match="holds all 1 images of the input"):
        plan(f"{tmp_path}/*/a.png", str(tmp_path / "x"))


def test_what_predict_has_not_written_is_never_overwritten(tmp_path: Path) -> None:
    """A folder of masks that a person has made, under the names that predictions would have."""
    draw(tmp_path / "photos" / "a.png")
    jobs = plan(str(tmp_path / "photos"), str(tmp_path / "masks"))[0]
    refuse_foreign(jobs)
    predict_images(strongest(), jobs, CPU)
    refuse_foreign(jobs)  # earlier predictions are replaced
    draw(tmp_path / "masks" / "a.png")
    with pytest.raises(RequestError, match=r"masks/a\.png exists, and is no earlier prediction"):
        refuse_foreign(jobs)


def test_output_that_becomes_unwritable(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    jobs = plan(str(tmp_path), str(tmp_path / "out"))[0]
    (tmp_path / "out").touch()
    with pytest.raises(RunError, match=r"out/a\.png: the images before .* are done, this one"):
        predict_images(strongest(), jobs, CPU)


def test_devices() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("gpu", "cuda:99"):
        with pytest.raises(RequestError, match=f"device={name} cannot be used"):
            choose_device(name)


def test_the_command_ends_with_1_after_a_skipped_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node = {"_target_": "danet_lightning.evaluate.protocols.MultiView"}
    content = {"danet_lightning": {"config": {"protocol": node}}}
    monkeypatch.setattr("danet_lightning.checkpoints.loading.read", lambda _: content)
    monkeypatch.setattr("danet_lightning.checkpoints.loading.segmenter", lambda *_: strongest())
    draw(tmp_path / "in" / "a.png")
    request = {
        "ckpt_path": "best.ckpt",
        "input": str(tmp_path / "in"),
        "output": str(tmp_path / "out"),
        "protocol": {},
        "dataset": {},
        "format": {},
        "device": "cpu",
        "devices": 1,
        "max_side": 2048,
        "opacity": 0.5,
        "trusted": [],
    }
    command.predict(OmegaConf.create(request), tmp_path)
    assert "1 of 1 images segmented" in capsys.readouterr().out
    told = json.loads((tmp_path / "out" / "classes.json").read_text(encoding="utf-8"))
    assert told["classes"][1] == {"id": 1, "name": "green", "color": [10, 230, 200]}
    (tmp_path / "in" / "b.png").touch()
    (tmp_path / "in" / "a.xml").touch()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(draw(tmp_path / "in" / "a.png")).save(tmp_path / "in" / "a.png", exif=exif)
    with pytest.raises(SystemExit) as ended:
        command.predict(OmegaConf.create(request), tmp_path)
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert "1 of 2 images segmented" in said.out
    assert "1 turned upright by their EXIF orientation" in said.out
    assert "passed over: 1 .xml" in said.out
    assert "1 skipped:" in said.err
    (tmp_path / "out" / "classes.json").write_text('{"tool": "COCO"}')  # of prepare, with its masks
    with pytest.raises(RequestError, match=r"classes\.json exists, and is no earlier prediction"):
        command.predict(OmegaConf.create(request), tmp_path)
