# The image of every step: the lock and nothing else. The code comes with each deployment, as Metaflow's package.
# Fargate as cloudformation.yml asks for it is x86-64, whatever the machine that builds is.
#   docker build --platform linux/amd64 -t recs . && docker push ...   then write repository@sha256:... into [cloud] image in config.toml
ARG PYTHON=3.11
FROM python:${PYTHON}-slim
ENV METAFLOW_SKIP_INSTALL_DEPENDENCIES=1
ENV PIP_NO_CACHE_DIR=1
ENV GX_ANALYTICS_ENABLED=false
ENV DBT_SEND_ANONYMOUS_USAGE_STATS=false
# The image keeps its lock: a flow whose code has another one is refused at its start.
ENV RECS_IMAGE_LOCK=/opt/recs/requirements.lock
COPY requirements.lock /opt/recs/
RUN python -m pip install --require-hashes --no-deps --only-binary :all: -r $RECS_IMAGE_LOCK
RUN useradd --create-home recs
USER recs
WORKDIR /home/recs
