# Both images, from the same stages. Build them from the root of the repository:
#
#   docker build --target auth-service --tag latchkey/auth-service .
#   docker build --target user-service --tag latchkey/user-service .
#
# It needs BuildKit, which is Docker's builder since version 23 (before: DOCKER_BUILDKIT=1). It compiles
# one service only where only one is asked for. What is pulled is pinned by its digest, for every
# platform; docs/deployment.md tells how to renew the pins.

ARG RUST_IMAGE=rust:1.95.0-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082
ARG DEBIAN_IMAGE=debian:bookworm-20260824-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171

FROM ${RUST_IMAGE} AS source
WORKDIR /src
COPY . .

# The downloads and the compiled dependencies stay in caches of the builder, so that a change of our own
# code compiles our own code only. Both images share them; the lock keeps two builds at a time from
# writing into each other's.
FROM source AS build-auth-service
RUN --mount=type=cache,id=latchkey-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=latchkey-target,target=/src/target,sharing=locked \
    cargo build --locked --release -p auth-service && \
    install -D -m 0755 target/release/auth-service /out/auth-service

FROM source AS build-user-service
RUN --mount=type=cache,id=latchkey-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=latchkey-target,target=/src/target,sharing=locked \
    cargo build --locked --release -p user-service && \
    install -D -m 0755 target/release/user-service /out/user-service

# What each binary is made of, as a bill of materials in CycloneDX's JSON, for scanners.
FROM source AS bill-of-materials
ARG CARGO_SBOM_VERSION=0.10.0
RUN --mount=type=cache,id=latchkey-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=latchkey-tools,target=/tools,sharing=locked \
    cargo install --locked --debug --root /tools "cargo-sbom@${CARGO_SBOM_VERSION}" && \
    mkdir /out && \
    for service in auth-service user-service; do \
      /tools/bin/cargo-sbom --cargo-package "$service" --output-format cyclone_dx_json_1_6 \
        >"/out/$service.cdx.json" || exit; \
    done

# The same release of the C library that the build has.
FROM ${DEBIAN_IMAGE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.vendor="The Latchkey authors" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# For a JWKS or a Postgres behind TLS.
COPY --from=source /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# Only SQLite writes here: mount a volume on it and set DATABASE_URL to a file in it. There is no
# default: the one of the binary, under ./data, is where nothing can be written. The root file system
# may be read-only.
RUN install -d -o 65532 -g 65532 /var/lib/latchkey
WORKDIR /
USER 65532:65532
STOPSIGNAL SIGTERM

FROM runtime AS auth-service
LABEL org.opencontainers.image.title="auth-service" \
      org.opencontainers.image.description="Registers people, checks passwords and issues access tokens"
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/auth-service/
COPY --from=bill-of-materials /out/auth-service.cdx.json /usr/share/doc/auth-service/sbom.cdx.json
COPY --from=build-auth-service /out/auth-service /usr/local/bin/auth-service
# Huge pages for the memory of Argon2id, where the host allows them (`madvise` in
# /sys/kernel/mm/transparent_hugepage/enabled); docs/performance.md has the figures.
ENV GLIBC_TUNABLES=glibc.malloc.hugetlb=1
# For probes and metrics, which come from outside the container. Never publish this port.
ENV ADMIN_ADDR=0.0.0.0:9464
# REST, gRPC, operators.
EXPOSE 3000 50051 9464
# Liveness: a container is not to be restarted because its database is away.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/auth-service", "healthcheck", "--live"]
ENTRYPOINT ["/usr/local/bin/auth-service"]
CMD ["serve"]

FROM runtime AS user-service
LABEL org.opencontainers.image.title="user-service" \
      org.opencontainers.image.description="Owns profiles and validates access tokens locally"
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/user-service/
COPY --from=bill-of-materials /out/user-service.cdx.json /usr/share/doc/user-service/sbom.cdx.json
COPY --from=build-user-service /out/user-service /usr/local/bin/user-service
# For probes and metrics, which come from outside the container. Never publish this port.
ENV ADMIN_ADDR=0.0.0.0:9465
# REST, gRPC, operators.
EXPOSE 4000 50052 9465
# Liveness: a container is not to be restarted because its database is away.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/user-service", "healthcheck", "--live"]
ENTRYPOINT ["/usr/local/bin/user-service"]
CMD ["serve"]
