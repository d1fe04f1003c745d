# The worker for Hyper-V: the wheels of this workspace with the dependencies of uv.lock, in a virtual environment without pip or compiler.
FROM debian:trixie-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3-venv \
    && rm -rf /var/lib/apt/lists/*
# The certificates that the base image trusts are good for the package index, too.
ENV UV_LINK_MODE=copy UV_SYSTEM_CERTS=1 UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir 'uv>=0.8,<1' && python3 -m venv --without-pip /opt/federation
ENV PATH=/opt/uv/bin:$PATH VIRTUAL_ENV=/opt/federation
WORKDIR /src

# Dependencies first: they change less often than the code.
COPY pyproject.toml uv.lock ./
COPY drivers/hyperv/pyproject.toml drivers/hyperv/
COPY drivers/libvirt/pyproject.toml drivers/libvirt/
COPY drivers/vmware/pyproject.toml drivers/vmware/
RUN uv export --quiet --frozen --no-dev --no-emit-workspace --package federation-driver-hyperv --output-file /requirements.txt \
    && uv pip install --require-hashes --requirement /requirements.txt

COPY LICENSE README.md ./
COPY federation federation
COPY drivers drivers
RUN uv build --quiet --wheel --package driver-federation --out-dir /wheels \
    && uv build --quiet --wheel --package federation-driver-hyperv --out-dir /wheels \
    && uv pip install --no-deps /wheels/*.whl \
    && python3 -m compileall -q -j 0 -x /faker/ /opt/federation

FROM debian:trixie-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="federation-driver-hyperv" \
      org.opencontainers.image.description="Worker of the driver federation for Microsoft Hyper-V, and simulated Hyper-V hosts" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="The driver-federation authors" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --create-home --home-dir /var/lib/federation federation
COPY --from=build /opt/federation /opt/federation
COPY --chmod=755 deploy/docker/worker.sh /usr/local/bin/federation-worker
COPY --chmod=755 deploy/docker/health.py /usr/local/bin/federation-health
ENV PATH=/opt/federation/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER federation
WORKDIR /var/lib/federation
HEALTHCHECK --interval=15s --timeout=20s --start-period=60s --start-interval=2s --retries=3 CMD ["federation-health"]
ENTRYPOINT ["federation-worker", "--driver", "hyperv"]
