# syntax=docker/dockerfile:1

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package cmd --bin syncv3 \
    && cp target/release/syncv3 /syncv3

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/syncv3 --create-home syncv3
COPY --from=build /syncv3 /usr/local/bin/syncv3
USER syncv3
# Holds `secret.key` where no secret is given. The image has no Postgres: SYNCV3_DB must name one.
VOLUME /var/lib/syncv3
ENV SYNCV3_DATA_DIR=/var/lib/syncv3 \
    SYNCV3_BINDADDR=:8008
EXPOSE 8008
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=40s CMD ["syncv3", "ping"]
ENTRYPOINT ["syncv3"]
