FROM debian:12
RUN apt-get update && apt-get install -y curl=7.88.1-10 wget && rm -rf /var/lib/apt/lists/*
RUN apt-get update && apt-get install --yes --no-install-recommends ./local.deb && rm -rf /var/lib/apt/lists/*
RUN apt-get update && apt-get -y install --no-install-recommends -t bookworm-backports git=1 && rm -rf /var/lib/apt/lists/*
RUN apt-get update && apt-get install -y --no-install-recommends $PACKAGES && rm -rf /var/lib/apt/lists/*
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends foo=1 && rm -rf /var/lib/apt/lists/*
RUN apt-get update && apt-get install -y --no-install-recommends "curl=7.*" && rm -rf /var/lib/apt/lists/*
RUN ["apt-get", "install", "nothing"]
