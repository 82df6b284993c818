FROM debian:12 AS a
USER root
RUN x
FROM debian:12
USER app
USER root
RUN y
