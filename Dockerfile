# docker build --tag nector-relay .        deploy/README.md says how to renew the base's digest and to build behind a mirror;
# deploy/verify-image.sh builds this file without Docker and holds the result to what it promises.
ARG BASE=python:3.13.15-slim-bookworm@sha256:ed86c82274b3c69b52fb5820f358f0bd7df0b603332063cb5c6e32bd220c3e6e

FROM ${BASE} AS build
WORKDIR /app
RUN python3 -m venv /opt/tools && python3 -m venv --without-pip .venv
COPY deploy/uv.txt pyproject.toml uv.lock ./
# otel: what traces need, 8 MB. docs/traces.md.
ARG EXTRAS=
# Both secrets are optional: they let pip use your mirror and your certificates without leaving them in a layer.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.crt,target=/etc/ssl/certs/ca-certificates.crt \
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PIP_QUIET=1 \
    && /opt/tools/bin/pip install --require-hashes -r uv.txt \
    && /opt/tools/bin/uv export --quiet --frozen --no-dev ${EXTRAS:+--extra "$EXTRAS"} --no-emit-project --output-file requirements.txt \
    && /opt/tools/bin/uv export --quiet --frozen --no-dev ${EXTRAS:+--extra "$EXTRAS"} --no-emit-project --format cyclonedx1.5 > sbom.cdx.json \
    && /opt/tools/bin/pip --python .venv/bin/python install --no-compile --require-hashes -r requirements.txt
COPY LICENSE README.md .env.example deploy/slim.py ./
# The package brings both to whoever has nothing else; app/starter links to them.
COPY config config
COPY app app
# Bytecode that Python never compares with its source: nothing to compile at the start, nor to write on a read-only root.
RUN /opt/tools/bin/uv pip install --quiet --offline --no-cache --no-deps --python .venv/bin/python . \
    && .venv/bin/python slim.py .venv \
    && .venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash .venv/lib

FROM ${BASE}
LABEL org.opencontainers.image.title="nector-relay" \
    org.opencontainers.image.description="The webhook relay that turns a Nector loyalty event into one right WhatsApp message." \
    org.opencontainers.image.source="https://github.com/nector-relay/nector-relay" \
    org.opencontainers.image.documentation="https://github.com/nector-relay/nector-relay/blob/main/docs/README.md" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="0.1.0"
RUN groupadd --gid 10001 relay \
    && useradd --uid 10001 --gid relay --no-create-home --home-dir /data --shell /usr/sbin/nologin relay \
    && install --directory --owner relay --group relay --mode 0700 /data
WORKDIR /app
COPY --from=build /app/.venv .venv
# What is in it, for scanners: CycloneDX.
COPY --from=build /app/sbom.cdx.json sbom.cdx.json
COPY config config
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RELAY_CONFIG=/app/config/relay.yaml \
    RELAY_DATABASE_URL=sqlite:////data/relay.db
# The link lets the relative database path of .env.example mean the volume, too. A configuration that is wrong makes no
# image, and the two commands leave the bytecode of the standard library, which the official images come without.
RUN ln -s /data data && nector-relay check && nector-relay serve --help > /dev/null
USER 10001:10001
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# http.client and not urllib.request: it obeys no HTTP_PROXY.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-IS", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8000, timeout=2); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["nector-relay"]
CMD ["serve"]
