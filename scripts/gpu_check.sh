#!/usr/bin/env bash
# Everything that is worth checking on a GPU, in a quarter of an hour: scripts/gpu_check.sh [folder]
#
# It needs no network. Installed have to be: torch 2.9 or later with CUDA, torchvision, lightning 2.6,
# pydantic; for the tests and the training also hydra-core, omegaconf, torchmetrics, albumentations,
# opencv-python-headless, wandb, matplotlib, scipy, tqdm, pytest and pytest-xdist; for what is
# compiled, a C compiler. `make setup` has all of the packages.
# PYTHON=... chooses the interpreter. What each step says lies in the folder, gpu_check by default.
# It ends with 0 if every step did; without a GPU each step says so.
set -u
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
out=${1:-gpu_check}
mkdir -p "$out"
export PYTHONPATH="$PWD/src:$PWD/scripts:${PYTHONPATH:-}"
export WANDB_MODE=offline NO_ALBUMENTATIONS_UPDATE=1
failed=0

if "$python" -c 'import torch; raise SystemExit(not torch.cuda.is_available())' 2> "$out/torch.log"; then
  gpu=yes
  "$python" -c 'import torch; print(torch.cuda.get_device_name(), "torch", torch.__version__)'
else
  gpu=no
  tail -n 1 "$out/torch.log"
fi

# check NAME SECONDS COMMAND...: run it within its time, and say in one line how it ended
check() {
  local name=$1 limit=$2 begin=$SECONDS code=0
  shift 2
  if [ "$gpu" = no ]; then
    printf '%-10s no GPU\n' "$name"
    failed=1
    return
  fi
  timeout --kill-after=10 "$limit" "$@" > "$out/$name.log" 2>&1 || code=$?
  case $code in
    0) result=ok ;;
    124 | 137) result="stopped after $limit s" ;;
    *) result="failed ($code)" ;;
  esac
  [ "$code" = 0 ] || failed=1
  printf '%-10s %-20s %4d s  %s\n' "$name" "$result" $((SECONDS - begin)) \
    "$(grep -v '^[[:space:]]*$' "$out/$name.log" | tail -n 1 | cut -c1-120)"
}

check tests 300 "$python" -m pytest -m gpu -n 0 -q tests/test_gpu.py
check attention 90 "$python" scripts/benchmark_attention.py --rows 256 1024 2304 \
  --output "$out/attention.json"
check step 240 "$python" scripts/benchmark_step.py --kind textbook float32 bf16 --repeats 5 \
  --output "$out/step.json"
check compiled 180 "$python" scripts/benchmark_step.py --kind bf16 compiled --backbone resnet50 \
  --batch 8 --output "$out/compiled.json"
check fit 120 "$python" -m danet_lightning.train trainer=ddp trainer.accelerator=gpu logger=csv \
  backbone=resnet50 backbone.pretrained=false +trainer.max_steps=60 trainer.max_epochs=-1 \
  batch_size=8 data.workers=4 dataset.train_images=64 dataset.val_images=8 dataset.test_images=8 \
  ckpt_path=null "run_dir=$out/fit-$(date +%s)"
exit $failed
