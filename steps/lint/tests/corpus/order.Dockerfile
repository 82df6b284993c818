RUN x
ARG A
FROM debian:12
