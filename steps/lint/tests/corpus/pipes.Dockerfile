FROM debian:12
RUN wget -O - https://example.com | wc -l > /number
RUN set -o pipefail && wget -O - https://example.com | wc -l
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN cat x | wc
SHELL ["/bin/sh", "-c"]
RUN cat x | wc
SHELL ["/bin/bash", "-eo", "pipefail", "-c"]
RUN cat x | wc
FROM debian:12
RUN cat x | wc
RUN echo "a | b"
RUN cat x || true
RUN ["sh", "-c", "a | b"]
RUN x=$(cat y | wc -l) && echo "$x"
