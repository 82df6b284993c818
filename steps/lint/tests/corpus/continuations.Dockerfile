FROM debian:12
RUN apt-get update \
  # the tools
  && apt-get install -y \

     curl \
  # end
     wget=1 \
  && rm -rf /var/lib/apt/lists/*
ENV A b c
