# An image with every command, on CPUs or NVIDIA GPUs. pip fetches all but Python from the package
# index, CUDA too, so that the host of a GPU needs only the driver and its container toolkit.
# SPDX-License-Identifier: Apache-2.0
#
#     docker build -t gshard-mt .
#     docker build -t gshard-mt:gpu --build-arg EXTRAS=[gpu] .
#     docker run --rm -it -v "$PWD:/home/user" gshard-mt gshard-init try
#     docker run --rm -it -v "$PWD:/home/user" --gpus all gshard-mt:gpu gshard-train --help
FROM python:3.12-slim
ARG EXTRAS=""
COPY . /source
RUN pip install --no-cache-dir "/source${EXTRAS}" && rm -r /source
# Fetched corpora are kept in the mounted folder, not in the container.
ENV XDG_CACHE_HOME=/home/user/.cache
WORKDIR /home/user
