# One image, two roles: `conduit learner` (the default) and a LiteLLM proxy with Conduit installed.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml requirements.lock README.md LICENSE NOTICE ./
COPY schemas schemas
COPY event_log event_log
COPY policy policy
COPY router_plugin router_plugin
COPY learner learner
COPY demo demo
RUN python -m venv /opt/conduit \
 && /opt/conduit/bin/pip install --no-cache-dir --constraint requirements.lock ".[learner,proxy]"

FROM python:3.11.14-slim-bookworm
RUN useradd --create-home --uid 10001 conduit
COPY --from=build /opt/conduit /opt/conduit
COPY deploy/litellm-config.yaml /etc/conduit/litellm-config.yaml
ENV PATH=/opt/conduit/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LITELLM_LOCAL_MODEL_COST_MAP=True
USER conduit
WORKDIR /home/conduit
CMD ["conduit", "learner"]
