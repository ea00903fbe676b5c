#!/usr/bin/env bash
# Trains on a TPU pod slice: the same command on all of its hosts, which find each other.
# SPDX-License-Identifier: Apache-2.0
#
#   TPU=my-v4-32 ZONE=us-central2-b REPO=/mnt/shared/gshard-mt scripts/tpu_pod.sh \
#       --config configs/smoke.py --config.mesh.num_cpu_devices=0 \
#       --data_dir /mnt/shared/data --workdir /mnt/shared/runs/first
#
# REPO, the data and the run directory are on a file system that every host mounts (Filestore, a
# bucket by gcsfuse). First run `pip install -e '.[tpu]'` on every host with the same gcloud command.
set -euo pipefail
: "${TPU:?the name of the TPU VM or slice}" "${ZONE:?its zone}" "${REPO:?where gshard-mt is on every host}"

command=$(printf '%q ' gshard-train "$@")
# --worker=all runs it everywhere; only process 0 prints.
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all \
    --command="cd $(printf '%q' "$REPO") && . .venv/bin/activate && $command"
