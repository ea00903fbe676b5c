#!/usr/bin/env bash
# Trains on a TPU pod slice with a bucket: the same command on all of its hosts, which find each other.
# SPDX-License-Identifier: Apache-2.0
#
#   TPU=my-v4-32 ZONE=us-central2-b scripts/tpu_pod.sh \
#       --config small --config.mesh.num_cpu_devices=0 \
#       --data_dir gs://my-bucket/data --workdir gs://my-bucket/runs/first
#
# No disk is shared: data and run directory are in the bucket, which the account of the TPU VMs may
# read and write. gshard-mt is installed on every host where it is missing, from PACKAGE (default:
# gshard-mt[tpu,gcs]), which may be a wheel in a bucket (gs://my-bucket/gshard_mt-1.0-py3-none-any.whl).
# GSHARD_MT_CACHE names a folder with room for the data and a checkpoint (docs/buckets.md).
set -euo pipefail
: "${TPU:?the name of the TPU VM or slice}" "${ZONE:?its zone}"

install=$(printf '%q' "${PACKAGE:-gshard-mt[tpu,gcs]}")
if [[ ${PACKAGE:-} == gs://* ]]; then
    wheel=$(printf '%q' "${PACKAGE##*/}")
    install="./$wheel[tpu,gcs]"
    fetch="gcloud storage cp --quiet $(printf '%q' "$PACKAGE") $wheel && "
fi
setup="[ -x gshard/bin/gshard-train ] || { ${fetch:-}python3 -m venv gshard && gshard/bin/pip install -q $install; }"
cache=${GSHARD_MT_CACHE:+export GSHARD_MT_CACHE=$(printf '%q' "$GSHARD_MT_CACHE") && }
command=$(printf '%q ' gshard/bin/gshard-train "$@")
# --worker=all runs it everywhere; only process 0 prints.
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all \
    --command="$setup && $cache$command"
