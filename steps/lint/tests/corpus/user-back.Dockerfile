FROM debian:12
USER root
RUN y
USER app:app
