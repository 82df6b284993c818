FROM debian:12
LABEL Maintainer=x
LABEL com.docker.x=y
LABEL a..b=c
LABEL org.opencontainers.image.title="x" BAD_=1
LABEL ok=""
