# A node with GPUs: torch's and vLLM's wheels bring CUDA, the host brings the driver. The same Python as cpu.Dockerfile, as Ray
# wants it on all nodes. From the top level:
#   docker build -f cluster/docker/gpu.Dockerfile -t atommem:gpu .
FROM python:3.11-slim

RUN apt-get update && apt-get install --yes --no-install-recommends g++ libnuma1 wget && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home ray
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /home/ray/atommem
COPY --chown=ray . .
RUN pip install --no-cache-dir --editable '.[gpu]' && chown ray .
USER ray
CMD ["atommem", "--help"]
