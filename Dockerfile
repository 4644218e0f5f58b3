# The image of every step: the packages of a lock and nothing else. The code comes with each deployment, as Metaflow's package.
# Fargate as cloudformation.yml asks for it is x86-64, whatever the machine that builds is.
#   docker build --platform linux/amd64 -t recs . && docker push ...   then write repository@sha256:... into [cloud] image in config.toml
ARG PYTHON=3.11
FROM python:${PYTHON}-slim
# For ranker = "lightgbm" build with --build-arg LOCK=requirements-lightgbm.lock: the same packages and LightGBM.
ARG LOCK=requirements.lock
ENV METAFLOW_SKIP_INSTALL_DEPENDENCIES=1
ENV PIP_NO_CACHE_DIR=1
ENV GX_ANALYTICS_ENABLED=false
ENV DBT_SEND_ANONYMOUS_USAGE_STATS=false
# LightGBM needs the system's OpenMP.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
# The image keeps requirements.lock: a flow whose code has another one is refused at its start.
ENV RECS_IMAGE_LOCK=/opt/recs/requirements.lock
COPY requirements.lock ${LOCK} /opt/recs/
RUN python -m pip install --require-hashes --no-deps --only-binary :all: -r /opt/recs/${LOCK}
RUN useradd --create-home recs
USER recs
WORKDIR /home/recs
