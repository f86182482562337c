"""Workers that cannot go on end the training, which would wait for them for ever."""

import pytest
from torch.utils.data import Dataset

from danet_lightning.data.samples.loader import SegmentationLoader, start_worker


class Unsendable(Dataset):
    """Its samples cannot be sent to another process, as where no socket can be opened."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> object:
        return lambda: index


def test_a_worker_that_cannot_hand_on_a_batch_ends(capfd: pytest.CaptureFixture[str]) -> None:
    loader = SegmentationLoader(
        Unsendable(), batch_size=None, num_workers=1, worker_init_fn=start_worker
    )
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        list(loader)
    told = capfd.readouterr().err
    assert "A worker cannot hand on a batch: " in told
    assert "Traceback" not in told
