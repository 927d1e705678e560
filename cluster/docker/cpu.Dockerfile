# A node without GPU: runners, or everything on CPUs. From the top level:
#   docker build -f cluster/docker/cpu.Dockerfile -t atommem:cpu .
FROM python:3.11-slim

RUN apt-get update && apt-get install --yes --no-install-recommends g++ libnuma1 wget && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home ray
WORKDIR /home/ray/atommem
COPY requirements/cpu.txt requirements/cpu.txt
RUN pip install --no-cache-dir --no-deps --extra-index-url https://download.pytorch.org/whl/cpu -r requirements/cpu.txt
COPY --chown=ray . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable . && chown ray .
USER ray
CMD ["atommem", "--help"]
