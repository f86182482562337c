import json
import os
import socket
import time
from types import SimpleNamespace

import pytest
import wandb

from danet_lightning.errors import RequestError
from danet_lightning.train import wandb_logger as tracking
from danet_lightning.train import wandb_mode
from danet_lightning.train.wandb_mode import answers, choose_mode, has_key


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """No mode, no key, no netrc, no server: a bare machine."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return monkeypatch


@pytest.fixture
def silent_server():
    """Accepts connections and never answers: a captive portal at its worst."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_offline_without_a_key(nobody):
    mode, reason = choose_mode()
    assert mode == "offline"
    assert "wandb login" in reason


def test_offline_within_seconds_when_the_server_is_silent(nobody, silent_server):
    nobody.setenv("WANDB_API_KEY", "k" * 40)
    nobody.setenv("WANDB_BASE_URL", silent_server)
    nobody.setattr(wandb_mode, "CONNECT_SECONDS", 0.5)
    begin = time.monotonic()
    mode, reason = choose_mode()
    assert mode == "offline"
    assert silent_server in reason
    assert time.monotonic() - begin < 5


def test_offline_when_nobody_listens(nobody):
    nobody.setenv("WANDB_API_KEY", "k" * 40)
    nobody.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert choose_mode()[0] == "offline"


def test_the_users_mode_wins(nobody):
    nobody.setenv("WANDB_MODE", "disabled")
    assert choose_mode()[0] == "disabled"


def test_a_key_in_netrc_counts(nobody, tmp_path):
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai\n login user\n password {'k' * 40}\n")
    (tmp_path / "netrc").chmod(0o600)
    assert has_key("api.wandb.ai")
    assert not has_key("wandb.example.org")


@pytest.mark.parametrize(
    "url",
    ["api.wandb.ai", "http://[::1", "http://a b", "http://localhost:abc", "file:///etc/hosts"],
)
def test_an_address_that_is_none_is_a_sentence(nobody, monkeypatch, url):
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", url)
    with pytest.raises(RequestError, match="give an address such as"):
        choose_mode()


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_name_that_no_server_can_have_does_not_answer():
    assert not answers(f"http://{'a' * 70}.example", 5)


def test_a_netrc_that_is_no_text_holds_no_key(nobody, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_bytes(b"machine \xff login user password x\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not has_key("api.wandb.ai")


def test_best_miou_is_in_the_summary(nobody, tmp_path):
    logger = tracking.wandb_logger(str(tmp_path), tags=["test"])
    for step, value in enumerate((0.2, 0.7, 0.5)):
        logger.log_metrics({"val/miou": value}, step=step)
    summary = dict(logger.experiment.summary)
    folder = logger.experiment.dir
    wandb.finish()
    assert "offline-run" in folder
    assert json.loads(json.dumps(summary["val/miou"], default=dict)) == {"max": 0.7, "last": 0.5}


VARIABLES = {
    "WANDB_PROJECT": "theirs", "WANDB_ENTITY": "team", "WANDB_NAME": "first",
    "WANDB_RUN_GROUP": "ablation", "WANDB_TAGS": "a,b", "WANDB_NOTES": "why",
    "WANDB_JOB_TYPE": "train", "WANDB_RUN_ID": "abc123",
}  # fmt: skip


def settings_of(run_dir, **given) -> dict[str, object]:
    """What W&B makes of the variables and the keys."""
    wandb.teardown()  # it reads the variables once a process
    try:
        logger = tracking.wandb_logger(str(run_dir), **given)
        found = logger.experiment.settings
        return {name: getattr(found, name) for name in (
            "mode", "project", "entity", "run_name", "run_group", "run_tags", "run_notes",
            "run_job_type", "run_id", "root_dir",
        )}  # fmt: skip
    finally:
        wandb.finish()
        wandb.teardown()


def test_variables_are_followed_and_keys_win(nobody, tmp_path):
    for name, value in VARIABLES.items():
        nobody.setenv(name, value)
    nobody.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    followed = settings_of(tmp_path / "run")
    assert followed == {
        "mode": "offline", "project": "theirs", "entity": "team", "run_name": "first",
        "run_group": "ablation", "run_tags": ("a", "b"), "run_notes": "why",
        "run_job_type": "train", "run_id": "abc123", "root_dir": str(tmp_path / "elsewhere"),
    }  # fmt: skip
    given = {"project": "mine", "entity": "me", "name": "second", "group": "g", "tags": ["c"]}
    won = settings_of(tmp_path / "run", save_dir=str(tmp_path / "run"), **given)
    assert won == followed | {
        "project": "mine", "entity": "me", "run_name": "second", "run_group": "g",
        "run_tags": ("c",), "root_dir": str(tmp_path / "run"),
    }  # fmt: skip


def test_without_variables_the_project_is_ours(nobody, tmp_path):
    found = settings_of(tmp_path)
    assert (found["project"], found["run_tags"]) == ("danet_lightning", None)


def test_a_run_goes_on_where_wandb_dir_has_many(nobody, tmp_path):
    """The newest of the folders there is another run's."""
    nobody.setenv("WANDB_DIR", str(tmp_path / "all"))
    (tmp_path / "all").mkdir()
    mine = settings_of(tmp_path / "mine")["run_id"]
    other = settings_of(tmp_path / "other")["run_id"]
    assert mine != other
    (tmp_path / "mine" / "last.ckpt").touch()
    run_id, folders = tracking.earlier_starts(tmp_path / "mine", tmp_path / "all")
    assert run_id == mine
    assert [folder.name.rpartition("-")[2] for folder in folders] == [mine]
    assert tracking.earlier_starts(tmp_path / "new", tmp_path / "all") == (None, [])


@pytest.mark.parametrize(
    ("name", "value", "mode"),
    [
        ("WANDB_DISABLED", "true", "disabled"), ("WANDB_DISABLED", "1", "disabled"),
        ("WANDB_DISABLED", "false", "offline"), ("WANDB_DISABLED", "", "offline"),
        ("WANDB_MODE", "dryrun", "offline"), ("WANDB_MODE", "run", "online"),
        ("WANDB_MODE", "shared", "shared"), ("WANDB_MODE", "", "offline"),
    ],
)  # fmt: skip
def test_modes(nobody, name, value, mode):
    nobody.setenv(name, value)
    assert choose_mode()[0] == mode


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_MODE", "of-line"), ("WANDB_DISABLED", "maybe"), ("WANDB_RESUME", "perhaps"),
        ("WANDB_SILENT", "perhaps"),
    ],
)  # fmt: skip
def test_a_value_that_means_nothing_is_a_sentence(nobody, tmp_path, name, value):
    nobody.setenv(name, value)
    with pytest.raises(RequestError, match=f"{name}={value}: "):
        settings_of(tmp_path)


def test_the_rows_of_another_training_are_not_taken_for_ours():
    logger = tracking.ContinuedWandbLogger(SimpleNamespace(id="abc123", step=7), recorded=7)
    with pytest.raises(RequestError, match="WANDB_RUN_ID=abc123: this run has 7 rows"):
        logger.log_metrics({"val/miou": 0.5}, step=0)
