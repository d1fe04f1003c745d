# VMware's own vCenter simulator (govmomi), built from Debian's packages.
FROM debian:trixie-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends golang-go golang-github-vmware-govmomi-dev \
    && rm -rf /var/lib/apt/lists/*
COPY tests/parts/vcenter_simulator.go /src/
RUN GO111MODULE=off GOPATH=/usr/share/gocode CGO_ENABLED=0 go build -ldflags=-s -o /vcenter /src/vcenter_simulator.go

FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openssl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group federation
LABEL org.opencontainers.image.title="driver-federation-demo-vcenter" \
      org.opencontainers.image.description="A simulated vCenter, for the demonstration of the driver federation" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /vcenter /usr/local/bin/vcenter
COPY --chmod=755 deploy/demo/vcenter.sh /usr/local/bin/demo-vcenter
USER federation
EXPOSE 8989
HEALTHCHECK --interval=15s --timeout=20s --start-period=60s --start-interval=2s --retries=3 \
    CMD ["openssl", "s_client", "-brief", "-connect", "127.0.0.1:8989", "-CAfile", "/run/vcenter/vcenter.pem", "-verify_return_error"]
ENTRYPOINT ["demo-vcenter"]
