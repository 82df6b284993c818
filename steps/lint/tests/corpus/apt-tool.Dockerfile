FROM debian:12
RUN apt update && apt install -y --no-install-recommends curl=1 && rm -rf /var/lib/apt/lists/*
RUN apt-get update && apt-get dist-upgrade -y && rm -rf /var/lib/apt/lists/*
RUN echo apt install
