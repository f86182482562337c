import numpy as np
import pytest
from fake_trees import write_mat

from danet_lightning.data.base import voc_colors
from danet_lightning.data.files.layout import read_names
from danet_lightning.data.files.matlab import mat_shape, read_mat
from danet_lightning.errors import RequestError


@pytest.mark.parametrize("kept", [0, 0.1, 0.6, 0.95])
def test_a_truncated_mat_is_named(tmp_path, kept):
    path = tmp_path / "cut.mat"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    write_mat(path, {"S": noise})
    assert np.array_equal(read_mat(path, "S"), noise)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(RequestError, match=r"cut\.mat cannot be read as a MATLAB file"):
        read_mat(path, "S")


def test_what_is_no_mat_of_the_data_set_is_named(tmp_path):
    path = tmp_path / "a.mat"
    with pytest.raises(RequestError, match=r"a\.mat cannot be read .*No such file"):
        read_mat(path, "S")
    assert mat_shape(path, "S") is None
    path.write_text("no labels at all, but long enough for a header" * 9)
    with pytest.raises(RequestError, match=r"a\.mat cannot be read"):
        read_mat(path, "S")
    assert mat_shape(path, "S") is None  # whoever reads the labels is told
    write_mat(path, {"GTcls": {"Boundaries": np.eye(3)}})
    for variable in ("S", "GTcls.Segmentation"):
        with pytest.raises(RequestError, match=rf"a\.mat holds no {variable}"):
            read_mat(path, variable)
    write_mat(path, {"GTcls": np.eye(3)})
    with pytest.raises(RequestError, match=r"a\.mat holds no GTcls\.Segmentation"):
        read_mat(path, "GTcls.Segmentation")


def test_hdf5_mats_are_answered_with_the_option_to_save_with(tmp_path):
    path = tmp_path / "new.mat"
    # MATLAB's 7.3 files: a text of 124 bytes, the version 0x0200, the byte order
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512))
    with pytest.raises(RequestError, match=r"new\.mat is .* 7\.3\. .*-v7"):
        read_mat(path, "S")


@pytest.mark.parametrize(
    "values", [[[-1]], [[0.5]], [[np.nan]], [[np.inf]], [[70000]], np.zeros((2, 2, 3)), [["a"]]]
)
def test_numbers_that_are_no_ids_are_refused(tmp_path, values):
    write_mat(tmp_path / "a.mat", {"S": np.array(values)})
    with pytest.raises(RequestError, match=r"a\.mat: S (holds numbers|is no label map)"):
        read_mat(tmp_path / "a.mat", "S")


def test_names_are_read_from_any_kind_of_list(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(
        b"\xef\xbb\xbf2007_000032\r\n\r\n/JPEGImages/b.jpg /SegmentationClass/b.png\nc.png\nb\n"
    )
    assert read_names(path, "") == ["2007_000032", "b", "c"]
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match=r"list\.txt cannot be read as a list of names"):
        read_names(path, "")


def test_colors_are_vocs():
    colors = voc_colors(256)
    assert colors[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert colors[20] == (0, 64, 128)  # tvmonitor
    assert colors[255] == (224, 224, 192)  # the contours
    assert len(set(colors)) == 256
