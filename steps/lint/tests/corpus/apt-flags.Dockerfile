FROM debian:12
RUN apt-get update && apt-get -o APT::Install-Recommends=false install -y a=1 && rm -rf /var/lib/apt/lists/*
RUN apt-get update && apt-get install -yq --no-install-recommends a=1 && rm -rf /var/lib/apt/lists/*
RUN apt-get update && apt-get install -q -q --no-install-recommends a=1 && rm -rf /var/lib/apt/lists/*
RUN apt-get update && apt-get install --assume-yes --no-install-recommends a=1 && rm -rf /var/lib/apt/lists/*
