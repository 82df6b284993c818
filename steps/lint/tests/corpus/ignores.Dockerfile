# hadolint global ignore=DL3059
FROM debian:12
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends curl && rm -rf /var/lib/apt/lists/*
# hadolint ignore=DL3003,DL3004 # because
RUN cd /x && sudo ls
RUN cd /y
# hadolint ignore=DL3003

RUN cd /z
# hadolint ignore=DL3003
# another comment
RUN cd /z
