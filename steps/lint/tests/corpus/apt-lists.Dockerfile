FROM debian:12 AS one
RUN apt-get update && apt-get install -y --no-install-recommends a=1
FROM debian:12 AS two
RUN apt-get update
RUN apt-get install -y --no-install-recommends a=1 && rm -rf /var/lib/apt/lists/*
FROM debian:12
RUN --mount=type=cache,target=/var/lib/apt apt-get update && apt-get install -y --no-install-recommends a=1
RUN apt-get update && apt-get install -y --no-install-recommends a=1 && apt-get clean
RUN apt-get update && apt-get install -y --no-install-recommends a=1 && rm -r /var/lib/apt/lists
